//! `dlm plugin test`: what cases can say, what is run for them, and what `--update` leaves alone.

use serde_json::{Value, json};

use crate::lab::Lab;

/// Tests a plugin with cases that are written to the lab.
fn tested(lab: &Lab, plugin: &str, cases: &[(&str, &Value)]) -> Value {
    let mut line = vec![
        "plugin".to_owned(),
        "test".to_owned(),
        plugin.to_owned(),
        "--json".to_owned(),
    ];
    for (name, case) in cases {
        lab.write(name, case.to_string());
        line.extend(["--case".to_owned(), (*name).to_owned()]);
    }
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let ran = lab.run(&words);
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}\n{}", ran.out, ran.err))
}

fn test_judge(lab: &Lab) -> &'static str {
    let judge = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/test-judge/plugin.wasm");
    std::fs::copy(judge, lab.path("judge.wasm")).unwrap();
    "./judge.wasm"
}

fn scored(argument: &str, expect: &Value) -> Value {
    json!({
        "kind": "judge", "arg": argument,
        "call": { "score": [{ "prompt": "Q", "candidates": ["four", "seven"] }] },
        "expect": expect,
    })
}

#[test]
fn an_update_leaves_cases_that_pass_and_texts_that_match() {
    let lab = Lab::new();
    let judge = test_judge(&lab);
    // Written by hand, in a form that no program would choose.
    let passing = r#"{ "kind":"judge", "expect":{"verdicts":[{"scores":[4,5]}]},
        "call":{"score":[{"prompt":"Q","candidates":["four","seven"]}]} }"#;
    lab.write("passing.json", passing);
    let failing = scored(
        "score fail broken",
        &json!({ "error": { "code": "plugin::wrong", "message": { "matches": "title*broken" } } }),
    );
    lab.write("failing.json", failing.to_string());
    let ran = lab.run(&[
        "plugin",
        "test",
        judge,
        "--update",
        "--case",
        "passing.json",
        "--case",
        "failing.json",
    ]);
    ran.ok()
        .says(&["passing.json passes", "wrote what was found into failing.json"]);
    assert_eq!(lab.read("passing.json"), passing);
    let updated: Value = serde_json::from_str(&lab.read("failing.json")).unwrap();
    let expected = json!({ "error": { "code": "plugin::failed", "message": { "matches": "title*broken" } } });
    assert_eq!(updated["expect"], expected);
}

#[test]
fn a_case_that_grants_too_little_is_told_what_to_grant() {
    let lab = Lab::new();
    test_judge(&lab);
    lab.write(
        "plugin.toml",
        "schema = 1\nname = \"needy\"\nversion = \"1.0.0\"\nkinds = [\"judge\"]\ndescription = \"d\"\n\
         [[request]]\ncapability = \"model:current\"\nreason = \"asks\"\n[build]\nwasm = \"judge.wasm\"\n",
    );
    lab.run(&["plugin", "pack", "."]).ok();
    let expect = json!({ "verdicts": [{ "scores": [4, 5] }] });
    let mut case = scored("", &expect);
    let said = "add to the case: \"grants\": [\"model:current\"]";
    let report = tested(&lab, "./needy.wasm", &[("case.json", &case)]);
    assert!(
        report["cases"][0]["problems"]
            .to_string()
            .contains(&said.replace('"', "\\\"")),
        "{report}"
    );
    // `--update` makes no expectation of it.
    let before = lab.read("case.json");
    lab.run(&["plugin", "test", "./needy.wasm", "--update", "--case", "case.json"])
        .exits(1)
        .says(&[said]);
    assert_eq!(lab.read("case.json"), before);
    case["grants"] = json!(["model:current"]);
    let report = tested(&lab, "./needy.wasm", &[("case.json", &case)]);
    assert_eq!(report["cases"][0]["problems"], json!([]), "{report}");
}

#[test]
fn what_a_plugin_logs_stands_beside_its_case() {
    let lab = Lab::new();
    let judge = test_judge(&lab);
    let case = scored("score log saw-it", &json!({ "verdicts": [{ "scores": [4, 5] }] }));
    let report = tested(&lab, judge, &[("case.json", &case)]);
    let said = report["cases"][0]["said"].as_array().unwrap();
    assert_eq!(said[0], "saw-it");
    assert!(
        said.last().unwrap().as_str().unwrap().contains("more lines"),
        "{said:?}"
    );
    let shown = lab.run(&["plugin", "test", judge, "--case", "case.json"]);
    assert!(shown.out.contains("       │ saw-it\n"), "{}", shown.out);
}

