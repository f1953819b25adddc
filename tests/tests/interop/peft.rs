//! Every kind of adapter that is written here, on every architecture, loaded by PEFT: the same numbers, the same greedy answers.

use std::process::Command;

use dlm_core::training::MixMethod;
use dlm_model::{Adapter, AdapterKind, Model, PeftMeta, Session};
use dlm_testkit::{architectures, tiny};
use serde_json::{Value, json};

use crate::distance::{Distance, log_softmax};
use crate::files::{Asked, read};
use crate::peer::{ask, script, variable};

/// Both sides compute in `f32`; what rounding alone does stays below 5e-5 (`tests/golden/arch/README.md`).
const WORST: f64 = 2e-4;
/// Tokens that are said greedily.
const TOKENS: usize = 12;

fn greedy(model: &Model, adapter: &Adapter, prompt: &[u32]) -> Vec<u32> {
    let best = |logits: &[f32]| {
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.unwrap().0 as u32
    };
    let mut session = Session::new(model, Some(adapter), prompt.len() + TOKENS);
    let mut tokens = vec![best(session.prefill(prompt).unwrap())];
    while tokens.len() < TOKENS {
        tokens.push(best(session.step(*tokens.last().unwrap()).unwrap()));
    }
    tokens
}

/// All modules, but for those that PEFT cannot give an adapter of the kind: it has no DoRA of experts.
fn targets(kind: AdapterKind, name: &str) -> &'static [&'static str] {
    match (kind, name) {
        (AdapterKind::Dora, "mixtral") => &["q_proj", "k_proj", "v_proj", "o_proj"],
        _ => &["all-linear"],
    }
}

fn check(kind: AdapterKind) {
    check_of(kind.name(), |tiny, name| {
        tiny::adapter_on(tiny.model(), kind, 0.0, targets(kind, name))
    });
}

fn check_of(what: &str, make: impl Fn(&Asked, &str) -> Adapter) {
    let directory = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    let mut ours = Vec::new();
    for name in architectures::ALL {
        let tiny = Asked::open(name);
        let adapter = make(&tiny, name);
        let place = directory.path().join(name);
        std::fs::create_dir(&place).unwrap();
        let meta = PeftMeta {
            base: tiny.dir.display().to_string(),
            revision: None,
        };
        adapter.save_peft(&place, &meta).unwrap();
        jobs.push(json!({ "base": tiny.dir, "adapter": place, "rows": tiny.rows, "tokens": TOKENS }));
        let rows = tiny.rows.iter();
        let said: Vec<_> = rows
            .map(|row| {
                (
                    read(tiny.model(), Some(&adapter), row),
                    greedy(tiny.model(), &adapter, row),
                )
            })
            .collect();
        ours.push((name, said));
    }
    let mut python = Command::new(variable("DLM_TEST_PEFT"));
    let answers = ask(python.arg(script("peft_read.py")), &Value::Array(jobs));
    for ((name, said), answers) in ours.iter().zip(answers.as_array().unwrap()) {
        let mut distance = Distance::default();
        for ((ours, tokens), answer) in said.iter().zip(answers.as_array().unwrap()) {
            let logits: Vec<Vec<f32>> = serde_json::from_value(answer["logits"].clone()).unwrap();
            for (ours, theirs) in ours.iter().zip(&logits) {
                distance.add(ours, &log_softmax(theirs));
            }
            assert_eq!(answer["tokens"], json!(tokens), "{name}: greedy tokens");
        }
        eprintln!("{name:<14} {what}: worst log-probability {:.1e}", distance.worst);
        assert!(distance.worst < WORST, "{name}: {distance:?}");
    }
}

#[test]
#[ignore = "needs PEFT: cargo xtask interop"]
fn a_lora_is_what_peft_reads() {
    check(AdapterKind::Lora);
}

#[test]
#[ignore = "needs PEFT: cargo xtask interop"]
fn a_mix_is_what_peft_reads() {
    for method in [MixMethod::Linear, MixMethod::Svd] {
        check_of(method.name(), |tiny, _| tiny.mixed(method));
    }
}

#[test]
#[ignore = "needs PEFT: cargo xtask interop"]
fn a_dora_is_what_peft_reads() {
    check(AdapterKind::Dora);
}
