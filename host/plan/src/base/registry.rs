//! The registry: the 27 bases of `data/bases.toml`, compiled in, read once, validated whole.
//!
//! A row is data; adding a base touches the file only. Every rule of `spec/bases.md` section 1 is checked by
//! [`validate`], which a test runs over the shipped file, so a bad row never reaches a user.

use std::sync::LazyLock;

use dlm_core::base::{BaseRecord, Modality};
use dlm_core::nearest;
use serde::Deserialize;

/// The base of `dlm init` when none is named.
pub const DEFAULT_BASE: &str = "qwen2.5-1.5b";
/// The base of `dlm init --multimodal` when none is named.
pub const DEFAULT_VISION_BASE: &str = "paligemma-3b-mix-224";
/// The base of `dlm init --audio` when none is named.
pub const DEFAULT_AUDIO_BASE: &str = "qwen2-audio-7b-instruct";
/// The web root that `{hub}` stands for when no other hub is configured.
pub const DEFAULT_HUB_ROOT: &str = "https://huggingface.co";

/// Candidates farther than this from what was typed are not suggested: beyond a third of a name, nothing is a typo.
const SUGGESTION_DISTANCE_SHARE: usize = 3;

static BUILTIN: LazyLock<Registry> = LazyLock::new(|| {
    let registry =
        Registry::parse(include_str!("../../data/bases.toml")).expect("the shipped registry is valid (tested)");
    assert!(!registry.bases.is_empty(), "the shipped registry has bases (tested)");
    registry
});

/// The known bases, in their fixed order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    #[serde(rename = "base")]
    bases: Vec<BaseRecord>,
}

/// Why a registry file is refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the registry is not readable: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("base `{key}`: {problem}")]
    Invalid { key: String, problem: String },
    #[error("base `{key}` appears twice")]
    Repeated { key: String },
}

impl Registry {
    /// The registry that is part of the program.
    ///
    /// **Panics** never: the file is checked by a test of this crate.
    pub fn builtin() -> &'static Registry {
        &BUILTIN
    }

    /// Reads and validates a registry file.
    pub fn parse(text: &str) -> Result<Registry, RegistryError> {
        let registry: Registry = toml::from_str(text)?;
        for (index, record) in registry.bases.iter().enumerate() {
            if let Err(problem) = validate(record) {
                let key = record.key.clone();
                return Err(RegistryError::Invalid { key, problem });
            }
            if registry.bases[..index].iter().any(|other| other.key == record.key) {
                return Err(RegistryError::Repeated {
                    key: record.key.clone(),
                });
            }
        }
        Ok(registry)
    }

    /// All records, in the registry's order.
    pub fn bases(&self) -> &[BaseRecord] {
        &self.bases
    }

    /// All keys, in the registry's order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.bases.iter().map(|record| record.key.as_str())
    }

    /// The record of a key, case-sensitive.
    pub fn get(&self, key: &str) -> Option<&BaseRecord> {
        self.bases.iter().find(|record| record.key == key)
    }

    /// The names nearest to what was typed, best first, at most three; empty when nothing is near.
    pub fn nearest<'a>(&'a self, typed: &str, others: &[&'a str]) -> Vec<&'a str> {
        let typed = typed.to_lowercase();
        let limit = (typed.chars().count() / SUGGESTION_DISTANCE_SHARE).max(1);
        let mut scored: Vec<(usize, &str)> = self
            .keys()
            .chain(others.iter().copied())
            .filter_map(|key| score(&typed, key, limit).map(|s| (s, key)))
            .collect();
        scored.sort_by_key(|(distance, _)| *distance);
        scored.dedup_by_key(|(_, key)| *key);
        scored.into_iter().take(3).map(|(_, key)| key).collect()
    }
}

/// Distance of a candidate, or none when it is too far. A name that contains what was typed is near.
fn score(typed: &str, key: &str, limit: usize) -> Option<usize> {
    let lower = key.to_lowercase();
    let distance = nearest::distance(typed, &lower);
    if distance <= limit {
        return Some(distance);
    }
    let contained = typed.len() >= 3 && (lower.contains(typed) || typed.contains(&lower));
    contained.then_some(limit + 1)
}

