//! Anchors: rows of the base's own output, with its probabilities, that training must not move.
//!
//! Without them a third to half of what a small base knew is gone after a document of 30 facts (`docs/internals/teaching.md`).
//! The set depends on the base and the system prompt alone, so it is prepared once and cached; [`AnchorSet::to_bytes`] is that cache's content.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use dlm_core::random::Rng;
use dlm_core::{Cancel, Event, Progress};
use dlm_model::chat::Thinking;
use dlm_model::generate::{GenerateError, Watch};
use dlm_model::sampling::Sampling;
use dlm_model::text::{TextError, TextModel};
use dlm_model::{Reader, TargetKind};

use crate::decode::{Prompt, continue_all};
use crate::rows::{Row, RowTarget, question_messages};

/// Neutral questions, one a line; the base's greedy answers to them are rows.
const QUESTIONS: &str = include_str!("anchors/questions.txt");
/// Neutral beginnings of plain text, one a line; the base's samples after them are rows.
const OPENINGS: &str = include_str!("anchors/openings.txt");

/// How the set is made; sets made in different ways are different files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnchorOptions {
    /// Rows of the set; at most what the lists of questions and openings give.
    pub rows: usize,
    /// Share of the rows that are answers; the rest continues plain text.
    pub greedy_share: f64,
    /// Tokens that the base adds to a row at most.
    pub tokens_max: usize,
    /// Probabilities kept for each token; the rest of the mass is one bucket.
    pub top: usize,
}

impl AnchorOptions {
    /// Names the way in which a set is made, with the precision of the products that made it.
    pub fn tag(&self, precision: &str) -> String {
        let greedy = (self.greedy_share * 100.0).round();
        format!("{}-{greedy}-{}-{}-{precision}", self.rows, self.tokens_max, self.top)
    }
}

/// First bytes of a stored set; the number changes with the format, the prompts or the constants above.
const MAGIC: &[u8; 8] = b"dlmhold2";
/// Bounds on what is read back.
const ROWS_MAX: usize = 4096;
const ROW_TOKENS_MAX: usize = 4096;
const TOP_MAX: usize = 4096;

/// Rows of the base's own output.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorSet {
    rows: Vec<Row>,
}

/// Why a set could not be prepared or read.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error("preparing the anchors was interrupted")]
    Cancelled,
    #[error("the stored anchors are damaged: {cause}")]
    Damaged { cause: &'static str },
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Text(#[from] TextError),
}

impl AnchorSet {
    /// Lets the base answer the neutral questions and continue the neutral openings; `base` reads without an adapter.
    ///
    /// The questions are asked as the document's are: behind its system prompt, where it has one.
    ///
    /// **Errors:** interrupted, or the base cannot render a question.
    pub fn prepare(
        base: &mut dyn Reader,
        text: &TextModel,
        system_prompt: Option<&str>,
        options: &AnchorOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Self, AnchorError> {
        let prompts = prompts(text, system_prompt, options)?;
        let phase = "holding the base".to_owned();
        progress.event(Event::PhaseStarted {
            phase: phase.clone(),
            total: Some(prompts.len() as u64),
            unit: "rows",
        });
        let (count, planned) = (prompts.len() as u64, (prompts.len() * options.tokens_max).max(1) as u64);
        let (drawn, told) = (Cell::new(0), Cell::new(0));
        // Rows grow side by side, so the share of tokens tells how far they are.
        let advance = |grown: usize| {
            drawn.set(drawn.get() + grown as u64);
            let done = drawn.get() * count / planned;
            if done > told.replace(done) {
                let phase = phase.clone();
                progress.event(Event::PhaseAdvanced { phase, done });
            }
        };
        let rows = sample_rows(base, text, prompts, options.top, cancel, &advance)?;
        progress.event(Event::PhaseEnded { phase });
        Ok(Self { rows })
    }

    /// Returns the rows that step `index` sees.
    pub fn rows_of_step(&self, seed: u64, index: u64, per_step: usize) -> Vec<Row> {
        let n = self.rows.len() as u64;
        if n == 0 {
            return Vec::new();
        }
        let mut order = (u64::MAX, Vec::new());
        (index * per_step as u64..(index + 1) * per_step as u64)
            .map(|place| {
                let epoch = place / n;
                if order.0 != epoch {
                    order = (epoch, (0..self.rows.len()).collect::<Vec<_>>());
                    Rng::stream(seed, "hold", &[epoch]).shuffle(&mut order.1);
                }
                self.rows[order.1[(place % n) as usize]].clone()
            })
            .collect()
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Says whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the set as bytes: little-endian, lengths before contents.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.rows.len());
        for row in &self.rows {
            put(&mut out, row.ids.len());
            row.ids.iter().for_each(|id| out.extend(id.to_le_bytes()));
            put(&mut out, row.targets.len());
            for target in &row.targets {
                put(&mut out, target.position);
                let TargetKind::TopK { ids, probs } = &target.kind else {
                    unreachable!("an anchor has distributions as targets");
                };
                put(&mut out, ids.len());
                ids.iter().for_each(|id| out.extend(id.to_le_bytes()));
                probs.iter().for_each(|p| out.extend(p.to_le_bytes()));
            }
        }
        out
    }

    /// Reads back what [`AnchorSet::to_bytes`] wrote.
    ///
    /// **Errors:** another format, lengths out of bounds, bytes missing or left over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnchorError> {
        let mut reader = Bytes { bytes };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(AnchorError::Damaged {
                cause: "its first bytes are not those of a set of anchors",
            });
        }
        let rows = (0..reader.count(ROWS_MAX)?)
            .map(|_| reader.row())
            .collect::<Result<Vec<_>, _>>()?;
        if !reader.bytes.is_empty() {
            return Err(AnchorError::Damaged {
                cause: "bytes are left over",
            });
        }
        Ok(Self { rows })
    }
}

