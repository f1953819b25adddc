//! Several adapters as one: a weighted sum of what each changes, without a copy of a frozen weight.
//!
//! Invariants: the mix is exact. An adapter changes a weight by `C W + D B A`, `C` and `D` diagonal: of LoRA `C = 0`, `D = s`; of
//! DoRA `C = m/n - 1`, `D = s m/n`. So a sum of such changes is a factor for each row of `W` beside one low-rank product whose rank
//! is the sum of theirs, which is what a DoRA adapter is. A module that an adapter leaves alone is unchanged by it.

mod low_rank;

use std::collections::BTreeSet;

use super::{AdaptedModule, Adapter, AdapterError, AdapterKind, AdapterSpec, Gains};
use crate::model::Model;

/// Smallest row factor: a row that is mixed away altogether has no direction to be scaled.
const GAIN_MIN: f32 = 1e-6;

impl Adapter {
    /// Returns the adapter that changes `model` by `Σ weight · change` of the parts.
    ///
    /// **Errors:** no part.
    /// **Panics:** when a part is of another model.
    pub fn mix(model: &Model, parts: &[(&Adapter, f32)]) -> Result<Adapter, AdapterError> {
        let r: usize = parts.iter().map(|(part, _)| part.spec.r).sum();
        let paths: BTreeSet<&str> = parts
            .iter()
            .flat_map(|(part, _)| part.modules.iter().map(|module| module.path.as_str()))
            .collect();
        let is_dora = parts.iter().any(|(part, _)| part.spec.kind == AdapterKind::Dora);
        let spec = AdapterSpec {
            kind: if is_dora { AdapterKind::Dora } else { AdapterKind::Lora },
            r,
            // A scale of 1: each part's own is in its B.
            alpha: r as f32,
            dropout: 0.0,
            targets: paths.into_iter().map(str::to_owned).collect(),
        };
        let mut mixed = Adapter::laid_out(model, &spec)?;
        let gains: Vec<Option<Gains>> = parts.iter().map(|(part, _)| part.gains(model)).collect();
        for index in 0..mixed.modules.len() {
            let module = mixed.modules[index].clone();
            mixed.mix_module(&module, parts, &gains);
        }
        if is_dora {
            mixed.scale_magnitudes(model);
        }
        Ok(mixed)
    }

    /// Returns the LoRA of rank `r` that is nearest to this one, module by module: `B = U S`, `A = Vᵀ` of its singular values.
    ///
    /// **Panics:** of a DoRA adapter, or one of another model.
    pub fn truncated(&self, model: &Model, r: usize) -> Result<Adapter, AdapterError> {
        assert!(self.spec.kind == AdapterKind::Lora, "row factors have no rank");
        let spec = AdapterSpec {
            r,
            alpha: r as f32,
            targets: self.modules.iter().map(|module| module.path.clone()).collect(),
            ..self.spec.clone()
        };
        let mut nearest = Adapter::laid_out(model, &spec)?;
        let scale = f64::from(self.spec.scale());
        for (module, to) in self.modules.iter().zip(nearest.modules.clone()) {
            let (a, b) = (&self.params[module.a.clone()], &self.params[module.b.clone()]);
            let rows = a.chunks_exact(module.k);
            let rows = rows.map(|row| row.iter().map(|a| f64::from(*a)).collect());
            let column = |j| {
                b.iter()
                    .skip(j)
                    .step_by(self.spec.r)
                    .map(|b| scale * f64::from(*b))
                    .collect()
            };
            let pairs = low_rank::nearest((0..self.spec.r).map(column).collect(), rows.collect(), r);
            for (j, (b, a)) in pairs.into_iter().enumerate() {
                nearest.params[to.a.start + j * module.k..][..module.k].copy_from_slice(&a);
                let places = nearest.params[to.b.clone()].iter_mut().skip(j).step_by(r);
                places.zip(b).for_each(|(to, b)| *to = b);
            }
        }
        Ok(nearest)
    }

    /// Fills `A`, `B` and, where there is one, the row factors of a module, the latter in the place of its magnitudes.
    fn mix_module(&mut self, module: &AdaptedModule, parts: &[(&Adapter, f32)], gains: &[Option<Gains>]) {
        let (r, k) = (self.spec.r, module.k);
        let mut factors = vec![1.0f32; module.n];
        let mut first = 0;
        for ((part, weight), gains) in parts.iter().zip(gains) {
            let own = part.spec.r;
            if let Some(from) = part.modules.iter().find(|from| from.path == module.path) {
                let a = &part.params[from.a.clone()];
                self.params[module.a.start + first * k..][..own * k].copy_from_slice(a);
                for (i, factor) in factors.iter_mut().enumerate() {
                    let gain = gains.as_ref().map_or(1.0, |gains| gains.gain[from.rows.start + i]);
                    *factor += weight * (gain - 1.0);
                    let scale = weight * part.spec.scale() * gain;
                    let b = &part.params[from.b.start + i * own..][..own];
                    let out = &mut self.params[module.b.start + i * r + first..][..own];
                    out.iter_mut().zip(b).for_each(|(out, b)| *out = scale * b);
                }
            }
            first += own;
        }
        let Some(magnitude) = module.magnitude.clone() else {
            return;
        };
        for (i, factor) in factors.iter_mut().enumerate() {
            if factor.abs() < GAIN_MIN {
                *factor = GAIN_MIN;
            }
            // The factor scales the low-rank product too, which must come out as it was.
            let b = &mut self.params[module.b.start + i * r..][..r];
            b.iter_mut().for_each(|b| *b /= *factor);
        }
        self.params[magnitude].copy_from_slice(&factors);
    }

    /// Turns row factors into the magnitudes that give them.
    fn scale_magnitudes(&mut self, model: &Model) {
        let gains = self.gains(model).expect("the mix is a DoRA adapter");
        for index in 0..self.modules.len() {
            let module = self.modules[index].clone();
            let magnitude = module.magnitude.expect("a DoRA module has a magnitude");
            let norms = &gains.inverse_norm[module.rows];
            for (m, inverse) in self.params[magnitude].iter_mut().zip(norms) {
                *m /= inverse;
            }
        }
    }
}
