//! A record for a model that the registry does not know, from its repository's commit and `config.json`.
//!
//! **Source**: `spec/bases.md` section 5.

use dlm_core::architecture::{dialect, gguf_name};
use dlm_core::base::{BaseRecord, BaseShape, Modality};
use dlm_core::ports::RemoteBase;
use serde_json::Value;

use super::defaults::{SEQ_LEN_MAX, reference_targets, size_gb_fp16};
use super::registry::is_commit;
use super::resolve::{BaseError, BaseLocation, ResolvedBase};
use super::shape;

/// The context that is assumed when `config.json` names none.
const CONTEXT_DEFAULT: u64 = 4096;
/// No size in a `config.json` may be larger: a wrong number is refused before it is multiplied.
const SIZE_MAX: u64 = 1 << 24;

/// What the hub told about a repository.
#[derive(Clone, Debug)]
pub struct HubAnswer<'a> {
    pub hf_id: &'a str,
    /// 40 hex digits.
    pub commit: &'a str,
    /// The text of `config.json`.
    pub config_json: &'a str,
    /// Sum of the weight files' sizes, when the listing gave it.
    pub weights_bytes: Option<u64>,
}

impl<'a> HubAnswer<'a> {
    /// What an inspection of the repository brought.
    pub fn from_remote(hf_id: &'a str, remote: &'a RemoteBase) -> Self {
        let weights = remote.files.iter().filter(|(name, _)| name.ends_with(".safetensors"));
        let weights_bytes: u64 = weights.map(|(_, size)| size).sum();
        let weights_bytes = Some(weights_bytes).filter(|bytes| *bytes > 0);
        HubAnswer {
            hf_id,
            commit: &remote.commit,
            config_json: &remote.config_json,
            weights_bytes,
        }
    }
}

/// Makes the record of `hf:<org>/<name>`; its license is unknown and it may not be passed on.
pub fn synthesize(answer: &HubAnswer) -> Result<ResolvedBase, BaseError> {
    let bad = |reason: String| BaseError::BadConfig {
        hf_id: answer.hf_id.to_owned(),
        reason,
    };
    if !is_commit(answer.commit) {
        return Err(bad(format!(
            "the hub's commit `{}` is not 40 hex digits",
            answer.commit
        )));
    }
    let config: Value = serde_json::from_str(answer.config_json).map_err(|e| bad(format!("it is not JSON: {e}")))?;
    let architecture = config["architectures"][0].as_str().filter(|name| !name.is_empty());
    let architecture = architecture
        .ok_or_else(|| bad("`architectures` is empty".into()))?
        .to_owned();
    let shape = shape_of(&config).map_err(bad)?;
    let record = record(answer, &config, architecture, shape);
    let location = BaseLocation::Hub {
        hf_id: record.hf_id.clone(),
        revision: record.revision.clone(),
    };
    Ok(ResolvedBase {
        record,
        location,
        notes: Vec::new(),
    })
}

/// The record of a model of that class and shape, the rest by default.
fn record(answer: &HubAnswer, config: &Value, architecture: String, shape: BaseShape) -> BaseRecord {
    let params = config["num_parameters"]
        .as_u64()
        .or(answer.weights_bytes.map(|bytes| bytes / 2))
        .filter(|params| *params > 0)
        .unwrap_or_else(|| shape::parameters(&shape));
    let context = config["max_position_embeddings"]
        .as_u64()
        .or(config["n_positions"].as_u64());
    let context_length = u32::try_from(context.unwrap_or(CONTEXT_DEFAULT))
        .unwrap_or(u32::MAX)
        .max(1);
    BaseRecord {
        key: format!("hf:{}", answer.hf_id),
        hf_id: answer.hf_id.to_owned(),
        revision: answer.commit.to_owned(),
        params,
        modality: if shape.n_experts > 0 {
            Modality::TextMoe
        } else {
            Modality::Text
        },
        template: dialect(answer.hf_id, &architecture),
        gguf_arch: Some(gguf_name(&architecture)),
        tokenizer_pre: None,
        target_modules: reference_targets(&architecture),
        context_length,
        context_length_effective: None,
        recommended_seq_len: context_length.min(SEQ_LEN_MAX),
        size_gb_fp16: size_gb_fp16(params),
        reasoning_tuned: false,
        license_spdx: "Unknown".into(),
        license_url: None,
        requires_acceptance: false,
        redistributable: false,
        redistributable_conditions: None,
        trust_remote_code: false,
        refresh_check_hf_gating: true,
        provenance_url: None,
        provenance_match_text: None,
        capability_warning: None,
        draft: None,
        shape: Some(shape),
        image: None,
        audio: None,
        architecture,
    }
}

/// Reads the sizes out of a `config.json`.
///
/// **Errors** name the key that is missing or out of range.
pub fn shape_of(config: &Value) -> Result<BaseShape, String> {
    let read = |key: &str| -> Result<Option<u32>, String> {
        match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(size) if (1..=SIZE_MAX).contains(&size) => Ok(Some(size as u32)),
                _ => Err(format!(
                    "`{key}` is {value}, expected a whole number from 1 to {SIZE_MAX}"
                )),
            },
        }
    };
    let need = |key: &str| read(key)?.ok_or_else(|| format!("`{key}` is missing"));
    let (d_model, n_heads) = (need("hidden_size")?, need("num_attention_heads")?);
    let n_experts = read("num_local_experts")?.unwrap_or(0);
    Ok(BaseShape {
        d_model,
        n_heads,
        n_layers: need("num_hidden_layers")?,
        n_kv_heads: read("num_key_value_heads")?.unwrap_or(n_heads),
        head_dim: read("head_dim")?.unwrap_or((d_model / n_heads).max(1)),
        d_ff: need("intermediate_size")?,
        vocab: need("vocab_size")?,
        tied: config["tie_word_embeddings"].as_bool().unwrap_or(false),
        n_experts,
        n_experts_used: if n_experts > 0 {
            read("num_experts_per_tok")?.unwrap_or(1)
        } else {
            0
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936,
            "max_position_embeddings": 32768, "tie_word_embeddings": true})
    }

    fn check(config: &Value) -> Result<ResolvedBase, BaseError> {
        let commit = "7ae557604adf67be50417f59c2c2f167def9a775";
        let config_json = &config.to_string();
        synthesize(&HubAnswer {
            hf_id: "org/name",
            commit,
            config_json,
            weights_bytes: None,
        })
    }

    #[test]
    fn a_config_becomes_a_valid_record() {
        let base = check(&config()).unwrap();
        super::super::registry::validate(&base.record).unwrap();
        assert_eq!(base.record.key, "hf:org/name");
        assert_eq!(base.record.params, 493_961_216);
        assert_eq!(base.record.recommended_seq_len, 2048);
        assert_eq!(base.record.gguf_arch.as_deref(), Some("qwen2"));
        assert_eq!(base.record.license_spdx, "Unknown");
        assert!(!base.record.redistributable && !base.record.requires_acceptance);
    }

    #[test]
    fn a_config_without_sizes_or_class_is_refused() {
        let without = |key: &str| {
            let mut config = config();
            config.as_object_mut().unwrap().remove(key);
            check(&config).unwrap_err().to_string()
        };
        assert!(without("architectures").contains("`architectures` is empty"));
        assert!(without("hidden_size").contains("`hidden_size` is missing"));
        for wild in [json!(0), json!(-1), json!(1e300), json!("9"), json!(u64::MAX)] {
            let mut config = config();
            config["vocab_size"] = wild;
            assert!(check(&config).unwrap_err().to_string().contains("vocab_size"));
        }
    }
}
