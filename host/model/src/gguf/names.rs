//! From the tensor names of a GGUF file to those of Hugging Face, and what has to be done to the values on the way.
//!
//! Invariants: a name that the architecture does not have is an error, never skipped; names come from [`crate::arch`].

use std::collections::BTreeMap;

use super::error::GgufSourceError;
use super::{GgufFile, Value};
use crate::arch::{Rules, StoredForm, rules};

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

/// Experts of one layer; the same limit as in the configuration.
const EXPERTS_MAX: usize = 1024;

/// Tensors that describe the rotary embedding; the configuration reader takes them.
const ROTARY: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

fn change_of(rules: &Rules, name: &str, heads: (usize, usize)) -> Change {
    match rules.stored(name, heads) {
        StoredForm::AsTheyAre => Change::None,
        StoredForm::Interleaved { heads } => Change::Deinterleave { heads },
        StoredForm::PlusOne => Change::MinusOne,
    }
}

/// Finds the place of every Hugging Face tensor that the file holds.
pub(crate) fn places(file: &GgufFile) -> Result<BTreeMap<String, TensorPlace>, GgufSourceError> {
    let architecture = file.architecture().ok_or_else(|| GgufSourceError::NoArchitecture {
        path: file.path().to_owned(),
    })?;
    let decoder = file.decoder().ok_or_else(|| GgufSourceError::Architecture {
        path: file.path().to_owned(),
        found: architecture.to_owned(),
    })?;
    let rules = rules(decoder);
    let head_count = |key: &str| {
        let key = format!("{architecture}.attention.{key}");
        file.value(&key)
            .and_then(Value::as_uniform)
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
        if let Some((prefix, suffix)) = rules.stacked_experts(file_name) {
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
        } else if let Some(name) = rules.hub_name(file_name) {
            let change = change_of(rules, &name, heads);
            places.insert(name, place(change));
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
