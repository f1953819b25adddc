//! `dlm prompt`: one question to the trained model, answered as it comes.

use std::path::PathBuf;

use dlm_core::Subject;
use dlm_core::training::{GateChoice, MixMethod};
use dlm_model::chat::Thinking;
use dlm_model::generate::{GenerateOptions, Sequence, Step, StopReason, generate};
use dlm_model::sampling::Sampling;
use dlm_model::{Adapter, AdapterError, Engine, EngineError, ReaderOptions};
use dlm_plan::prompt::PromptOptions;
use dlm_plan::{BaseFacts, PromptPlan, plan_prompt};
use dlm_train::rows::question_messages;
use serde::Serialize;

use crate::failure::Failure;
use crate::gate::{self, AdapterWeight, Decision};
use crate::inference::{self, AdapterNeed, FoundBase, LoadedModel, LocatedAdapter, LocatedModel, Weights};
use crate::surroundings::Surroundings;
use crate::{document, named_adapters};

/// Said when an adapter cannot change an answer.
const NO_EFFECT_WARNING: &str = "the adapter has no effect: every lora_B of it is zero";

/// What is asked.
pub struct PromptCommand {
    pub path: PathBuf,
    pub query: String,
    pub options: PromptOptions,
    pub is_base_only: bool,
    /// Named adapter of a document with several.
    pub adapter: Option<String>,
    /// An adapter in a directory of PEFT's, in the place of the document's own.
    pub adapter_directory: Option<PathBuf>,
    /// Who decides between the adapters of a document with several where none is named; the learned gate where this is none.
    pub gate: Option<GateChoice>,
}

/// A question whose plan is made; nothing heavy is loaded yet.
pub struct PlannedPrompt {
    located: LocatedModel,
    ids: Vec<u32>,
    pub plan: PromptPlan,
    /// The adapter's directory.
    pub adapter: Option<PathBuf>,
    /// The adapters that are mixed, and who weighs them, where none was named of several.
    mix: Option<Mix>,
    query: String,
}

/// How an answer came about.
#[derive(Clone, Debug, Serialize)]
pub struct PromptReport {
    pub text: String,
    pub reason: &'static str,
    pub prompt_tokens: usize,
    pub answer_tokens: usize,
    /// Seconds until the prompt was read, and from then to the last token.
    pub seconds_prompt: f64,
    pub seconds_answer: f64,
    /// Weights of the adapters that were mixed, where some were.
    pub adapters: Vec<AdapterWeight>,
}

/// Does everything that needs no weight: parse, resolve, render the question, plan, refuse.
pub fn ask(around: &Surroundings, command: &PromptCommand) -> Result<PlannedPrompt, Failure> {
    if command.query.trim().is_empty() {
        return Err(Failure::misuse(Subject::Prompt, "the query is empty")
            .hint("give it as an argument, or on standard input: echo \"a question\" | dlm prompt <path>"));
    }
    let (located, mix) = locate(around, command)?;
    let system = located.document.parsed.frontmatter().system();
    let ids = located
        .text
        .prompt_ids(&question_messages(system, command.query.trim()), Thinking::default())?;
    let weights = weights(command.options.temperature.unwrap_or(f64::INFINITY));
    let facts = BaseFacts {
        weights_bytes: inference::weights_bytes(around, &located, weights),
        ..located.base.facts.clone()
    };
    let plan = plan_prompt(ids.len() as u64, &facts, &around.hardware, &command.options)?;
    let adapter = located.adapter.as_ref().map(|(directory, _)| directory.clone());
    Ok(PlannedPrompt {
        located,
        ids,
        plan,
        adapter,
        mix,
        query: command.query.trim().to_owned(),
    })
}

type Mix = (Vec<LocatedAdapter>, Decision);

/// Finds the base and the adapter, or all adapters of a document with several where none is named.
fn locate(around: &Surroundings, command: &PromptCommand) -> Result<(LocatedModel, Option<Mix>), Failure> {
    let document = document::load(&command.path)?;
    if let Some(directory) = &command.adapter_directory {
        let located = inference::locate_directory(around, document, directory, Subject::Prompt)?;
        return Ok((located, None));
    }
    let names = named_adapters::declared(&document);
    if let (None, Some(gate)) = (&names, command.gate) {
        let flag = format!("--gate {}", gate.name());
        return Err(named_adapters::none(&document, &flag, Subject::Prompt));
    }
    let names = match (names, &command.adapter) {
        (Some(names), None) if !command.is_base_only => names.into_iter().map(str::to_owned).collect::<Vec<_>>(),
        _ => {
            let need = match command.is_base_only {
                true => AdapterNeed::BaseOnly,
                false => AdapterNeed::Trained,
            };
            let adapter = command.adapter.as_deref();
            let located = inference::locate_in(around, document, need, adapter, Subject::Prompt)?;
            return Ok((located, None));
        }
    };
    let found = FoundBase::new(around, document)?;
    let decision = match command.gate {
        Some(GateChoice::Off) => Decision::Uniform,
        Some(GateChoice::Auto) | None => {
            let store = around.store(&found.document.parsed.frontmatter().dlm_id);
            let revision = &found.resolved.record.revision;
            gate::decide(around, &found.document, &store, revision, Subject::Prompt)?
        }
    };
    let (located, adapters) = found.with_all(around, &names, Subject::Prompt)?;
    Ok((located, Some((adapters, decision))))
}

