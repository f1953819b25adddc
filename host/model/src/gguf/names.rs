//! From the tensor names of a GGUF file to those of Hugging Face, and what has to be done to the values on the way.
//!
//! Invariants: a name that is not in the table is an error, never skipped. A new family is one row per table here.

use std::collections::BTreeMap;

use super::source::GgufSourceError;
use super::{GgufFile, Value};

/// The families of `general.architecture` that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Llama, SmolLM2, Mistral and Mixtral.
    Llama,
    Smollm3,
    Qwen2,
    Qwen3,
    Gemma2,
    Phi3,
    Olmo2,
}

impl Family {
    pub(crate) fn of(architecture: &str) -> Option<Self> {
        Some(match architecture {
            "llama" | "mistral3" => Family::Llama,
            "smollm3" => Family::Smollm3,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gemma2" => Family::Gemma2,
            "phi3" => Family::Phi3,
            "olmo2" => Family::Olmo2,
            _ => return None,
        })
    }

    /// The converter re-orders query and key rows of these for rotary pairs that lie side by side.
    fn interleaves_rotary_rows(self) -> bool {
        matches!(self, Family::Llama | Family::Smollm3)
    }
}

/// What turns the stored values into the Hugging Face ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// Per head of `rows / heads` rows, row `2i+j` of the file becomes row `j*half+i`.
    Deinterleave {
        heads: usize,
    },
    /// The file holds `1 + w`.
    MinusOne,
    /// The file stacks the experts; this is one of them.
    Expert(usize),
}

/// Where a Hugging Face tensor lies in a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlace {
    /// The name in the file.
    pub file_name: String,
    pub(crate) change: Change,
}

/// Part of a block's tensor name: what the file calls it, what Hugging Face calls it.
type Pair = (&'static str, &'static str);

const COMMON: [Pair; 12] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "block_sparse_moe.gate"),
];

const NORMS_PRE: [Pair; 1] = [("ffn_norm", "post_attention_layernorm")];
const NORMS_GEMMA2: [Pair; 3] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
const NORMS_OLMO2: [Pair; 2] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
/// Stacked experts and, in older files, one tensor per expert.
const EXPERTS: [Pair; 3] = [("ffn_gate", "w1"), ("ffn_down", "w2"), ("ffn_up", "w3")];

/// Experts of one layer; the same limit as in the configuration.
const EXPERTS_MAX: usize = 1024;

/// Tensors that describe the rotary embedding; the configuration reader takes them.
const ROTARY: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

fn block_part(family: Family, part: &str) -> Option<&'static str> {
    if family == Family::Phi3 && part == "ffn_up" {
        return Some("mlp.gate_up_proj");
    }
    let norms: &[Pair] = match family {
        Family::Gemma2 => &NORMS_GEMMA2,
        Family::Olmo2 => &NORMS_OLMO2,
        _ => &NORMS_PRE,
    };
    COMMON
        .iter()
        .chain(norms)
        .find(|(file, _)| *file == part)
        .map(|(_, hf)| *hf)
}

/// Returns the Hugging Face name of a tensor of a GGUF file of the given architecture; `None` when it has no single
/// counterpart (stacked experts, rotary factors) or is not known.
///
/// `hf_name("llama", "blk.3.attn_q.weight")` is `model.layers.3.self_attn.q_proj.weight`.
pub fn hf_name(architecture: &str, file_name: &str) -> Option<String> {
    let family = Family::of(architecture)?;
    match file_name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = file_name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, kind) = rest.rsplit_once('.')?;
    if kind != "weight" && kind != "bias" {
        return None;
    }
    if let Some((part, expert)) = part.split_once('.') {
        let expert: usize = expert.parse().ok()?;
        let (_, hf) = EXPERTS.iter().find(|(file, _)| *file == part)?;
        return Some(format!(
            "model.layers.{layer}.block_sparse_moe.experts.{expert}.{hf}.{kind}"
        ));
    }
    Some(format!("model.layers.{layer}.{}.{kind}", block_part(family, part)?))
}

