//! What a step learns: from its index to its rows and the weights of their targets.
//!
//! Invariants: a step's rows are functions of the seed and the step; the loss of a step is one sum, so that accumulation over
//! several batches changes nothing but rounding.

use dlm_core::random::Rng;

use crate::dataset::RowError;
use crate::preference::{Both, PreferenceRule};
use crate::rows::{Row, RowKind};

/// What a run teaches, step by step: documents ([`crate::supervised`]), preferences ([`crate::pairs`]).
pub trait Objective {
    /// Number of examples, whose last losses a state keeps.
    fn examples(&self) -> usize;

    /// Says whether there is nothing to learn.
    fn is_empty(&self) -> bool;

    /// Refuses what no step could take.
    ///
    /// **Errors** name the first example.
    fn check(&self) -> Result<(), RowError>;

    /// Makes the rows of step `index`.
    ///
    /// **Errors:** a row that cannot be encoded.
    fn rows(&self, index: u64) -> Result<StepRows, RowError>;

    /// Rows that are judged and never trained on.
    fn validation(&self) -> Vec<(RowKind, Row)> {
        Vec::new()
    }

    /// Says whether the last losses of the examples, under the threshold, show that all is learned.
    fn has_learned(&self, _losses: &[Option<f32>], _threshold: f64) -> bool {
        false
    }
}

/// The rows of one step.
#[derive(Default)]
pub struct StepRows {
    /// Those of the examples first, then others; the weights of their targets make the step's loss one sum.
    pub rows: Vec<Row>,
    /// The example of each of the first rows, or of each pair of them.
    pub visited: Vec<usize>,
    /// Rows `2 i` and `2 i + 1` are a pair whose loss is added; all rows are, or none.
    pub pairs: Vec<PairTerm>,
}

/// A pair in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairTerm {
    pub rule: PreferenceRule,
    /// Log-probabilities under the reference.
    pub reference: Both<f64>,
    /// The last targets of each row that are the completion's.
    pub lengths: Both<usize>,
    /// Factor of the pair's loss in the step's.
    pub scale: f64,
}

/// One example in one step.
pub(crate) struct Visit {
    pub epoch: u64,
    pub example: usize,
}

/// Consecutive places of step `index` in an endless series of shuffled epochs of `examples`.
pub(crate) fn visits(examples: &[usize], per_step: usize, seed: u64, index: u64) -> Vec<Visit> {
    let (n, per_step) = (examples.len() as u64, per_step as u64);
    let mut order = (u64::MAX, Vec::new());
    (index * per_step..(index + 1) * per_step)
        .map(|place| {
            let epoch = place / n;
            if order.0 != epoch {
                order = (epoch, examples.to_vec());
                Rng::stream(seed, "epoch", &[epoch]).shuffle(&mut order.1);
            }
            Visit {
                epoch,
                example: order.1[(place % n) as usize],
            }
        })
        .collect()
}
