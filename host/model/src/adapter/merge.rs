//! Adapters folded into weights: `W + s B A`, or `m / ‖W + s B A‖ (W + s B A)` row by row.
//!
//! A merged model is a [`WeightSource`] like any other, so whatever loads or exports weights takes it.

use std::borrow::Cow;
use std::collections::HashMap;

use dlm_kernels::quant::dequantize_row;

use super::{AdaptedModule, Adapter};
use crate::weights::{GgmlType, RawTensor, WeightError, WeightSource};

/// Folds the adapter of one module into its dense weight `[n, k]`, in place.
///
/// Norms of DoRA are taken from the merged rows themselves, in `f64`.
///
/// **Panics:** when `weight` is not `n * k` long.
pub fn merged_weight(adapter: &Adapter, module: &AdaptedModule, weight: &mut [f32]) {
    let (r, k) = (adapter.spec.r, module.k);
    assert_eq!(weight.len(), module.n * k, "a weight of the module's shape");
    let scale = adapter.spec.scale();
    let a = &adapter.params[module.a.clone()];
    let magnitude = module.magnitude.clone().map(|range| &adapter.params[range]);
    for (i, row) in weight.chunks_exact_mut(k).enumerate() {
        let b = &adapter.params[module.b.start + i * r..][..r];
        for (b, a) in b.iter().zip(a.chunks_exact(k)) {
            let factor = scale * b;
            row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
        }
        if let Some(magnitude) = magnitude {
            let square: f64 = row.iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
            let gain = (f64::from(magnitude[i]) / square.max(f64::MIN_POSITIVE).sqrt()) as f32;
            row.iter_mut().for_each(|w| *w *= gain);
        }
    }
}

/// A weight source with an adapter folded in: adapted weights come as `f32`, the others as they are.
pub struct MergedSource<'a> {
    source: &'a dyn WeightSource,
    adapter: &'a Adapter,
    /// Tensor name to index in [`Adapter::modules`].
    modules: HashMap<String, usize>,
}

impl<'a> MergedSource<'a> {
    /// Lays `adapter` over `source`, which must be of the model that the adapter was made for.
    pub fn new(source: &'a dyn WeightSource, adapter: &'a Adapter) -> MergedSource<'a> {
        let names = adapter.modules.iter().enumerate();
        MergedSource {
            source,
            adapter,
            modules: names
                .map(|(index, module)| (format!("{}.weight", module.path), index))
                .collect(),
        }
    }

    fn dense(&self, name: &str, raw: &RawTensor<'_>, module: &AdaptedModule) -> Result<Vec<f32>, WeightError> {
        let unreadable = |cause: String| WeightError::Unreadable {
            name: name.to_owned(),
            place: "the base model".to_owned(),
            cause,
        };
        if raw.shape != [module.n, module.k] {
            let expected = [module.n, module.k];
            return Err(unreadable(format!(
                "expected shape {expected:?}, found {:?}",
                raw.shape
            )));
        }
        let row_bytes = raw.bytes.len() / module.n;
        let mut weight = vec![0.0; module.n * module.k];
        for (row, bytes) in weight.chunks_exact_mut(module.k).zip(raw.bytes.chunks_exact(row_bytes)) {
            dequantize_row(raw.dtype, bytes, row).map_err(|error| unreadable(error.to_string()))?;
        }
        Ok(weight)
    }
}

impl WeightSource for MergedSource<'_> {
    fn tensor(&self, name: &str) -> Result<RawTensor<'_>, WeightError> {
        let raw = self.source.tensor(name)?;
        let Some(index) = self.modules.get(name) else {
            return Ok(raw);
        };
        let module = &self.adapter.modules[*index];
        let mut weight = self.dense(name, &raw, module)?;
        merged_weight(self.adapter, module, &mut weight);
        let bytes: Vec<u8> = weight.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(RawTensor {
            dtype: GgmlType::F32,
            shape: raw.shape,
            bytes: Cow::Owned(bytes),
        })
    }

    fn stored_as(&self, name: &str) -> Option<GgmlType> {
        match self.modules.get(name) {
            Some(_) => Some(GgmlType::F32),
            None => self.source.stored_as(name),
        }
    }

    fn release_pages(&self) {
        self.source.release_pages();
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn has(&self, name: &str) -> bool {
        self.source.has(name)
    }
}
