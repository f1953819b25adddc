//! Losses of rows without training: evaluation, retention, probes.
//!
//! Invariants: every row is read on its own, so its loss does not depend on the others.

use dlm_model::{EngineError, Logprobs, TargetKind};
use serde::{Deserialize, Serialize};

use crate::batch::pack;
use crate::rows::{Row, RowKind};

/// Mean losses of rows, in nats per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalLoss {
    pub loss: f64,
    pub sft: Option<f64>,
    pub cpt: Option<f64>,
}

/// Returns the mean losses of rows under the weights of `model`: of all tokens, and of those of each kind.
///
/// **Errors:** a row that the model refuses.
pub fn mean_losses(
    model: &mut dyn Logprobs,
    rows: impl IntoIterator<Item = (RowKind, Row)>,
) -> Result<EvalLoss, EngineError> {
    let mut sums = [(0.0f64, 0usize); 2];
    for (kind, row) in rows {
        let values = row_losses(model, &row)?;
        let slot = usize::from(kind == RowKind::Cpt);
        sums[slot].0 += values.iter().map(|v| f64::from(*v)).sum::<f64>();
        sums[slot].1 += values.len();
    }
    let mean = |(sum, n): (f64, usize)| (n > 0).then(|| sum / n as f64);
    let all = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    Ok(EvalLoss {
        loss: mean(all).unwrap_or(0.0),
        sft: mean(sums[0]),
        cpt: mean(sums[1]),
    })
}

/// Returns the loss of every token target of one row, in nats.
///
/// **Errors:** a row that the model refuses.
pub fn row_losses(model: &mut dyn Logprobs, row: &Row) -> Result<Vec<f32>, EngineError> {
    let packed = pack(std::slice::from_ref(row), 1.0);
    let pairs: Vec<(usize, u32)> = packed
        .targets
        .iter()
        .filter_map(|t| match t.kind {
            TargetKind::Token(token) => Some((t.row, token)),
            TargetKind::TopK { .. } => None,
        })
        .collect();
    let logprobs = model.logprobs(&packed.batch, &pairs)?;
    Ok(logprobs.into_iter().map(|p| -p).collect())
}
