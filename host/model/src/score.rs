//! Log-probabilities of given continuations, and of the likeliest next tokens.
//!
//! Invariants: ids of prompt and completion are joined as they are, nothing is tokenized here; logits exist only for the
//! rows that predict a token that is asked for; prompts that several completions share are read once; a result does not
//! depend on what else is asked in the same call, to the last bit (on a reader of [`PrecisionPaths::PACKED`], which callers
//! take; on models with LongRope only sequences on the same side of its border share a prompt).
//!
//! [`PrecisionPaths::PACKED`]: crate::PrecisionPaths::PACKED

use std::collections::HashMap;

use dlm_core::Cancel;

use crate::batch::{Batch, BatchError};
use crate::engine::{EngineError, Reader};

/// Rows of one pass: enough for the products' peak, few enough for small buffers (85 MB for a width of 576). A longer
/// sequence has a pass of its own.
const ROWS_MAX: usize = 2048;
/// Prompts of one pass whose next tokens are wanted: each keeps a row of logits (1 MB for a vocabulary of 256,000).
const PROMPTS_MAX: usize = 64;

/// A continuation to score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreJob {
    pub prompt: Vec<u32>,
    pub completion: Vec<u32>,
}

/// A score that cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    #[error("score: the prompt has no tokens, so nothing predicts the first one of the completion")]
    EmptyPrompt,
    #[error("score: the completion has no tokens")]
    EmptyCompletion,
    #[error("score: a prompt of {prompt} tokens and a completion of {completion} do not fit a context of {context}")]
    TooLong {
        prompt: usize,
        completion: usize,
        context: usize,
    },
    #[error("score: {0}")]
    Engine(#[from] EngineError),
    #[error("score: the model gave a logarithm that is no number after {tokens} tokens")]
    NotFinite { tokens: usize },
    #[error("cancelled")]
    Cancelled,
}

/// A prompt in a pass, with the jobs whose completions follow it.
struct SharedPrompt<'a> {
    prompt: &'a [u32],
    jobs: Vec<usize>,
    rows: usize,
}

impl ScoreJob {
    /// Tokens that are read: the last one predicts nothing that is asked for.
    fn rows(&self) -> usize {
        self.prompt.len() + self.completion.len() - 1
    }

    fn check(&self, context_max: usize) -> Result<(), ScoreError> {
        if self.prompt.is_empty() {
            return Err(ScoreError::EmptyPrompt);
        }
        if self.completion.is_empty() {
            return Err(ScoreError::EmptyCompletion);
        }
        let (prompt, completion) = (self.prompt.len(), self.completion.len());
        if prompt + completion > context_max {
            return Err(ScoreError::TooLong {
                prompt,
                completion,
                context: context_max,
            });
        }
        Ok(())
    }
}

/// Returns `log p(token)` of every token of every completion, given the prompt and the tokens before it.
///
/// **Errors:** a job without tokens or longer than `context_max`, a token outside the vocabulary, a raised flag (looked at
/// between passes of some 2000 tokens).
pub fn score_many(
    reader: &mut dyn Reader,
    jobs: &[ScoreJob],
    context_max: usize,
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, ScoreError> {
    for job in jobs {
        job.check(context_max)?;
    }
    let mut out = vec![Vec::new(); jobs.len()];
    for pass in passes(share_prompts(reader.facts().long_from, jobs)) {
        if cancel.is_cancelled() {
            return Err(ScoreError::Cancelled);
        }
        run_pass(reader, jobs, &pass, &mut out)?;
    }
    Ok(out)
}

/// Gathers the jobs of each prompt, in the order of first appearance, no more than a pass holds; sequences of `long_from`
/// tokens and more share none with shorter ones.
fn share_prompts(long_from: Option<usize>, jobs: &[ScoreJob]) -> Vec<SharedPrompt<'_>> {
    let is_long = |rows: usize| long_from.is_some_and(|from| rows >= from);
    let mut shared: Vec<SharedPrompt<'_>> = Vec::new();
    let mut place: HashMap<(&[u32], bool), usize> = HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let key = (job.prompt.as_slice(), is_long(job.rows()));
        let own = job.completion.len() - 1;
        let found = place.get(&key).filter(|at| shared[**at].rows + own <= ROWS_MAX);
        match found {
            Some(&at) => {
                shared[at].rows += own;
                shared[at].jobs.push(index);
            }
            None => {
                place.insert(key, shared.len());
                shared.push(SharedPrompt {
                    prompt: &job.prompt,
                    jobs: vec![index],
                    rows: job.rows(),
                });
            }
        }
    }
    shared
}

