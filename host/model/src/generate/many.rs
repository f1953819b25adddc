//! Several answers side by side: a step reads the weights once for all of them.
//!
//! Invariants: an answer does not depend on the others, on their number or on their order, to the last bit (the sessions
//! take fixed precision paths); what prompts have in common is read once; an answer that ends makes room for one that waits; the
//! caches of all that live stay within the bytes that are given, unless a single answer needs more.

use std::collections::{HashMap, VecDeque};

use super::{GenerateError, GenerateOptions, Generated, Growing, Step, StopReason, check_fit, model_failed};
use crate::adapter::Adapter;
use crate::model::Model;
use crate::session::{PrecisionPaths, Session, read_batch, step_batch};
use crate::tokenizer::Tokenizer;

/// Sequences that are generated side by side.
const LIVE_MAX: usize = 16;
/// Prompt tokens that are read between two looks at the flag, unless a single prompt has more.
const READ_MAX: usize = 2048;
/// Fewest tokens that different prompts must have in common to be read apart, once: a pass of its own costs about as much
/// as some ten rows.
const PREFIX_MIN: usize = 16;

/// One answer to write.
#[derive(Clone, Debug)]
pub struct GenerateJob {
    pub prompt: Vec<u32>,
    pub options: GenerateOptions,
}

