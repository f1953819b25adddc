//! From Hugging Face tensor names to those of a GGUF file, and what happens to the values on the way.
//!
//! Invariants: a name that the family's table does not have is an error, never dropped; two checkpoint tensors never get
//! one name, except the experts of a layer, which are stacked. **Source:** `spec/export.md` section 6.

use dlm_model::config::{Arch, DecoderConfig};

use crate::error::ExportError;

/// What is done to the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// Rows of each head interleaved for rotary pairs that lie side by side: file row `2i+j` is row `j*half+i`.
    Interleave {
        heads: usize,
    },
    /// Gemma's norms multiply by `1 + w`; the file holds the sum.
    PlusOne,
}

/// Where a checkpoint tensor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A tensor of its own.
    Own { name: String, change: Change },
    /// One expert of a stacked tensor.
    Expert { name: String, expert: usize },
    /// Not written, because the file says it another way (a tied head, rotary frequencies).
    Implied,
}

/// Returns the value of `general.architecture`.
pub(crate) const fn architecture(arch: Arch) -> &'static str {
    match arch {
        Arch::Llama | Arch::Mistral | Arch::Mixtral => "llama",
        Arch::Smollm3 => "smollm3",
        Arch::Qwen2 => "qwen2",
        Arch::Qwen3 => "qwen3",
        Arch::Gemma2 => "gemma2",
        Arch::Phi3 => "phi3",
        Arch::Olmo2 => "olmo2",
    }
}

/// Says whether query and key rows are re-ordered.
pub(crate) const fn interleaves(arch: Arch) -> bool {
    matches!(arch, Arch::Llama | Arch::Mistral | Arch::Mixtral | Arch::Smollm3)
}

const PARTS: [(&str, &str); 14] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

fn part_name(arch: Arch, part: &str) -> Option<&'static str> {
    match (part, arch) {
        ("post_attention_layernorm", Arch::Gemma2 | Arch::Olmo2) => Some("post_attention_norm"),
        ("post_attention_layernorm", _) | ("pre_feedforward_layernorm", Arch::Gemma2) => Some("ffn_norm"),
        _ => PARTS.iter().find(|(hf, _)| *hf == part).map(|(_, name)| *name),
    }
}

fn expert_place(layer: usize, part: &str) -> Option<Place> {
    let (expert, matrix) = part.strip_prefix("block_sparse_moe.experts.")?.split_once('.')?;
    let matrix = match matrix {
        "w1" => "ffn_gate_exps",
        "w2" => "ffn_down_exps",
        "w3" => "ffn_up_exps",
        _ => return None,
    };
    Some(Place::Expert {
        name: format!("blk.{layer}.{matrix}.weight"),
        expert: expert.parse().ok()?,
    })
}

fn block_place(config: &DecoderConfig, name: &str) -> Option<Place> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    if rest == "self_attn.rotary_emb.inv_freq" {
        return Some(Place::Implied);
    }
    let (part, kind) = rest.rsplit_once('.')?;
    if !matches!(kind, "weight" | "bias") || layer >= config.n_layers {
        return None;
    }
    if let Some(place) = expert_place(layer, part) {
        return Some(place);
    }
    let change = match part {
        "self_attn.q_proj" if interleaves(config.arch) => Change::Interleave { heads: config.n_heads },
        "self_attn.k_proj" if interleaves(config.arch) => Change::Interleave {
            heads: config.n_kv_heads,
        },
        _ if config.norm_plus_one && part.ends_with("norm") => Change::PlusOne,
        _ => Change::None,
    };
    Some(Place::Own {
        name: format!("blk.{layer}.{}.{kind}", part_name(config.arch, part)?),
        change,
    })
}

/// Finds the place of a checkpoint tensor.
pub(crate) fn place(config: &DecoderConfig, name: &str) -> Result<Place, ExportError> {
    let own = |file: &str, change| {
        Some(Place::Own {
            name: file.to_owned(),
            change,
        })
    };
    let norm = if config.norm_plus_one {
        Change::PlusOne
    } else {
        Change::None
    };
    let found = match name {
        "model.embed_tokens.weight" => own("token_embd.weight", Change::None),
        "model.norm.weight" => own("output_norm.weight", norm),
        "lm_head.weight" if config.tied => Some(Place::Implied),
        "lm_head.weight" => own("output.weight", Change::None),
        _ => block_place(config, name),
    };
    found.ok_or_else(|| ExportError::UnknownTensor {
        name: name.to_owned(),
        architecture: architecture(config.arch),
    })
}

/// Returns the name in the file of a checkpoint tensor that has a tensor of its own there.
pub fn gguf_name(config: &DecoderConfig, name: &str) -> Option<String> {
    match place(config, name) {
        Ok(Place::Own { name, .. }) => Some(name),
        _ => None,
    }
}

/// The order in the file: embedding, blocks, final norm, head, rotary factors.
pub(crate) fn sort_key(name: &str) -> (usize, usize, String) {
    let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let block = block.and_then(|(layer, part)| Some((layer.parse::<usize>().ok()?, part)));
    match (name, block) {
        ("token_embd.weight", _) => (0, 0, String::new()),
        (_, Some((layer, part))) => (1, layer, part.to_owned()),
        _ => (2, 0, name.to_owned()),
    }
}
