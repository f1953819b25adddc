//! A frozen weight `[n, k]`, stored as narrowly as it came.
//!
//! Rows are output features, row-major, as in safetensors. Values are read-only: nothing here computes a gradient of a
//! weight. A weight may carry packed copies ("panels") that make products faster; see [`Weight::prepare`].

use std::sync::Arc;

use crate::bytes::Bytes;
use crate::ctx::{Compute, Ctx};
use crate::pack::Float;
use crate::product::{Direction, Panels, Source, StoredWeight};
use crate::quant::{self, GgmlType, Nf4Matrix, dequantize_row};
use crate::stored::{Stored, float_of};

/// Bytes that are no weight of the stated shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// A row of `k` elements is no whole number of blocks.
    #[error("store rows of {k} elements as {ty}: its blocks hold {} elements", .ty.block_size())]
    Row { ty: GgmlType, k: usize },
    /// The data has another length than the shape needs.
    #[error("store a weight [{n}, {k}] as {ty}: expected {expected} bytes, found {found}")]
    Length {
        ty: GgmlType,
        n: usize,
        k: usize,
        expected: usize,
        found: usize,
    },
    /// The product of the dimensions does not fit in memory.
    #[error("store a weight [{n}, {k}]: the shape is too large")]
    TooLarge { n: usize, k: usize },
}

/// A frozen weight of `n` output and `k` input features.
#[derive(Clone, Debug)]
pub struct Weight {
    n: usize,
    k: usize,
    stored: Stored,
    forward: Option<Arc<Panels>>,
    backward: Option<Arc<Panels>>,
    decode: Option<Arc<quant::Panels>>,
}

impl Weight {
    /// Wraps stored bytes (little endian) of any type of the table, owned or memory-mapped.
    ///
    /// **Errors:** a row that is no whole number of blocks, or data of another length than `n` rows.
    pub fn from_bytes(ty: GgmlType, n: usize, k: usize, data: Bytes) -> Result<Weight, WeightError> {
        let row_bytes = ty.row_bytes(k).ok_or(WeightError::Row { ty, k })?;
        let expected = row_bytes.checked_mul(n).ok_or(WeightError::TooLarge { n, k })?;
        let found = data.as_slice().len();
        if found != expected {
            return Err(WeightError::Length {
                ty,
                n,
                k,
                expected,
                found,
            });
        }
        Ok(Weight::new(n, k, Stored::Rows { ty, row_bytes, data }))
    }

    fn new(n: usize, k: usize, stored: Stored) -> Weight {
        Weight {
            n,
            k,
            stored,
            forward: None,
            backward: None,
            decode: None,
        }
    }

    /// Returns plain floats in NF4 with doubly quantized scales: a little over half a byte each, and not exact. Blocks of 64 run
    /// over the rows, as they do in bitsandbytes. `None` of values that share scales already.
    ///
    /// **Source:** QLoRA (Dettmers et al. 2023), section 3.
    pub fn to_nf4(&self, ctx: &Ctx) -> Option<Weight> {
        let Stored::Rows { ty, data, .. } = &self.stored else {
            return None;
        };
        let (float, bytes) = (float_of(*ty)?, data.as_slice());
        let matrix = Nf4Matrix::encode(ctx, self.n * self.k, |range, out| {
            let part = &bytes[range.start * float.size()..range.end * float.size()];
            dequantize_row(*ty, part, out).expect("plain floats are cut between values");
        });
        Some(Weight::new(self.n, self.k, Stored::Nf4(Arc::new(matrix))))
    }

