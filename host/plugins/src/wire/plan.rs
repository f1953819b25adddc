//! The plan of an export in the JSON of a case: the record of `wit/target.wit` by its own names, each with a usual value.

use dlm_core::ports::target::{TargetAdapter, TargetBase, TargetChat, TargetPlan, TargetProbe};
use serde::{Deserialize, Serialize};

/// Id of the document in every case that names none.
pub(crate) const DOCUMENT_ID: &str = "01HF7YAT0004106R0430MG2000";

/// `plan`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct PlanJson {
    name: String,
    document_id: String,
    source: Option<String>,
    base: BaseJson,
    adapters: Vec<AdapterJson>,
    quant: String,
    merged: bool,
    context_length: u32,
    chat: Option<ChatJson>,
    system_prompt: Option<String>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    draft: Option<String>,
    platform: String,
    options: Vec<FieldJson>,
    probe: Option<ProbeJson>,
}

impl Default for PlanJson {
    fn default() -> Self {
        Self {
            name: "model".to_owned(),
            document_id: DOCUMENT_ID.to_owned(),
            source: None,
            base: BaseJson::default(),
            adapters: Vec::new(),
            quant: "Q4_K_M".to_owned(),
            merged: false,
            context_length: 2048,
            chat: None,
            system_prompt: None,
            temperature: None,
            top_p: None,
            draft: None,
            platform: "linux/x86_64".to_owned(),
            options: Vec::new(),
            probe: None,
        }
    }
}

/// `base-model`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct BaseJson {
    reference: String,
    hub_id: Option<String>,
    revision: Option<String>,
    architecture: String,
    layers: u32,
    context_length: u32,
    license: Option<String>,
}

impl Default for BaseJson {
    fn default() -> Self {
        Self {
            reference: "smollm2-135m".to_owned(),
            hub_id: None,
            revision: None,
            architecture: "llama".to_owned(),
            layers: 30,
            context_length: 8192,
            license: Some("Apache-2.0".to_owned()),
        }
    }
}

/// `adapter`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct AdapterJson {
    name: String,
    #[serde(default = "one")]
    version: u32,
    artifact: String,
    #[serde(default = "whole")]
    weight: f64,
}

fn one() -> u32 {
    1
}

fn whole() -> f64 {
    1.0
}

/// `chat`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ChatJson {
    template: String,
    family: Option<String>,
    default_system: Option<String>,
    preamble: Option<String>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default = "yes")]
    written: bool,
}

fn yes() -> bool {
    true
}

/// `probe`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ProbeJson {
    system: Option<String>,
    user: String,
    answer: String,
    #[serde(default)]
    prompt_tokens: Vec<u32>,
    #[serde(default = "few")]
    max_new_tokens: u32,
    #[serde(default)]
    exact: bool,
}

fn few() -> u32 {
    32
}

/// `types.field`: a named text value.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldJson {
    name: String,
    value: String,
}

pub(crate) fn fields(stated: Vec<FieldJson>) -> Vec<(String, String)> {
    stated.into_iter().map(|field| (field.name, field.value)).collect()
}

impl PlanJson {
    /// The plan of an export as a case states it.
    pub fn of(plan: &TargetPlan) -> PlanJson {
        let field = |(name, value): &(String, String)| FieldJson {
            name: name.clone(),
            value: value.clone(),
        };
        PlanJson {
            name: plan.name.clone(),
            document_id: plan.document_id.clone(),
            source: plan.source.clone(),
            base: BaseJson {
                reference: plan.base.reference.clone(),
                hub_id: plan.base.hub_id.clone(),
                revision: plan.base.revision.clone(),
                architecture: plan.base.architecture.clone(),
                layers: plan.base.layers,
                context_length: plan.base.context_length,
                license: plan.base.license.clone(),
            },
            adapters: plan.adapters.iter().map(AdapterJson::of).collect(),
            quant: plan.quant.clone(),
            merged: plan.is_merged,
            context_length: plan.context_length,
            chat: plan.chat.as_ref().map(ChatJson::of),
            system_prompt: plan.system_prompt.clone(),
            temperature: plan.temperature,
            top_p: plan.top_p,
            draft: plan.draft.clone(),
            platform: plan.platform.clone(),
            options: plan.options.iter().map(field).collect(),
            probe: plan.probe.as_ref().map(ProbeJson::of),
        }
    }

    /// The plan as the host has it.
    pub fn plan(self) -> TargetPlan {
        TargetPlan {
            name: self.name,
            document_id: self.document_id,
            source: self.source,
            base: TargetBase {
                reference: self.base.reference,
                hub_id: self.base.hub_id,
                revision: self.base.revision,
                architecture: self.base.architecture,
                layers: self.base.layers,
                context_length: self.base.context_length,
                license: self.base.license,
            },
            adapters: self.adapters.into_iter().map(AdapterJson::adapter).collect(),
            quant: self.quant,
            is_merged: self.merged,
            context_length: self.context_length,
            chat: self.chat.map(ChatJson::chat),
            system_prompt: self.system_prompt,
            temperature: self.temperature,
            top_p: self.top_p,
            draft: self.draft,
            platform: self.platform,
            options: fields(self.options),
            probe: self.probe.map(ProbeJson::probe),
        }
    }
}

impl AdapterJson {
    fn of(adapter: &TargetAdapter) -> AdapterJson {
        AdapterJson {
            name: adapter.name.clone(),
            version: adapter.version,
            artifact: adapter.artifact.clone(),
            weight: adapter.weight,
        }
    }

    fn adapter(self) -> TargetAdapter {
        TargetAdapter {
            name: self.name,
            version: self.version,
            artifact: self.artifact,
            weight: self.weight,
        }
    }
}

impl ChatJson {
    fn of(chat: &TargetChat) -> ChatJson {
        ChatJson {
            template: chat.template.clone(),
            family: chat.family.clone(),
            default_system: chat.default_system.clone(),
            preamble: chat.preamble.clone(),
            stop: chat.stop.clone(),
            written: chat.is_written,
        }
    }

    fn chat(self) -> TargetChat {
        TargetChat {
            template: self.template,
            family: self.family,
            default_system: self.default_system,
            preamble: self.preamble,
            stop: self.stop,
            is_written: self.written,
        }
    }
}

impl ProbeJson {
    fn of(probe: &TargetProbe) -> ProbeJson {
        ProbeJson {
            system: probe.system.clone(),
            user: probe.user.clone(),
            answer: probe.answer.clone(),
            prompt_tokens: probe.prompt_tokens.clone(),
            max_new_tokens: probe.new_tokens_max,
            exact: probe.is_exact,
        }
    }

    fn probe(self) -> TargetProbe {
        TargetProbe {
            system: self.system,
            user: self.user,
            answer: self.answer,
            prompt_tokens: self.prompt_tokens,
            new_tokens_max: self.max_new_tokens,
            is_exact: self.exact,
        }
    }
}
