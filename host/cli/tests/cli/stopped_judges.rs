//! Judges that break down in the middle of a run: what that costs, and what is said.

use crate::lab::{Lab, Ran};

/// A judge that panics over every prompt which holds the word `crash`.
const JUDGE: &str = "./judge.wasm:score wild";

/// A document with these questions, trained on the tiny model.
fn lab(questions: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.trainable();
    let head = lab.read("a.dlm").split("\n\n").next().unwrap().to_owned();
    let pairs: Vec<String> = questions
        .iter()
        .map(|question| format!("### Q\n{question}\n\n### A\nThe answer to that one.\n"))
        .collect();
    lab.write("a.dlm", format!("{head}\n\n::instruction::\n{}", pairs.join("\n")));
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    let judge = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/test-judge/plugin.wasm");
    std::fs::copy(judge, lab.path("judge.wasm")).unwrap();
    lab
}

fn mine(lab: &Lab, more: &[&str]) -> Ran {
    let mine = [
        "preference",
        "mine",
        "a.dlm",
        "--judge",
        JUDGE,
        "--temp",
        "1.5",
        "--threshold",
        "0",
        "--json",
    ];
    lab.run(&[mine.as_slice(), more].concat())
}

fn report(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}\n{}", ran.out, ran.err))
}

fn failed(report: &serde_json::Value) -> Vec<String> {
    let skipped = report["skipped"].as_array().unwrap().iter();
    let failed = skipped.filter(|skip| skip["reason"] == "judge_failed");
    failed.map(ToString::to_string).collect()
}

#[test]
fn a_crash_costs_its_prompt_alone_and_says_why() {
    let lab = lab(&[
        "one?",
        "two?",
        "please crash?",
        "four?",
        "five?",
        "crash again?",
        "seven?",
    ]);
    let ran = mine(&lab, &["--keep-going"]).ok();
    let report = report(&ran);
    let failed = failed(&report);
    assert_eq!(failed.len(), 2, "{report:#}");
    for (failed, prompt) in failed.iter().zip(["please crash?", "crash again?"]) {
        assert!(failed.contains(&format!("told to: {prompt}")), "{failed}");
        assert!(!failed.contains("earlier call"), "{failed}");
    }
    let prompts: Vec<&str> = report["additions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair["prompt"].as_str().unwrap())
        .collect();
    for prompt in ["four?", "five?", "seven?"] {
        assert!(prompts.contains(&prompt), "{prompts:?}");
    }
}

#[test]
fn without_keep_going_the_first_cause_is_told() {
    let lab = lab(&["one?", "please crash?", "three?"]);
    let ran = mine(&lab, &[]).exits(1);
    assert!(ran.err.contains("told to: please crash?"), "{}", ran.err);
    assert!(ran.err.contains("--keep-going"), "{}", ran.err);
    assert!(!ran.err.contains("earlier call"), "{}", ran.err);
}

#[test]
fn a_judge_that_only_crashes_ends_the_run() {
    let lab = lab(&["crash 1?", "crash 2?", "crash 3?", "crash 4?", "crash 5?", "crash 6?"]);
    let ran = mine(&lab, &["--keep-going"]).exits(1);
    assert!(
        ran.err.contains("was stopped 4 times in this run") && ran.err.contains("told to: crash 3?"),
        "{}",
        ran.err
    );
}
