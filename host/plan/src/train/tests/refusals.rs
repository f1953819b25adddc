//! What is refused before any arithmetic, with the edit to make.

use dlm_core::training::{PhaseSelection, TrainPhase};

use super::*;

#[test]
fn values_outside_their_range_are_refused() {
    let none = WrittenKnobs::default;
    let cases = [
        (
            WrittenKnobs {
                lora_r: Some(0),
                ..none()
            },
            "`lora_r` is 0, outside 1 to 256",
        ),
        (
            WrittenKnobs {
                lora_r: Some(257),
                ..none()
            },
            "`lora_r` is 257, outside 1 to 256",
        ),
        (
            WrittenKnobs {
                lora_alpha: Some(0),
                ..none()
            },
            "`lora_alpha` is 0, outside 1 and more",
        ),
        (
            WrittenKnobs {
                lora_dropout: Some(0.6),
                ..none()
            },
            "`lora_dropout` is 0.6, outside 0 to 0.5",
        ),
        (
            WrittenKnobs {
                sequence_len: Some(63),
                ..none()
            },
            "`sequence_len` is 63, outside 64 to 32768",
        ),
        (
            WrittenKnobs {
                learning_rate: Some(f64::NAN),
                ..none()
            },
            "`learning_rate` is NaN, outside numbers above 0",
        ),
        (
            WrittenKnobs {
                num_epochs: Some(0),
                ..none()
            },
            "`num_epochs` is 0, outside 1 and more",
        ),
        (
            WrittenKnobs {
                warmup_ratio: Some(0.51),
                ..none()
            },
            "`warmup_ratio` is 0.51, outside 0 to 0.5",
        ),
        (
            WrittenKnobs {
                micro_batch_size: Some(0),
                ..none()
            },
            "`micro_batch_size` is 0, outside 1 and more",
        ),
        (
            WrittenKnobs {
                grad_accum: Some(0),
                ..none()
            },
            "`grad_accum` is 0, outside 1 and more",
        ),
    ];
    for (knobs, expected) in cases {
        assert_eq!(refused(knobs), expected);
    }
}

#[test]
fn what_the_machine_cannot_do_is_refused_with_the_edit_to_make() {
    let none = WrittenKnobs::default;
    assert!(
        refused(WrittenKnobs {
            precision: Some(Precision::Fp16),
            ..none()
        })
        .contains("no fp16 products")
    );
    let bf16 = WrittenKnobs {
        precision: Some(Precision::Bf16),
        ..none()
    };
    let old = Hardware {
        simd: SimdLevel::Avx2,
        ..hardware()
    };
    let document = DocumentFacts {
        knobs: bf16,
        ..document()
    };
    let request = TrainRequest {
        document: &document,
        base: &smollm2(),
        hardware: &old,
        options: &TrainOptions::default(),
    };
    assert!(plan_train(&request).unwrap_err().to_string().contains("level is avx2"));
    let world = TrainOptions {
        world_size: Some(2),
        ..TrainOptions::default()
    };
    assert!(matches!(plan(&document, &world), Err(PlanError::WorldSize { .. })));
}

#[test]
fn a_document_without_rows_or_with_media_is_refused() {
    let empty = DocumentFacts::default();
    assert_eq!(plan(&empty, &TrainOptions::default()), Err(PlanError::NoRows));
    let media = DocumentFacts {
        rows: RowFacts {
            image_rows: 1,
            ..fit::TYPICAL_ROWS
        },
        ..document()
    };
    let error = plan(&media, &TrainOptions::default()).unwrap_err();
    assert!(error.hints()[0].starts_with("take the sections out"));
}

#[test]
fn preferences_alone_are_a_phase_and_their_absence_is_no_failure_unless_asked_for() {
    let facts = |preference_rows| DocumentFacts {
        rows: RowFacts {
            preference_rows,
            ..RowFacts::default()
        },
        ..DocumentFacts::default()
    };
    let asked = |phases| TrainOptions {
        phases,
        ..TrainOptions::default()
    };
    let alone = plan(&facts(2), &TrainOptions::default()).unwrap();
    assert_eq!(alone.phases.len(), 1);
    assert_eq!(alone.first().phase, TrainPhase::Dpo);
    assert_eq!(
        plan(&facts(2), &asked(PhaseSelection::Sft)).unwrap_err(),
        PlanError::NoRows
    );
    let error = plan(&facts(0), &asked(PhaseSelection::Preference)).unwrap_err();
    assert_eq!((error.clone(), error.kind().exit_code()), (PlanError::NoPreferences, 1));
}

#[test]
fn what_is_not_built_is_misuse_wherever_it_is_asked_for() {
    let optimizer = PlanError::Galore {
        name: "galore_adamw",
        why: "it has no use".into(),
        nearest: "adamw_torch",
    };
    let modality = PlanError::ModalityNotBuilt {
        base: "paligemma-3b-mix-224".into(),
        modality: "vision-language",
    };
    assert_eq!((optimizer.kind().exit_code(), modality.kind().exit_code()), (2, 2));
}

#[test]
fn a_written_warm_up_that_is_not_followed_is_in_the_reason() {
    let written = WrittenKnobs {
        warmup_ratio: Some(0.05),
        lr_scheduler: Some(LrSchedule::Constant),
        ..WrittenKnobs::default()
    };
    let plan = knobs(written);
    let warmup = &plan.first().schedule.warmup_steps;
    assert_eq!(warmup.value, 0);
    assert!(
        warmup.reason.ends_with("the document writes a `warmup_ratio` of 0.05"),
        "{}",
        warmup.reason
    );
}
