//! What a target is told of an export: the model's facts, its template, what it samples with, and a question whose greedy answer
//! is known.

use dlm_core::base::{LocalBaseFormat, TemplateDialect};
use dlm_core::ports::target::{TargetAdapter, TargetBase, TargetChat, TargetPlan, TargetProbe};
use dlm_core::{Quant, Subject};
use dlm_model::chat::Thinking;
use dlm_model::generate::{GenerateOptions, Sequence, generate};
use dlm_model::sampling::Sampling;
use dlm_model::{Engine, EngineError, ReaderOptions};
use dlm_plan::ExportPlan;
use dlm_plan::base::{BaseLocation, ResolvedBase};
use dlm_train::rows::question_messages;

use super::artifact::WrittenArtifacts;
use super::chosen::Chosen;
use super::ollama;
use crate::failure::Failure;
use crate::inference::{LoadedModel, LocatedModel};
use crate::surroundings::Surroundings;

/// Tokens of the answer that the smoke test compares.
const PROBE_TOKENS: u32 = 24;
/// What the smoke test asks when the document has no question of its own.
const PROBE_QUESTION: &str = "What is the capital of Japan?";

fn failed(error: EngineError) -> Failure {
    Failure::new(Subject::Export, error)
}

/// Describes the export to its target, with a question whose greedy answer is known.
pub(super) fn target_plan(
    around: &Surroundings,
    chosen: &Chosen,
    loaded: &LoadedModel,
    plan: &ExportPlan,
    made: &WrittenArtifacts,
) -> Result<TargetPlan, Failure> {
    let artifact = made.artifacts.last().map(|a| a.name.clone()).unwrap_or_default();
    let probe = probe(around, &chosen.located, loaded, plan)?;
    Ok(TargetPlan {
        quant: plan.quant.value.name().to_owned(),
        is_merged: plan.merged.value,
        probe: Some(probe),
        ..unquantized_plan(around, chosen, plan, artifact)
    })
}

/// What the description says whatever the form of the weights.
pub(super) fn unquantized_plan(
    around: &Surroundings,
    chosen: &Chosen,
    plan: &ExportPlan,
    artifact: String,
) -> TargetPlan {
    let located = &chosen.located;
    let front = located.document.parsed.frontmatter();
    let record = &located.base.resolved.record;
    let (hub_id, revision) = own_place(&located.base.resolved);
    let (temperature, top_p) = sampling(located);
    TargetPlan {
        name: plan.ollama_name.clone().unwrap_or_else(|| {
            let label = chosen.label.as_ref().map(|label| format!("-{label}"));
            format!(
                "dlm-{}{}",
                front.dlm_id.as_str().to_lowercase(),
                label.unwrap_or_default()
            )
        }),
        document_id: front.dlm_id.as_str().to_owned(),
        source: located
            .document
            .path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned()),
        base: TargetBase {
            reference: record.key.clone(),
            hub_id,
            revision,
            architecture: record.architecture.clone(),
            layers: located.base.facts.shape.n_layers,
            context_length: record.context_usable(),
            license: Some(record.license_spdx.clone()),
        },
        adapters: vec![TargetAdapter {
            name: chosen.module().to_owned(),
            version: chosen.version().unwrap_or(0),
            artifact,
            weight: 1.0,
        }],
        quant: "none".to_owned(),
        is_merged: false,
        context_length: front.training.sequence_len.min(record.context_usable()),
        chat: chat(located, plan),
        system_prompt: front.system().map(str::to_owned),
        temperature: Some(temperature),
        top_p: Some(top_p),
        draft: plan.draft.value.clone(),
        platform: around.hardware.platform.replace('-', "/"),
        options: ollama::derive(&located.text)
            .map(|template| (ollama::TEMPLATE_OPTION.to_owned(), template))
            .into_iter()
            .collect(),
        probe: None,
    }
}

