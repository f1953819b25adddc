//! Plans from literals: what is written is obeyed, what is not is chosen with a reason, what does not fit is refused.

mod optimizer;
mod refusals;

use dlm_core::Hints;
use dlm_core::hardware::{Backend, CudaDevice, Hardware, SimdLevel};
use dlm_core::training::{AdapterKind, CptSchedule, LrSchedule, Optimizer, Precision, WrittenKnobs};
use proptest::prelude::*;

use super::*;
use crate::base::{BaseFacts, Registry};
use crate::knob::Origin;

/// The machine of the measurements: two cores with bf16 products, 24 GB.
pub(crate) fn hardware() -> Hardware {
    Hardware {
        backend: Backend::Cpu,
        device_name: "test processor".into(),
        cpu_cores: 2,
        memory_total_bytes: 24 << 30,
        memory_available_bytes: 16 << 30,
        simd: SimdLevel::Avx512Bf16,
        cuda: Vec::new(),
        platform: "linux-x86_64".into(),
    }
}

pub(crate) fn facts(key: &str) -> BaseFacts {
    let record = Registry::builtin().get(key).unwrap();
    BaseFacts::from_record(record, record.params * 2, "BF16".into()).unwrap()
}

pub(crate) fn smollm2() -> BaseFacts {
    facts("smollm2-135m")
}

fn document() -> DocumentFacts {
    DocumentFacts {
        rows: fit::TYPICAL_ROWS,
        ..DocumentFacts::default()
    }
}

fn plan(document: &DocumentFacts, options: &TrainOptions) -> Result<TrainPlan, PlanError> {
    plan_train(&TrainRequest {
        document,
        base: &smollm2(),
        hardware: &hardware(),
        options,
    })
}

fn knobs(knobs: WrittenKnobs) -> TrainPlan {
    plan(&DocumentFacts { knobs, ..document() }, &TrainOptions::default()).unwrap()
}

