//! From Hugging Face tensor names to those of a GGUF file, and what happens to the values on the way.
//!
//! Invariants: names come from [`dlm_model::arch`]; one that the architecture does not have is an error, never dropped; two
//! checkpoint tensors never get one name, except the experts of a layer, which are stacked. **Source:** `spec/export.md`
//! section 6.

use dlm_model::arch::names::GgufName;
use dlm_model::arch::{StoredForm, rules};
use dlm_model::config::DecoderConfig;

use crate::error::ExportError;

/// Where a checkpoint tensor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A tensor of its own.
    Own { name: String, change: StoredForm },
    /// One expert of a stacked tensor.
    Expert { name: String, expert: usize },
    /// Not written, because the file says it another way (a tied head, rotary frequencies).
    Implied,
}

/// Finds the place of a checkpoint tensor.
pub(crate) fn place(config: &DecoderConfig, name: &str) -> Result<Place, ExportError> {
    if (config.tied && name == "lm_head.weight") || name.ends_with(".self_attn.rotary_emb.inv_freq") {
        return Ok(Place::Implied);
    }
    let rules = rules(config.arch);
    let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let is_there = layer.is_none_or(|(layer, _)| layer.parse::<usize>().is_ok_and(|layer| layer < config.n_layers));
    match rules.gguf_name(name).filter(|_| is_there) {
        Some(GgufName::Own(file)) => Ok(Place::Own {
            name: file,
            change: rules.stored(name, (config.n_heads, config.n_kv_heads)),
        }),
        Some(GgufName::Expert { stack, expert }) => Ok(Place::Expert { name: stack, expert }),
        None => Err(ExportError::UnknownTensor {
            name: name.to_owned(),
            architecture: config.arch.facts().gguf,
        }),
    }
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
