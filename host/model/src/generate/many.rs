//! Several answers side by side: a step reads the weights once for all of them.
//!
//! Invariants: an answer does not depend on the others, on their number or on their order, to the last bit (on a reader of
//! fixed precision paths); what prompts have in common is read once; an answer that ends makes room for one that waits; the
//! caches of all that live stay within the bytes that are given, unless a single answer needs more; no session stays open.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::{GenerateError, GenerateOptions, Generation, Growing, Step, StopReason, check_fit, model_failed};
use crate::engine::{Reader, SessionId};
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
#[derive(Clone, Copy)]
pub struct ManyOptions<'a> {
    /// Most tokens that prompt and answer may have together.
    pub context_max: usize,
    /// Bytes that the caches of answers side by side may take.
    pub cache_bytes_max: u64,
    pub watch: Watch<'a>,
}

/// Gets a job's index and its logits.
pub type HearLogits<'a> = dyn Fn(usize, &[f32]) + Sync + 'a;

/// Whoever looks on while answers grow.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called before each choice of a token, on any thread; for one job in order.
    pub logits: Option<&'a HearLogits<'a>>,
    /// Hears how many tokens a step chose, and says whether there may be another.
    pub goes_on: &'a dyn Fn(usize) -> bool,
}

impl Default for Watch<'_> {
    fn default() -> Self {
        Self {
            logits: None,
            goes_on: &|_| true,
        }
    }
}

/// An answer that chooses its next token, from its row of logits.
struct Turn<'a, 'l> {
    live: Live<'a>,
    logits: &'l mut [f32],
    next: Result<Option<u32>, GenerateError>,
}

/// An answer that grows.
struct Live<'a> {
    index: usize,
    session: SessionId,
    growing: Growing<'a>,
    next: u32,
}

/// What the prompts of a reading have in common, read.
struct Prefix<'a> {
    session: SessionId,
    tokens: &'a [u32],
}

