//! `dlm metrics show` and `watch`, over a database that this test fills.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::lab::{Guarded, Lab, interrupt};

fn database(lab: &Lab) -> rusqlite::Connection {
    std::fs::create_dir_all(lab.store()).unwrap();
    let connection = rusqlite::Connection::open(lab.store().join("metrics.sqlite")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE runs (run_id INTEGER PRIMARY KEY, started_at TEXT NOT NULL, ended_at TEXT, adapter_version INTEGER, phase TEXT, seed INTEGER, status TEXT);
             CREATE TABLE steps (run_id INTEGER NOT NULL, step INTEGER NOT NULL, loss REAL, lr REAL, grad_norm REAL, tokens_per_sec REAL, peak_vram_mb INTEGER, at TEXT NOT NULL, PRIMARY KEY (run_id, step));
             CREATE TABLE evals (run_id INTEGER NOT NULL, step INTEGER NOT NULL, val_loss REAL, perplexity REAL, retention REAL, at TEXT NOT NULL, PRIMARY KEY (run_id, step));
             CREATE TABLE preference_mining (event_id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, judge_name TEXT, sample_count INTEGER, mined_pairs INTEGER, skipped_prompts INTEGER, write_mode TEXT, at TEXT NOT NULL);
             INSERT INTO runs VALUES (1, '2020-01-01T00:00:00Z', '2020-01-01T00:01:00Z', 1, 'sft', 42, 'ok');
             INSERT INTO runs VALUES (2, '2999-01-01T00:00:00Z', NULL, 2, 'cpt', 7, 'running');
             INSERT INTO steps VALUES (1, 10, 1.5, 0.0002, 0.5, 100.0, NULL, '2020-01-01T00:00:30Z');
             INSERT INTO evals VALUES (1, 20, 1.25, 3.49, NULL, '2020-01-01T00:00:40Z');
             INSERT INTO steps VALUES (2, 1, 2.5, 0.0001, 0.25, 90.0, NULL, '2999-01-01T00:00:30Z');",
        )
        .unwrap();
    connection
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.document();
    drop(database(&lab));
    lab
}

#[test]
fn runs_as_text_json_and_csv() {
    let lab = lab();
    insta::assert_snapshot!(lab.run(&["metrics", "show", "a.dlm"]).ok().out, @r#"
    Runs: 2
      run_id=2 phase=cpt seed=7 status=running started=2999-01-01T00:00:00Z last_step=1 loss=2.5000
      run_id=1 phase=sft seed=42 status=completed started=2020-01-01T00:00:00Z last_step=10 loss=1.5000
    "#);
    let runs = lab.json(&["metrics", "show", "a.dlm", "--json"]);
    assert_eq!(runs["runs"][0]["run_id"], 2);
    assert_eq!(
        lab.run(&["metrics", "show", "a.dlm", "--csv"]).ok().out.lines().next(),
        Some("run_id,phase,seed,status,started_at,ended_at")
    );
}

#[test]
fn one_run_joins_steps_and_evaluations() {
    let lab = lab();
    let csv = lab
        .run(&["metrics", "show", "a.dlm", "--run-id", "1", "--csv"])
        .ok()
        .out;
    assert_eq!(csv, "step,loss,lr,grad_norm,val_loss\n10,1.5,0.0002,0.5,\n20,,,,1.25\n");
    let run = lab.json(&["metrics", "show", "a.dlm", "--run-id", "1", "--json"]);
    let keys: Vec<&String> = run.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["runs", "run", "steps", "evals", "preference_mining"]);
    lab.run(&["metrics", "show", "a.dlm", "--run-id", "9"])
        .exits(1)
        .says(&["metrics: no run 9"]);
}

