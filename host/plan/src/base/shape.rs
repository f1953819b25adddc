//! What follows from a decoder's sizes: its linear layers, their counts, how many parameters and bytes they hold.

use dlm_core::architecture::is_fused;
use dlm_core::base::BaseShape;

/// One kind of frozen linear layer: `count` matrices of `n` rows (out) and `k` columns (in) under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearKind {
    /// The last component of the module's path.
    pub name: &'static str,
    pub part: Part,
    pub n: u64,
    pub k: u64,
    pub count: u64,
}

/// The half of a block that a linear layer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Attention,
    Mlp,
}

/// The linear layers of the text tower, by name, over all layers and experts.
pub fn linears(architecture: &str, shape: &BaseShape) -> Vec<LinearKind> {
    let [d, heads, kv, ff, layers] = [
        shape.d_model,
        shape.n_heads * shape.head_dim,
        shape.n_kv_heads * shape.head_dim,
        shape.d_ff,
        shape.n_layers,
    ]
    .map(u64::from);
    let experts = u64::from(shape.n_experts.max(1));
    let attention = |name, n, k| LinearKind {
        name,
        part: Part::Attention,
        n,
        k,
        count: layers,
    };
    let mlp = |name, n, k| LinearKind {
        name,
        part: Part::Mlp,
        n,
        k,
        count: layers * experts,
    };
    if is_fused(architecture) {
        return vec![
            attention("qkv_proj", heads + 2 * kv, d),
            attention("o_proj", d, heads),
            mlp("gate_up_proj", 2 * ff, d),
            mlp("down_proj", d, ff),
        ];
    }
    let [gate, up, down] = if shape.n_experts > 0 {
        ["w1", "w3", "w2"]
    } else {
        ["gate_proj", "up_proj", "down_proj"]
    };
    vec![
        attention("q_proj", heads, d),
        attention("k_proj", kv, d),
        attention("v_proj", kv, d),
        attention("o_proj", d, heads),
        mlp(gate, ff, d),
        mlp(up, ff, d),
        mlp(down, d, ff),
    ]
}

/// Parameters in the linear layers of all blocks; embeddings, head and norms are not among them.
pub fn linear_parameters(shape: &BaseShape) -> u64 {
    linears("", shape)
        .iter()
        .map(|linear| linear.n * linear.k * linear.count)
        .sum()
}

/// Parameters of the embedding, or of one output head.
pub fn embedding_parameters(shape: &BaseShape) -> u64 {
    u64::from(shape.vocab) * u64::from(shape.d_model)
}

/// All parameters that the sizes account for (norms and biases are left out: under one in a thousand).
pub fn parameters(shape: &BaseShape) -> u64 {
    linear_parameters(shape) + embedding_parameters(shape) * if shape.tied { 1 } else { 2 }
}

/// Parameters of a rank-`r` adapter over the named layers: `r * (in + out)` a matrix.
pub fn adapter_parameters(linears: &[LinearKind], targets: &[String], r: u64) -> u64 {
    linears
        .iter()
        .filter(|linear| targets.iter().any(|target| target == linear.name))
        .map(|linear| r * (linear.n + linear.k) * linear.count)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn smol() -> BaseShape {
        BaseShape {
            d_model: 576,
            n_layers: 30,
            n_heads: 9,
            n_kv_heads: 3,
            head_dim: 64,
            d_ff: 1536,
            vocab: 49152,
            tied: true,
            n_experts: 0,
            n_experts_used: 0,
        }
    }

    #[test]
    fn smollm2_is_counted_exactly() {
        // transformers: 134 515 008 parameters, of which 61 norms of 576.
        assert_eq!(parameters(&smol()) + 61 * 576, 134_515_008);
    }

    #[test]
    fn adapter_counts_match_peft() {
        // PEFT's print_trainable_parameters for r = 8 on all seven linears: 2 442 240.
        let linears = linears("LlamaForCausalLM", &smol());
        let all: Vec<String> = linears.iter().map(|l| l.name.to_owned()).collect();
        assert_eq!(adapter_parameters(&linears, &all, 8), 2_442_240);
        assert_eq!(adapter_parameters(&linears, &all[..4], 8), 921_600);
        assert_eq!(adapter_parameters(&linears, &[], 8), 0);
    }

    #[test]
    fn fused_families_have_four_linears_of_the_same_total() {
        let fused: u64 = linears("Phi3ForCausalLM", &smol())
            .iter()
            .map(|l| l.n * l.k * l.count)
            .sum();
        assert_eq!(fused, linear_parameters(&smol()));
        assert_eq!(linears("Phi3ForCausalLM", &smol()).len(), 4);
    }

    #[test]
    fn experts_multiply_the_feed_forward_only() {
        let dense = linears("MixtralForCausalLM", &smol());
        let sparse = linears(
            "MixtralForCausalLM",
            &BaseShape {
                n_experts: 8,
                n_experts_used: 2,
                ..smol()
            },
        );
        assert_eq!(sparse[0].count, dense[0].count);
        assert_eq!(sparse[4].count, 8 * dense[4].count);
    }
}