fn refused(knobs: WrittenKnobs) -> String {
    plan(&DocumentFacts { knobs, ..document() }, &TrainOptions::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_small_document_gets_the_measured_recipe() {
    let plan = plan(&document(), &TrainOptions::default()).unwrap();
    assert_eq!(plan.target_modules.value.len(), 7);
    assert_eq!(
        (plan.lora_r.value, plan.lora_alpha.value),
        (recipe::LORA_R, 2 * recipe::LORA_R)
    );
    assert_eq!(plan.first().learning_rate.value, 1e-3);
    assert_eq!(
        (plan.first().batch.micro_rows.value, plan.first().batch.grad_accum.value),
        (8, 1)
    );
    assert!(
        (50..=100).contains(&plan.first().steps.total.value),
        "{:?}",
        plan.first().steps
    );
    assert!(plan.first().anchors.value.is_on && plan.first().augment.value.is_on && plan.first().noise.value.is_on);
    assert_eq!(plan.first().stop.answer_loss.value, Some(recipe::STOP_ANSWER_LOSS));
    assert_eq!(plan.precision.value, Precision::Bf16);
    assert_eq!(plan.packing.value, WeightPacking::Both);
    assert_eq!(plan.first().checkpointing.value.every, 0);
    assert_eq!(plan.prose.weight.value, recipe::PROSE_WEIGHT);
    assert_eq!(plan.first().steps.eval_every, 0);
    assert!(plan.warnings[0].starts_with("smollm2-135m: below roughly 1 B"));
}

#[test]
fn every_line_has_a_reason() {
    for line in plan(&document(), &TrainOptions::default()).unwrap().lines() {
        assert!(!line.value.is_empty(), "{line:?}");
        assert!(line.why.len() > 20, "{line:?}");
    }
}

#[test]
fn each_written_knob_is_obeyed_and_says_so() {
    let plan = knobs(WrittenKnobs {
        adapter: Some(AdapterKind::Dora),
        lora_r: Some(4),
        lora_alpha: Some(5),
        lora_dropout: Some(0.1),
        target_modules: Some(vec!["q_proj".into()]),
        sequence_len: Some(512),
        micro_batch_size: Some(2),
        grad_accum: Some(3),
        learning_rate: Some(5e-5),
        num_epochs: Some(7),
        optimizer: Some(Optimizer::AdamW),
        lr_scheduler: Some(LrSchedule::Linear),
        warmup_ratio: Some(0.5),
        seed: Some(-3),
        precision: Some(Precision::Fp32),
        cpt_schedule: Some(CptSchedule::Sft),
        embed_warmup_steps: Some(9),
    });
    assert_eq!(plan.adapter.value, AdapterKind::Dora);
    assert_eq!(
        (plan.lora_r.value, plan.lora_alpha.value, plan.lora_dropout.value),
        (4, 5, 0.1)
    );
    assert_eq!(plan.target_modules.value, ["q_proj"]);
    assert_eq!(plan.adapter_parameters, 4 * (576 + 576) * 30);
    assert_eq!(
        (
            plan.first().batch.micro_rows.value,
            plan.first().batch.grad_accum.value,
            plan.first().batch.effective_rows
        ),
        (2, 3, 6)
    );
    // 30 pairs and 4 windows in micro batches of 2 make 17, three of which are one update.
    assert_eq!(
        (plan.first().steps.steps_per_epoch, plan.first().steps.total.value),
        (6, 42)
    );
    assert_eq!(plan.first().schedule.warmup_steps.value, 21);
    assert_eq!(
        (plan.first().schedule.kind.value, plan.first().learning_rate.value),
        (LrSchedule::Linear, 5e-5)
    );
    assert_eq!(
        (plan.seed.value, plan.precision.value, plan.sequence_len.value),
        (-3, Precision::Fp32, 512)
    );
    assert_eq!(plan.first().schedule.embed_warmup_steps, 9);
    assert_eq!(
        plan.first().stop.answer_loss.value,
        None,
        "written epochs are all trained"
    );
    for knob in [
        "lora_r",
        "lora_alpha",
        "learning_rate",
        "num_epochs",
        "micro_batch_size",
        "seed",
        "precision",
    ] {
        let line = plan.lines().into_iter().find(|line| line.name == knob).unwrap();
        assert_eq!(line.why, "written in the document", "{knob}");
    }
}

#[test]
fn an_alpha_that_is_left_out_follows_a_written_rank() {
    assert_eq!(
        knobs(WrittenKnobs {
            lora_r: Some(8),
            ..WrittenKnobs::default()
        })
        .lora_alpha
        .value,
        16
    );
    assert_eq!(
        knobs(WrittenKnobs {
            lora_alpha: Some(7),
            ..WrittenKnobs::default()
        })
        .lora_alpha
        .value,
        7
    );
}

#[test]
fn flags_win_over_the_document() {
    let document = DocumentFacts {
        knobs: WrittenKnobs {
            seed: Some(1),
            ..WrittenKnobs::default()
        },
        ..document()
    };
    let options = TrainOptions {
        seed: Some(9),
        max_steps: Some(5),
        threads: Some(1),
        switches: Switches {
            anchors: Some(false),
            augment: Some(false),
            noise: Some(false),
            simd_max: Some(SimdLevel::Avx2),
        },
        ..TrainOptions::default()
    };
    let plan = plan(&document, &options).unwrap();
    assert_eq!(
        (plan.seed.value, plan.first().steps.total.value, plan.threads.value),
        (9, 5, 1)
    );
    assert_eq!(plan.seed.origin, Origin::Flag("--seed".into()));
    assert!(!plan.first().anchors.value.is_on && !plan.first().augment.value.is_on && !plan.first().noise.value.is_on);
    assert_eq!(
        (plan.simd.value, plan.precision.value),
        (SimdLevel::Avx2, Precision::Fp32)
    );
    assert_eq!(
        plan.first().stop.answer_loss.value,
        None,
        "asked-for updates are all taken"
    );
    assert!(plan.first().schedule.warmup_steps.value < 5);
    assert_eq!(
        options.switches.flags(),
        " --anchors off --augment off --noise off --simd avx2"
    );
    assert_eq!(Switches::default().flags(), "");
}

#[test]
fn an_instruction_set_that_the_processor_lacks_is_not_planned_for() {
    let simd = |level| {
        let options = TrainOptions {
            switches: Switches {
                simd_max: Some(level),
                ..Switches::default()
            },
            ..TrainOptions::default()
        };
        let knob = plan(&document(), &options).unwrap().simd;
        (knob.value, knob.why())
    };
    assert_eq!(
        simd(SimdLevel::Avx512Bf16),
        (SimdLevel::Avx512Bf16, "given by --simd".into())
    );
    let (level, why) = simd(SimdLevel::Amx);
    assert_eq!(level, SimdLevel::Avx512Bf16);
    assert_eq!(
        why,
        "chosen because this processor has no more, and --simd allows amx-bf16"
    );
}

#[test]
fn prose_documents_continue_pretraining_and_are_warned_about() {
    let rows = RowFacts {
        instruction_rows: 0,
        instruction_tokens: 0,
        prose_tokens: 40_000,
        validation_rows: 3,
        ..fit::TYPICAL_ROWS
    };
    let plan = plan(&DocumentFacts { rows, ..document() }, &TrainOptions::default()).unwrap();
    assert_eq!(plan.first().schedule.regime.value, CptSchedule::Dapt);
    assert_eq!((plan.first().schedule.floor.value, plan.prose.weight.value), (0.1, 1.0));
    let total = plan.first().steps.total.value;
    assert_eq!(
        plan.first().schedule.warmup_steps.value,
        (total as f64 * 0.2).ceil() as u64
    );
    assert_eq!(plan.first().steps.eval_every, total / 10);
    assert!(plan.warnings.iter().any(|warning| warning.contains("prose only")));
    assert_eq!(plan.first().stop.answer_loss.value, None);
}

#[test]
fn the_plan_says_what_is_rehearsed() {
    let replay = |replay_rows: u64| {
        let rows = RowFacts {
            replay_rows,
            replay_tokens: 30 * replay_rows,
            ..fit::TYPICAL_ROWS
        };
        let plan = plan(&DocumentFacts { rows, ..document() }, &TrainOptions::default()).unwrap();
        let line = plan.lines().into_iter().find(|line| line.name == "replay").unwrap();
        (line.value, plan.first().steps.steps_per_epoch)
    };
    let (none, few) = replay(0);
    let (some, more) = replay(40);
    assert_eq!((none.as_str(), some.as_str()), ("none", "40 rows, 1200 tokens"));
    assert!(more > few, "{more} updates a pass, {few} without replay");
}

#[test]
fn prose_beside_pairs_stays_sft_up_to_the_strict_share() {
    let with_windows = |windows: u64| {
        let rows = RowFacts {
            prose_tokens: windows * 115,
            instruction_rows: 3,
            ..fit::TYPICAL_ROWS
        };
        plan(&DocumentFacts { rows, ..document() }, &TrainOptions::default()).unwrap()
    };
    let at = with_windows(7);
    assert_eq!(
        (at.first().schedule.prose_share, at.first().schedule.regime.value),
        (0.7, CptSchedule::Sft)
    );
    let above = with_windows(8);
    assert_eq!(above.first().schedule.regime.value, CptSchedule::Dapt);
    assert!(
        above
            .warnings
            .iter()
            .any(|warning| warning.contains("drown 3 question-answer pairs"))
    );
}

#[test]
fn a_constant_rate_has_no_warm_up() {
    let plan = knobs(WrittenKnobs {
        lr_scheduler: Some(LrSchedule::Constant),
        warmup_ratio: Some(0.1),
        ..WrittenKnobs::default()
    });
    assert_eq!(plan.first().schedule.warmup_steps.value, 0);
}

#[test]
fn a_sequence_longer_than_the_base_reads_is_cut_and_said() {
    let plan = knobs(WrittenKnobs {
        sequence_len: Some(32_768),
        ..WrittenKnobs::default()
    });
    assert_eq!(plan.sequence_len.value, 8192);
    assert!(plan.warnings.iter().any(|warning| warning.contains("cut to 8192")));
}

#[test]
fn what_takes_half_a_day_is_refused_by_its_time_and_what_takes_long_is_told() {
    let check = |gflops: f64, is_forced: bool, allows_slow: bool| {
        let base = BaseFacts {
            params: 2_000_000_000,
            ..smollm2()
        };
        let options = TrainOptions {
            is_forced,
            allows_slow,
            gflops: Some(Gflops {
                f32: gflops,
                bf16: gflops,
            }),
            ..TrainOptions::default()
        };
        plan_train(&TrainRequest {
            document: &document(),
            base: &base,
            hardware: &hardware(),
            options: &options,
        })
    };
    let told = |plan: &TrainPlan| {
        plan.warnings
            .iter()
            .any(|warning| warning.contains("training takes about"))
    };
    assert!(
        !told(&check(1e6, false, false).unwrap()),
        "a fast machine has nothing to tell"
    );
    let seconds: f64 = check(1.0, true, false)
        .unwrap()
        .phases
        .iter()
        .map(PhasePlan::seconds)
        .sum();
    let at = |wanted: f64| seconds / wanted;
    assert!(told(&check(at(recipe::SECONDS_LONG * 1.01), false, false).unwrap()));
    assert!(!told(&check(at(recipe::SECONDS_LONG * 0.99), false, false).unwrap()));
    assert!(check(at(recipe::SECONDS_MAX * 0.99), false, false).is_ok());
    let slow = at(recipe::SECONDS_MAX * 1.01);
    let error = check(slow, false, false).unwrap_err();
    assert!(error.to_string().contains("12 h"), "{error}");
    assert!(error.hints()[1].contains("--yes-slow"), "{:?}", error.hints());
    assert!(told(&check(slow, true, false).unwrap()) && told(&check(slow, false, true).unwrap()));
}

#[test]
fn a_base_that_does_not_fit_is_refused_with_figures_and_a_smaller_one() {
    let little = Hardware {
        memory_total_bytes: 2 << 30,
        memory_available_bytes: 1 << 30,
        ..hardware()
    };
    let options = TrainOptions {
        is_forced: true,
        ..TrainOptions::default()
    };
    let base = facts("qwen2.5-1.5b");
    let request = TrainRequest {
        document: &document(),
        base: &base,
        hardware: &little,
        options: &options,
    };
    let error = plan_train(&request).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("`qwen2.5-1.5b` does not fit: training needs"),
        "{text}"
    );
    assert!(
        text.contains("922 MiB of memory may be used (1 GiB are free); weights 2.79 GiB"),
        "{text}"
    );
    assert_eq!(
        error.hints()[0],
        "use a smaller base: `base_model: smollm2-360m` is the largest that fits here"
    );
}

#[test]
fn little_memory_costs_speed_first_and_never_changes_the_batch() {
    let at = |limit: u64| {
        let options = TrainOptions {
            memory_limit_bytes: Some(limit),
            ..TrainOptions::default()
        };
        plan(&document(), &options)
    };
    let rich = at(8 << 30).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut limit = rich.memory.total;
    while let Ok(plan) = at(limit) {
        seen.insert((
            format!("{:?}", plan.packing.value),
            format!("{:?}", plan.first().checkpointing.value),
            plan.first().batch.micro_rows.value,
        ));
        assert_eq!(plan.first().batch.effective_rows, rich.first().batch.effective_rows);
        assert_eq!(plan.first().steps, rich.first().steps);
        limit = plan.memory.total - 1;
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

#[test]
fn qlora_keeps_the_base_in_four_bits_and_makes_no_copies() {
    let document = |kind| DocumentFacts {
        knobs: WrittenKnobs {
            adapter: Some(kind),
            ..WrittenKnobs::default()
        },
        wants_four_bits: kind == AdapterKind::Qlora,
        ..document()
    };
    let on = |kind, base: &BaseFacts| {
        plan_train(&TrainRequest {
            document: &document(kind),
            base,
            hardware: &hardware(),
            options: &TrainOptions::default(),
        })
        .unwrap()
    };
    let base = smollm2();
    let (lora, qlora) = (on(AdapterKind::Lora, &base), on(AdapterKind::Qlora, &base));
    assert!(qlora.four_bits.value && !lora.four_bits.value);
    assert_eq!(qlora.packing.value, WeightPacking::None);
    // 106 million values of products: two bytes each before, 33/64 and a little more now.
    assert_eq!(lora.memory.weights - qlora.memory.weights, 106_168_320 * 2 - 54_768_960);
    assert_eq!(qlora.phases[0].steps, lora.phases[0].steps);
    // What the file has in blocks is as small already, and is trained on as it is.
    let blocks = BaseFacts {
        storage: "Q4_1".to_owned(),
        weights_bytes: 90 << 20,
        ..smollm2()
    };
    let qlora = on(AdapterKind::Qlora, &blocks);
    assert!(!qlora.four_bits.value);
    assert_eq!(
        (qlora.packing.value, qlora.memory.weights),
        (WeightPacking::None, 90 << 20)
    );
}

#[test]
fn cuda_plans_use_the_devices_memory_and_precision() {
    let device = |major| CudaDevice {
        name: "GPU".into(),
        compute_capability: (major, 0),
        memory_total_bytes: 24 << 30,
        memory_free_bytes: 20 << 30,
    };
    let check = |major| {
        let hardware = Hardware {
            backend: Backend::Cuda,
            cuda: vec![device(major)],
            ..hardware()
        };
        let request = TrainRequest {
            document: &document(),
            base: &facts("qwen2.5-1.5b"),
            hardware: &hardware,
            options: &TrainOptions::default(),
        };
        plan_train(&request).unwrap()
    };
    assert_eq!(check(9).precision.value, Precision::Bf16);
    assert_eq!(check(7).precision.value, Precision::Fp16);
    assert_eq!(check(9).memory_budget_bytes, (20u64 << 30) * 85 / 100);
    assert_eq!(check(9).determinism, dlm_core::Determinism::Strong);
}

#[test]
fn a_plan_survives_json() {
    let plan = plan(&document(), &TrainOptions::default()).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<TrainPlan>(&text).unwrap(), plan);
    assert!(
        text.contains(r#""lora_r":{"value":16,"origin":"chosen","reason":"#),
        "{text}"
    );
}

proptest! {
    #[test]
    fn what_fits_a_budget_fits_every_larger_one(
        small in 1u64 << 27..1 << 34,
        more in 0u64..1 << 34,
        rows in 1u64..3000,
        row_tokens in 1u64..4000,
        key in proptest::sample::select(vec!["smollm2-135m", "qwen2.5-0.5b", "phi-3.5-mini", "mixtral-8x7b-instruct"]),
    ) {
        let tokens = RowFacts {
            instruction_rows: rows,
            instruction_tokens: rows * row_tokens,
            instruction_tokens_max: row_tokens,
            ..RowFacts::default()
        };
        let document = DocumentFacts { rows: tokens, ..DocumentFacts::default() };
        let base = facts(key);
        let at = |limit: u64| {
            let options = TrainOptions { memory_limit_bytes: Some(limit), is_forced: true, ..TrainOptions::default() };
            plan_train(&TrainRequest { document: &document, base: &base, hardware: &hardware(), options: &options })
        };
        if let Ok(plan) = at(small) {
            prop_assert!(plan.memory.total <= small);
            let larger = at(small + more);
            prop_assert!(larger.is_ok());
            prop_assert_eq!(larger.unwrap().first().batch.effective_rows, plan.first().batch.effective_rows);
        }
    }

    #[test]
    fn any_rows_make_a_plan_with_sane_steps(
        instruction_rows in 0u64..100_000,
        prose_tokens in 0u64..10_000_000,
        epochs in proptest::option::of(1u32..50),
    ) {
        let rows = RowFacts {
            instruction_rows,
            instruction_tokens: instruction_rows * 50,
            prose_sections: u64::from(prose_tokens > 0),
            prose_tokens,
            ..RowFacts::default()
        };
        let knobs = WrittenKnobs { num_epochs: epochs, ..WrittenKnobs::default() };
        match plan(&DocumentFacts { rows, knobs, ..DocumentFacts::default() }, &TrainOptions { allows_slow: true, ..TrainOptions::default() }) {
            Err(error) => prop_assert_eq!(error, PlanError::NoRows),
            Ok(plan) => {
                prop_assert!(plan.first().steps.total.value >= 1);
                prop_assert!(plan.first().schedule.warmup_steps.value < plan.first().steps.total.value);
                prop_assert!(plan.first().learning_rate.value > 0.0);
                prop_assert_eq!(
                    plan.first().steps.total.value,
                    u64::from(plan.first().steps.epochs.value) * plan.first().steps.steps_per_epoch
                );
            }
        }
    }
}