/// What holds for all answers of a call.
#[derive(Clone, Copy, Debug)]
pub struct ManyOptions {
    pub precision_paths: PrecisionPaths,
    /// Most tokens that prompt and answer may have together.
    pub context_max: usize,
    /// Bytes that the caches of answers side by side may take.
    pub cache_bytes_max: u64,
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
/// **Errors:** those of [`super::generate`] for the first job that fails; a raised flag in the options of any job ends all
/// with what they have.
pub fn generate_many(
    model: &Model,
    adapter: Option<&Adapter>,
    tokenizer: &Tokenizer,
    jobs: &[GenerateJob],
    options: &ManyOptions,
) -> Result<Vec<Generated>, GenerateError> {
    for job in jobs {
        check_fit(&job.prompt, &job.options, options.context_max)?;
    }
    let bytes_per_position = 8 * model.config.n_layers * model.config.kv_width();
    let positions = options.cache_bytes_max / bytes_per_position as u64;
    let mut batch = Many {
        tokenizer,
        jobs,
        positions_max: usize::try_from(positions).unwrap_or(usize::MAX),
        empty: Session::on_precision_paths(model, adapter, 0, options.precision_paths),
        prefix: None,
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
    let mut first_of = HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        order.push((*first_of.entry(&job.prompt).or_insert(index), index));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

/// Number of first tokens that all prompts share; each keeps one of its own.
fn common(prompts: &[&[u32]]) -> usize {
    let Some((first, rest)) = prompts.split_first() else {
        return 0;
    };
    let shared = |other: &&[u32]| first.iter().zip(*other).take_while(|(a, b)| a == b).count();
    let shortest = prompts.iter().map(|prompt| prompt.len()).min().unwrap_or(0);
    let shared = rest.iter().map(shared).min().unwrap_or(0);
    shared.min(shortest.saturating_sub(1))
}

struct Many<'m, 'a> {
    tokenizer: &'a Tokenizer,
    jobs: &'a [GenerateJob],
    /// Positions of all caches together.
    positions_max: usize,
    /// Starts the sessions, which share what depends on the adapter alone.
    empty: Session<'m>,
    /// What earlier prompts had in common.
    prefix: Option<Session<'m>>,
    waiting: VecDeque<usize>,
    live: Vec<Live<'m, 'a>>,
    done: Vec<Option<Generated>>,
    logits: Vec<f32>,
}

impl<'m, 'a> Many<'m, 'a> {
    fn is_cancelled(&self) -> bool {
        self.jobs.iter().any(|job| job.options.cancel.is_cancelled())
    }

    /// Positions that the cache of a job has.
    fn context(&self, index: usize) -> usize {
        self.jobs[index].prompt.len() + self.jobs[index].options.tokens_max
    }

    /// Reads prompts until the batch is full; says whether anything is alive.
    fn admit(&mut self) -> Result<bool, GenerateError> {
        while !self.is_cancelled() {
            let joining = self.joining();
            if joining.is_empty() {
                return Ok(!self.live.is_empty());
            }
            self.read(&joining)?;
        }
        for index in std::mem::take(&mut self.waiting) {
            self.done[index] = Some(Generated {
                tokens: Vec::new(),
                text: String::new(),
                reason: StopReason::Cancelled,
                prompt_tokens: self.jobs[index].prompt.len(),
            });
        }
        Ok(!self.live.is_empty())
    }

    /// Takes the jobs whose turn it is out of those that wait.
    fn joining(&mut self) -> Vec<usize> {
        let mut joining: Vec<usize> = Vec::new();
        let mut positions: usize = self.live.iter().map(|live| live.session.context()).sum();
        let mut rows = 0;
        while let Some(&index) = self.waiting.front() {
            let count = self.live.len() + joining.len();
            let prompt = &self.jobs[index].prompt;
            let is_repeated = joining.last().is_some_and(|last| self.jobs[*last].prompt == *prompt);
            rows += if is_repeated { 0 } else { prompt.len() };
            positions += self.context(index);
            let has_room = count < LIVE_MAX && positions <= self.positions_max;
            let is_short = joining.is_empty() || rows <= READ_MAX;
            if count > 0 && !(has_room && is_short) {
                break;
            }
            joining.extend(self.waiting.pop_front());
        }
        joining
    }

    /// Sees to it that what the prompts have in common is read; returns whether it is.
    fn read_prefix(&mut self, prompts: &[&[u32]]) -> Result<bool, GenerateError> {
        let starts = |session: &Session<'m>| {
            let begins = |prompt: &&[u32]| prompt.len() > session.len() && prompt.starts_with(session.tokens());
            prompts.iter().all(begins)
        };
        if self.prefix.as_ref().is_some_and(starts) {
            return Ok(true);
        }
        let common = common(prompts);
        if common < PREFIX_MIN {
            return Ok(false);
        }
        let mut session = self.empty.sibling(common);
        read_batch(&mut [&mut session], &[&prompts[0][..common]], &mut self.logits).map_err(model_failed)?;
        self.prefix = Some(session);
        Ok(true)
    }

    /// Reads the prompts of jobs, equal ones once, and chooses their first tokens.
    fn read(&mut self, joining: &[usize]) -> Result<(), GenerateError> {
        let jobs = self.jobs;
        // Per different prompt, the jobs that have it; equal prompts are neighbors.
        let groups: Vec<&[usize]> = joining.chunk_by(|a, b| jobs[*a].prompt == jobs[*b].prompt).collect();
        let mut rests: Vec<&[u32]> = groups.iter().map(|group| jobs[group[0]].prompt.as_slice()).collect();
        let has_prefix = self.read_prefix(&rests)?;
        let mut firsts: Vec<Session<'m>> = Vec::with_capacity(groups.len());
        for (group, rest) in groups.iter().zip(&mut rests) {
            let context = self.context(group[0]);
            firsts.push(match self.prefix.as_ref().filter(|_| has_prefix) {
                Some(prefix) => {
                    *rest = &rest[prefix.len()..];
                    prefix.fork(context).map_err(model_failed)?
                }
                None => self.empty.sibling(context),
            });
        }
        let mut logits = Vec::new();
        read_batch(&mut firsts.iter_mut().collect::<Vec<_>>(), &rests, &mut logits).map_err(model_failed)?;
        let vocab = logits.len() / groups.len();
        let mut joined = Vec::with_capacity(joining.len());
        let mut rows = Vec::with_capacity(joining.len() * vocab);
        for ((first, group), logits) in firsts.into_iter().zip(groups).zip(logits.chunks_exact(vocab)) {
            for &index in &group[1..] {
                let session = first.fork(self.context(index)).map_err(model_failed)?;
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
