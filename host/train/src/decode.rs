//! Generates many answers at once: one pass over the weights serves a token of every sequence.
//!
//! Invariants: what a sequence says does not depend on which others it is generated with (rows of a product are
//! independent); finished sequences leave the batch.

use dlm_core::Cancel;
pub use dlm_model::sampling::argmax;
use dlm_model::{Adapter, Model, Session, SessionError, prefill_batch, step_batch};

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
pub fn continue_all<'m>(
    model: &'m Model,
    adapter: Option<&'m Adapter>,
    prompts: &[Prompt],
    stops: &[u32],
    cancel: &Cancel,
    choose: &mut dyn FnMut(usize, usize, &[f32]) -> u32,
) -> Result<Vec<Vec<u32>>, SessionError> {
    let mut out = vec![Vec::new(); prompts.len()];
    for start in (0..prompts.len()).step_by(BATCH) {
        let end = prompts.len().min(start + BATCH);
        continue_group(
            model,
            adapter,
            &prompts[start..end],
            stops,
            cancel,
            &mut |i, place, logits| choose(start + i, place, logits),
        )?
        .into_iter()
        .enumerate()
        .for_each(|(i, tokens)| out[start + i] = tokens);
    }
    Ok(out)
}

struct Running<'m> {
    index: usize,
    session: Session<'m>,
    next: u32,
}

fn continue_group<'m>(
    model: &'m Model,
    adapter: Option<&'m Adapter>,
    prompts: &[Prompt],
    stops: &[u32],
    cancel: &Cancel,
    choose: &mut dyn FnMut(usize, usize, &[f32]) -> u32,
) -> Result<Vec<Vec<u32>>, SessionError> {
    let mut out = vec![Vec::new(); prompts.len()];
    let mut logits = Vec::new();
    let mut running = read_prompts(model, adapter, prompts, &mut logits)?;
    choose_next(&mut running, &out, &logits, choose);
    while !running.is_empty() && !cancel.is_cancelled() {
        running.retain(|r| {
            let tokens = &mut out[r.index];
            let ends = stops.contains(&r.next);
            if !ends {
                tokens.push(r.next);
            }
            !ends && tokens.len() < prompts[r.index].tokens_max
        });
        if running.is_empty() {
            break;
        }
        let tokens: Vec<u32> = running.iter().map(|r| r.next).collect();
        let mut sessions: Vec<&mut Session<'m>> = running.iter_mut().map(|r| &mut r.session).collect();
        step_batch(&mut sessions, &tokens, &mut logits)?;
        choose_next(&mut running, &out, &logits, choose);
    }
    Ok(out)
}

/// Reads all prompts in one pass; the sessions share what depends on the adapter alone.
fn read_prompts<'m>(
    model: &'m Model,
    adapter: Option<&'m Adapter>,
    prompts: &[Prompt],
    logits: &mut Vec<f32>,
) -> Result<Vec<Running<'m>>, SessionError> {
    let mut running: Vec<Running<'m>> = Vec::with_capacity(prompts.len());
    for (index, prompt) in prompts.iter().enumerate() {
        let context = prompt.ids.len() + prompt.tokens_max;
        let session = match running.first() {
            Some(first) => first.session.sibling(context),
            None => Session::new(model, adapter, context),
        };
        running.push(Running {
            index,
            session,
            next: 0,
        });
    }
    let ids: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
    let mut sessions: Vec<&mut Session<'m>> = running.iter_mut().map(|r| &mut r.session).collect();
    prefill_batch(&mut sessions, &ids, logits)?;
    Ok(running)
}

fn choose_next(
    running: &mut [Running<'_>],
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