/// What the base is asked: questions, answered greedily, and openings, continued by chance.
fn prompts(text: &TextModel, system_prompt: Option<&str>, options: &AnchorOptions) -> Result<Vec<Prompt>, AnchorError> {
    let answers = (options.rows as f64 * options.greedy_share).round() as usize;
    let mut prompts = Vec::new();
    for question in evenly(QUESTIONS, answers) {
        prompts.push(Prompt {
            ids: text.prompt_ids(&question_messages(system_prompt, question), Thinking::default())?,
            tokens_max: options.tokens_max,
            sampling: Sampling::greedy(),
        });
    }
    for (index, opening) in evenly(OPENINGS, options.rows - answers).enumerate() {
        prompts.push(Prompt {
            ids: text.plain_ids(opening)?,
            tokens_max: options.tokens_max,
            sampling: Sampling {
                temperature: 1.0,
                top_k: None,
                top_p: None,
                repetition_penalty: None,
                seed: index as u64,
            },
        });
    }
    Ok(prompts)
}

/// Generates every row and keeps the base's probabilities at each generated token; `advance` hears how many there are more.
fn sample_rows(
    base: &mut dyn Reader,
    text: &TextModel,
    prompts: Vec<Prompt>,
    top: usize,
    cancel: &Cancel,
    advance: &dyn Fn(usize),
) -> Result<Vec<Row>, AnchorError> {
    let beginnings: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let kept: Vec<Mutex<Vec<TargetKind>>> = prompts.iter().map(|_| Mutex::default()).collect();
    let keep = |job: usize, logits: &[f32]| {
        let likely = top_probabilities(logits, top);
        kept[job].lock().unwrap_or_else(PoisonError::into_inner).push(likely);
    };
    let watch = Watch {
        logits: Some(&keep),
        goes_on: &|grown| {
            advance(grown);
            true
        },
    };
    let answers = continue_all(base, text, prompts, watch, cancel)?;
    if cancel.is_cancelled() {
        return Err(AnchorError::Cancelled);
    }
    let kinds = kept
        .into_iter()
        .map(|kinds| kinds.into_inner().unwrap_or_else(PoisonError::into_inner));
    let rows = beginnings.into_iter().zip(answers).zip(kinds);
    Ok(rows
        .map(|((mut ids, answer), kinds)| {
            let first = ids.len() - 1;
            ids.extend(answer.tokens);
            let target = |(position, kind)| RowTarget {
                position,
                kind,
                weight: 1.0,
            };
            let targets = (first..ids.len()).zip(kinds).map(target).collect();
            Row { ids, targets }
        })
        .collect())
}

/// Takes `count` lines spread evenly over a list, or all when there are fewer.
fn evenly(list: &str, count: usize) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = list.lines().filter(|l| !l.is_empty()).collect();
    let count = count.min(lines.len());
    (0..count).map(move |i| lines[i * lines.len() / count])
}

