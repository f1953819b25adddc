//! DPO on the preferences of a document.

use std::cell::RefCell;
use std::time::Instant;

use dlm_core::training::{Checkpointing, MomentType, PreferenceLoss, PreferenceMethod, TrainPhase};
use dlm_core::{Cancel, Event, Progress};
use dlm_kernels::{Compute, Ctx, Simd};
use dlm_model::base::OpenedBase;
use dlm_model::{AdapterKind, AdapterSpec, CpuEngine, Engine, LoadOptions, Prepare, WeightStorage};
use dlm_tests::Failed;
use dlm_train::schedule::ScheduleKind;
use dlm_train::{
    Origin, Pair, Preference, PreferenceRule, Preferences, Recipe, Schedule, TrainInput, WarmupStart, pair_logprobs_of,
    train,
};
use serde_json::{Value, json};

use super::{field, open, peak_mib};

/// Tokens of a pass: the pairs of a step that fit.
const PASS_TOKENS: usize = 2048;

fn pairs(base: &OpenedBase, document: &str) -> Result<Vec<Pair>, Failed> {
    let text = std::fs::read_to_string(document)?;
    let parsed = dlm_doc::parse(&text).map_err(|e| e.first().message.clone())?;
    let mut pairs = Vec::new();
    for section in parsed.sections() {
        let Ok(dlm_doc::Rows::Triples(triples)) = dlm_doc::rows(section) else {
            continue;
        };
        for (index, triple) in triples.into_iter().enumerate() {
            let origin = Origin::Section {
                id: section.id(),
                line: section.start_line,
            };
            let preference = Preference {
                prompt: triple.prompt,
                chosen: triple.chosen,
                rejected: triple.rejected,
            };
            pairs.push(Pair::new(origin, index as u32, preference, None, base.text())?);
        }
    }
    Ok(pairs)
}

/// Prompts and completions as a peer reads them, special tokens spelled out.
pub fn texts(file: &str, document: &str) -> Result<Value, Failed> {
    let base = open(file)?;
    let spelled = |ids: &[u32]| base.text().tokenizer.decode_all(ids);
    let text = |pair: &Pair| -> Result<Value, Failed> {
        let (chosen, rejected) = (&pair.tokens.chosen, &pair.tokens.rejected);
        Ok(json!({
            "prompt": spelled(&chosen.ids[..chosen.loss.start])?,
            "chosen": spelled(&chosen.ids[chosen.loss.clone()])?,
            "rejected": spelled(&rejected.ids[rejected.loss.clone()])?,
        }))
    };
    let texts: Vec<Value> = pairs(&base, document)?.iter().map(text).collect::<Result<_, _>>()?;
    Ok(json!({ "pairs": texts }))
}

/// When each step ended, and its loss.
#[derive(Default)]
struct Watch(RefCell<Vec<(Instant, f64)>>);

impl Progress for Watch {
    fn event(&self, event: Event) {
        if let Event::Step(step) = event {
            self.0.borrow_mut().push((Instant::now(), step.loss));
        }
    }
}

/// Takes steps against the base, which the first step waits for.
pub fn steps(job: &Value, document: &str) -> Result<Value, Failed> {
    let number = |name: &str| -> Result<f64, Failed> {
        let value = field(job, name)?.as_f64();
        value.ok_or_else(|| format!("`{name}` is no number").into())
    };
    let compute = match field(job, "dtype")? == "bfloat16" {
        true => Compute::Bf16,
        false => Compute::F32,
    };
    let base = open(field(job, "gguf")?.as_str().ok_or("`gguf` is no path")?)?;
    let pairs = pairs(&base, document)?;
    let options = LoadOptions {
        ctx: Ctx::new(number("threads")? as usize, Simd::detect()),
        compute,
        storage: WeightStorage::AsStored,
        prepare: Prepare::Both,
    };
    let engine = CpuEngine::new(base.load(options)?);
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        r: number("r")? as usize,
        alpha: number("alpha")? as f32,
        dropout: 0.0,
        targets: serde_json::from_value(field(job, "targets")?.clone())?,
    };
    let adapter = engine.fresh_adapter(&spec, 0)?;
    let rule = PreferenceRule {
        method: PreferenceMethod::Dpo,
        loss: PreferenceLoss::Sigmoid,
        beta: number("beta")?,
        alpha: 0.0,
    };
    let started = Instant::now();
    let reference = pair_logprobs_of(&engine, &adapter, &pairs)?;
    let reference_ms = started.elapsed().as_secs_f64() * 1000.0;
    let recipe = recipe(&number, rule)?;
    let objective = Preferences {
        pairs: &pairs,
        reference: &reference,
        rule,
        seed: recipe.seed,
        pairs_per_step: recipe.rows_per_step,
        sequence_len_max: recipe.sequence_len_max,
    };
    let (watch, started) = (Watch::default(), Instant::now());
    let input = TrainInput {
        engine: &engine,
        objective: &objective,
        phase: TrainPhase::Dpo,
        recipe: &recipe,
        progress: &watch,
        cancel: &Cancel::new(),
        base: "measured",
        clock: &|| 0.0,
        snapshot_seconds: f64::INFINITY,
        snapshot: &|_| Ok(()),
    };
    train(&input, adapter, "measured", None)?;
    let ended = watch.0.into_inner();
    let begun = std::iter::once(started).chain(ended.iter().map(|(at, _)| *at));
    let times: Vec<f64> = begun
        .zip(&ended)
        .map(|(begun, (ended, _))| (*ended - begun).as_secs_f64() * 1000.0)
        .collect();
    let losses: Vec<f64> = ended.iter().map(|(_, loss)| *loss).collect();
    Ok(json!({ "ms": times, "reference_ms": reference_ms, "peak_mib": peak_mib(), "losses": losses }))
}

fn recipe(number: &dyn Fn(&str) -> Result<f64, Failed>, rule: PreferenceRule) -> Result<Recipe, Failed> {
    let steps = number("steps")? as u64;
    Ok(Recipe {
        seed: 0,
        lr: number("lr")?,
        schedule: Schedule::new(ScheduleKind::Linear, steps, 0.0, WarmupStart::First),
        rows_per_step: number("pairs_per_step")? as usize,
        batch_tokens_max: PASS_TOKENS,
        clip: Some(1.0),
        weight_decay: 0.0,
        moments: MomentType::F32,
        augment: None,
        noise_share: 0.0,
        clean_share: 0.0,
        anchors_per_step: 0,
        anchor_weight: 0.0,
        loss_stop: None,
        steps_min: 0,
        eval_every: steps.max(1),
        eval_patience: 1,
        obeys_eval: false,
        checkpointing: Checkpointing::default(),
        system_prompt: None,
        sequence_len_max: PASS_TOKENS,
        prose_weight: 0.0,
        preference: Some(rule),
    })
}
