//! Preferences: the reference implementation's numbers on the real base, and equalities on a tiny one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use dlm_core::event::StepEvent;
use dlm_core::hardware::SimdLevel;
use dlm_core::training::{Checkpointing, MomentType, PreferenceLoss, PreferenceMethod, TrainPhase};
use dlm_core::{Cancel, Event, Progress};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::text::LossRow;
use dlm_model::{Adapter, AdapterKind, AdapterSpec, Cpu, CpuEngine, CpuOptions, Engine};
use dlm_train::objective::{PairTerm, StepRows};
use dlm_train::schedule::ScheduleKind;
use dlm_train::{
    Both, Objective, Origin, Outcome, Pair, Preference, PreferenceRule, Preferences, Recipe, Row, Schedule, TrainInput,
    TrainState, WarmupStart, pair_logprobs_of, preference_digest, train,
};
use serde_json::Value;

const DPO: PreferenceRule = PreferenceRule {
    method: PreferenceMethod::Dpo,
    loss: PreferenceLoss::Sigmoid,
    beta: 0.1,
    alpha: 0.1,
};
const ORPO: PreferenceRule = PreferenceRule {
    method: PreferenceMethod::Orpo,
    ..DPO
};

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn recipe(steps: u64, lr: f64, rule: PreferenceRule) -> Recipe {
    Recipe {
        seed: 5,
        lr,
        schedule: Schedule::new(ScheduleKind::Constant, steps, 0.0, WarmupStart::First),
        rows_per_step: 2,
        batch_tokens_max: 4096,
        clip: None,
        weight_decay: 0.0,
        moments: MomentType::F32,
        augment: None,
        noise_share: 0.0,
        clean_share: 0.0,
        anchors_per_step: 0,
        anchor_weight: 0.0,
        loss_stop: None,
        steps_min: 0,
        eval_every: 1,
        eval_patience: 1,
        obeys_eval: false,
        checkpointing: Checkpointing::default(),
        system_prompt: None,
        sequence_len_max: 512,
        prose_weight: 0.0,
        preference: Some(rule),
    }
}

/// Keeps what a step reports.
#[derive(Default)]
struct Ear(RefCell<Vec<StepEvent>>);

impl Progress for Ear {
    fn event(&self, event: Event) {
        if let Event::Step(step) = event {
            self.0.borrow_mut().push(step);
        }
    }
}

struct Run<'a> {
    engine: &'a CpuEngine,
    recipe: &'a Recipe,
    objective: &'a dyn Objective,
    digest: &'a str,
    resume: Option<TrainState>,
}

impl Run<'_> {
    /// Returns the outcome, every step and the state after each but the last.
    fn go(self, adapter: &Adapter) -> (Outcome, Vec<StepEvent>, Vec<TrainState>) {
        let (ear, kept) = (Ear::default(), RefCell::new(Vec::new()));
        let input = TrainInput {
            engine: self.engine,
            objective: self.objective,
            phase: TrainPhase::Dpo,
            recipe: self.recipe,
            progress: &ear,
            cancel: &Cancel::new(),
            base: "base",
            clock: &|| 0.0,
            snapshot_seconds: 0.0,
            snapshot: &|state| {
                kept.borrow_mut().push(state);
                Ok(())
            },
        };
        let outcome = train(&input, adapter.clone(), self.digest, self.resume).unwrap();
        (outcome, ear.0.into_inner(), kept.into_inner())
    }
}

fn steps(engine: &CpuEngine, objective: &dyn Objective, recipe: &Recipe, adapter: &Adapter) -> Vec<StepEvent> {
    let run = Run {
        engine,
        recipe,
        objective,
        digest: "digest",
        resume: None,
    };
    run.go(adapter).1
}

