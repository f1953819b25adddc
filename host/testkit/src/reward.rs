//! A tiny reward model: one of the golden decoders with a head of one label on it.
//!
//! The head is a row of the decoder's own output head, so the number that it gives is a logit that the reference
//! implementation computed and that lies in the golden file.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde_json::Value;

/// Why the model cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Tensors(#[from] safetensors::SafeTensorError),
    #[error("the golden directory holds no `{0}`")]
    Missing(&'static str),
}

/// What the head looks like.
#[derive(Clone, Copy, Debug)]
pub enum RewardHead {
    /// One label: the output head's row of this token.
    Token(usize),
    /// So many labels, all zero.
    Zeros(usize),
    /// One label, whose weights are not a number.
    NotANumber,
}

/// Writes the classifier to `to`, made of the golden decoder in `from`.
pub fn write_reward_model(from: &Path, to: &Path, head: RewardHead) -> Result<(), RewardError> {
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.join(name))?;
    }
    let bytes = std::fs::read(from.join("model.safetensors"))?;
    let stored = SafeTensors::deserialize(&bytes)?;
    let mut tensors: BTreeMap<String, TensorView<'_>> =
        stored.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    let embed = tensors
        .get("model.embed_tokens.weight")
        .ok_or(RewardError::Missing("embedding"))?
        .clone();
    let rows = tensors.remove("lm_head.weight").unwrap_or(embed);
    let width = rows.shape()[1];
    let (labels, weights) = match head {
        RewardHead::Token(token) => (1, rows.data()[token * width * 4..(token + 1) * width * 4].to_vec()),
        RewardHead::Zeros(labels) => (labels, vec![0; labels * width * 4]),
        RewardHead::NotANumber => (1, f32::NAN.to_le_bytes().repeat(width)),
    };
    tensors.insert(
        "score.weight".to_owned(),
        TensorView::new(Dtype::F32, vec![labels, width], &weights)?,
    );
    serialize_to_file(&tensors, None, &to.join("model.safetensors"))?;
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join("config.json"))?)?;
    let class = config["architectures"][0]
        .as_str()
        .ok_or(RewardError::Missing("class"))?;
    let class = class.replace("ForCausalLM", "ForSequenceClassification");
    config["architectures"] = Value::from(vec![class]);
    config["id2label"] = (0..labels)
        .map(|i| (i.to_string(), Value::from(format!("LABEL_{i}"))))
        .collect();
    std::fs::write(to.join("config.json"), config.to_string())?;
    Ok(())
}
