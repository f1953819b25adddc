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
