//! The facts about a base that plans are made from: one flat record, whatever the base came from.

use dlm_core::base::{BaseRecord, BaseShape, Modality};
use serde::{Deserialize, Serialize};

use super::resolve::{BaseError, BaseLocation, ResolvedBase};
use super::shape::{embedding_parameters, linear_parameters};

/// Bytes of one parameter in the narrow float types that the hub serves.
const BYTES_PER_FLOAT16: u64 = 2;

/// Values of NF4 that share a scale, and scales that share theirs.
const NF4_BLOCK: u64 = 64;
const NF4_SCALE_BLOCK: u64 = 256;

/// What a plan knows about a base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseFacts {
    pub key: String,
    pub architecture: String,
    pub params: u64,
    pub modality: Modality,
    pub shape: BaseShape,
    /// Bytes of all tensors in the storage type that they are kept in.
    pub weights_bytes: u64,
    /// That type as people call it: `BF16`, `Q4_1`.
    pub storage: String,
    pub context_usable: u32,
    pub recommended_seq_len: u32,
    pub size_gb_fp16: f64,
    pub trust_remote_code: bool,
    pub reasoning_tuned: bool,
    pub capability_warning: Option<String>,
}

impl BaseFacts {
    /// Gathers the facts of a resolved base.
    ///
    /// **Errors** when the sizes are known neither from the registry nor from the base itself.
    pub fn new(base: &ResolvedBase) -> Result<BaseFacts, BaseError> {
        let (weights_bytes, storage) = match &base.location {
            BaseLocation::Local(local) => (local.bytes, local.storage.clone()),
            BaseLocation::Hub { .. } => (base.record.params * BYTES_PER_FLOAT16, "BF16".to_owned()),
        };
        BaseFacts::from_record(&base.record, weights_bytes, storage)
    }

    /// Gathers the facts of a record whose weights take `weights_bytes` in `storage`.
    ///
    /// **Errors** when the record has no sizes.
    pub fn from_record(record: &BaseRecord, weights_bytes: u64, storage: String) -> Result<BaseFacts, BaseError> {
        let shape = record.shape.ok_or_else(|| BaseError::UnknownShape {
            key: record.key.clone(),
        })?;
        Ok(BaseFacts {
            key: record.key.clone(),
            architecture: record.architecture.clone(),
            params: record.params,
            modality: record.modality,
            shape,
            weights_bytes,
            storage,
            context_usable: record.context_usable(),
            recommended_seq_len: record.recommended_seq_len,
            size_gb_fp16: record.size_gb_fp16,
            trust_remote_code: record.trust_remote_code,
            reasoning_tuned: record.reasoning_tuned,
            capability_warning: record.capability_warning.clone(),
        })
    }

    /// Bytes of all tensors with the floats of the blocks' products in NF4: half a byte each, an eighth of a bit of scales in eight
    /// bits, and theirs. What is stored in blocks stays so.
    pub fn four_bit_bytes(&self) -> u64 {
        let Some(stored) = self.float_bytes() else {
            return self.weights_bytes;
        };
        let values = linear_parameters(&self.shape);
        let scales = values / NF4_BLOCK;
        let four_bits = values / 2 + scales + scales / NF4_SCALE_BLOCK * 4;
        (self.weights_bytes + four_bits).saturating_sub(values * stored)
    }

    /// Whether four bits save anything: what a file keeps in blocks is as small already.
    pub fn is_float(&self) -> bool {
        self.float_bytes().is_some()
    }

    /// Bytes of a value where the base is stored as plain floats.
    fn float_bytes(&self) -> Option<u64> {
        match self.storage.as_str() {
            "F32" => Some(4),
            "F16" | "BF16" => Some(BYTES_PER_FLOAT16),
            _ => None,
        }
    }

    /// Parameters of frozen products that one token passes through: the linear layers (of the experts used) and the head.
    pub fn parameters_active(&self) -> u64 {
        let shape = &self.shape;
        let linear = if shape.n_experts > 0 {
            let dense = BaseShape {
                n_experts: 0,
                n_experts_used: 0,
                ..*shape
            };
            let attention: u64 = super::shape::linears("", &dense)
                .iter()
                .filter(|l| l.part == super::shape::Part::Attention)
                .map(|l| l.n * l.k * l.count)
                .sum();
            attention + (linear_parameters(&dense) - attention) * u64::from(shape.n_experts_used)
        } else {
            linear_parameters(shape)
        };
        linear + embedding_parameters(shape)
    }
}