/// The Hugging Face names of one stacked expert tensor, as a prefix and a suffix around the expert's number.
fn stacked_experts(file_name: &str) -> Option<(String, String)> {
    let (layer, part) = file_name
        .strip_prefix("blk.")?
        .strip_suffix("_exps.weight")?
        .split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (_, hf) = EXPERTS.iter().find(|(file, _)| *file == part)?;
    Some((
        format!("model.layers.{layer}.block_sparse_moe.experts."),
        format!(".{hf}.weight"),
    ))
}

fn change_of(family: Family, file_name: &str, heads: (usize, usize)) -> Change {
    let is = |part: &str| file_name.contains(&format!(".{part}."));
    if family.interleaves_rotary_rows() && is("attn_q") {
        Change::Deinterleave { heads: heads.0 }
    } else if family.interleaves_rotary_rows() && is("attn_k") {
        Change::Deinterleave { heads: heads.1 }
    } else if family == Family::Gemma2 && file_name.ends_with("norm.weight") {
        Change::MinusOne
    } else {
        Change::None
    }
}

/// Finds the place of every Hugging Face tensor that the file holds.
pub(crate) fn places(file: &GgufFile) -> Result<BTreeMap<String, TensorPlace>, GgufSourceError> {
    let architecture = file.architecture().ok_or_else(|| GgufSourceError::NoArchitecture {
        path: file.path().to_owned(),
    })?;
    let family = Family::of(architecture).ok_or_else(|| GgufSourceError::Architecture {
        path: file.path().to_owned(),
        found: architecture.to_owned(),
    })?;
    let head_count = |key: &str| {
        let key = format!("{architecture}.attention.{key}");
        file.value(&key)
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
    };
    let n_heads = head_count("head_count").unwrap_or(0);
    let heads = (n_heads, head_count("head_count_kv").unwrap_or(n_heads));
    let mut places = BTreeMap::new();
    for (file_name, info) in &file.header().tensors {
        if ROTARY.contains(&file_name.as_str()) {
            continue;
        }
        let place = |change| TensorPlace {
            file_name: file_name.clone(),
            change,
        };
        if let Some((prefix, suffix)) = stacked_experts(file_name) {
            if info.shape.len() != 3 || info.shape[0] > EXPERTS_MAX {
                return Err(GgufSourceError::ExpertShape {
                    path: file.path().to_owned(),
                    name: file_name.clone(),
                    shape: info.shape.clone(),
                });
            }
            for expert in 0..info.shape[0] {
                places.insert(format!("{prefix}{expert}{suffix}"), place(Change::Expert(expert)));
            }
        } else if let Some(name) = hf_name(architecture, file_name) {
            places.insert(name, place(change_of(family, file_name, heads)));
        } else {
            return Err(GgufSourceError::UnknownTensor {
                path: file.path().to_owned(),
                architecture: architecture.to_owned(),
                name: file_name.clone(),
            });
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::hf_name;

    fn check(architecture: &str, file_name: &str, expected: Option<&str>) {
        assert_eq!(
            hf_name(architecture, file_name).as_deref(),
            expected,
            "{architecture} {file_name}"
        );
    }

    #[test]
    fn names_follow_the_family() {
        check(
            "llama",
            "blk.3.attn_q.weight",
            Some("model.layers.3.self_attn.q_proj.weight"),
        );
        check(
            "qwen2",
            "blk.0.attn_v.bias",
            Some("model.layers.0.self_attn.v_proj.bias"),
        );
        check(
            "phi3",
            "blk.1.ffn_up.weight",
            Some("model.layers.1.mlp.gate_up_proj.weight"),
        );
        check(
            "llama",
            "blk.1.ffn_norm.weight",
            Some("model.layers.1.post_attention_layernorm.weight"),
        );
        check(
            "gemma2",
            "blk.1.ffn_norm.weight",
            Some("model.layers.1.pre_feedforward_layernorm.weight"),
        );
        check(
            "olmo2",
            "blk.1.post_ffw_norm.weight",
            Some("model.layers.1.post_feedforward_layernorm.weight"),
        );
        check("olmo2", "blk.1.ffn_norm.weight", None);
        check(
            "llama",
            "blk.2.ffn_down.5.weight",
            Some("model.layers.2.block_sparse_moe.experts.5.w2.weight"),
        );
        check("llama", "blk.2.ffn_gate_exps.weight", None);
        check("llama", "blk.x.attn_q.weight", None);
        check("mamba", "token_embd.weight", None);
    }
}
