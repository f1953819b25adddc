//! The metrics database: written and read at once, in all shapes.

use std::fs;

use dlm_core::Hints;
use dlm_core::manifest::RunStatus;
use dlm_store::Store;
use dlm_store::metrics::{
    EvalMetrics, ExportMetrics, GateMetrics, MetricsError, MetricsRecorder, MetricsReport, MiningMetrics, RunFilter,
    RunStart, StepMetrics, Strictness, TokenizationMetrics, Watcher,
};

use super::scenario::stamp;
use super::{NOW_MS, new_store};

const HOUR_MS: i64 = 3_600_000;

fn start(run_id: u64, phase: &'static str, at_ms: i64) -> RunStart {
    RunStart {
        run_id,
        started_at: stamp(at_ms),
        adapter_version: 1,
        phase,
        seed: 42,
    }
}

fn step(run_id: u64, step: u64, loss: f64) -> StepMetrics {
    StepMetrics {
        run_id,
        step,
        loss,
        lr: 1e-4,
        grad_norm: Some(1.5),
        tokens_per_sec: Some(10.0),
        peak_vram_mb: None,
        at: stamp(NOW_MS),
    }
}

fn eval(run_id: u64, step: u64, val_loss: f64) -> EvalMetrics {
    EvalMetrics {
        run_id,
        step,
        val_loss: Some(val_loss),
        perplexity: Some(val_loss.exp()),
        retention: None,
        at: stamp(NOW_MS),
    }
}

/// Two runs; the second has two steps, and evaluations of a logged and an unlogged step.
fn filled(store: &Store) -> MetricsRecorder {
    let mut recorder = store.metrics_recorder(Strictness::Strict).unwrap();
    recorder.run_started(&start(1, "cpt", NOW_MS)).unwrap();
    recorder
        .run_ended(1, stamp(NOW_MS + HOUR_MS), RunStatus::Completed)
        .unwrap();
    recorder.run_started(&start(2, "sft", NOW_MS + 2 * HOUR_MS)).unwrap();
    for one in [step(2, 10, 0.5), step(2, 20, 0.25)] {
        assert!(recorder.step(&one).unwrap().is_none());
    }
    for one in [eval(2, 20, 1.0), eval(2, 25, 0.5)] {
        assert!(recorder.eval(&one).unwrap().is_none());
    }
    recorder
}

fn gather(store: &Store, filter: RunFilter) -> MetricsReport {
    MetricsReport::gather(store, &filter).unwrap()
}