    /// Stores values as `f32`.
    pub fn from_f32(n: usize, k: usize, values: &[f32]) -> Result<Weight, WeightError> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Weight::from_bytes(GgmlType::F32, n, k, Bytes::from_vec(bytes))
    }

    /// Stores the bit patterns of `bfloat16` values.
    pub fn from_bf16(n: usize, k: usize, bits: &[u16]) -> Result<Weight, WeightError> {
        let bytes = bits.iter().flat_map(|value| value.to_le_bytes()).collect();
        Weight::from_bytes(GgmlType::BF16, n, k, Bytes::from_vec(bytes))
    }

    /// Stores the bit patterns of half-precision values.
    pub fn from_f16(n: usize, k: usize, bits: &[u16]) -> Result<Weight, WeightError> {
        let bytes = bits.iter().flat_map(|value| value.to_le_bytes()).collect();
        Weight::from_bytes(GgmlType::F16, n, k, Bytes::from_vec(bytes))
    }

    /// Returns the number of output features (rows).
    pub fn n(&self) -> usize {
        self.n
    }

    /// Returns the number of input features (columns).
    pub fn k(&self) -> usize {
        self.k
    }

    /// Says whether values share scales: anything but plain floats.
    pub fn is_quantized(&self) -> bool {
        self.stored.block_size() > 1
    }

    /// Returns the bytes of the stored values.
    pub fn stored_bytes(&self) -> usize {
        self.stored.bytes()
    }

    /// Decodes row `i` (an embedding, for one).
    ///
    /// **Panics:** when `i` is no row or `out` is not `k` long.
    pub fn row_f32(&self, i: usize, out: &mut [f32]) {
        assert!(
            i < self.n && out.len() == self.k,
            "a row of the weight and a slice of its length"
        );
        self.stored.decode(self.k, i, 0..self.k, out);
    }

    /// Decodes the whole weight, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n * self.k];
        for i in 0..self.n {
            self.row_f32(i, &mut out[i * self.k..(i + 1) * self.k]);
        }
        out
    }

    /// Packs a copy for products in one direction, so that they need not repack the weight at every call.
    ///
    /// Preparing twice for the same direction replaces the copy; a copy in another precision than a product asks for is
    /// not used. Not preparing is always correct, only slower. Clones share the copies.
    ///
    /// **Cost:** memory of `n * k` values (`n`, in the backward `k`, rounded up to 32): 4 bytes each for
    /// [`Compute::F32`], 2 for [`Compute::Bf16`], per direction.
    /// **Panics:** when `ctx` does not support `compute`.
    pub fn prepare(&mut self, ctx: &Ctx, compute: Compute, direction: Direction) {
        assert!(ctx.supports(compute), "this machine multiplies in the asked precision");
        let panels = Some(Arc::new(Panels::pack(ctx, compute, self.stored(), direction)));
        match direction {
            Direction::Forward => self.forward = panels,
            Direction::Backward => self.backward = panels,
        }
    }

    /// Packs a quantized weight for integer products of one to four rows, whose inputs are then rounded to eight bits per
    /// block of 32, as other engines do. Without it such products decode the rows and multiply in `f32`.
    ///
    /// Returns whether the type has integer products; plain floats and NF4 have none and need no copy.
    ///
    /// **Cost:** memory of about the stored size; the stored bytes are then read only by embeddings and prompts.
    pub fn prepare_decode(&mut self, ctx: &Ctx) -> bool {
        let Stored::Rows { ty, data, .. } = &self.stored else {
            return false;
        };
        if !quant::Panels::supports(*ty) {
            return false;
        }
        let panels = quant::Panels::pack(ctx, *ty, self.n, self.k, data.as_slice());
        self.decode = Some(Arc::new(
            panels.expect("the constructor checked type, shape and length"),
        ));
        true
    }

    /// Says whether [`Weight::prepare_decode`] made a copy.
    pub fn has_integers(&self) -> bool {
        self.decode.is_some()
    }

    pub(crate) fn decode_panels(&self) -> Option<&quant::Panels> {
        self.decode.as_deref()
    }

    /// Returns the bytes of the packed copies that [`Weight::prepare`] and [`Weight::prepare_decode`] made.
    pub fn prepared_bytes(&self) -> usize {
        let bytes = |panels: &Option<Arc<Panels>>| panels.as_ref().map_or(0, |panels| panels.bytes());
        let decode = self.decode.as_ref().map_or(0, |panels| panels.bytes());
        bytes(&self.forward) + bytes(&self.backward) + decode
    }

    /// Says whether products of this precision and direction read a packed copy.
    pub fn is_prepared(&self, compute: Compute, direction: Direction) -> bool {
        self.panels(compute, direction).is_some()
    }

    fn panels(&self, compute: Compute, direction: Direction) -> Option<&Panels> {
        let panels = match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        };
        panels.as_deref().filter(|panels| panels.compute == compute)
    }

    /// Returns the values as plain floats, where they are kept so: their type and all their bytes.
    pub(crate) fn floats(&self) -> Option<(Float, &[u8])> {
        self.stored.floats()
    }

    fn stored(&self) -> StoredWeight<'_> {
        StoredWeight {
            n: self.n,
            k: self.k,
            values: &self.stored,
        }
    }

    /// Returns the right factor of a product: the packed copy if there is one, else the stored bytes.
    pub(crate) fn source(&self, compute: Compute, direction: Direction) -> Source<'_> {
        let (n, k) = match direction {
            Direction::Forward => (self.n, self.k),
            Direction::Backward => (self.k, self.n),
        };
        match self.panels(compute, direction) {
            Some(panels) => Source::Panels(panels, n, k),
            None => Source::Stored(self.stored(), direction),
        }
    }
}