// ---- the real base ----

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn golden_pairs(golden: &Value) -> Vec<Pair> {
    let pair = |(index, pair): (usize, &Value)| {
        let prompt = ids(&pair["prompt_ids"]);
        let row = |key: &str| {
            let all = [prompt.clone(), ids(&pair[key])].concat();
            LossRow {
                loss: prompt.len()..all.len(),
                ids: all,
            }
        };
        Pair {
            origin: Origin::Section {
                id: format!("{index:016}").parse().unwrap(),
                line: 1,
            },
            index: 0,
            preference: Preference {
                prompt: String::new(),
                chosen: String::new(),
                rejected: String::new(),
            },
            tokens: Both {
                chosen: row("chosen_ids"),
                rejected: row("rejected_ids"),
            },
        }
    };
    golden["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(pair)
        .collect()
}

/// ORPO as TRL has it: the likelihood is that of prompt and completion.
struct WholeOrpo<'a>(&'a [Pair]);

impl Objective for WholeOrpo<'_> {
    fn examples(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn check(&self) -> Result<(), dlm_train::dataset::RowError> {
        Ok(())
    }

    fn rows(&self, _index: u64) -> Result<StepRows, dlm_train::dataset::RowError> {
        let tokens: usize = self.0.iter().map(|pair| pair.tokens.chosen.ids.len() - 1).sum();
        let rows = self.0.iter().flat_map(|pair| {
            let chosen = LossRow {
                loss: 1..pair.tokens.chosen.ids.len(),
                ..pair.tokens.chosen.clone()
            };
            [
                Row::new(&chosen, 1.0 / tokens as f32),
                Row::new(&pair.tokens.rejected, 0.0),
            ]
        });
        let term = |pair: &Pair| PairTerm {
            rule: ORPO,
            reference: Both::default(),
            lengths: pair.lengths(),
            scale: 1.0 / self.0.len() as f64,
        };
        Ok(StepRows {
            rows: rows.collect(),
            visited: (0..self.0.len()).collect(),
            pairs: self.0.iter().map(term).collect(),
        })
    }
}

fn near(what: &str, found: &[f64], expected: &Value, tolerance: f64) {
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let deviation = (found - expected).abs() / expected.abs().max(1e-12);
        assert!(
            deviation <= tolerance,
            "{what}: {found} for {expected}, {deviation:.1e}"
        );
    }
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_real_base_learns_preferences_as_trl_does() {
    let base = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
    let base = open_base(Path::new(&base)).unwrap();
    let engine = CpuEngine::load(&Cpu::new(2, SimdLevel::Amx), &base, &CpuOptions::EXACT).unwrap();
    let text = std::fs::read(golden_dir().join("preference.json")).unwrap();
    let golden: Value = serde_json::from_slice(&text).unwrap();
    let pairs = golden_pairs(&golden);
    let adapter = engine.read_adapter(&golden_dir().join("adapter_init")).unwrap();
    let mut silent = adapter.clone();
    for module in &adapter.modules {
        silent.params[module.b.clone()].fill(0.0);
    }

    let policy = pair_logprobs_of(&engine, &adapter, &pairs).unwrap();
    let bare = pair_logprobs_of(&engine, &silent, &pairs).unwrap();
    let side = |logprobs: &[Both<f64>], f: fn(&Both<f64>) -> f64| logprobs.iter().map(f).collect::<Vec<_>>();
    let expected = &golden["dpo_reference_base"];
    for (name, logprobs, f) in [
        (
            "policy_chosen_logps",
            &policy,
            (|b: &Both<f64>| b.chosen) as fn(&Both<f64>) -> f64,
        ),
        ("policy_rejected_logps", &policy, |b| b.rejected),
        ("reference_chosen_logps", &bare, |b| b.chosen),
        ("reference_rejected_logps", &bare, |b| b.rejected),
    ] {
        near(name, &side(logprobs, f), &expected[name], 2e-5);
    }
    let over = |rule: PreferenceRule, reference: &[Both<f64>], count: u64, lr: f64| {
        let objective = Preferences {
            pairs: &pairs,
            reference,
            rule,
            seed: 5,
            pairs_per_step: 2,
            sequence_len_max: 512,
        };
        steps(&engine, &objective, &recipe(count, lr, rule), &adapter)
    };
    for (name, loss) in [
        ("loss_sigmoid", PreferenceLoss::Sigmoid),
        ("loss_hinge", PreferenceLoss::Hinge),
        ("loss_ipo", PreferenceLoss::Ipo),
    ] {
        let rule = PreferenceRule { loss, ..DPO };
        let step = &over(rule, &bare, 1, 1e-4)[0];
        near(
            name,
            &[step.loss],
            &Value::from(vec![expected[name]["mean"].as_f64().unwrap()]),
            2e-5,
        );
        let norm = Value::from(vec![expected[name]["adapter_grad_norm"].as_f64().unwrap()]);
        near(name, &[step.grad_norm], &norm, 1e-4);
    }
    // The reference is the adapter itself: the first loss is ln 2.
    for (name, found) in [
        ("dpo_run_adamw", over(DPO, &policy, 5, 1e-4)),
        (
            "orpo_run_adamw",
            steps(&engine, &WholeOrpo(&pairs), &recipe(5, 1e-4, ORPO), &adapter),
        ),
    ] {
        near(
            name,
            &found.iter().map(|s| s.loss).collect::<Vec<_>>(),
            &golden[name]["loss"],
            2e-5,
        );
        near(
            name,
            &found.iter().map(|s| s.grad_norm).collect::<Vec<_>>(),
            &golden[name]["grad_norm"],
            1e-4,
        );
    }
}

