//! What is assumed of a base that nobody has curated: one from the hub or one that was added locally.

use dlm_core::architecture::is_fused;

/// The sequence length that is recommended at most for a base nobody has curated.
pub(super) const SEQ_LEN_MAX: u32 = 2048;

/// GiB of the weights at two bytes a parameter, under the contract's name.
pub(super) fn size_gb_fp16(params: u64) -> f64 {
    (params as f64 * 2.0 / (1u64 << 30) as f64).max(0.1)
}

/// The reference's `auto` targets: the four attention projections, or the fused list.
pub(super) fn reference_targets(architecture: &str) -> Vec<String> {
    let names: &[&str] = if is_fused(architecture) {
        &["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    } else {
        &["q_proj", "k_proj", "v_proj", "o_proj"]
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}
