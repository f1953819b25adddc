//! A product with a frozen weight that gives the weight no gradient.
//!
//! candle's `matmul` computes the gradients of both factors. Here the product is computed outside the graph and enters it
//! through an op whose only argument is the input; the op captures the weight for its backward.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor};

struct Frozen {
    /// `[n, k]`.
    weight: Tensor,
    /// `x W^T`, outside the graph.
    product: Tensor,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, layout) = self.product.storage_and_layout();
        match &*storage {
            Storage::Cpu(values) => Ok((values.try_clone(layout)?, self.product.shape().clone())),
            _ => elsewhere(),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        let (storage, layout) = self.product.storage_and_layout();
        match &*storage {
            Storage::Cuda(values) => Ok((values.try_clone(layout)?, self.product.shape().clone())),
            _ => elsewhere(),
        }
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        let (storage, layout) = self.product.storage_and_layout();
        match &*storage {
            Storage::Metal(values) => Ok((values.try_clone(layout)?, self.product.shape().clone())),
            _ => elsewhere(),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.contiguous()?.matmul(&self.weight).map(Some)
    }
}

fn elsewhere<T>() -> Result<T> {
    candle_core::bail!("the product is not on the device of its input")
}

/// `x[t, k] W[n, k]^T`.
///
/// **Errors:** shapes or devices that do not fit.
pub(super) fn frozen_linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let product = x.detach().contiguous()?.matmul(&weight.t()?)?;
    x.apply_op1(Frozen {
        weight: weight.clone(),
        product,
    })
}
