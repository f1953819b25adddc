//! Generates many answers at once: one pass over the weights serves a token of every sequence.
//!
//! Invariants: what a sequence says does not depend on which others it is generated with (rows of a product are
//! independent); finished sequences leave the batch.

use dlm_core::Cancel;
pub use dlm_model::sampling::argmax;
use dlm_model::{EngineError, Reader, SessionId};

/// Sequences generated side by side; bounds the memory of their caches.
const BATCH: usize = 24;

/// One prompt to continue.
pub struct Prompt {
    pub ids: Vec<u32>,
    /// Most tokens to add.
    pub tokens_max: usize,
}

/// Continues every prompt and returns the added tokens, without the stop token.
///
/// `choose(prompt, place, logits)` picks the next token of a prompt; `stops` end a sequence.
///
/// **Errors:** a prompt longer than the model's context.
pub fn continue_all(
    reader: &mut dyn Reader,
    prompts: &[Prompt],
    stops: &[u32],
    cancel: &Cancel,
    choose: &mut dyn FnMut(usize, usize, &[f32]) -> u32,
) -> Result<Vec<Vec<u32>>, EngineError> {
    let mut out = Vec::with_capacity(prompts.len());
    for group in prompts.chunks(BATCH) {
        let first = out.len();
        let mut choose = |i: usize, place: usize, logits: &[f32]| choose(first + i, place, logits);
        out.append(&mut continue_group(reader, group, stops, cancel, &mut choose)?);
    }
    Ok(out)
}

struct Running {
    index: usize,
    session: SessionId,
    next: u32,
}

fn continue_group(
    reader: &mut dyn Reader,
    prompts: &[Prompt],
    stops: &[u32],
    cancel: &Cancel,
    choose: &mut dyn FnMut(usize, usize, &[f32]) -> u32,
) -> Result<Vec<Vec<u32>>, EngineError> {
    let mut out = vec![Vec::new(); prompts.len()];
    let mut logits = Vec::new();
    let mut running = read_prompts(reader, prompts, &mut logits)?;
    choose_next(&mut running, &out, &logits, choose);
    while !running.is_empty() && !cancel.is_cancelled() {
        running.retain(|r| {
            let tokens = &mut out[r.index];
            let ends = stops.contains(&r.next);
            if !ends {
                tokens.push(r.next);
            }
            let goes_on = !ends && tokens.len() < prompts[r.index].tokens_max;
            if !goes_on {
                reader.close(r.session);
            }
            goes_on
        });
        if running.is_empty() {
            break;
        }
        let tokens: Vec<u32> = running.iter().map(|r| r.next).collect();
        let sessions: Vec<SessionId> = running.iter().map(|r| r.session).collect();
        reader.step(&sessions, &tokens, &mut logits)?;
        choose_next(&mut running, &out, &logits, choose);
    }
    running.iter().for_each(|r| reader.close(r.session));
    Ok(out)
}

/// Reads all prompts in one pass.
fn read_prompts(
    reader: &mut dyn Reader,
    prompts: &[Prompt],
    logits: &mut Vec<f32>,
) -> Result<Vec<Running>, EngineError> {
    let mut running = Vec::with_capacity(prompts.len());
    for (index, prompt) in prompts.iter().enumerate() {
        running.push(Running {
            index,
            session: reader.open(prompt.ids.len() + prompt.tokens_max)?,
            next: 0,
        });
    }
    let sessions: Vec<SessionId> = running.iter().map(|r| r.session).collect();
    let ids: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
    reader.read(&sessions, &ids, logits)?;
    Ok(running)
}

fn choose_next(
    running: &mut [Running],
    out: &[Vec<u32>],
    logits: &[f32],
    choose: &mut dyn FnMut(usize, usize, &[f32]) -> u32,
) {
    let vocab = logits.len() / running.len().max(1);
    for (r, row) in running.iter_mut().zip(logits.chunks_exact(vocab.max(1))) {
        r.next = choose(r.index, out[r.index].len(), row);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(super::argmax(&[0.0, 3.0, 1.0, 3.0]), 1);
    }
}