#[test]
fn runs_are_listed_newest_first_and_filtered() {
    let (_directory, store) = new_store();
    let _recorder = filled(&store);
    let report = gather(&store, RunFilter::default());
    let text = report.to_text();
    assert_eq!(
        text,
        "Runs: 2\n  run_id=2 phase=sft seed=42 status=running started=2026-04-19T20:30:14Z last_step=20 loss=0.2500\n  \
         run_id=1 phase=cpt seed=42 status=completed started=2026-04-19T18:30:14Z\n"
    );
    let csv = report.to_csv();
    assert_eq!(
        csv,
        "run_id,phase,seed,status,started_at,ended_at\n2,sft,42,running,2026-04-19T20:30:14Z,\n\
         1,cpt,42,completed,2026-04-19T18:30:14Z,2026-04-19T19:30:14Z\n"
    );
    let json = report.to_json();
    assert_eq!(json["runs"][1]["ended_at"], "2026-04-19T19:30:14Z");
    assert_eq!(json.as_object().unwrap().len(), 1);

    let ids = |filter| {
        let json = gather(&store, filter).to_json();
        let runs = json["runs"].as_array().unwrap().clone();
        runs.iter()
            .map(|run| run["run_id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let by_phase = RunFilter {
        phase: Some("cpt".to_owned()),
        ..RunFilter::default()
    };
    assert_eq!(ids(by_phase), [1]);
    let since = |at_ms| RunFilter {
        since: Some(stamp(at_ms)),
        ..RunFilter::default()
    };
    assert_eq!((ids(since(NOW_MS)), ids(since(NOW_MS + 1000))), (vec![2, 1], vec![2]));
    let limited = RunFilter {
        limit: Some(1),
        ..RunFilter::default()
    };
    assert_eq!(ids(limited), [2]);
}

#[test]
fn one_run_has_all_its_rows() {
    let (_directory, store) = new_store();
    let _recorder = filled(&store);
    let one = |run_id| RunFilter {
        run_id: Some(run_id),
        ..RunFilter::default()
    };
    let report = gather(&store, one(2));
    let json = report.to_json();
    for key in ["runs", "run", "steps", "evals", "preference_mining"] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["run"], json["runs"][0]);
    assert_eq!(json["steps"][1]["loss"], 0.25);
    assert_eq!(
        report.to_csv(),
        "step,loss,lr,grad_norm,val_loss\n10,0.5,0.0001,1.5,\n20,0.25,0.0001,1.5,1.0\n25,,,,0.5\n"
    );
    assert_eq!(
        report.to_text(),
        "run_id=2 phase=sft seed=42 status=running started=2026-04-19T20:30:14Z last_step=20 loss=0.2500 steps=2 evals=2\n  \
         step    10  loss=0.5000 lr=1.00e-4 grad_norm=1.5000\n  \
         step    20  loss=0.2500 lr=1.00e-4 grad_norm=1.5000\n  \
         last eval @ step 25  val_loss=0.5000  perplexity=1.6487\n"
    );
    let error = MetricsReport::gather(&store, &one(9)).unwrap_err();
    assert!(matches!(error, MetricsError::NoSuchRun { run_id: 9, .. }), "{error}");
    assert_eq!((error.subject().as_str(), error.kind().exit_code()), ("metrics", 1));
}

#[test]
fn a_store_without_a_database_has_no_runs() {
    let (_directory, store) = new_store();
    assert_eq!(gather(&store, RunFilter::default()).to_text(), "Runs: 0\n");
    let one = RunFilter {
        run_id: Some(1),
        ..RunFilter::default()
    };
    assert!(MetricsReport::gather(&store, &one).is_err());
    assert_eq!(Watcher::new().poll(&store).unwrap(), []);
    assert!(!store.paths().metrics().exists());
}

#[test]
fn watching_tells_every_row_once() {
    let (_directory, store) = new_store();
    let mut watcher = Watcher::new();
    let mut poll = || -> Vec<String> {
        let events = watcher.poll(&store).unwrap();
        events.iter().map(ToString::to_string).collect()
    };
    assert!(poll().is_empty());
    let mut recorder = filled(&store);
    assert_eq!(
        poll(),
        [
            "→ following run_id=2",
            "  step    10  loss=0.5000 lr=1.00e-4 grad_norm=1.5000",
            "  step    20  loss=0.2500 lr=1.00e-4 grad_norm=1.5000",
            "  eval @ step 20  val_loss=1.0000  perplexity=2.7183",
            "  eval @ step 25  val_loss=0.5000  perplexity=1.6487",
        ]
    );
    assert!(poll().is_empty());
    recorder.step(&step(2, 30, 0.125)).unwrap();
    assert_eq!(poll().len(), 1);
    recorder.run_started(&start(3, "sft", NOW_MS)).unwrap();
    recorder.step(&step(3, 1, 2.0)).unwrap();
    recorder.eval(&eval(3, 0, 2.0)).unwrap();
    assert_eq!(
        poll().len(),
        3,
        "the newer run is followed, its evaluation of step 0 too"
    );
}

#[test]
fn side_streams_read_back() {
    let (_directory, store) = new_store();
    let mut recorder = filled(&store);
    let tokenization = TokenizationMetrics {
        run_id: 2,
        total_sections: 10,
        cache_hits: 3,
        cache_misses: 1,
        total_tokenize_seconds: 0.5,
        cache_bytes_after: 1000,
        at: stamp(NOW_MS),
    };
    recorder.tokenization(&tokenization).unwrap();
    for (run_id, name) in [(1, "old"), (2, "tone"), (2, "style")] {
        let gate = GateMetrics {
            run_id,
            adapter_name: name.to_owned(),
            mean_weight: 0.5,
            sample_count: 4,
            mode: "trained".to_owned(),
            at: stamp(NOW_MS),
        };
        recorder.gate(&gate).unwrap();
    }
    let mining = MiningMetrics {
        run_id: 2,
        judge_name: "sway".to_owned(),
        sample_count: 4,
        mined_pairs: 2,
        skipped_prompts: 1,
        write_mode: "staged".to_owned(),
        at: stamp(NOW_MS),
    };
    recorder.mining(&mining).unwrap();
    recorder.mining(&mining).unwrap();
    let export = ExportMetrics {
        exported_at: stamp(NOW_MS),
        quant: "Q4_K_M".to_owned(),
        merged: true,
        ollama_name: None,
        size_bytes: 123,
        duration_s: 1.5,
    };
    recorder.export(&export).unwrap();

    let reader = store.metrics_reader().unwrap().unwrap();
    let row = reader.last_tokenization().unwrap().unwrap();
    assert_eq!((row.cache_hits, row.hit_rate()), (3, 0.75));
    let (run_id, gates) = reader.last_gate().unwrap().unwrap();
    let names: Vec<_> = gates.iter().map(|gate| gate.adapter_name.as_str()).collect();
    assert_eq!((run_id, names), (2, vec!["style", "tone"]));
    assert_eq!(reader.mining(Some(2)).unwrap().len(), 2);
    assert_eq!(reader.mining(Some(1)).unwrap().len(), 0);
    assert_eq!(reader.exports().unwrap()[0].merged, Some(true));
    let filter = RunFilter {
        run_id: Some(2),
        ..RunFilter::default()
    };
    let text = gather(&store, filter).to_text();
    assert!(
        text.contains("preference mining: 2 event(s), 4 pair(s), judges sway"),
        "{text}"
    );
}

#[test]
fn an_old_database_lacks_tables_and_still_reads() {
    let (_directory, store) = new_store();
    let old = rusqlite::Connection::open(store.paths().metrics()).unwrap();
    old.execute_batch(
        "CREATE TABLE runs (run_id INTEGER PRIMARY KEY, started_at TEXT NOT NULL, ended_at TEXT,
         adapter_version INTEGER, phase TEXT, seed INTEGER, status TEXT);
         INSERT INTO runs VALUES (1, '2026-04-19T18:30:14Z', NULL, NULL, NULL, NULL, NULL);",
    )
    .unwrap();
    drop(old);
    let reader = store.metrics_reader().unwrap().unwrap();
    assert!(reader.last_gate().unwrap().is_none());
    assert!(reader.last_tokenization().unwrap().is_none());
    assert_eq!(reader.steps(1, 0).unwrap(), []);
    let text = gather(&store, RunFilter::default()).to_text();
    assert!(text.contains("run_id=1 phase=- seed=- status=-"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let (_directory, store) = new_store();
    fs::write(
        store.paths().metrics(),
        "not a database, but long enough to be read as one".repeat(100),
    )
    .unwrap();
    let error = MetricsReport::gather(&store, &RunFilter::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("metrics.sqlite`: cannot read from the metrics database"),
        "{error}"
    );
    assert!(
        store.metrics_recorder(Strictness::Lenient).is_err(),
        "the run's start must be recorded"
    );
}

#[test]
fn lenient_streams_tell_their_first_failure_and_strict_ones_every() {
    let (_directory, store) = new_store();
    for strictness in [Strictness::Lenient, Strictness::Strict] {
        let mut recorder = store.metrics_recorder(strictness).unwrap();
        // No such run: the foreign key refuses the row.
        let told: Vec<_> = (0..3).map(|number| recorder.step(&step(77, number, 1.0))).collect();
        match strictness {
            Strictness::Lenient => {
                let told: Vec<_> = told.into_iter().map(|one| one.unwrap().is_some()).collect();
                assert_eq!(told, [true, false, false]);
                assert!(
                    recorder.eval(&eval(77, 0, 1.0)).unwrap().is_some(),
                    "each stream tells for itself"
                );
            }
            Strictness::Strict => assert!(told.iter().all(Result::is_err)),
        }
    }
}

#[test]
fn a_run_that_died_keeps_its_row() {
    let (_directory, store) = new_store();
    let recorder = filled(&store);
    assert_eq!(recorder.last_run_id().unwrap(), 2);
    drop(recorder);
    drop(super::lock(&store));
    let json = gather(&store, RunFilter::default()).to_json();
    assert_eq!(
        (&json["runs"][0]["status"], &json["runs"][1]["status"]),
        (&"failed".into(), &"completed".into())
    );
}
