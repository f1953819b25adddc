//! Training passes through the whole decoder.
//!
//! Invariants: a forward with checkpoints keeps the input of each block and nothing else, and gives the same numbers, bit
//! for bit; backward stops below the lowest adapted block.

use std::sync::Mutex;

use dlm_core::Cancel;
use dlm_core::training::Checkpointing;
use dlm_kernels::{PrecisionPath, Segment, Write, scale};
use dlm_kernels::{attention_forward, rmsnorm_backward, rmsnorm_forward};
use half::bf16;

use super::Pass;
use super::block::{self, AttentionOut, Body, Qkv, Rows};
use crate::adapter::{Adapter, Gains};
use crate::arena::Buffer;
use crate::batch::{Batch, BatchError};
use crate::input_squares::InputSquares;
use crate::model::Model;
use crate::rotary::Tables;

/// Options of one training pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOptions {
    /// Decides what is dropped, with the adapter's dropout rate; `None` switches dropout off (evaluation).
    pub dropout_seed: Option<u64>,
    pub checkpointing: Checkpointing,
}

/// What a forward is for.
enum Purpose<'a> {
    Training(&'a StepOptions),
    /// Ended early once the flag is raised.
    Reading(Option<&'a Cancel>),
    /// Reading that takes down the squares of what every product reads.
    Watching(&'a Cancel, &'a Mutex<InputSquares>),
}

/// What the backward of a block begins with; without a body the block is run again.
struct BlockSaved {
    x: Input,
    body: Option<Body>,
}

/// The input of a block.
enum Input {
    Exact(Buffer),
    /// Bit patterns of bf16.
    Narrow(Vec<u16>),
}

/// A finished forward pass: the hidden states, and what the backward needs.
pub struct Forward {
    segments: Vec<Segment>,
    positions: Vec<u32>,
    tables: Tables,
    gains: Option<Gains>,
    dropout_seed: Option<u64>,
    precision_path: PrecisionPath,
    blocks: Vec<BlockSaved>,
    last: Buffer,
    inv_rms: Buffer,
    hidden: Buffer,
}

fn narrowed(x: &[f32]) -> Vec<u16> {
    x.iter().map(|x| bf16::from_f32(*x).to_bits()).collect()
}

impl Forward {
    /// Returns the rows after the final norm: `[rows, d_model]`.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }
}

impl Model {
    /// Looks up the embeddings of tokens: `[rows, d_model]`.
    pub(crate) fn embed_tokens(&self, tokens: &[u32]) -> Buffer {
        let d = self.config.d_model;
        let mut x = self.arena.take(tokens.len() * d);
        for (token, row) in tokens.iter().zip(x.chunks_exact_mut(d)) {
            self.embed.row_f32(*token as usize, row);
        }
        if self.config.embed_scale != 1.0 {
            scale(&self.ctx, self.config.embed_scale, &mut x);
        }
        x
    }

    /// Runs a batch and keeps what [`Model::backward`] needs.
    ///
    /// **Errors:** a batch that describes no sequences of this vocabulary.
    pub fn forward_train(
        &self,
        adapter: Option<&Adapter>,
        batch: &Batch,
        options: &StepOptions,
    ) -> Result<Forward, BatchError> {
        let purpose = Purpose::Training(options);
        self.forward(adapter, batch, PrecisionPath::ByRows, purpose)
    }

    /// Runs a batch for its hidden states alone; [`Model::backward`] refuses what it returns.
    ///
    /// **Errors:** a batch that describes no sequences of this vocabulary.
    pub fn forward_eval(&self, adapter: Option<&Adapter>, batch: &Batch) -> Result<Forward, BatchError> {
        self.forward(adapter, batch, PrecisionPath::ByRows, Purpose::Reading(None))
    }

    /// [`Model::forward_eval`] on a path of the caller's choice, which ends early once `stop` is raised; its rows mean nothing
    /// then.
    ///
    /// With packed products whatever the number of rows a sequence has the same bits in every batch (and behind a shared
    /// prefix those of its own; LongRope apart, see [`Batch::push`]).
    ///
    /// **Errors:** as [`Model::forward_eval`].
    pub(crate) fn forward_until(
        &self,
        stop: &Cancel,
        adapter: Option<&Adapter>,
        batch: &Batch,
        precision_path: PrecisionPath,
    ) -> Result<Forward, BatchError> {
        self.forward(adapter, batch, precision_path, Purpose::Reading(Some(stop)))
    }

    /// Runs a batch, each product exact, and takes down the squares of what it reads; the batch counts for nothing where
    /// `stop` is raised meanwhile.
    ///
    /// **Errors:** a batch that describes no sequences of this vocabulary.
    pub fn watch_inputs(&self, stop: &Cancel, batch: &Batch, into: InputSquares) -> Result<InputSquares, BatchError> {
        let watch = Mutex::new(into);
        let purpose = Purpose::Watching(stop, &watch);
        self.forward(None, batch, PrecisionPath::PackedF32, purpose)?;
        Ok(watch.into_inner().expect("nobody panicked with it"))
    }

    fn forward(
        &self,
        adapter: Option<&Adapter>,
        batch: &Batch,
        precision_path: PrecisionPath,
        purpose: Purpose<'_>,
    ) -> Result<Forward, BatchError> {
        batch.check(self.config.vocab)?;
        let (options, stop, watch) = match purpose {
            Purpose::Training(options) => (Some(options), None, None),
            Purpose::Reading(stop) => (None, stop, None),
            Purpose::Watching(stop, watch) => (None, Some(stop), Some(watch)),
        };
        let t = batch.len();
        let gains = adapter.and_then(|adapter| adapter.gains(self));
        let tables = self.rotary.tables(&self.arena, &batch.segments, &batch.positions);
        let mut forward = Forward {
            segments: batch.segments.clone(),
            positions: batch.positions.clone(),
            tables,
            gains,
            dropout_seed: options.and_then(|options| options.dropout_seed),
            precision_path,
            blocks: Vec::with_capacity(self.config.n_layers),
            last: self.embed_tokens(&batch.tokens),
            inv_rms: self.arena.take(t),
            hidden: self.arena.take(t * self.config.d_model),
        };
        let first = adapter.map_or(self.config.n_layers, Adapter::first_layer);
        for index in 0..self.config.n_layers {
            let pass = Pass {
                stop,
                watch,
                ..self.pass(adapter, &forward, options.is_some())
            };
            if pass.is_stopped() {
                break;
            }
            let (y, body) = self.run_block(pass, &forward, index, &forward.last);
            let x = std::mem::replace(&mut forward.last, y);
            if let Some(options) = options.filter(|_| index >= first) {
                let is_dropped = options.checkpointing.drops(index);
                forward.blocks.push(BlockSaved {
                    x: match is_dropped && options.checkpointing.is_narrow {
                        true => Input::Narrow(narrowed(&x)),
                        false => Input::Exact(x),
                    },
                    body: (!is_dropped).then_some(body),
                });
            }
        }
        rmsnorm_forward(
            &self.ctx,
            &forward.last,
            &self.final_norm,
            0.0,
            self.config.norm_eps,
            &mut forward.hidden,
            &mut forward.inv_rms,
        );
        Ok(forward)
    }

    fn pass<'a>(&'a self, adapter: Option<&'a Adapter>, forward: &'a Forward, is_training: bool) -> Pass<'a> {
        Pass {
            model: self,
            adapter,
            gains: forward.gains.as_ref(),
            dropout_seed: forward.dropout_seed,
            few: None,
            is_training,
            precision_path: forward.precision_path,
            stop: None,
            watch: None,
        }
    }

    fn run_block(&self, pass: Pass<'_>, forward: &Forward, index: usize, x: &[f32]) -> (Buffer, Body) {
        let rows = Rows {
            t: forward.positions.len(),
            tables: &forward.tables,
        };
        let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
            let shape = block::attention_shape(&self.config, self.layers[index].kind);
            attention_forward(
                &self.ctx,
                &shape,
                &forward.segments,
                &forward.positions,
                qkv.q,
                qkv.k,
                qkv.v,
                out.out,
                out.lse,
            );
        };
        block::forward(pass, index, rows, x, &mut attend)
    }

    /// Returns the input of a block and what its backward needs, computed anew where the forward dropped it.
    fn restore(&self, adapter: &Adapter, forward: &Forward, index: usize, saved: BlockSaved) -> (Buffer, Body) {
        let x = match saved.x {
            Input::Exact(x) => x,
            Input::Narrow(bits) => {
                let mut x = self.arena.take(bits.len());
                x.iter_mut()
                    .zip(bits)
                    .for_each(|(x, bits)| *x = bf16::from_bits(bits).to_f32());
                x
            }
        };
        let body = saved.body.unwrap_or_else(|| {
            let pass = self.pass(Some(adapter), forward, true);
            self.run_block(pass, forward, index, &x).1
        });
        (x, body)
    }

    /// Adds the gradients of the adapter's tensors to `grads`.
    ///
    /// `d_hidden` is the gradient of [`Forward::hidden`]; `grads` has the layout of [`Adapter::params`]. The adapter must
    /// be the one of the forward, unchanged.
    ///
    /// **Panics:** when the forward kept nothing, or lengths do not fit.
    pub fn backward(&self, mut forward: Forward, adapter: &Adapter, d_hidden: &[f32], grads: &mut [f32]) {
        assert_eq!(
            grads.len(),
            adapter.params.len(),
            "gradients have the layout of the parameters"
        );
        assert_eq!(d_hidden.len(), forward.hidden.len(), "one gradient per hidden value");
        let first = adapter.first_layer();
        assert_eq!(
            forward.blocks.len(),
            self.config.n_layers - first,
            "the forward was a training pass with this adapter"
        );
        let mut d = self.arena.take(d_hidden.len());
        rmsnorm_backward(
            &self.ctx,
            &forward.last,
            &self.final_norm,
            0.0,
            &forward.inv_rms,
            d_hidden,
            &mut d,
            Write::Set,
        );
        for index in (first..self.config.n_layers).rev() {
            let saved = forward
                .blocks
                .pop()
                .expect("there is one entry per block from the first adapted on");
            let (x, body) = self.restore(adapter, &forward, index, saved);
            let rows = Rows {
                t: forward.positions.len(),
                tables: &forward.tables,
            };
            block::backward(
                self.pass(Some(adapter), &forward, true),
                index,
                rows,
                (&forward.segments, &forward.positions),
                &x,
                body,
                &mut d,
                index > first,
                grads,
            );
        }
    }
}
