//! Which type each tensor gets.
//!
//! Invariants: a pure function of level, name, shape and model facts; a row always is a whole number of blocks.
//! **Source:** `spec/export.md` section 4, which follows llama.cpp's own choice tensor by tensor.

use dlm_core::Quant;
use dlm_kernels::quant::GgmlType;

/// Returns the type of a matrix without a rule of its own.
const fn main_type(quant: Quant) -> GgmlType {
    match quant {
        Quant::F16 => GgmlType::F16,
        Quant::Q8_0 => GgmlType::Q8_0,
        Quant::Q6_K => GgmlType::Q6_K,
        Quant::Q5_K_M => GgmlType::Q5_K,
        Quant::Q4_K_M => GgmlType::Q4_K,
        Quant::IQ4_XS => GgmlType::IQ4_XS,
        Quant::Q3_K_M => GgmlType::Q3_K,
    }
}

/// What a choice of type hangs on beside the tensor itself.
#[derive(Clone, Copy, Debug)]
pub struct ModelFacts {
    pub layers: usize,
    /// The head is the embedding matrix.
    pub tied: bool,
    /// Experts per layer, 0 without.
    pub experts: usize,
    /// Query heads of each key and value head.
    pub heads_per_kv: usize,
    /// Columns are weighted by an importance matrix.
    pub is_weighted: bool,
}

/// Says whether a layer is among those that get more bits.
const fn gets_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// Says whether a tensor is a matrix that levels apply to; everything else stays F32.
pub fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2
        && name.ends_with("weight")
        && !name.ends_with("_norm.weight")
        && !name.ends_with("ffn_gate_inp.weight")
        && !name.starts_with("rope_")
}

