//! The plan of an export in the types of the contract.

use dlm_core::ports::target::{TargetAdapter, TargetBase, TargetChat, TargetPlan, TargetProbe};

use super::wire;
use crate::host::wit::types::Field;

/// Writes the whole plan.
pub(crate) fn wire_plan(plan: &TargetPlan) -> wire::Plan {
    let field = |(name, value): &(String, String)| Field {
        name: name.clone(),
        value: value.clone(),
    };
    wire::Plan {
        name: plan.name.clone(),
        document_id: plan.document_id.clone(),
        source: plan.source.clone(),
        base: wire_base(&plan.base),
        adapters: plan.adapters.iter().map(wire_adapter).collect(),
        quant: plan.quant.clone(),
        merged: plan.is_merged,
        context_length: plan.context_length,
        chat: plan.chat.as_ref().map(wire_chat),
        system_prompt: plan.system_prompt.clone(),
        temperature: plan.temperature,
        top_p: plan.top_p,
        draft: plan.draft.clone(),
        platform: plan.platform.clone(),
        options: plan.options.iter().map(field).collect(),
        probe: plan.probe.as_ref().map(wire_probe),
    }
}

fn wire_base(base: &TargetBase) -> wire::BaseModel {
    wire::BaseModel {
        reference: base.reference.clone(),
        hub_id: base.hub_id.clone(),
        revision: base.revision.clone(),
        architecture: base.architecture.clone(),
        layers: base.layers,
        context_length: base.context_length,
        license: base.license.clone(),
    }
}

fn wire_adapter(adapter: &TargetAdapter) -> wire::Adapter {
    wire::Adapter {
        name: adapter.name.clone(),
        version: adapter.version,
        artifact: adapter.artifact.clone(),
        weight: adapter.weight,
    }
}

fn wire_chat(chat: &TargetChat) -> wire::Chat {
    wire::Chat {
        template: chat.template.clone(),
        family: chat.family.clone(),
        default_system: chat.default_system.clone(),
        preamble: chat.preamble.clone(),
        stop: chat.stop.clone(),
        written: chat.is_written,
    }
}

fn wire_probe(probe: &TargetProbe) -> wire::Probe {
    wire::Probe {
        system: probe.system.clone(),
        user: probe.user.clone(),
        answer: probe.answer.clone(),
        prompt_tokens: probe.prompt_tokens.clone(),
        max_new_tokens: probe.new_tokens_max,
        exact: probe.is_exact,
    }
}
