//! Several answers side by side: a step reads the weights once for all of them.
//!
//! Invariants: an answer does not depend on the others, on their number or on their order, to the last bit (the sessions
//! take fixed roads); equal prompts that come one after the other are read once; an answer that ends makes room for one
//! that waits.

use std::collections::VecDeque;

use super::{GenerateError, GenerateOptions, Generated, Growing, Step, StopReason, check_fit, model_failed};
use crate::adapter::Adapter;
use crate::model::Model;
use crate::session::{Roads, Session, read_batch, step_batch};
use crate::tokenizer::Tokenizer;

/// Sequences that are generated side by side. Measured on SmolLM2-135M the gain flattens here, while caches and logits
/// grow with each.
const LIVE_MAX: usize = 16;

/// One answer to write.
#[derive(Clone, Debug)]
pub struct GenerateJob {
    pub prompt: Vec<u32>,
    pub options: GenerateOptions,
}

/// An answer that chooses its next token, from its row of logits.
struct Turn<'m, 'a, 'l> {
    live: Live<'m, 'a>,
    logits: &'l mut [f32],
    next: Result<Option<u32>, GenerateError>,
}

/// An answer that grows.
struct Live<'m, 'a> {
    index: usize,
    session: Session<'m>,
    growing: Growing<'a>,
    next: u32,
}

/// Continues every prompt; the answers come in the order of the jobs.
///
/// `context_max` is the most tokens that prompt and answer may have together.
///
/// **Errors:** those of [`super::generate`] for the first job that fails; a raised flag in the options of any job ends all
/// with what they have.
pub fn generate_many(
    model: &Model,
    adapter: Option<&Adapter>,
    tokenizer: &Tokenizer,
    jobs: &[GenerateJob],
    roads: Roads,
    context_max: usize,
) -> Result<Vec<Generated>, GenerateError> {
    for job in jobs {
        check_fit(&job.prompt, &job.options, context_max)?;
    }
    let mut batch = Many {
        tokenizer,
        jobs,
        empty: Session::on_roads(model, adapter, 0, roads),
        waiting: in_prompt_order(jobs),
        live: Vec::new(),
        done: jobs.iter().map(|_| None).collect(),
        logits: Vec::new(),
    };
    while batch.admit()? {
        batch.step()?;
    }
    let done = batch.done.into_iter();
    Ok(done
        .map(|answer| answer.expect("every job was admitted and has ended"))
        .collect())
}

/// The jobs in order, those with an earlier job's prompt right after it, so that they are admitted together.
fn in_prompt_order(jobs: &[GenerateJob]) -> VecDeque<usize> {
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(jobs.len());
    let mut first_of = std::collections::HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        order.push((*first_of.entry(&job.prompt).or_insert(index), index));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

struct Many<'m, 'a> {
    tokenizer: &'a Tokenizer,
    jobs: &'a [GenerateJob],
    /// Starts the sessions, which share what depends on the adapter alone.
    empty: Session<'m>,
    waiting: VecDeque<usize>,
    live: Vec<Live<'m, 'a>>,
    done: Vec<Option<Generated>>,
    logits: Vec<f32>,
}

impl<'m, 'a> Many<'m, 'a> {
    fn is_cancelled(&self) -> bool {
        self.jobs.iter().any(|job| job.options.cancel.is_cancelled())
    }

    /// Reads prompts until the batch is full; says whether anything is alive.
    fn admit(&mut self) -> Result<bool, GenerateError> {
        while self.live.len() < LIVE_MAX && !self.waiting.is_empty() {
            let room = LIVE_MAX - self.live.len();
            let joining: Vec<usize> = self.waiting.drain(..room.min(self.waiting.len())).collect();
            self.read(&joining)?;
        }
        Ok(!self.live.is_empty())
    }

    /// Reads the prompts of jobs, equal ones once, and chooses their first tokens.
    fn read(&mut self, joining: &[usize]) -> Result<(), GenerateError> {
        let jobs = self.jobs;
        // Per different prompt, the jobs that have it; equal prompts are neighbours.
        let groups: Vec<&[usize]> = joining.chunk_by(|a, b| jobs[*a].prompt == jobs[*b].prompt).collect();
        let context = |index: usize| jobs[index].prompt.len() + jobs[index].options.tokens_max;
        let mut firsts: Vec<Session<'m>> = groups
            .iter()
            .map(|group| self.empty.sibling(context(group[0])))
            .collect();
        let prompts: Vec<&[u32]> = groups.iter().map(|group| jobs[group[0]].prompt.as_slice()).collect();
        let mut logits = Vec::new();
        read_batch(&mut firsts.iter_mut().collect::<Vec<_>>(), &prompts, &mut logits).map_err(model_failed)?;
        let vocab = logits.len() / groups.len();
        let mut joined = Vec::with_capacity(joining.len());
        let mut rows = Vec::with_capacity(joining.len() * vocab);
        for ((first, group), logits) in firsts.into_iter().zip(groups).zip(logits.chunks_exact(vocab)) {
            for &index in &group[1..] {
                let session = first.fork(context(index)).map_err(model_failed)?;
                joined.push(self.begin(index, session)?);
            }
            joined.push(self.begin(group[0], first)?);
            (0..group.len()).for_each(|_| rows.extend_from_slice(logits));
        }
        self.choose(joined, &mut rows)
    }

    fn begin(&self, index: usize, session: Session<'m>) -> Result<Live<'m, 'a>, GenerateError> {
        let job = &self.jobs[index];
        Ok(Live {
            index,
            session,
            growing: Growing::new(self.tokenizer, &job.prompt, &job.options)?,
            next: 0,
        })
    }

    /// Lets answers take their next tokens, each from its row of logits; those that end are done, the others live on.
    ///
    /// A draw from 50,000 logits takes about as long as 5 % of a step, so the threads share the answers.
    fn choose(&mut self, answers: Vec<Live<'m, 'a>>, logits: &mut [f32]) -> Result<(), GenerateError> {
        let vocab = self.empty.model().config.vocab;
        let is_cancelled = self.is_cancelled();
        let turn = |(live, logits)| Turn {
            live,
            logits,
            next: Ok(None),
        };
        let mut turns: Vec<Turn<'m, 'a, '_>> = answers
            .into_iter()
            .zip(logits.chunks_exact_mut(vocab))
            .map(turn)
            .collect();
        if !is_cancelled {
            self.empty.model().ctx.pool.run_chunks(&mut turns, 1, |_, turns| {
                for turn in turns {
                    turn.next = turn.live.growing.take(turn.logits, &mut silent);
                }
            });
        }
        for Turn { mut live, next, .. } in turns {
            match next? {
                Some(token) => {
                    live.next = token;
                    self.live.push(live);
                }
                None => {
                    if is_cancelled {
                        live.growing.result.reason = StopReason::Cancelled;
                    }
                    self.done[live.index] = Some(live.growing.finish(&mut silent)?);
                }
            }
        }
        Ok(())
    }

    /// Feeds every living answer its token.
    fn step(&mut self) -> Result<(), GenerateError> {
        let tokens: Vec<u32> = self.live.iter().map(|live| live.next).collect();
        let mut logits = std::mem::take(&mut self.logits);
        let mut sessions: Vec<&mut Session<'m>> = self.live.iter_mut().map(|live| &mut live.session).collect();
        step_batch(&mut sessions, &tokens, &mut logits).map_err(model_failed)?;
        let living = std::mem::take(&mut self.live);
        self.choose(living, &mut logits)?;
        self.logits = logits;
        Ok(())
    }
}

fn silent(_: Step<'_>) {}