/// Gives the model the mixed adapter, where several are mixed; returns their weights.
fn settle_mix(
    around: &Surroundings,
    asked: &PlannedPrompt,
    loaded: &mut LoadedModel,
) -> Result<Vec<AdapterWeight>, Failure> {
    let Some(parts) = &asked.mix else {
        return Ok(Vec::new());
    };
    let (mixed, weights) = mix(around, asked, parts, &*loaded.engine)?;
    loaded.adapter = Some(mixed);
    Ok(weights)
}

/// Mixes the adapters by the weights that they have for the question.
fn mix(
    around: &Surroundings,
    asked: &PlannedPrompt,
    (adapters, decision): &Mix,
    engine: &dyn Engine,
) -> Result<(Adapter, Vec<AdapterWeight>), Failure> {
    let failed = |error: AdapterError| Failure::from(error).under(Subject::Inference);
    let read: Vec<Adapter> = adapters
        .iter()
        .map(|adapter| engine.read_adapter(&adapter.directory))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.name.clone()).collect();
    let weights = decision.weights(around, engine, &asked.located.text, &asked.query, &names)?;
    let parts: Vec<(&Adapter, f32)> = read
        .iter()
        .zip(&weights)
        .map(|(part, share)| (part, share.weight))
        .collect();
    Ok((engine.mix(&parts, MixMethod::Linear).map_err(failed)?, weights))
}

/// A greedy answer is a promise of exactness, so its weights are decoded; a sampled one takes the faster products.
fn weights(temperature: f64) -> Weights {
    if temperature == 0.0 {
        Weights::Exact
    } else {
        Weights::AsStored
    }
}

/// Loads the model and answers; `on_text` hears every piece of text as it becomes certain.
pub fn answer(
    around: &Surroundings,
    asked: &PlannedPrompt,
    on_text: &mut dyn FnMut(&str),
) -> Result<PromptReport, Failure> {
    let plan = &asked.plan;
    let temperature = plan.temperature.value as f32;
    let weights = weights(plan.temperature.value);
    let mut loaded = inference::load(
        around,
        &asked.located,
        weights,
        plan.precision.value,
        Some(plan.threads.value),
    )?;
    let adapters = settle_mix(around, asked, &mut loaded)?;
    warn_if_idle(around, &loaded);
    let failed = |error: EngineError| Failure::new(Subject::Inference, error);
    let reading = match plan.temperature.value == 0.0 {
        true => loaded.engine.facts().exact_reading(&around.cancel),
        false => ReaderOptions {
            cancel: around.cancel.clone(),
            ..ReaderOptions::default()
        },
    };
    let reader = loaded.engine.reader(loaded.adapter.as_ref(), reading);
    let mut reader = reader.map_err(failed)?;
    let context = asked.ids.len() + plan.max_tokens.value as usize;
    let mut sequence = Sequence::open(&mut *reader, context).map_err(failed)?;
    let options = GenerateOptions {
        sampling: Sampling {
            temperature,
            top_k: None,
            top_p: plan.top_p.value.map(|p| p as f32),
            repetition_penalty: None,
            seed: plan.seed.value.unwrap_or_else(|| around.random_seed()),
        },
        tokens_max: plan.max_tokens.value as usize,
        stops: asked.located.text.stops.clone(),
        cancel: around.cancel.clone(),
    };
    let started = around.clock.seconds();
    let mut read = started;
    let tokenizer = &asked.located.text.tokenizer;
    let result = generate(&mut sequence, tokenizer, &asked.ids, &options, |step| match step {
        Step::PromptRead { .. } => read = around.clock.seconds(),
        Step::Token { text, .. } | Step::Rest { text } => {
            if !text.is_empty() {
                on_text(text);
            }
        }
    })
    .map_err(|e| Failure::new(Subject::Inference, e))?;
    let ended = around.clock.seconds();
    if result.reason == StopReason::Cancelled {
        return Err(Failure::interrupted(""));
    }
    Ok(PromptReport {
        reason: result.reason.name(),
        prompt_tokens: result.prompt_tokens,
        answer_tokens: result.tokens.len(),
        text: result.text,
        seconds_prompt: read - started,
        seconds_answer: ended - read,
        adapters,
    })
}

fn warn_if_idle(around: &Surroundings, loaded: &LoadedModel) {
    let is_idle = |a: &dlm_model::Adapter| {
        a.modules
            .iter()
            .all(|m| a.params[m.b.clone()].iter().all(|v| *v == 0.0))
    };
    if loaded.adapter.as_ref().is_some_and(is_idle) {
        around.warn(NO_EFFECT_WARNING);
    }
}