/// Checks one record against every rule of the schema; the error says which one.
pub fn validate(record: &BaseRecord) -> Result<(), String> {
    let filled = |name: &str, value: &str| {
        if value.trim().is_empty() {
            Err(format!("`{name}` is empty"))
        } else {
            Ok(())
        }
    };
    filled("key", &record.key)?;
    filled("architecture", &record.architecture)?;
    filled("license_spdx", &record.license_spdx)?;
    validate_hub_id(&record.hf_id)?;
    if !is_commit(&record.revision) {
        return Err(format!(
            "revision `{}` is not 40 lower-case hex digits",
            record.revision
        ));
    }
    let sizes = [
        record.params,
        record.context_length.into(),
        record.recommended_seq_len.into(),
    ];
    if sizes.contains(&0) || record.size_gb_fp16.is_nan() || record.size_gb_fp16 <= 0.0 {
        return Err("params, context_length, recommended_seq_len and size_gb_fp16 must be positive".into());
    }
    if record.target_modules.is_empty() || record.target_modules.iter().any(|m| m.is_empty()) {
        return Err("`target_modules` must list at least one name, none of them empty".into());
    }
    if record
        .context_length_effective
        .is_some_and(|effective| effective == 0 || effective > record.context_length)
    {
        return Err("`context_length_effective` must lie between 1 and the nominal context".into());
    }
    if record.requires_acceptance && record.license_url.is_none() {
        return Err("a base that requires acceptance needs `license_url`".into());
    }
    validate_provenance(record)?;
    validate_media(record)?;
    validate_shape(record)
}

fn validate_provenance(record: &BaseRecord) -> Result<(), String> {
    let both = record.provenance_url.is_some() && record.provenance_match_text.is_some();
    let neither = record.provenance_url.is_none() && record.provenance_match_text.is_none();
    if !both && !neither {
        return Err("`provenance_url` and `provenance_match_text` come together".into());
    }
    if !record.refresh_check_hf_gating && !both {
        return Err("`refresh_check_hf_gating = false` needs both provenance fields".into());
    }
    if record
        .capability_warning
        .as_ref()
        .is_some_and(|text| text.trim().is_empty())
    {
        return Err("`capability_warning` is empty".into());
    }
    Ok(())
}

fn validate_media(record: &BaseRecord) -> Result<(), String> {
    let (wants_image, wants_audio) = match record.modality {
        Modality::Text | Modality::TextMoe => (false, false),
        Modality::VisionLanguage => (true, false),
        Modality::AudioLanguage => (false, true),
    };
    if record.image.is_some() != wants_image || record.audio.is_some() != wants_audio {
        return Err(format!(
            "modality `{}` does not agree with its image and audio plans",
            record.modality.name()
        ));
    }
    if let Some(image) = &record.image {
        let positive = image.target_size[0] > 0 && image.target_size[1] > 0 && image.num_image_tokens > 0;
        if !positive || image.image_token.is_empty() {
            return Err("the image plan has an empty or zero field".into());
        }
    }
    if let Some(audio) = &record.audio {
        let positive = audio.sample_rate > 0 && audio.max_length_seconds > 0.0 && audio.num_audio_tokens > 0;
        if !positive || audio.audio_token.is_empty() {
            return Err("the audio plan has an empty or zero field".into());
        }
    }
    Ok(())
}

fn validate_shape(record: &BaseRecord) -> Result<(), String> {
    let Some(shape) = &record.shape else { return Ok(()) };
    let sizes = [
        shape.d_model,
        shape.n_layers,
        shape.n_heads,
        shape.n_kv_heads,
        shape.head_dim,
        shape.d_ff,
        shape.vocab,
    ];
    if sizes.contains(&0) || shape.n_heads % shape.n_kv_heads != 0 || shape.n_experts_used > shape.n_experts {
        return Err("`shape` has a zero or heads that do not share keys evenly".into());
    }
    Ok(())
}

/// Checks `<org>/<name>`: one slash, both sides made of the characters that the hub allows.
pub(crate) fn validate_hub_id(hf_id: &str) -> Result<(), String> {
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match hf_id.split_once('/') {
        Some((org, name)) if good(org) && good(name) => Ok(()),
        _ => Err(format!("`{hf_id}` is not <org>/<name>")),
    }
}

