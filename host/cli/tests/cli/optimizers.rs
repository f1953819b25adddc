//! The optimizers of the schema through the binary: one with moments in eight bits is trained, interrupted, resumed and said;
//! GaLore is refused.

use crate::lab::Lab;
use crate::spine::{Training, adapter, train};

/// A lab whose document asks for an optimizer.
fn lab_with(optimizer: &str) -> Lab {
    let lab = Lab::new();
    lab.trainable();
    write(&lab, optimizer);
    lab
}

fn write(lab: &Lab, optimizer: &str) {
    lab.set_training(&format!("optimizer: {optimizer}"));
}

fn flags(lab: &Lab) -> serde_json::Value {
    let lock = std::fs::read(lab.store().join("dlm.lock")).unwrap();
    let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    lock["determinism_flags"].clone()
}

#[test]
fn eight_bits_are_trained_resumed_bit_for_bit_and_said_in_plan_and_lock() {
    let lab = lab_with("adamw_bnb_8bit");
    let plan = train(&lab, &["--dry-run"]).ok();
    assert!(
        plan.out.contains("adamw_bnb_8bit  (written in the document)"),
        "{}",
        plan.out
    );

    let arguments = ["train", "a.dlm", "--max-steps", "400", "--threads", "1"];
    let mut training = Training::start(&lab, &arguments);
    training.until("step 10/");
    training.signal("INT");
    let (code, said) = training.end();
    assert_eq!(code, Some(130), "{said}");

    // Another optimizer has no use for what was kept.
    write(&lab, "adamw_torch");
    lab.run(&[&arguments[..], &["--resume"]].concat())
        .exits(1)
        .says(&["of optimizer `adamw_bnb_8bit`, and the plan's is `adamw_torch`"]);
    // `paged_adamw_8bit` is the same one, on a processor.
    write(&lab, "adamw_bnb_8bit");
    lab.run(&[&arguments[..], &["--resume"]].concat())
        .ok()
        .says(&["resuming v0001 after step"]);
    assert_eq!(flags(&lab)["optimizer"], "adamw_bnb_8bit");

    let whole = lab_with("adamw_bnb_8bit");
    whole.run(&arguments).ok();
    assert_eq!(adapter(&lab, "v0002"), adapter(&whole, "v0001"));
    let usual = lab_with("adamw_torch");
    usual.run(&arguments).ok();
    assert_ne!(
        adapter(&usual, "v0001"),
        adapter(&whole, "v0001"),
        "they are two optimizers"
    );
    assert!(
        flags(&usual).get("optimizer").is_none(),
        "locks of the usual one stay as they were"
    );
    let [small, large] = [&whole, &usual].map(|lab| {
        let state = lab.store().join("adapter/versions/v0001/training_state.pt");
        std::fs::metadata(state).unwrap().len()
    });
    // Parameters and two moments: 12 bytes, or 6 and a little.
    assert!(small * 10 < large * 6, "the state has {small} bytes, with f32 {large}");

    // A version is trained further only by the optimizer whose moments it has.
    write(&whole, "paged_adamw_8bit");
    train(&whole, &["--resume", "--max-steps", "2"])
        .ok()
        .says(&["training v0001 further"]);
    write(&whole, "adamw_torch");
    train(&whole, &["--resume", "--max-steps", "2"]).exits(1).says(&[
        "`optimizer` is adamw_bnb_8bit there and adamw_torch here",
        "dlm train a.dlm --fresh",
    ]);
    train(&whole, &["--fresh", "--max-steps", "2"]).ok();
}

#[test]
fn galore_is_refused_with_the_reason_and_the_nearest() {
    for (optimizer, nearest) in [("galore_adamw", "adamw_torch"), ("galore_adamw_8bit", "adamw_bnb_8bit")] {
        let lab = lab_with(optimizer);
        let ran = train(&lab, &[]).exits(2).says(&[
            &format!("optimizer `{optimizer}` is refused"),
            "a LoRA factor of rank 16 has no more than 16",
            &format!("set `optimizer: {nearest}`"),
        ]);
        let checked = lab.run(&["check", "a.dlm"]).ok();
        assert!(checked.err.contains(ran.err.lines().next().unwrap()), "{}", checked.err);
        write(&lab, nearest);
        train(&lab, &["--max-steps", "2"]).ok();
    }
}