#[test]
fn a_case_that_never_ends_is_run_once() {
    let lab = Lab::new();
    let judge = test_judge(&lab);
    let endless = scored("score loop", &json!({ "verdicts": [] }));
    let short = scored("", &json!({ "verdicts": [{ "scores": [4, 5] }] }));
    let report = tested(&lab, judge, &[("endless.json", &endless), ("short.json", &short)]);
    let problem = report["cases"][0]["problems"][0].as_str().unwrap();
    assert!(problem.contains("of its own time"), "{problem}");
    let checks = report["standing"].to_string();
    assert!(
        checks.contains("short: without any grant") && !checks.contains("endless"),
        "{checks}"
    );
}

#[test]
fn a_far_side_that_has_it_not_is_no_fault_of_the_plugin() {
    let lab = Lab::new();
    let answer = json!({
        "choices": [{ "message": { "content": "Yes." }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
    });
    let case = json!({
        "kind": "teacher", "arg": "gpt-4o-mini",
        "host": {
            "http": [{ "request": { "method": "post" }, "status": 200, "body": answer }],
            "secrets": { "OPENAI_API_KEY": "k" },
        },
        "call": { "complete": { "system": "s", "user": "u" } },
        "expect": { "completion": { "text": "Yes." } },
    });
    let report = tested(&lab, "openai", &[("case.json", &case)]);
    assert_eq!(report["passed"], true, "{report:#}");
    assert!(
        report["standing"].to_string().contains("case: a host that fails"),
        "{report:#}"
    );
}

#[test]
fn a_target_is_given_what_the_contract_says() {
    let lab = Lab::new();
    let base = json!({ "name": "base.gguf", "kind": "gguf", "staged-path": "base.gguf", "contents": "weights" });
    let plan = json!({
        "name": "tone", "quant": "F16",
        "chat": { "template": "{{ messages }}", "family": "chatml", "stop": ["<|im_end|>"] },
        "options": [{ "name": "port", "value": "9000" }],
    });
    let case = |inputs: Value, plan: &Value| {
        json!({
            "kind": "target", "host": { "inputs": inputs }, "call": { "prepare": plan },
            "expect": { "output": { "llama-server_launch.sh": { "matches": "$SCRIPT_DIR/base.gguf" } } },
        })
    };
    let staged = tested(&lab, "llama-server", &[("case.json", &case(json!([base]), &plan))]);
    assert_eq!(staged["passed"], true, "{staged:#}");
    // The same without its place: the useful path was out of reach before.
    let mut lost = base;
    lost.as_object_mut().unwrap().remove("staged-path");
    let report = tested(&lab, "llama-server", &[("case.json", &case(json!([lost]), &plan))]);
    assert_eq!(report["passed"], false, "{report:#}");
    // Options are a list of fields, as in the contract.
    let mut wrong = plan;
    wrong["options"] = json!({ "port": "9000" });
    let report = tested(&lab, "llama-server", &[("case.json", &case(json!([]), &wrong))]);
    let problem = report["cases"][0]["problems"][0].as_str().unwrap();
    assert!(problem.contains("invalid type: map"), "{problem}");
}

/// Every recorded case, run again.
fn all_pass(lab: &Lab, plugin: &str, cases: usize) {
    let files = lab.files("cases");
    assert_eq!(files.len(), cases, "{files:?}");
    for (name, text) in files {
        let file = format!("cases/{name}");
        let report = lab.json(&["plugin", "test", plugin, "--case", &file, "--json"]);
        assert_eq!(report["passed"], true, "{}: {report:#}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn what_a_judge_was_asked_in_a_real_run_is_a_case() {
    let lab = Lab::new();
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    let mine = [
        "preference",
        "mine",
        "a.dlm",
        "--judge",
        "sway",
        "--temp",
        "1.5",
        "--record",
        "cases",
    ];
    let ran = lab.run(&mine);
    assert!(ran.err.contains("plugins: recorded 1 case(s) in cases"), "{}", ran.err);
    all_pass(&lab, "sway", 1);
}

#[test]
fn what_a_target_and_a_gallery_did_are_cases() {
    let lab = Lab::new();
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    let export = [
        "export",
        "a.dlm",
        "--target",
        "llama-server",
        "--quant",
        "F16",
        "--no-smoke",
        "--record",
        "cases",
    ];
    lab.run(&export).ok();
    let prepare = lab.read("cases/llama-server-prepare-1.json");
    assert!(
        prepare.contains("\"staged-path\": \"") && prepare.contains("llama-server_launch.sh"),
        "{prepare}"
    );
    let report = lab.json(&[
        "plugin",
        "test",
        "llama-server",
        "--case",
        "cases/llama-server-prepare-1.json",
        "--json",
    ]);
    assert_eq!(report["passed"], true, "{report:#}");

    let gallery = Lab::new();
    gallery.run(&["templates", "list", "--record", "cases"]).ok();
    all_pass(&gallery, "bundled", 1);
    // A directory that cannot be made is told before anything runs.
    gallery.write("file", "");
    gallery
        .run(&["templates", "list", "--record", "file/cases"])
        .exits(2)
        .says(&["nothing can be recorded: cannot make `file/cases`"]);
}