/// Returns the `top` most likely tokens with their probabilities.
fn top_probabilities(logits: &[f32], top: usize) -> TargetKind {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let top = top.min(order.len()).max(1);
    order.select_nth_unstable_by(top - 1, |a, b| {
        logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
    });
    // A copy: the vector that was ranked has room for the whole vocabulary, and thousands of these are kept.
    let mut order = order[..top].to_vec();
    order.sort_unstable();
    let probs = order
        .iter()
        .map(|&i| (f64::from(logits[i as usize] - max).exp() / total) as f32)
        .collect();
    TargetKind::TopK { ids: order, probs }
}

fn put(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_le_bytes());
}

/// Reads lengths and numbers, refusing to go past the end.
struct Bytes<'a> {
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], AnchorError> {
        if len > self.bytes.len() {
            return Err(AnchorError::Damaged {
                cause: "it ends too early",
            });
        }
        let (head, tail) = self.bytes.split_at(len);
        self.bytes = tail;
        Ok(head)
    }

    fn word(&mut self) -> Result<[u8; 4], AnchorError> {
        let mut out = [0; 4];
        out.copy_from_slice(self.take(4)?);
        Ok(out)
    }

    fn count(&mut self, max: usize) -> Result<usize, AnchorError> {
        let count = u32::from_le_bytes(self.word()?) as usize;
        if count > max {
            return Err(AnchorError::Damaged {
                cause: "a length is out of bounds",
            });
        }
        Ok(count)
    }

    fn ids(&mut self, count: usize) -> Result<Vec<u32>, AnchorError> {
        (0..count).map(|_| Ok(u32::from_le_bytes(self.word()?))).collect()
    }

    fn row(&mut self) -> Result<Row, AnchorError> {
        let len = self.count(ROW_TOKENS_MAX)?;
        let ids = self.ids(len)?;
        let targets = (0..self.count(len)?)
            .map(|_| {
                let position = self.count(len.saturating_sub(1))?;
                let top = self.count(TOP_MAX)?;
                let top_ids = self.ids(top)?;
                let probs = (0..top)
                    .map(|_| Ok(f32::from_le_bytes(self.word()?)))
                    .collect::<Result<_, AnchorError>>()?;
                Ok(RowTarget {
                    position,
                    kind: TargetKind::TopK { ids: top_ids, probs },
                    weight: 1.0,
                })
            })
            .collect::<Result<_, AnchorError>>()?;
        Ok(Row { ids, targets })
    }
}

#[cfg(test)]
mod tests {
    use dlm_model::sampling::argmax;

    use super::*;

    fn set() -> AnchorSet {
        let row = |n: u32| Row {
            ids: vec![n, n + 1, n + 2],
            targets: vec![RowTarget {
                position: 1,
                kind: TargetKind::TopK {
                    ids: vec![n, 7],
                    probs: vec![0.5, 0.25],
                },
                weight: 1.0,
            }],
        };
        AnchorSet {
            rows: (0..5).map(row).collect(),
        }
    }

    #[test]
    fn bytes_round_trip_and_damage_is_noticed() {
        let bytes = set().to_bytes();
        assert_eq!(AnchorSet::from_bytes(&bytes).unwrap(), set());
        for len in 0..bytes.len() {
            assert!(AnchorSet::from_bytes(&bytes[..len]).is_err());
        }
        assert!(AnchorSet::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_kept_distribution_holds_no_room_for_the_vocabulary() {
        let logits: Vec<f32> = (0..50_000u16).map(|i| f32::from(i % 977)).collect();
        let TargetKind::TopK { ids, probs } = top_probabilities(&logits, 64) else {
            panic!("a distribution is expected");
        };
        assert_eq!((ids.len(), probs.len()), (64, 64));
        assert!(
            ids.capacity() < 128 && probs.capacity() < 128,
            "{} {}",
            ids.capacity(),
            probs.capacity()
        );
    }

    #[test]
    fn steps_visit_every_row_once_an_epoch() {
        let set = set();
        let mut first: Vec<u32> = (0..5)
            .flat_map(|step| set.rows_of_step(9, step, 1))
            .map(|r| r.ids[0])
            .collect();
        first.sort_unstable();
        assert_eq!(first, vec![0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_probabilities_are_a_part_of_the_softmax() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin()).collect();
        let TargetKind::TopK { ids, probs } = top_probabilities(&logits, 64) else {
            panic!("distribution")
        };
        assert_eq!(ids.len(), 64);
        assert!(ids.contains(&argmax(&logits)));
        let sum: f32 = probs.iter().sum();
        assert!(sum > 0.6 && sum < 1.0, "{sum}");
    }
}