// ---- a tiny base ----

fn tiny() -> OpenedBase {
    open_base(&golden_dir().join("arch/llama")).unwrap()
}

fn tiny_engine(base: &OpenedBase, threads: usize) -> CpuEngine {
    CpuEngine::load(&Cpu::new(threads, SimdLevel::Amx), base, &CpuOptions::EXACT).unwrap()
}

fn tiny_adapter(engine: &CpuEngine, kind: AdapterKind) -> Adapter {
    let spec = AdapterSpec {
        kind,
        r: 4,
        alpha: 8.0,
        dropout: 0.0,
        targets: vec!["all-linear".into()],
    };
    engine.fresh_adapter(&spec, 5).unwrap()
}

fn tiny_pairs(base: &OpenedBase) -> Vec<Pair> {
    let texts = [
        ("Who is it?", "It is Ann.", "It is a boat."),
        ("Where is the boat?", "At sea.", "It is not known where it is."),
        ("What is the sum of 3 and 4?", "7", "It is 8."),
        ("Who is at sea?", "Ann is.", "The boat."),
        ("What is it?", "The sea.", "Ann."),
    ];
    let pair = |(index, (prompt, chosen, rejected)): (usize, (&str, &str, &str))| {
        let origin = Origin::Section {
            id: format!("{index:016}").parse().unwrap(),
            line: 1,
        };
        let preference = Preference {
            prompt: prompt.into(),
            chosen: chosen.into(),
            rejected: rejected.into(),
        };
        Pair::new(origin, 0, preference, Some("Be brief, always."), base.text()).unwrap()
    };
    texts.into_iter().enumerate().map(pair).collect()
}

fn tiny_objective<'a>(pairs: &'a [Pair], reference: &'a [Both<f64>], rule: PreferenceRule) -> Preferences<'a> {
    Preferences {
        pairs,
        reference,
        rule,
        seed: 5,
        pairs_per_step: 2,
        sequence_len_max: 512,
    }
}

fn rules() -> [PreferenceRule; 4] {
    [
        DPO,
        PreferenceRule {
            loss: PreferenceLoss::Hinge,
            ..DPO
        },
        PreferenceRule {
            loss: PreferenceLoss::Ipo,
            ..DPO
        },
        ORPO,
    ]
}

#[test]
fn every_loss_comes_to_prefer_what_was_chosen() {
    let base = tiny();
    let engine = tiny_engine(&base, 2);
    let pairs = tiny_pairs(&base);
    for kind in [AdapterKind::Lora, AdapterKind::Dora] {
        let adapter = tiny_adapter(&engine, kind);
        let before = pair_logprobs_of(&engine, &adapter, &pairs).unwrap();
        for rule in rules() {
            let objective = tiny_objective(&pairs, &before, rule);
            let recipe = recipe(40, 5e-3, rule);
            let run = Run {
                engine: &engine,
                recipe: &recipe,
                objective: &objective,
                digest: "digest",
                resume: None,
            };
            let (outcome, steps, _) = run.go(&adapter);
            let after = pair_logprobs_of(&engine, &outcome.adapter, &pairs).unwrap();
            for (before, after) in before.iter().zip(&after) {
                let moved = (after.chosen - after.rejected) - (before.chosen - before.rejected);
                assert!(moved > 0.5, "{kind:?} {rule:?}: {before:?} to {after:?}");
            }
            let rewards = steps.last().unwrap().rewards.unwrap();
            assert!(
                rewards.margin > 0.0 && rewards.accuracy > 0.9,
                "{kind:?} {rule:?}: {rewards:?}"
            );
        }
    }
}