/// Continues every prompt; the answers come in the order of the jobs.
///
/// The reader should have fixed precision paths: without them an answer's last bits depend on the others.
///
/// **Errors:** those of [`super::generate`] for the first job that fails, and [`GenerateError::Refused`]; a raised flag in the
/// options of any job ends all with what they have.
pub fn generate_many(
    reader: &mut dyn Reader,
    tokenizer: &Tokenizer,
    jobs: &[GenerateJob],
    options: &ManyOptions<'_>,
) -> Result<Vec<Generation>, GenerateError> {
    for job in jobs {
        check_fit(&job.prompt, &job.options, options.context_max)?;
    }
    let positions = options.cache_bytes_max / reader.facts().cache_bytes_per_token;
    let mut batch = Many {
        reader,
        tokenizer,
        jobs,
        positions_max: usize::try_from(positions).unwrap_or(usize::MAX),
        open: Vec::new(),
        prefix: None,
        waiting: in_prompt_order(jobs),
        live: Vec::new(),
        done: jobs.iter().map(|_| None).collect(),
        logits: Vec::new(),
        watch: options.watch,
    };
    let ended = batch.run();
    batch.open.iter().for_each(|session| batch.reader.close(*session));
    ended?;
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

struct Many<'r, 'a> {
    reader: &'r mut dyn Reader,
    tokenizer: &'a Tokenizer,
    jobs: &'a [GenerateJob],
    /// Positions of all caches together.
    positions_max: usize,
    /// Every session that is to be closed.
    open: Vec<SessionId>,
    /// What earlier prompts had in common.
    prefix: Option<Prefix<'a>>,
    waiting: VecDeque<usize>,
    live: Vec<Live<'a>>,
    done: Vec<Option<Generation>>,
    logits: Vec<f32>,
    watch: Watch<'a>,
}

impl<'a> Many<'_, 'a> {
    fn run(&mut self) -> Result<(), GenerateError> {
        while self.admit()? {
            self.step()?;
        }
        Ok(())
    }

    fn open(&mut self, context: usize) -> Result<SessionId, GenerateError> {
        let session = self.reader.open(context).map_err(model_failed)?;
        self.open.push(session);
        Ok(session)
    }

    fn fork(&mut self, session: SessionId, context: usize) -> Result<SessionId, GenerateError> {
        let fork = self.reader.fork(session, context).map_err(model_failed)?;
        self.open.push(fork);
        Ok(fork)
    }

    fn close(&mut self, session: SessionId) {
        self.open.retain(|open| *open != session);
        self.reader.close(session);
    }

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
            self.done[index] = Some(Generation {
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
        let mut positions: usize = self.live.iter().map(|live| self.context(live.index)).sum();
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

    /// Sees to it that what the prompts have in common is read; returns its session and length where it is.
    fn read_prefix(&mut self, prompts: &[&'a [u32]]) -> Result<Option<(SessionId, usize)>, GenerateError> {
        let starts = |prefix: &&Prefix<'a>| {
            let begins = |prompt: &&[u32]| prompt.len() > prefix.tokens.len() && prompt.starts_with(prefix.tokens);
            prompts.iter().all(begins)
        };
        if let Some(prefix) = self.prefix.as_ref().filter(starts) {
            return Ok(Some((prefix.session, prefix.tokens.len())));
        }
        let common = common(prompts);
        if common < PREFIX_MIN {
            return Ok(None);
        }
        let tokens = &prompts[0][..common];
        let session = self.open(common)?;
        self.reader
            .read(&[session], &[tokens], &mut self.logits)
            .map_err(model_failed)?;
        if let Some(earlier) = self.prefix.replace(Prefix { session, tokens }) {
            self.close(earlier.session);
        }
        Ok(Some((session, common)))
    }

    /// Reads the prompts of jobs, equal ones once, and chooses their first tokens.
    fn read(&mut self, joining: &[usize]) -> Result<(), GenerateError> {
        let jobs = self.jobs;
        // Per different prompt, the jobs that have it; equal prompts are neighbors.
        let groups: Vec<&[usize]> = joining.chunk_by(|a, b| jobs[*a].prompt == jobs[*b].prompt).collect();
        let mut rests: Vec<&'a [u32]> = groups.iter().map(|group| jobs[group[0]].prompt.as_slice()).collect();
        let prefix = self.read_prefix(&rests)?;
        let mut firsts = Vec::with_capacity(groups.len());
        for (group, rest) in groups.iter().zip(&mut rests) {
            let context = self.context(group[0]);
            firsts.push(match prefix {
                Some((session, len)) => {
                    *rest = &rest[len..];
                    self.fork(session, context)?
                }
                None => self.open(context)?,
            });
        }
        let mut logits = Vec::new();
        self.reader.read(&firsts, &rests, &mut logits).map_err(model_failed)?;
        let vocab = self.reader.facts().vocab;
        let mut joined = Vec::with_capacity(joining.len());
        let mut rows = Vec::with_capacity(joining.len() * vocab);
        for ((first, group), logits) in firsts.into_iter().zip(groups).zip(logits.chunks_exact(vocab)) {
            for &index in &group[1..] {
                let session = self.fork(first, self.context(index))?;
                joined.push(self.begin(index, session)?);
            }
            joined.push(self.begin(group[0], first)?);
            (0..group.len()).for_each(|_| rows.extend_from_slice(logits));
        }
        self.choose(joined, &mut rows)
    }

    fn begin(&self, index: usize, session: SessionId) -> Result<Live<'a>, GenerateError> {
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
    fn choose(&mut self, answers: Vec<Live<'a>>, logits: &mut [f32]) -> Result<(), GenerateError> {
        let vocab = self.reader.facts().vocab;
        let is_cancelled = self.is_cancelled();
        let turn = |(live, logits)| {
            Mutex::new(Turn {
                live,
                logits,
                next: Ok(None),
            })
        };
        let turns: Vec<Mutex<Turn<'a, '_>>> = answers
            .into_iter()
            .zip(logits.chunks_exact_mut(vocab))
            .map(turn)
            .collect();
        if !is_cancelled {
            let watch = self.watch.logits;
            // Each index is called once, so no lock is waited for.
            self.reader.on_threads(turns.len(), &|index| {
                let mut turn = turns[index].lock().unwrap_or_else(PoisonError::into_inner);
                let Turn { live, logits, next } = &mut *turn;
                if let Some(watch) = watch {
                    watch(live.index, logits);
                }
                *next = live.growing.take(logits, &mut silent);
            });
        }
        if !is_cancelled && !(self.watch.goes_on)(turns.len()) {
            return Err(GenerateError::Refused);
        }
        for turn in turns {
            let Turn { mut live, next, .. } = turn.into_inner().unwrap_or_else(PoisonError::into_inner);
            match next? {
                Some(token) => {
                    live.next = token;
                    self.live.push(live);
                }
                None => {
                    if is_cancelled {
                        live.growing.result.reason = StopReason::Cancelled;
                    }
                    self.close(live.session);
                    self.done[live.index] = Some(live.growing.finish(&mut silent)?);
                }
            }
        }
        Ok(())
    }

    /// Feeds every living answer its token.
    fn step(&mut self) -> Result<(), GenerateError> {
        let tokens: Vec<u32> = self.live.iter().map(|live| live.next).collect();
        let sessions: Vec<SessionId> = self.live.iter().map(|live| live.session).collect();
        let mut logits = std::mem::take(&mut self.logits);
        self.reader
            .step(&sessions, &tokens, &mut logits)
            .map_err(model_failed)?;
        let living = std::mem::take(&mut self.live);
        self.choose(living, &mut logits)?;
        self.logits = logits;
        Ok(())
    }
}

fn silent(_: Step<'_>) {}