/// Whether the text is a full commit id.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_registry_has_the_27_bases_of_the_specification() {
        let registry = Registry::parse(include_str!("../../data/bases.toml")).unwrap();
        assert_eq!(registry.bases().len(), 27);
        assert_eq!(registry.keys().next(), Some("qwen2.5-0.5b"));
        assert_eq!(registry.keys().last(), Some("qwen2-audio-7b-instruct"));
        for key in [DEFAULT_BASE, DEFAULT_VISION_BASE, DEFAULT_AUDIO_BASE] {
            assert!(registry.get(key).is_some(), "{key}");
        }
        let gated: Vec<&str> = registry
            .bases()
            .iter()
            .filter(|b| b.requires_acceptance)
            .map(|b| b.key.as_str())
            .collect();
        assert_eq!(
            gated,
            [
                "llama-3.2-1b",
                "llama-3.2-3b",
                "llama-3.3-8b-instruct",
                "gemma-2-2b-it",
                "gemma-2-9b-it",
                "paligemma-3b-mix-224"
            ]
        );
        let text = registry.bases().iter().filter(|b| b.modality.is_text()).count();
        assert_eq!(text, 21);
        assert!(
            registry
                .bases()
                .iter()
                .all(|b| b.redistributable != b.requires_acceptance)
        );
    }

    #[test]
    fn drafts_share_dialect_and_pre_tokenizer() {
        let registry = Registry::builtin();
        let pairs: Vec<(&BaseRecord, &BaseRecord)> = registry
            .bases()
            .iter()
            .filter_map(|base| base.draft.as_ref().map(|draft| (base, registry.get(draft).unwrap())))
            .collect();
        assert_eq!(pairs.len(), 4);
        for (base, draft) in pairs {
            assert_eq!(base.template, draft.template, "{}", base.key);
            assert_eq!(base.tokenizer_pre, draft.tokenizer_pre, "{}", base.key);
        }
    }

    #[test]
    fn shapes_account_for_the_parameter_counts() {
        for base in Registry::builtin().bases() {
            let Some(shape) = &base.shape else { continue };
            let counted = crate::base::shape::parameters(shape) as f64;
            let share = counted / base.params as f64;
            assert!((0.85..1.25).contains(&share), "{}: {share}", base.key);
        }
    }

    #[test]
    fn a_bad_row_is_refused_with_its_key_and_reason() {
        let text = include_str!("../../data/bases.toml");
        let check = |from: &str, to: &str, expected: &str| {
            assert!(text.contains(from), "{from}");
            let error = Registry::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("7ae557604adf67be50417f59c2c2f167def9a775", "main", "40 lower-case hex");
        check("params = 500_000_000", "params = 0", "positive");
        check(
            "hf_id = \"Qwen/Qwen2.5-0.5B-Instruct\"",
            "hf_id = \"Qwen\"",
            "<org>/<name>",
        );
        check("template = \"chatml\"", "template = \"chatty\"", "chatty");
        check("params = 500_000_000", "params = 500_000_000\ncolor = \"red\"", "color");
        check("key = \"qwen2.5-1.5b\"", "key = \"qwen2.5-0.5b\"", "twice");
        check(
            "license_url = \"https://www.llama.com/llama3_2/license/\"\n",
            "",
            "license_url",
        );
        check("provenance_match_text", "# ", "provenance");
        check(
            "modality = \"vision-language\"",
            "modality = \"text\"",
            "does not agree",
        );
        check(
            "context_length_effective = 8192",
            "context_length_effective = 999999",
            "nominal context",
        );
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        let registry = Registry::builtin();
        assert_eq!(registry.nearest("smollm2-135", &[])[0], "smollm2-135m");
        assert_eq!(registry.nearest("Qwen2.5-1.5B", &[])[0], "qwen2.5-1.5b");
        assert_eq!(registry.nearest("lama-3.2-1b", &[])[0], "llama-3.2-1b");
        assert_eq!(registry.nearest("mybas", &["mybase"]), ["mybase"]);
        assert!(registry.nearest("zzzzzzzzzz", &[]).is_empty());
    }
}
