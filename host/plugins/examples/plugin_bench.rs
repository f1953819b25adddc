//! What running a plugin costs, as JSON on stdout: `cargo xtask bench plugins` runs this and writes the page.
//!
//! `plugin_bench all <judge.wasm> <folder>` measures inside one process; `first <judge.wasm> <folder>` goes from nothing
//! to the first verdict and ends; `nothing` ends at once. The judge is `tests/guests/test-judge`, a Rust guest.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement, not a part of dlm"
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::judge::{JudgeItem, JudgeSource};
use dlm_core::ports::model::NoModels;
use dlm_core::ports::secrets::NoSecrets;
use dlm_core::{Cancel, Quiet};
use dlm_plugins::{Compile, GrantFlags, Kind, Limits, LogLevel, NativeProcess, Plugins, Ports, RunFacts, limits};

/// Measurements of each figure; the median is what counts.
const TIMES: usize = 21;
/// Calls of one measurement of a warm call.
const CALLS: u32 = 20_000;
/// Deadline of the endless loop.
const DEADLINE: Duration = Duration::from_millis(500);

struct NoHttp;

impl GuestHttp for NoHttp {
    fn send(&self, _: &GuestRequest, _: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        Err(GuestHttpError::Invalid("this measurement sends nothing".to_owned()))
    }
}

fn plugins(folder: &Path) -> Plugins {
    let facts = RunFacts {
        host_version: "0.0.0".to_owned(),
        seed: 1,
        unix_ms: 0,
        is_dry_run: false,
        log_level: LogLevel::Warn,
        directory: folder.to_owned(),
    };
    let ports = Ports {
        process: Arc::new(NativeProcess::new(Vec::new(), Vec::new())),
        http: Arc::new(NoHttp),
        models: Arc::new(NoModels),
        secrets: Arc::new(NoSecrets),
        free_port: || Err(std::io::Error::other("no ports")),
        clock: None,
        progress: Arc::new(Quiet),
        cancel: Cancel::new(),
    };
    let compile = Compile::Cached {
        folder: folder.to_owned(),
        program: std::env::current_exe().unwrap(),
    };
    Plugins::new(facts, ports, compile, &GrantFlags::default()).unwrap()
}

fn item(candidates: usize) -> JudgeItem {
    JudgeItem {
        system: None,
        prompt: "Who keeps the bell?".to_owned(),
        candidates: (0..candidates)
            .map(|n| format!("The ferryman keeps bell {n}."))
            .collect(),
        reference: None,
    }
}

fn microseconds(started: Instant, calls: u32) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// Microseconds of one call with `count` items, warm.
fn warm(judge: &mut dyn dlm_core::ports::judge::Judge, count: usize) -> f64 {
    let items = vec![item(2); count];
    let calls = CALLS / u32::try_from(count).unwrap();
    judge.score(&items).unwrap();
    let started = Instant::now();
    for _ in 0..calls {
        black_box(judge.score(black_box(&items)).unwrap());
    }
    microseconds(started, calls)
}

/// Milliseconds past its deadline after which an endless loop was stopped, with both cores kept busy.
fn overrun(judge: &str, folder: &Path) -> f64 {
    let is_done = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let is_done = Arc::clone(&is_done);
            std::thread::spawn(move || while !is_done.load(Ordering::Relaxed) {})
        })
        .collect();
    let hasty = Limits {
        call_time: DEADLINE,
        ..limits(Kind::Judge)
    };
    let plugins = plugins(folder).with_limits(hasty);
    let mut endless = plugins.open_judge(&format!("{judge}:score loop")).unwrap();
    let started = Instant::now();
    endless.score(&[item(2)]).unwrap_err();
    let over = started.elapsed().saturating_sub(DEADLINE);
    is_done.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    over.as_secs_f64() * 1e3
}

fn times(measure: impl FnMut() -> f64) -> Vec<f64> {
    std::iter::repeat_with(measure).take(TIMES).collect()
}

fn all(judge: &str, folder: &Path) -> serde_json::Value {
    let cold = times(|| {
        let fresh = folder.join("cold");
        let _gone = std::fs::remove_dir_all(&fresh);
        let plugins = plugins(&fresh);
        let started = Instant::now();
        plugins.open_judge(judge).unwrap();
        microseconds(started, 1000)
    });
    let engine_to_verdict = times(|| {
        let started = Instant::now();
        let plugins = plugins(folder);
        plugins.open_judge(judge).unwrap().score(&[item(2)]).unwrap();
        microseconds(started, 1)
    });
    let shared = plugins(folder);
    shared.open_judge(judge).unwrap();
    let open_again = times(|| {
        let started = Instant::now();
        for _ in 0..100 {
            black_box(shared.open_judge(judge).unwrap());
        }
        microseconds(started, 100)
    });
    let mut one = shared.open_judge(judge).unwrap();
    serde_json::json!({
        "cold compile, ms": cold,
        "engine to first verdict, code cached, us": engine_to_verdict,
        "find, check, store, instance and open, us": open_again,
        "warm score, 1 item of 2 candidates, us": times(|| warm(&mut *one, 1)),
        "warm score, 32 items, us": times(|| warm(&mut *one, 32)),
        "endless loop stopped after its deadline, both cores busy, ms": times(|| overrun(judge, folder)),
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["nothing", ..] => {}
        ["__compile", component, code] => dlm_plugins::compile_file(component.as_ref(), code.as_ref()).unwrap(),
        ["first", judge, folder] => {
            let plugins = plugins(&PathBuf::from(folder));
            black_box(plugins.open_judge(judge).unwrap().score(&[item(2)]).unwrap());
        }
        ["all", judge, folder] => println!("{}", all(judge, &PathBuf::from(folder))),
        _ => panic!("usage: plugin_bench nothing | first JUDGE FOLDER | all JUDGE FOLDER"),
    }
}
