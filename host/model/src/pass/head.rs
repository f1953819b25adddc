//! From hidden rows to logits and losses, a chunk of rows at a time.
//!
//! Invariants: logits exist for one chunk at once, never for a whole batch; rows without a target cost nothing.

use dlm_kernels::{PrecisionPath, RowTarget, Write, linear_backward_input, logprob_rows, loss_rows};

use crate::batch::{Target, TargetKind};
use crate::model::Model;

/// Rows of logits that exist at once: enough to keep the product at its peak, 25 MB for a vocabulary of 49152.
const CHUNK_ROWS: usize = 128;
/// Chunks never hold more logits than this (large vocabularies take fewer rows).
const CHUNK_LOGITS: usize = 8 << 20;

/// Losses of one call, unweighted, in the order of the targets of their kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadLoss {
    /// `-log q(token)` of every [`TargetKind::Token`].
    pub nll: Vec<f32>,
    /// `KL(stored || q)` of every [`TargetKind::TopK`].
    pub kl: Vec<f32>,
}

impl Model {
    fn chunk_rows(&self) -> usize {
        CHUNK_ROWS.min(CHUNK_LOGITS / self.config.vocab).max(8)
    }

    /// Writes the logits of hidden rows, final soft-cap included: `logits[rows, vocab]`.
    ///
    /// **Panics:** when lengths do not fit.
    pub fn logits_into(&self, hidden: &[f32], logits: &mut [f32]) {
        self.logits_on(PrecisionPath::ByRows, hidden, logits);
    }

    /// [`Model::logits_into`] on a given precision path.
    pub(crate) fn logits_on(&self, precision_path: PrecisionPath, hidden: &[f32], logits: &mut [f32]) {
        let rows = hidden.len() / self.config.d_model;
        self.products(precision_path, hidden, rows, &mut [(&self.head, logits)]);
        if let Some(cap) = self.config.final_softcap {
            let chunk = self.config.vocab;
            self.ctx.pool.run_chunks(logits, chunk, |_, logits| {
                logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
            });
        }
    }

    /// Returns the logits of hidden rows, final soft-cap included: `[rows, vocab]`.
    pub fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; hidden.len() / self.config.d_model * self.config.vocab];
        self.logits_into(hidden, &mut logits);
        logits
    }

    /// Computes the losses at the targets and adds `weight * d loss / d hidden` to the rows of `d_hidden`.
    ///
    /// **Shapes:** `hidden`, `d_hidden` `[rows, d_model]`.
    /// **Cost:** twice the head product of the target rows; memory of one chunk of logits.
    /// **Panics:** when a target names a row or token that does not exist.
    pub fn head_loss(&self, hidden: &[f32], targets: &[Target], d_hidden: &mut [f32]) -> HeadLoss {
        assert_eq!(hidden.len(), d_hidden.len(), "one gradient per hidden value");
        let (d, vocab) = (self.config.d_model, self.config.vocab);
        let mut loss = HeadLoss::default();
        for targets in targets.chunks(self.chunk_rows()) {
            let rows = targets.len();
            let mut gathered = self.arena.take(rows * d);
            for (out, target) in gathered.chunks_exact_mut(d).zip(targets) {
                out.copy_from_slice(&hidden[target.row * d..][..d]);
            }
            let mut logits = self.arena.take(rows * vocab);
            self.products(PrecisionPath::ByRows, &gathered, rows, &mut [(&self.head, &mut logits)]);
            let kinds: Vec<RowTarget<'_>> = targets.iter().map(row_target).collect();
            let weights: Vec<f32> = targets.iter().map(|target| target.weight).collect();
            let mut losses = vec![0.0; rows];
            let softcap = self.config.final_softcap;
            loss_rows(&self.ctx, &mut logits, vocab, softcap, &kinds, &weights, &mut losses);
            linear_backward_input(
                &self.ctx,
                self.compute,
                &logits,
                rows,
                &self.head,
                &mut gathered,
                Write::Set,
            );
            for ((gradient, target), value) in gathered.chunks_exact(d).zip(targets).zip(losses) {
                let out = &mut d_hidden[target.row * d..][..d];
                out.iter_mut().zip(gradient).for_each(|(out, g)| *out += g);
                match target.kind {
                    TargetKind::Token(_) => loss.nll.push(value),
                    TargetKind::TopK { .. } => loss.kl.push(value),
                }
            }
        }
        loss
    }

    /// Returns `log q(token)` at (row, token) pairs.
    ///
    /// **Panics:** when a pair names a row or token that does not exist.
    pub fn logprobs(&self, hidden: &[f32], pairs: &[(usize, u32)]) -> Vec<f32> {
        self.logprobs_on(PrecisionPath::ByRows, hidden, pairs)
    }

    /// [`Model::logprobs`] on a given precision path.
    pub(crate) fn logprobs_on(
        &self,
        precision_path: PrecisionPath,
        hidden: &[f32],
        pairs: &[(usize, u32)],
    ) -> Vec<f32> {
        let (d, vocab) = (self.config.d_model, self.config.vocab);
        let mut out = vec![0.0; pairs.len()];
        let chunk = self.chunk_rows();
        for (pairs, out) in pairs.chunks(chunk).zip(out.chunks_mut(chunk)) {
            let mut gathered = self.arena.take(pairs.len() * d);
            for (to, (row, _)) in gathered.chunks_exact_mut(d).zip(pairs) {
                to.copy_from_slice(&hidden[row * d..][..d]);
            }
            let mut logits = self.arena.take(pairs.len() * vocab);
            self.products(precision_path, &gathered, pairs.len(), &mut [(&self.head, &mut logits)]);
            let tokens: Vec<u32> = pairs.iter().map(|(_, token)| *token).collect();
            logprob_rows(&self.ctx, &logits, vocab, self.config.final_softcap, &tokens, out);
        }
        out
    }
}

fn row_target(target: &Target) -> RowTarget<'_> {
    match &target.kind {
        TargetKind::Token(token) => RowTarget::Token(*token),
        TargetKind::TopK { ids, probs } => RowTarget::TopK { ids, probs },
    }
}
