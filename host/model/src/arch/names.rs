//! Tensor names of a GGUF file and of the hub: one table, read in both directions.
//!
//! Invariants: names are the only thing that is translated here; which file a tensor lies in and what its bytes are is the
//! business of readers and writers. **Source:** `spec/export.md` section 6.

use dlm_core::architecture::TABLE;

use super::Rules;

/// What a tensor is called in a GGUF file, and on the hub.
pub type TensorName = (&'static str, &'static str);

/// Tensors outside the blocks.
const WHOLE: [TensorName; 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Separate attention projections, as parts of a block's tensor names.
pub(super) const ATTENTION: &[TensorName] = &[
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
];

/// Separate feed-forward projections.
pub(super) const FEED_FORWARD: &[TensorName] = &[
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Separate queries, keys and values, which some files of architectures with joined ones have instead.
pub(super) const QKV: &[TensorName] = &[
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
];

/// Projections of [`dlm_core::architecture::ArchitectureFacts::is_fused`].
pub(super) const FUSED: &[TensorName] = &[
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_up", "mlp.gate_up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The router of a mixture of experts; its experts are in [`EXPERTS`].
pub(super) const ROUTER: &[TensorName] = &[("ffn_gate_inp", "block_sparse_moe.gate")];

/// Norms before both parts of a block.
pub(super) const NORMS_PRE: &[TensorName] = &[
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
];

/// Norms after both parts.
pub(super) const NORMS_POST: &[TensorName] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// Norms before and after both parts.
pub(super) const NORMS_BOTH: &[TensorName] = &[
    ("attn_norm", "input_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// Norms of queries and keys.
pub(super) const NORMS_QK: &[TensorName] = &[("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm")];

/// Matrices of an expert: stacked as `ffn_gate_exps` and so on or, in older files, one tensor per expert.
const EXPERTS: [TensorName; 3] = [("ffn_gate", "w1"), ("ffn_down", "w2"), ("ffn_up", "w3")];

/// What happens to values on the way from the hub to a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredForm {
    AsTheyAre,
    /// Rows of each of so many heads interleaved for rotary pairs that lie side by side: file row `2i+j` is row `j*half+i`.
    Interleaved {
        heads: usize,
    },
    /// The file holds `1 + w`.
    PlusOne,
}

/// A tensor of a GGUF file, by its place in the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GgufName {
    /// A tensor with one counterpart on the hub.
    Own(String),
    /// One expert of a tensor that stacks them.
    Expert { stack: String, expert: usize },
}

/// A block's tensor name in three parts: `model.layers.3.` `self_attn.q_proj` `.weight`.
struct InBlock<'a> {
    layer: usize,
    part: &'a str,
    kind: &'a str,
}

impl<'a> InBlock<'a> {
    fn parse(prefix: &str, name: &'a str) -> Option<InBlock<'a>> {
        let (layer, rest) = name.strip_prefix(prefix)?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let layer = layer.parse().ok()?;
        matches!(kind, "weight" | "bias").then_some(InBlock { layer, part, kind })
    }
}

impl Rules {
    /// Lists the names of a block's tensors.
    pub fn tensors(&self) -> impl Iterator<Item = TensorName> {
        self.gguf.tensors.iter().flat_map(|names| names.iter().copied())
    }

    /// Files do not always say that they have experts, so every architecture of a GGUF name that may have them knows them.
    fn may_have_experts(&self) -> bool {
        let gguf = self.architecture.facts().gguf;
        TABLE.iter().any(|row| row.gguf == gguf && row.has_experts)
    }

    /// Returns the hub's name of a tensor of a GGUF file; `None` when it has no single counterpart (stacked experts, rotary
    /// factors) or is not of this architecture.
    pub fn hub_name(&self, gguf: &str) -> Option<String> {
        if let Some((_, hub)) = WHOLE.into_iter().find(|(file, _)| *file == gguf) {
            return Some(hub.to_owned());
        }
        let InBlock { layer, part, kind } = InBlock::parse("blk.", gguf)?;
        if let Some((matrix, expert)) = part.split_once('.') {
            let expert: usize = expert.parse().ok()?;
            let (_, hub) = self.expert_matrix(|(file, _)| file == matrix)?;
            return Some(format!(
                "model.layers.{layer}.block_sparse_moe.experts.{expert}.{hub}.{kind}"
            ));
        }
        let (_, hub) = self.tensors().find(|(file, _)| *file == part)?;
        Some(format!("model.layers.{layer}.{hub}.{kind}"))
    }

    /// Returns the hub's names of the experts that a tensor of a GGUF file stacks, as a prefix and a suffix around the
    /// expert's number.
    pub fn stacked_experts(&self, gguf: &str) -> Option<(String, String)> {
        let InBlock { layer, part, kind } = InBlock::parse("blk.", gguf)?;
        let (_, hub) = self.expert_matrix(|(file, _)| part.strip_suffix("_exps") == Some(file))?;
        (kind == "weight").then(|| {
            (
                format!("model.layers.{layer}.block_sparse_moe.experts."),
                format!(".{hub}.weight"),
            )
        })
    }

    /// Returns where a tensor of the hub goes in a GGUF file; `None` when it is not of this architecture.
    pub fn gguf_name(&self, hub: &str) -> Option<GgufName> {
        if let Some((gguf, _)) = WHOLE.into_iter().find(|(_, name)| *name == hub) {
            return Some(GgufName::Own(gguf.to_owned()));
        }
        let InBlock { layer, part, kind } = InBlock::parse("model.layers.", hub)?;
        if let Some(expert) = part.strip_prefix("block_sparse_moe.experts.") {
            let (expert, matrix) = expert.split_once('.')?;
            let (gguf, _) = self.expert_matrix(|(_, hub)| hub == matrix)?;
            return Some(GgufName::Expert {
                stack: format!("blk.{layer}.{gguf}_exps.weight"),
                expert: expert.parse().ok()?,
            });
        }
        let (gguf, _) = self.tensors().find(|(_, name)| *name == part)?;
        Some(GgufName::Own(format!("blk.{layer}.{gguf}.{kind}")))
    }

    fn expert_matrix(&self, is: impl Fn(TensorName) -> bool) -> Option<TensorName> {
        let mut matrices = EXPERTS.into_iter().filter(|_| self.may_have_experts());
        matrices.find(|names| is(*names))
    }

    /// Says how a GGUF file holds the values of a tensor of the hub, given the heads of queries and of keys.
    pub fn stored(&self, hub: &str, (n_heads, n_kv_heads): (usize, usize)) -> StoredForm {
        let part = hub.rsplit_once('.').map_or(hub, |(part, _)| part);
        let heads = match part {
            _ if !self.gguf.interleaves => None,
            _ if part.ends_with("self_attn.q_proj") => Some(n_heads),
            _ if part.ends_with("self_attn.k_proj") => Some(n_kv_heads),
            _ => None,
        };
        match heads {
            Some(heads) => StoredForm::Interleaved { heads },
            None if self.norm_plus_one && part.ends_with("norm") => StoredForm::PlusOne,
            None => StoredForm::AsTheyAre,
        }
    }
}

#[cfg(test)]
mod tests {
    use dlm_core::Architecture;

    use super::super::rules;
    use super::{GgufName, StoredForm};

    #[test]
    fn names_go_there_and_back() {
        for row in dlm_core::architecture::TABLE {
            let rules = rules(row.architecture);
            for (gguf, hub) in rules.tensors() {
                let (gguf, hub) = (format!("blk.3.{gguf}.weight"), format!("model.layers.3.{hub}.weight"));
                assert_eq!(rules.hub_name(&gguf).as_deref(), Some(hub.as_str()), "{}", row.name);
                assert_eq!(rules.gguf_name(&hub), Some(GgufName::Own(gguf)), "{}", row.name);
            }
            assert_eq!(rules.hub_name("output.weight").as_deref(), Some("lm_head.weight"));
            assert_eq!(rules.hub_name("blk.3.unheard_of.weight"), None);
            assert_eq!(rules.gguf_name("model.layers.3.unheard_of.weight"), None);
        }
    }

    fn check(architecture: Architecture, gguf: &str, expected: Option<&str>) {
        let found = rules(architecture).hub_name(gguf);
        assert_eq!(found.as_deref(), expected, "{architecture:?} {gguf}");
    }

    #[test]
    fn names_follow_the_architecture() {
        use Architecture::{Gemma2, Llama, Mixtral, Olmo2, Phi3, Qwen2};
        let hub = |part: &str| format!("model.layers.{part}");
        let found = |architecture, gguf, part: &str| check(architecture, gguf, Some(&hub(part)));
        found(Llama, "blk.3.attn_q.weight", "3.self_attn.q_proj.weight");
        found(Qwen2, "blk.0.attn_v.bias", "0.self_attn.v_proj.bias");
        found(Phi3, "blk.1.ffn_up.weight", "1.mlp.gate_up_proj.weight");
        found(Llama, "blk.1.ffn_norm.weight", "1.post_attention_layernorm.weight");
        found(Gemma2, "blk.1.ffn_norm.weight", "1.pre_feedforward_layernorm.weight");
        found(
            Olmo2,
            "blk.1.post_ffw_norm.weight",
            "1.post_feedforward_layernorm.weight",
        );
        found(
            Mixtral,
            "blk.2.ffn_down.5.weight",
            "2.block_sparse_moe.experts.5.w2.weight",
        );
        check(Olmo2, "blk.1.ffn_norm.weight", None);
        check(Mixtral, "blk.2.ffn_gate_exps.weight", None);
        check(Qwen2, "blk.2.ffn_down.5.weight", None);
        check(Llama, "blk.x.attn_q.weight", None);
    }

    #[test]
    fn experts_are_stacked() {
        let rules = rules(Architecture::Mixtral);
        let place = rules.gguf_name("model.layers.1.block_sparse_moe.experts.5.w2.weight");
        let stack = "blk.1.ffn_down_exps.weight".to_owned();
        assert_eq!(
            place,
            Some(GgufName::Expert {
                stack: stack.clone(),
                expert: 5
            })
        );
        let (prefix, suffix) = rules.stacked_experts(&stack).unwrap();
        assert_eq!(
            format!("{prefix}5{suffix}"),
            "model.layers.1.block_sparse_moe.experts.5.w2.weight"
        );
        assert_eq!(rules.stacked_experts("blk.1.ffn_down.weight"), None);
    }

    #[test]
    fn values_change_where_the_architecture_says() {
        let stored = |architecture, hub: &str| rules(architecture).stored(hub, (9, 3));
        let key = "model.layers.0.self_attn.k_proj.weight";
        assert_eq!(stored(Architecture::Llama, key), StoredForm::Interleaved { heads: 3 });
        assert_eq!(stored(Architecture::Qwen2, key), StoredForm::AsTheyAre);
        assert_eq!(stored(Architecture::Gemma2, "model.norm.weight"), StoredForm::PlusOne);
        assert_eq!(stored(Architecture::Llama, "model.norm.weight"), StoredForm::AsTheyAre);
    }
}