#[test]
fn what_shares_a_pass_changes_rounding_alone() {
    let base = tiny();
    let engine = tiny_engine(&base, 1);
    let pairs = tiny_pairs(&base);
    let adapter = tiny_adapter(&engine, AdapterKind::Lora);
    let before = pair_logprobs_of(&engine, &adapter, &pairs).unwrap();
    for rule in rules() {
        let objective = tiny_objective(&pairs, &before, rule);
        let together = recipe(6, 5e-3, rule);
        // Smaller than any pair: each has a pass of its own.
        let apart = Recipe {
            batch_tokens_max: 1,
            checkpointing: Checkpointing::ALL,
            ..together.clone()
        };
        let losses = |recipe| {
            let steps = steps(&engine, &objective, recipe, &adapter);
            steps.into_iter().map(|step| step.loss).collect::<Vec<_>>()
        };
        let (together, apart) = (losses(&together), losses(&apart));
        assert!((together[0] - together[5]).abs() > 1e-3, "{rule:?}: it learns nothing");
        for (together, apart) in together.iter().zip(&apart) {
            assert!(
                (together - apart).abs() < 1e-4 * together.abs().max(1.0),
                "{rule:?}: {together} {apart}"
            );
        }
    }
}

#[test]
fn a_run_goes_on_from_every_state_bit_for_bit_with_any_number_of_threads() {
    let base = tiny();
    let pairs = tiny_pairs(&base);
    let one = tiny_engine(&base, 1);
    let adapter = tiny_adapter(&one, AdapterKind::Lora);
    let before = pair_logprobs_of(&one, &adapter, &pairs).unwrap();
    let both = [MomentType::F32, MomentType::EightBit];
    for (rule, moments) in [DPO, ORPO]
        .into_iter()
        .flat_map(|rule| both.map(|moments| (rule, moments)))
    {
        let recipe = Recipe {
            moments,
            ..recipe(6, 5e-3, rule)
        };
        let digest = preference_digest(&recipe, &pairs, [&before, &before], &adapter.spec, "base");
        let objective = tiny_objective(&pairs, &before, rule);
        let go = |engine, resume| {
            let run = Run {
                engine,
                recipe: &recipe,
                objective: &objective,
                digest: &digest,
                resume,
            };
            run.go(&adapter)
        };
        let (whole, _, states) = go(&one, None);
        assert_eq!(states.len(), 5);
        let two = tiny_engine(&base, 2);
        assert_eq!(go(&two, None).0.adapter.params, whole.adapter.params);
        for state in states {
            assert_eq!(state.tensors.moment_type(), moments);
            let resumed = go(&two, Some(state)).0;
            assert_eq!(resumed.adapter.params, whole.adapter.params, "{rule:?} {moments:?}");
            assert_eq!(resumed.state, whole.state, "{rule:?} {moments:?}");
        }
    }
}

#[test]
fn a_pair_is_rendered_as_a_prompt_is() {
    let base = tiny();
    for pair in tiny_pairs(&base) {
        let Both { chosen, rejected } = &pair.tokens;
        let prompt = &chosen.ids[..chosen.loss.start];
        assert_eq!(&rejected.ids[..rejected.loss.start], prompt);
        let messages = dlm_train::rows::question_messages(Some("Be brief, always."), &pair.preference.prompt);
        let thinking = dlm_model::chat::Thinking::default();
        assert_eq!(base.text().prompt_ids(&messages, thinking).unwrap(), prompt);
        assert!(pair.len() < chosen.ids.len() + rejected.ids.len() - prompt.len() + 1);
    }
}
