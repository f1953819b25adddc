//! Supervised learning: the document's examples beside anchors, whose weights are known beforehand.
//!
//! Invariants: a step's rewordings and noise are functions of the seed and the step.

use dlm_core::random::Rng;
use dlm_model::text::TextModel;

use crate::anchors::AnchorSet;
use crate::batch::weight_sum;
use crate::dataset::{Dataset, RowError, Split};
use crate::objective::{Objective, StepRows, Visit, visits};
use crate::recipe::Recipe;
use crate::rows::{Row, RowKind, add_noise};

/// Keeps a division by the weights of no target finite.
const WEIGHT_SUM_MIN: f64 = 1e-12;

/// The document's examples beside anchors: the mean loss of the former, plus the mean divergence on the latter.
pub struct Supervised<'a> {
    pub dataset: &'a Dataset,
    pub text: &'a TextModel,
    pub anchors: Option<&'a AnchorSet>,
    pub recipe: &'a Recipe,
    /// Indices of the examples that are trained on.
    trained: Vec<usize>,
}

impl<'a> Supervised<'a> {
    /// Trains on the training side of a dataset.
    pub fn new(
        dataset: &'a Dataset,
        text: &'a TextModel,
        anchors: Option<&'a AnchorSet>,
        recipe: &'a Recipe,
    ) -> Supervised<'a> {
        Supervised {
            trained: dataset.indices(Split::Train),
            dataset,
            text,
            anchors,
            recipe,
        }
    }

    /// The row of one visit: reworded and with noise, unless the step is a clean one.
    fn row(&self, index: u64, visit: &Visit) -> Result<Row, RowError> {
        let recipe = self.recipe;
        let is_clean = recipe.is_clean(index);
        let position = [visit.epoch, visit.example as u64];
        let reworded = match &recipe.augment {
            Some(augment) if !is_clean => {
                let mut rng = Rng::stream(recipe.seed, "augment", &position);
                let longest = recipe.sequence_len_max;
                self.dataset
                    .reworded(visit.example, self.text, augment, longest, &mut rng)?
            }
            _ => None,
        };
        let mut row = match reworded {
            Some(row) => row,
            None => self.dataset.row(visit.example, recipe.prose_weight),
        };
        let is_answer = self.dataset.example(visit.example).kind() == RowKind::Sft;
        if !is_clean && recipe.noise_share > 0.0 && is_answer {
            let mut rng = Rng::stream(recipe.seed, "noise", &position);
            add_noise(&mut row, recipe.noise_share, self.text, &mut rng);
        }
        Ok(row)
    }

    fn anchors_of_step(&self, index: u64) -> Vec<Row> {
        match self.anchors {
            Some(anchors) if self.recipe.anchors_per_step > 0 => {
                anchors.rows_of_step(self.recipe.seed, index, self.recipe.anchors_per_step)
            }
            _ => Vec::new(),
        }
    }
}

impl Objective for Supervised<'_> {
    fn examples(&self) -> usize {
        self.dataset.len()
    }

    fn is_empty(&self) -> bool {
        self.trained.is_empty()
    }

    fn check(&self) -> Result<(), RowError> {
        self.dataset.check_lengths(self.recipe.sequence_len_max, usize::MAX)
    }

    /// **Errors:** a reworded question that cannot be encoded.
    fn rows(&self, index: u64) -> Result<StepRows, RowError> {
        let visits = visits(&self.trained, self.recipe.rows_per_step, self.recipe.seed, index);
        let mut rows: Vec<Row> = visits
            .iter()
            .map(|visit| self.row(index, visit))
            .collect::<Result<_, _>>()?;
        let sum = weight_sum(&rows).max(WEIGHT_SUM_MIN);
        rows.iter_mut().for_each(|row| scale_targets(row, 1.0 / sum));
        // Rows of both kinds share a pass, and their targets carry the weights that make the step's loss one sum.
        let mut anchors = self.anchors_of_step(index);
        let scale = self.recipe.anchor_weight / weight_sum(&anchors).max(WEIGHT_SUM_MIN);
        anchors.iter_mut().for_each(|row| scale_targets(row, scale));
        rows.append(&mut anchors);
        Ok(StepRows {
            rows,
            visited: visits.iter().map(|visit| visit.example).collect(),
            pairs: Vec::new(),
        })
    }

    fn validation(&self) -> Vec<(RowKind, Row)> {
        let row = |index| {
            let kind = self.dataset.example(index).kind();
            (kind, self.dataset.row(index, self.recipe.prose_weight))
        };
        self.dataset.indices(Split::Validation).into_iter().map(row).collect()
    }

    /// Only pairs have an answer to reach.
    fn has_learned(&self, losses: &[Option<f32>], threshold: f64) -> bool {
        let losses: Option<Vec<f32>> = self
            .trained
            .iter()
            .filter(|&&i| self.dataset.example(i).kind() == RowKind::Sft)
            .map(|&i| losses[i])
            .collect();
        losses.is_some_and(|l| !l.is_empty() && l.iter().all(|l| f64::from(*l) <= threshold))
    }
}

fn scale_targets(row: &mut Row, scale: f64) {
    for target in &mut row.targets {
        target.weight = (f64::from(target.weight) * scale) as f32;
    }
}