#[test]
fn one_run_as_text_has_its_steps() {
    let lab = lab();
    let connection = rusqlite::Connection::open(lab.store().join("metrics.sqlite")).unwrap();
    for step in 11..=60 {
        let row = format!("INSERT INTO steps VALUES (1, {step}, 1.0, 0.0001, 0.5, 90.0, NULL, '2020-01-01T00:00:31Z')");
        connection.execute(&row, []).unwrap();
    }
    let text = lab.run(&["metrics", "show", "a.dlm", "--run-id", "1"]).ok().out;
    let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("  step ")).collect();
    assert_eq!(
        steps[0], "  step    10  loss=1.5000 lr=2.00e-4 grad_norm=0.5000",
        "{text}"
    );
    assert!(
        steps.len() <= 21 && steps[steps.len() - 1].starts_with("  step    60"),
        "{text}"
    );
    assert!(
        text.contains("steps=51 evals=1") && text.contains("every step: --csv"),
        "{text}"
    );
}

#[test]
fn a_filter_that_hides_runs_says_so() {
    let lab = lab();
    for flags in [&["--phase", "dpo"][..], &["--limit", "1"]] {
        let text = lab.run(&[&["metrics", "show", "a.dlm"], flags].concat()).ok().out;
        assert!(text.contains("more recorded, outside"), "{text}");
    }
    lab.run(&["metrics", "show", "a.dlm", "--limit", "0"]).exits(2);
}

#[test]
fn every_filter_changes_the_list() {
    let lab = lab();
    let shown = |flags: &[&str]| -> Vec<u64> {
        let report = lab.json(&[&["metrics", "show", "a.dlm", "--json"], flags].concat());
        report["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["run_id"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(shown(&[]), [2, 1]);
    assert_eq!(shown(&["--phase", "sft"]), [1]);
    assert_eq!(shown(&["--since", "24h"]), [2]);
    assert_eq!(shown(&["--limit", "1"]), [2]);
}

#[test]
fn bad_filters_are_misuse() {
    let lab = lab();
    lab.run(&["metrics", "show", "a.dlm", "--since", "1w"])
        .exits(2)
        .says(&["metrics: `1w` is not a time window"]);
    lab.run(&["metrics", "show", "a.dlm", "--phase", "rlhf"])
        .exits(2)
        .says(&["sft", "dpo", "orpo", "cpt"]);
    lab.run(&["metrics", "show", "a.dlm", "--json", "--csv"]).exits(2);
    lab.run(&["metrics", "watch", "a.dlm", "--poll-seconds", "0"]).exits(2);
}

#[test]
fn a_document_without_runs_has_none() {
    let lab = Lab::new();
    lab.document();
    assert_eq!(lab.run(&["metrics", "show", "a.dlm"]).ok().out, "Runs: 0\n");
    assert!(!lab.path("home").exists());
}

#[test]
fn a_damaged_database_is_told() {
    let lab = Lab::new();
    lab.document();
    std::fs::create_dir_all(lab.store()).unwrap();
    std::fs::write(
        lab.store().join("metrics.sqlite"),
        "no database, only text that is long enough".repeat(50),
    )
    .unwrap();
    lab.run(&["metrics", "show", "a.dlm"])
        .exits(1)
        .says(&["metrics: ", "metrics.sqlite"]);
}

#[cfg(unix)]
#[test]
fn watching_follows_the_newest_run_and_ends_with_the_interrupt() {
    let lab = lab();
    let child = lab
        .command()
        .args(["metrics", "watch", "a.dlm", "--poll-seconds", "0.05"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Guarded(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "→ following run_id=2");
    assert_eq!(next(), "  step     1  loss=2.5000 lr=1.00e-4 grad_norm=0.2500");
    let connection = rusqlite::Connection::open(lab.store().join("metrics.sqlite")).unwrap();
    connection
        .execute(
            "INSERT INTO steps VALUES (2, 2, 2.0, 0.0001, 0.25, 90.0, NULL, '2999-01-01T00:00:31Z')",
            [],
        )
        .unwrap();
    assert!(next().starts_with("  step     2  loss=2.0000"));
    interrupt(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}
