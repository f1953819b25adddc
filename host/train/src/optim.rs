//! AdamW over one flat buffer of all adapter tensors, with clipping by the global norm.
//!
//! **Source:** Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2; the same update as
//! PyTorch's `AdamW`.

use dlm_kernels::{AdamW, Ctx, adamw_step, global_norm};

/// Added to the norm before dividing, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f64 = 1e-6;

/// Moments and settings of the optimizer.
pub struct Optimizer {
    pub settings: AdamW,
    /// Largest global L2 norm of a gradient; `None` leaves gradients as they are.
    pub clip: Option<f64>,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    /// Updates taken.
    pub step: u64,
}

impl Optimizer {
    /// Makes an optimizer for `len` parameters with zero moments.
    pub fn new(len: usize, settings: AdamW, clip: Option<f64>) -> Self {
        Self {
            settings,
            clip,
            m: vec![0.0; len],
            v: vec![0.0; len],
            step: 0,
        }
    }

    /// Takes one step at the given rate and returns the global norm of the gradient before clipping.
    pub fn update(&mut self, ctx: &Ctx, params: &mut [f32], grads: &[f32], lr: f64) -> f64 {
        let norm = global_norm(ctx, grads);
        let scale = self.clip.map_or(1.0, |clip| (clip / (norm + CLIP_EPS)).min(1.0));
        self.step += 1;
        let settings = AdamW { lr, ..self.settings };
        adamw_step(
            ctx,
            &settings,
            self.step,
            scale as f32,
            params,
            grads,
            &mut self.m,
            &mut self.v,
        );
        norm
    }
}
