//! Which optimizers a plan takes, and what it says of the others.

use super::*;

fn with(optimizer: Optimizer, lora_r: Option<u32>) -> WrittenKnobs {
    WrittenKnobs {
        optimizer: Some(optimizer),
        lora_r,
        ..WrittenKnobs::default()
    }
}

#[test]
fn eight_bits_are_taken_by_every_phase_and_counted() {
    let document = |optimizer| DocumentFacts {
        knobs: with(optimizer, None),
        rows: RowFacts {
            preference_rows: 4,
            preference_tokens: 200,
            preference_tokens_max: 60,
            ..fit::TYPICAL_ROWS
        },
        ..DocumentFacts::default()
    };
    let of = |optimizer| plan(&document(optimizer), &TrainOptions::default()).unwrap();
    let (usual, eight_bit, paged) = (
        of(Optimizer::AdamW),
        of(Optimizer::AdamW8bit),
        of(Optimizer::PagedAdamW8bit),
    );
    for (plan, optimizer) in [
        (&usual, Optimizer::AdamW),
        (&eight_bit, Optimizer::AdamW8bit),
        (&paged, Optimizer::AdamW8bit),
    ] {
        let all: Vec<_> = plan.phases.iter().map(|phase| phase.optimizer.value).collect();
        assert_eq!(all, [optimizer; 2]);
    }
    assert_eq!(eight_bit.first().optimizer.origin, Origin::Document);
    assert_eq!(
        paged.first().optimizer.why(),
        "chosen because the document writes `paged_adamw_8bit`, which is the same where there is no accelerator to page out of"
    );
    let parameters = usual.adapter_parameters;
    // The moments, and those of a state that is being kept.
    let saved = 2 * (6 * parameters - 8 * parameters.div_ceil(256));
    assert_eq!(usual.memory.adapter - eight_bit.memory.adapter, saved);
    assert_eq!(usual.memory.total - paged.memory.total, saved);
}

#[test]
fn galore_is_refused_with_what_comes_nearest() {
    for (optimizer, lora_r, says, nearest) in [
        (
            Optimizer::Galore,
            None,
            "optimizer `galore_adamw` is refused: it keeps moments of gradients projected onto 128 directions, and a LoRA \
             factor of rank 16 has no more than 16, so a decomposition every few updates would save nothing",
            "adamw_torch",
        ),
        (
            Optimizer::Galore8bit,
            Some(128),
            "a LoRA factor of rank 128 has no more than 128",
            "adamw_bnb_8bit",
        ),
        (
            Optimizer::Galore,
            Some(256),
            "a LoRA factor of rank 256 has 256, so a decomposition every few updates would save at most half of their memory, \
             and eight bits save three quarters of it",
            "adamw_bnb_8bit",
        ),
    ] {
        let document = DocumentFacts {
            knobs: with(optimizer, lora_r),
            ..document()
        };
        let error = plan(&document, &TrainOptions::default()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(
            error.hints(),
            [format!("set `optimizer: {nearest}`, or remove the line")]
        );
        assert_eq!(error.kind().exit_code(), 2);
    }
}
