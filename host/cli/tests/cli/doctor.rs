//! `dlm doctor`.

use crate::lab::Lab;

#[test]
fn the_report_is_complete_and_makes_nothing() {
    let lab = Lab::new();
    let report = lab.json(&["doctor", "--json"]);
    assert_eq!(report["capabilities"]["telemetry_posture"], "none");
    assert!(report["capabilities"]["cpu_cores"].as_u64().unwrap() >= 1);
    assert!(
        report["bases"].as_array().unwrap().len() >= 20,
        "the text bases of the registry"
    );
    assert_eq!(report["home"], "[DIR]/home");
    let facts = dlm_files::wall::facts();
    let wall = serde_json::json!({
        "landlock": facts.landlock,
        "seccomp": facts.has_seccomp,
        "no_new_privileges": facts.has_no_new_privileges,
    });
    assert_eq!(report["second_wall"], wall);
    let runtime = &report["plugin_runtime"];
    assert_eq!(runtime["name"], "wasmtime");
    assert_eq!(runtime["version"], dlm_plugins::RUNTIME_VERSION);
    let states: Vec<&str> = report["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["ready"; 15], "every built-in plugin");
    assert!(!lab.path("home").exists());
}

#[test]
fn text_names_backend_plan_and_what_trains_here() {
    let lab = Lab::new();
    let text = lab.run(&["doctor"]).ok().out;
    for line in [
        "backend",
        "memory",
        "determinism",
        "telemetry     none",
        "plan",
        "trains here",
        "plugins       15 ready: sway, cli,",
        "second wall",
        "runtime       wasmtime 48.",
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "{line} is missing in\n{text}"
        );
    }
}

#[test]
fn a_forced_machine_gets_a_plan_and_threads_are_in_it() {
    let lab = Lab::new();
    let mut forced = lab.command();
    forced
        .env("DLM_FORCE", "1")
        .args(["doctor", "--json", "--threads", "1"]);
    let report: serde_json::Value = serde_json::from_str(&lab.finish(&mut forced).ok().out).unwrap();
    if report["plan_error"].is_null() {
        assert!(
            report["plan"]["reason"].as_str().unwrap().ends_with("threads=1"),
            "{report}"
        );
    } else {
        let memory = report["capabilities"]["ram_available_gb"].as_f64().unwrap();
        assert!(
            memory < 16.0,
            "refused with {memory} GiB free: {}",
            report["plan_error"]
        );
    }
}

#[test]
fn the_plan_is_for_the_base_that_is_named() {
    let lab = Lab::new();
    lab.trainable();
    for (name, base) in [("tiny", "local:tiny"), ("smollm2-135m", "smollm2-135m")] {
        let report = lab.json(&["doctor", "--base", name, "--json"]);
        assert_eq!(report["plan"]["base"], base, "{report}");
    }
    lab.run(&["doctor", "--base", "tyny"])
        .exits(1)
        .says(&["base_model: unknown base `tyny`", "did you mean `tiny`?"]);
    lab.run(&["doctor", "--base", "hf:org/name"])
        .exits(1)
        .says(&["known to the hub only"]);
}

#[test]
fn one_word_for_one_thing() {
    let lab = Lab::new();
    lab.trainable();
    let doctor = lab.json(&["doctor", "--json"]);
    let class = doctor["capabilities"]["determinism_class"].as_str().unwrap().to_owned();
    assert!(
        lab.run(&["doctor"])
            .ok()
            .out
            .contains(&format!("determinism   {class}\n"))
    );
    let train = ["train", "a.dlm", "--max-steps", "2", "--threads", "1"];
    lab.run(&train)
        .ok()
        .says(&[&format!("sft: v0001 (2 steps, seed=42, determinism={class})")]);
    let report = lab.json(&[&train[..], &["--json"]].concat());
    assert_eq!(report["determinism"], class);
    assert_eq!(report["plan"]["determinism"], class);
    let shown = lab.json(&["show", "a.dlm", "--json"]);
    let metrics = lab.json(&["metrics", "show", "a.dlm", "--json"]);
    for run in 0..2 {
        assert_eq!(shown["runs"][run]["status"], "completed");
        assert_eq!(metrics["runs"][run]["status"], "completed");
        assert_eq!(metrics["runs"][run]["phase"], report["phase"]);
    }
    // The contract's keys in `_gb` hold GiB; the bytes say so.
    let machine = &doctor["capabilities"];
    let gib = machine["ram_bytes"].as_f64().unwrap() / f64::from(1 << 30);
    assert!((machine["ram_gb"].as_f64().unwrap() - gib).abs() < 0.01, "{machine}");
}

#[test]
fn damaged_local_bases_are_part_of_the_report() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("home/bases/broken")).unwrap();
    let report = lab.json(&["doctor", "--json"]);
    assert!(
        report["local_bases_problem"]
            .as_str()
            .unwrap()
            .contains("the base has no record")
    );
}
