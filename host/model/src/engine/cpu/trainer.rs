//! Training on the processor: forward, loss, backward by hand, AdamW over one flat buffer.
//!
//! **Source:** the update and the clipping are those of PyTorch's `AdamW` and `clip_grad_norm_`.

use dlm_core::training::MomentType;
use dlm_kernels::{AdamW, Moments, global_norm};

use crate::adapter::Adapter;
use crate::batch::{Batch, Target, TargetKind};
use crate::engine::{EngineError, Logprobs, TensorGradient, TrainTensors, Trainer, TrainerOptions};
use crate::model::Model;
use crate::pass::StepOptions;
use crate::pass::{Forward, HeadLoss};

/// Added to the norm before dividing, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f64 = 1e-6;

pub(super) struct CpuTrainer<'m> {
    model: &'m Model,
    /// Its parameters are the ones that are trained.
    adapter: Adapter,
    options: TrainerOptions,
    grads: Vec<f32>,
    moments: Moments,
    updates: u64,
}

impl<'m> CpuTrainer<'m> {
    pub(super) fn new(model: &'m Model, adapter: Adapter, options: TrainerOptions) -> Self {
        let len = adapter.params.len();
        Self {
            model,
            grads: vec![0.0; len],
            moments: match options.optimizer.moments {
                MomentType::F32 => Moments::full(len),
                MomentType::EightBit => Moments::eight_bit(len),
            },
            updates: 0,
            adapter,
            options,
        }
    }
}

impl CpuTrainer<'_> {
    fn forward(&self, batch: &Batch, dropout_seed: u64) -> Result<Forward, EngineError> {
        let options = StepOptions {
            dropout_seed: Some(dropout_seed),
            checkpointing: self.options.checkpointing,
        };
        Ok(self.model.forward_train(Some(&self.adapter), batch, &options)?)
    }

    /// Adds to the gradient, where every loss is finite; returns the losses in the order of the targets.
    fn backward(&mut self, forward: Forward, targets: &[Target]) -> Vec<f32> {
        let mut d_hidden = vec![0.0; forward.hidden().len()];
        let loss = self.model.head_loss(forward.hidden(), targets, &mut d_hidden);
        let losses = in_target_order(targets, &loss);
        let weights = targets.iter().map(|target| &target.weight);
        if losses.iter().chain(weights).all(|value| value.is_finite()) {
            self.model.backward(forward, &self.adapter, &d_hidden, &mut self.grads);
        }
        losses
    }
}

fn token_of(target: &Target) -> (usize, u32) {
    match target.kind {
        TargetKind::Token(token) => (target.row, token),
        TargetKind::TopK { .. } => panic!("a target whose weight depends on its loss is a token"),
    }
}

impl Logprobs for CpuTrainer<'_> {
    fn logprobs(&mut self, batch: &Batch, pairs: &[(usize, u32)]) -> Result<Vec<f32>, EngineError> {
        let forward = self.model.forward_eval(Some(&self.adapter), batch)?;
        Ok(self.model.logprobs(forward.hidden(), pairs))
    }
}

impl Trainer for CpuTrainer<'_> {
    fn pass(&mut self, batch: &Batch, targets: &[Target], dropout_seed: u64) -> Result<Vec<f32>, EngineError> {
        let forward = self.forward(batch, dropout_seed)?;
        Ok(self.backward(forward, targets))
    }

    fn pass_weighed(
        &mut self,
        batch: &Batch,
        targets: &[Target],
        dropout_seed: u64,
        weigh: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<Vec<f32>, EngineError> {
        let forward = self.forward(batch, dropout_seed)?;
        let tokens: Vec<(usize, u32)> = targets.iter().map(token_of).collect();
        let losses: Vec<f32> = self
            .model
            .logprobs(forward.hidden(), &tokens)
            .iter()
            .map(|p| -p)
            .collect();
        let weights = weigh(&losses);
        assert_eq!(weights.len(), targets.len(), "one weight per target");
        let mut targets = targets.to_vec();
        for (target, weight) in targets.iter_mut().zip(weights) {
            target.weight = weight;
        }
        Ok(self.backward(forward, &targets))
    }

    fn gradients(&mut self) -> Result<Vec<TensorGradient>, EngineError> {
        let look = |grads: &[f32]| match grads {
            grads if grads.iter().any(|g| !g.is_finite()) => TensorGradient::NotFinite,
            grads if grads.iter().all(|g| *g == 0.0) => TensorGradient::Zero,
            _ => TensorGradient::Finite,
        };
        let tensors = self.adapter.tensors();
        Ok(tensors.map(|(_, _, range)| look(&self.grads[range])).collect())
    }

    fn update(&mut self, lr: f64) -> Result<f64, EngineError> {
        let ctx = &self.model.ctx;
        let norm = global_norm(ctx, &self.grads);
        let scale = self
            .options
            .clip
            .map_or(1.0, |clip| (clip / (norm + CLIP_EPS)).min(1.0));
        self.updates += 1;
        let settings = self.options.optimizer;
        let settings = AdamW {
            lr,
            beta1: settings.beta1,
            beta2: settings.beta2,
            eps: settings.eps,
            weight_decay: settings.weight_decay,
        };
        let step = (self.updates, scale as f32);
        let params = &mut self.adapter.params;
        self.moments.step(ctx, &settings, step, params, &self.grads);
        self.grads.fill(0.0);
        Ok(norm)
    }

    fn read(&mut self) -> Result<TrainTensors, EngineError> {
        Ok(TrainTensors {
            params: self.adapter.params.clone(),
            moments: self.moments.clone(),
            updates: self.updates,
        })
    }

    fn write(&mut self, tensors: &TrainTensors) -> Result<(), EngineError> {
        self.adapter.params.copy_from_slice(&tensors.params);
        assert!(
            tensors.is_whole() && tensors.moment_type() == self.options.optimizer.moments,
            "the moments are those of this trainer's options"
        );
        self.moments.clone_from(&tensors.moments);
        self.updates = tensors.updates;
        Ok(())
    }
}

/// Puts the losses of one call, which come by kind, back into the order of the targets.
fn in_target_order(targets: &[Target], loss: &HeadLoss) -> Vec<f32> {
    let (mut nll, mut kl) = (loss.nll.iter(), loss.kl.iter());
    targets
        .iter()
        .map(|target| match target.kind {
            TargetKind::Token(_) => nll.next(),
            TargetKind::TopK { .. } => kl.next(),
        })
        .map(|value| *value.expect("one loss per target"))
        .collect()
}