/// What samples of the exported model start from: the document's word, else what the base was made for.
///
/// **Source:** `spec/export.md` section 12.
fn sampling(located: &LocatedModel) -> (f32, f32) {
    let export = &located.document.parsed.frontmatter().export;
    let record = &located.base.resolved.record;
    let temperature = if record.reasoning_tuned { 0.6 } else { 0.7 };
    let top_p = match record.template {
        TemplateDialect::Qwen3Thinking | TemplateDialect::SmolLm3 => 0.95,
        _ => 0.9,
    };
    (
        export.default_temperature.map_or(temperature, |value| value as f32),
        export.default_top_p.map_or(top_p, |value| value as f32),
    )
}

/// Where a runtime finds the base by itself: its name and commit on the hub, or the directory of a local one. A local GGUF file
/// has neither, for those runtimes read safetensors.
pub(super) fn own_place(base: &ResolvedBase) -> (Option<String>, Option<String>) {
    match &base.location {
        BaseLocation::Hub { hf_id, revision } => (Some(hf_id.clone()), Some(revision.clone())),
        BaseLocation::Local(local) => {
            let is_directory = local.format == LocalBaseFormat::Safetensors;
            (is_directory.then(|| local.location.clone()), None)
        }
    }
}

fn chat(located: &LocatedModel, plan: &ExportPlan) -> Option<TargetChat> {
    let template = located.text.template.as_ref()?;
    let token = |id: &u32| located.text.tokenizer.token(*id);
    let mut stop: Vec<String> = located.text.stops.ids.iter().filter_map(token).collect();
    stop.extend(located.text.stops.texts.iter().cloned());
    Some(TargetChat {
        template: template.source().to_owned(),
        family: located.text.dialect().map(|d| d.name().to_owned()),
        default_system: default_system(located),
        preamble: None,
        stop,
        is_written: plan.include_template.value,
    })
}

/// What the template says as system text by itself: what it renders between the system turn's frame and its end.
fn default_system(located: &LocatedModel) -> Option<String> {
    let marker = "\u{1}dlm\u{1}";
    let plain = located
        .text
        .render(
            &question_messages(None, "q"),
            dlm_model::chat::Ending::Complete,
            Thinking::default(),
        )
        .ok()?;
    let framed = located
        .text
        .render(
            &question_messages(Some(marker), "q"),
            dlm_model::chat::Ending::Complete,
            Thinking::default(),
        )
        .ok()?;
    let (head, tail) = framed.split_once(marker)?;
    let inner = plain.strip_prefix(head)?.strip_suffix(tail)?;
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// The document's first question with the model's own greedy answer.
fn probe(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    plan: &ExportPlan,
) -> Result<TargetProbe, Failure> {
    let front = located.document.parsed.frontmatter();
    let first = located
        .document
        .parsed
        .sections()
        .iter()
        .find_map(|s| match dlm_doc::rows(s) {
            Ok(dlm_doc::Rows::Pairs(pairs)) => pairs.into_iter().next().map(|p| p.question),
            _ => None,
        });
    let user = first.unwrap_or_else(|| PROBE_QUESTION.to_owned());
    let messages = question_messages(front.system(), &user);
    let ids = located.text.prompt_ids(&messages, Thinking::default())?;
    let reader = loaded.engine.reader(loaded.adapter.as_ref(), ReaderOptions::default());
    let mut reader = reader.map_err(failed)?;
    let mut sequence = Sequence::open(&mut *reader, ids.len() + PROBE_TOKENS as usize).map_err(failed)?;
    let options = GenerateOptions {
        sampling: Sampling::greedy(),
        tokens_max: PROBE_TOKENS as usize,
        stops: located.text.stops.clone(),
        cancel: around.cancel.clone(),
    };
    let answer = generate(&mut sequence, &located.text.tokenizer, &ids, &options, |_| {})
        .map_err(|e| Failure::new(Subject::Export, e))?;
    Ok(TargetProbe {
        system: front.system().map(str::to_owned),
        user,
        answer: answer.text,
        prompt_tokens: ids,
        new_tokens_max: PROBE_TOKENS,
        is_exact: plan.quant.value == Quant::F16,
    })
}