/// Falls back to a type whose blocks divide the row.
fn fitting(ty: GgmlType, row: usize) -> GgmlType {
    if row.is_multiple_of(ty.block_size()) {
        return ty;
    }
    let smaller = match ty {
        GgmlType::Q4_K => GgmlType::Q5_0,
        GgmlType::Q5_K => GgmlType::Q5_1,
        GgmlType::Q6_K => GgmlType::Q8_0,
        GgmlType::Q3_K => GgmlType::Q4_0,
        GgmlType::IQ4_XS => GgmlType::IQ4_NL,
        other => other,
    };
    if row.is_multiple_of(smaller.block_size()) {
        smaller
    } else {
        GgmlType::F16
    }
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The rule of the mixed levels, before the fallback for short rows.
fn mixed(quant: Quant, name: &str, row: usize, facts: &ModelFacts) -> GgmlType {
    let main = main_type(quant);
    if name == "output.weight" || (facts.tied && name == "token_embd.weight") {
        let whole = row.is_multiple_of(main.block_size());
        return if main == GgmlType::Q8_0 || !whole {
            GgmlType::Q8_0
        } else {
            GgmlType::Q6_K
        };
    }
    let is = |part: &str| name.contains(part);
    let eight = facts.experts == 8;
    if eight && (is("attn_v.weight") || is("attn_k.weight")) {
        return GgmlType::Q8_0;
    }
    let is_small = matches!(quant, Quant::Q4_K_M | Quant::IQ4_XS | Quant::Q3_K_M);
    if eight && is("attn_output.weight") && is_small {
        return GgmlType::Q5_K;
    }
    let layer = layer_of(name).unwrap_or(usize::MAX);
    let is_value = is("attn_v.weight") || is("attn_qkv.weight");
    let is_down = is("ffn_down");
    match quant {
        Quant::Q4_K_M | Quant::Q5_K_M if (is_value || is_down) && gets_more_bits(layer, facts.layers) => GgmlType::Q6_K,
        Quant::IQ4_XS if is_value && facts.heads_per_kv >= SHARED_HEADS => GgmlType::Q5_K,
        Quant::IQ4_XS if is_down && layer < facts.layers / 8 && !facts.is_weighted => GgmlType::Q5_K,
        Quant::Q3_K_M if is_value && layer < 2 || is_down && layer < facts.layers / 16 => GgmlType::Q5_K,
        Quant::Q3_K_M if is_value || is_down || is("attn_output.weight") => GgmlType::Q4_K,
        _ => main,
    }
}

/// A value head that so many query heads share is small and much used.
const SHARED_HEADS: usize = 4;

/// Returns the type of tensor `name` with the given shape (outermost dimension first).
pub fn tensor_type(quant: Quant, name: &str, shape: &[usize], facts: &ModelFacts) -> GgmlType {
    if !is_matrix(name, shape) {
        return GgmlType::F32;
    }
    if quant == Quant::F16 {
        return GgmlType::F16;
    }
    let row = shape.last().copied().unwrap_or(0);
    fitting(mixed(quant, name, row, facts), row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOLLM2: ModelFacts = ModelFacts {
        layers: 30,
        tied: true,
        experts: 0,
        heads_per_kv: 1,
        is_weighted: false,
    };
    const UNTIED: ModelFacts = ModelFacts {
        layers: 32,
        tied: false,
        experts: 0,
        heads_per_kv: 1,
        is_weighted: false,
    };
    const EIGHT: ModelFacts = ModelFacts {
        layers: 32,
        tied: false,
        experts: 8,
        heads_per_kv: 1,
        is_weighted: false,
    };

    fn check(facts: &ModelFacts, name: &str, shape: &[usize], expected: [GgmlType; 5]) {
        let levels = [Quant::F16, Quant::Q8_0, Quant::Q6_K, Quant::Q5_K_M, Quant::Q4_K_M];
        let found = levels.map(|quant| tensor_type(quant, name, shape, facts));
        assert_eq!(found, expected, "{name} {shape:?} at {:?}", levels.map(Quant::name));
    }

    /// IQ4_XS without and with an importance matrix, Q3_K_M.
    fn check_small(facts: &ModelFacts, name: &str, shape: &[usize], expected: [GgmlType; 3]) {
        let weighted = ModelFacts {
            is_weighted: true,
            ..*facts
        };
        let found = [
            tensor_type(Quant::IQ4_XS, name, shape, facts),
            tensor_type(Quant::IQ4_XS, name, shape, &weighted),
            tensor_type(Quant::Q3_K_M, name, shape, facts),
        ];
        assert_eq!(found, expected, "{name} {shape:?}");
    }

    #[test]
    fn the_smallest_levels_give_bits_where_they_count() {
        use GgmlType::{IQ4_NL, IQ4_XS, Q3_K, Q4_0, Q4_K, Q5_1, Q5_K, Q6_K, Q8_0};
        let shared = ModelFacts {
            heads_per_kv: 4,
            ..UNTIED
        };
        let square = &[4096, 4096][..];
        check_small(&UNTIED, "blk.9.attn_q.weight", square, [IQ4_XS, IQ4_XS, Q3_K]);
        check_small(&UNTIED, "blk.9.attn_output.weight", square, [IQ4_XS, IQ4_XS, Q4_K]);
        check_small(&UNTIED, "blk.9.attn_v.weight", square, [IQ4_XS, IQ4_XS, Q4_K]);
        check_small(&shared, "blk.9.attn_v.weight", square, [Q5_K, Q5_K, Q4_K]);
        check_small(&shared, "blk.1.attn_v.weight", square, [Q5_K, Q5_K, Q5_K]);
        check_small(&UNTIED, "blk.1.ffn_down.weight", square, [Q5_K, IQ4_XS, Q5_K]);
        check_small(&UNTIED, "blk.3.ffn_down.weight", square, [Q5_K, IQ4_XS, Q4_K]);
        check_small(&UNTIED, "blk.9.ffn_down.weight", square, [IQ4_XS, IQ4_XS, Q4_K]);
        check_small(&UNTIED, "blk.9.ffn_up.weight", square, [IQ4_XS, IQ4_XS, Q3_K]);
        check_small(&UNTIED, "output.weight", square, [Q6_K; 3]);
        check_small(&UNTIED, "token_embd.weight", square, [IQ4_XS, IQ4_XS, Q3_K]);
        check_small(&EIGHT, "blk.9.attn_k.weight", square, [Q8_0; 3]);
        check_small(&EIGHT, "blk.9.attn_output.weight", square, [Q5_K; 3]);
        // Rows that are no whole super-blocks.
        check_small(&SMOLLM2, "blk.9.ffn_up.weight", &[1536, 576], [IQ4_NL, IQ4_NL, Q4_0]);
        check_small(&SMOLLM2, "blk.0.attn_v.weight", &[192, 576], [IQ4_NL, IQ4_NL, Q5_1]);
        check_small(&SMOLLM2, "token_embd.weight", &[49152, 576], [Q8_0; 3]);
    }

    #[test]
    fn rows_of_576_fall_back_to_blocks_of_32() {
        use GgmlType::{F16, F32, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
        check(
            &SMOLLM2,
            "blk.3.attn_q.weight",
            &[576, 576],
            [F16, Q8_0, Q8_0, Q5_1, Q5_0],
        );
        check(
            &SMOLLM2,
            "blk.0.attn_v.weight",
            &[192, 576],
            [F16, Q8_0, Q8_0, Q8_0, Q8_0],
        );
        check(
            &SMOLLM2,
            "blk.3.attn_v.weight",
            &[192, 576],
            [F16, Q8_0, Q8_0, Q5_1, Q5_0],
        );
        check(
            &SMOLLM2,
            "blk.0.ffn_down.weight",
            &[576, 1536],
            [F16, Q8_0, Q6_K, Q6_K, Q6_K],
        );
        check(
            &SMOLLM2,
            "blk.3.ffn_down.weight",
            &[576, 1536],
            [F16, Q8_0, Q6_K, Q5_K, Q4_K],
        );
        check(
            &SMOLLM2,
            "token_embd.weight",
            &[49152, 576],
            [F16, Q8_0, Q8_0, Q8_0, Q8_0],
        );
        check(&SMOLLM2, "blk.3.attn_norm.weight", &[576], [F32; 5]);
        check(&SMOLLM2, "blk.3.attn_q.bias", &[576], [F32; 5]);
    }

    #[test]
    fn whole_super_blocks_keep_their_type() {
        use GgmlType::{F16, F32, Q4_K, Q5_K, Q6_K, Q8_0};
        check(&UNTIED, "output.weight", &[32000, 4096], [F16, Q8_0, Q6_K, Q6_K, Q6_K]);
        check(
            &UNTIED,
            "token_embd.weight",
            &[32000, 4096],
            [F16, Q8_0, Q6_K, Q5_K, Q4_K],
        );
        check(
            &UNTIED,
            "blk.31.attn_qkv.weight",
            &[9216, 3072],
            [F16, Q8_0, Q6_K, Q6_K, Q6_K],
        );
        check(
            &UNTIED,
            "blk.5.ffn_up.weight",
            &[11008, 4096],
            [F16, Q8_0, Q6_K, Q5_K, Q4_K],
        );
        check(
            &EIGHT,
            "blk.5.attn_k.weight",
            &[1024, 4096],
            [F16, Q8_0, Q8_0, Q8_0, Q8_0],
        );
        check(
            &EIGHT,
            "blk.5.attn_output.weight",
            &[4096, 4096],
            [F16, Q8_0, Q6_K, Q5_K, Q5_K],
        );
        check(
            &EIGHT,
            "blk.31.ffn_down_exps.weight",
            &[8, 4096, 14336],
            [F16, Q8_0, Q6_K, Q6_K, Q6_K],
        );
        check(&EIGHT, "blk.5.ffn_gate_inp.weight", &[8, 4096], [F32; 5]);
        check(&UNTIED, "rope_freqs.weight", &[64], [F32; 5]);
    }

    #[test]
    fn rows_that_no_block_divides_stay_halves() {
        use GgmlType::F16;
        check(&UNTIED, "blk.5.ffn_up.weight", &[64, 48], [F16; 5]);
        check(&UNTIED, "output.weight", &[64, 48], [F16; 5]);
    }

    #[test]
    fn layers_with_more_bits_are_the_first_and_last_eighth_and_every_third() {
        let chosen: Vec<usize> = (0..30).filter(|layer| gets_more_bits(*layer, 30)).collect();
        assert_eq!(chosen, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
    }
}