fn passes(shared: Vec<SharedPrompt<'_>>) -> Vec<Vec<SharedPrompt<'_>>> {
    let mut passes: Vec<Vec<SharedPrompt<'_>>> = Vec::new();
    let mut rows = ROWS_MAX;
    for prompt in shared {
        if rows + prompt.rows > ROWS_MAX {
            passes.push(Vec::new());
            rows = 0;
        }
        rows += prompt.rows;
        if let Some(pass) = passes.last_mut() {
            pass.push(prompt);
        }
    }
    passes
}

fn run_pass(
    reader: &mut dyn Reader,
    jobs: &[ScoreJob],
    pass: &[SharedPrompt<'_>],
    out: &mut [Vec<f32>],
) -> Result<(), ScoreError> {
    let mut batch = Batch::default();
    let (mut pairs, mut owners) = (Vec::new(), Vec::new());
    for shared in pass {
        let prompt = batch.push(shared.prompt, 0..0);
        for &index in &shared.jobs {
            let completion = &jobs[index].completion;
            let (last, read) = completion.split_last().expect("a completion has tokens");
            let mut predicting = prompt.end - 1;
            if let Some(first) = read.first() {
                let rows = batch.push(read, prompt.clone());
                pairs.push((predicting, *first));
                pairs.extend(rows.clone().zip(&read[1..]).map(|(row, token)| (row, *token)));
                predicting = rows.end - 1;
            }
            pairs.push((predicting, *last));
            owners.extend(std::iter::repeat_n(index, completion.len()));
        }
    }
    let vocab = reader.facts().vocab;
    if let Some(&(_, token)) = pairs.iter().find(|(_, token)| *token as usize >= vocab) {
        return Err(EngineError::from(BatchError::Token { row: 0, token, vocab }).into());
    }
    let logprobs = reader.logprobs(&batch, &pairs)?;
    for (owner, logprob) in owners.into_iter().zip(logprobs) {
        if !logprob.is_finite() {
            let tokens = jobs[owner].prompt.len() + out[owner].len();
            return Err(ScoreError::NotFinite { tokens });
        }
        out[owner].push(logprob);
    }
    Ok(())
}

/// Returns the `top` likeliest tokens after every prompt with their log-probabilities, likeliest first, of equals the
/// lowest id first.
///
/// **Errors:** as [`score_many`].
pub fn next_many(
    reader: &mut dyn Reader,
    prompts: &[(Vec<u32>, usize)],
    context_max: usize,
    cancel: &Cancel,
) -> Result<Vec<Vec<(u32, f32)>>, ScoreError> {
    let mut out = Vec::with_capacity(prompts.len());
    for (prompt, _) in prompts {
        let (prompt, context) = (prompt.len(), context_max);
        match prompt {
            0 => return Err(ScoreError::EmptyPrompt),
            _ if prompt > context => {
                return Err(ScoreError::TooLong {
                    prompt,
                    completion: 0,
                    context,
                });
            }
            _ => {}
        }
    }
    let mut rest = prompts;
    while !rest.is_empty() {
        if cancel.is_cancelled() {
            return Err(ScoreError::Cancelled);
        }
        let mut rows = 0;
        let fits = |(prompt, _): &&(Vec<u32>, usize)| {
            rows += prompt.len();
            rows <= ROWS_MAX
        };
        let count = rest.iter().take(PROMPTS_MAX).take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        let batch = Batch::packed(&now.iter().map(|(prompt, _)| prompt).collect::<Vec<_>>());
        let last: Vec<usize> = batch.segments.iter().map(|segment| segment.q.end - 1).collect();
        let logits = reader.logits(&batch, &last)?;
        for ((prompt, top), logits) in now.iter().zip(logits.chunks_exact(reader.facts().vocab)) {
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(ScoreError::NotFinite { tokens: prompt.len() });
            }
            out.push(likeliest(logits, *top));
        }
    }
    Ok(out)
}

fn likeliest(logits: &[f32], top: usize) -> Vec<(u32, f32)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let by_rank = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let top = top.min(ids.len());
    if top == 0 {
        return Vec::new();
    }
    ids.select_nth_unstable_by(top - 1, by_rank);
    ids.truncate(top);
    ids.sort_unstable_by(by_rank);
    let logprob = |id: u32| (f64::from(logits[id as usize] - largest) - total.ln()) as f32;
    ids.into_iter().map(|id| (id, logprob(id))).collect()
}
