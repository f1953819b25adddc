//! What running a plugin costs, as JSON on stdout: `cargo xtask bench plugins` runs this and writes the page.

//!
//! `plugin_bench all <judge.wasm> <directory>` measures inside one process; `install <judge.wasm> <home>` puts a judge under a
//! home of dlm and `first <judge> <home>` goes from nothing to its first verdict and ends; `nothing` ends at once. The judge
//! is `tests/guests/test-judge`, a Rust guest, or any other whose `open` takes no argument.

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
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelGeneration, ModelInfo, ModelMessage, ModelScore,
    ModelToken, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::ports::secrets::NoSecrets;
use dlm_core::{Cancel, Quiet};
use dlm_packages::discover::Places;
use dlm_packages::fetch::from_file;
use dlm_packages::install::{InstallFlags, decide, offer};
use dlm_packages::settings::Policy;
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{
    Ahead, Compile, GrantFlags, LogLevel, Metering, NativeProcess, Plugins, Ports, RunFacts, compile_ahead,
};

/// Measurements of each figure; the median is what counts.
const TIMES: usize = 21;
/// Calls of one measurement of a warm call.
const CALLS: u32 = 20_000;
/// Pairs of the measurement that the issue names, and how many of them a call takes at most.
const PAIRS: usize = 10_000;
const BATCH: usize = 64;
/// Deadline of the endless loop.
const DEADLINE: Duration = Duration::from_millis(500);

struct NoHttp;

impl GuestHttp for NoHttp {
    fn send(&self, _: &GuestRequest, _: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        Err(GuestHttpError::Invalid("this measurement sends nothing".to_owned()))
    }
}

/// A model that answers at once, so that what is measured is the plugin and the host.
struct InstantModel;

impl Model for InstantModel {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "instant".to_owned(),
            revision: None,
            architecture: "llama".to_owned(),
            context_length: 2048,
            vocabulary_size: 49_152,
            has_adapter: true,
            adapter_version: Some(1),
            has_chat_template: true,
        }
    }

    fn score(&self, requests: &[ScoreRequest], _: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        let score = |request: &ScoreRequest| ModelScore {
            logprob: -(request.completion.len() as f64),
            token_count: 8,
            tokens: Vec::new(),
        };
        Ok(requests.iter().map(score).collect())
    }

    fn generate(&self, _: &[GenerateRequest], _: &ModelAllowance) -> Result<Vec<ModelGeneration>, ModelError> {
        Err(ModelError::Unsupported("this measurement only scores".to_owned()))
    }

    fn rank(&self, _: &[RankRequest], _: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        Err(ModelError::Unsupported("this measurement only scores".to_owned()))
    }

    fn next(&self, _: &[NextRequest], _: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        Err(ModelError::Unsupported("this measurement only scores".to_owned()))
    }

    fn tokenize(&self, _: &str) -> Result<Vec<u32>, ModelError> {
        Err(ModelError::Unsupported("this measurement only scores".to_owned()))
    }

    fn detokenize(&self, _: &[u32]) -> Result<String, ModelError> {
        Err(ModelError::Unsupported("this measurement only scores".to_owned()))
    }

    fn render(&self, _: &[ModelMessage], _: bool) -> Result<String, ModelError> {
        Err(ModelError::Unsupported("this measurement only scores".to_owned()))
    }
}

impl Models for InstantModel {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        Ok(Arc::new(InstantModel))
    }

    fn named(&self, _: &str) -> Result<Arc<dyn Model>, ModelError> {
        self.current()
    }
}

fn plugins(directory: &Path) -> Plugins {
    let facts = RunFacts {
        host_version: "0.0.0".to_owned(),
        seed: 1,
        unix_ms: 0,
        is_dry_run: false,
        log_level: LogLevel::Warn,
        directory: directory.to_owned(),
    };
    let ports = Ports {
        process: Arc::new(NativeProcess::new(Vec::new(), Vec::new())),
        http: Arc::new(NoHttp),
        models: Arc::new(InstantModel),
        secrets: Arc::new(NoSecrets),
        free_port: || Err(std::io::Error::other("no ports")),
        clock: None,
        progress: Arc::new(Quiet),
        cancel: Cancel::new(),
    };
    let places = Places {
        home: directory.to_owned(),
        ..Places::default()
    };
    Plugins::new(facts, ports, compile(directory), &GrantFlags::default())
        .unwrap()
        .with_places(places)
}

fn compile(home: &Path) -> Compile {
    Compile::Cached {
        directory: home.join("cache").join("plugins"),
        program: std::env::current_exe().unwrap(),
    }
}

/// Installs a judge that asks for nothing, as `dlm plugin install` does; gives its name and the milliseconds that compiling
/// took.
fn install(judge: &str, home: &Path) -> (String, f64) {
    let flags = InstallFlags::default();
    let offer = offer(home, from_file(Path::new(judge)).unwrap(), Policy::default(), &flags).unwrap();
    let consent = decide(&offer, &flags, None).unwrap();
    let process = NativeProcess::new(Vec::new(), Vec::new());
    let ahead = Ahead {
        compile: &compile(home),
        metering: Metering::Time,
        name: &offer.name,
        component: &offer.fetched.bytes,
    };
    let time = compile_ahead(&ahead, &process, &Cancel::new()).unwrap();
    dlm_packages::install::install(home, &offer, &consent, "2026-01-01T00:00:00Z").unwrap();
    (offer.name.clone(), time.map_or(0.0, |time| time.as_secs_f64() * 1e3))
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

/// Milliseconds to judge ten thousand pairs in the batches that mining uses: all of it is the plugin's and the host's.
fn pairs(judge: &mut dyn dlm_core::ports::judge::Judge) -> f64 {
    let items = vec![item(2); judge.info().batch_max.min(BATCH)];
    let started = Instant::now();
    for _ in 0..PAIRS.div_ceil(items.len()) {
        black_box(judge.score(black_box(&items)).unwrap());
    }
    microseconds(started, 1000)
}

/// Milliseconds past its deadline after which an endless loop was stopped, with both cores kept busy.
fn overrun(judge: &str, directory: &Path) -> f64 {
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
    let plugins = plugins(directory).with_limits(hasty);
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

fn all(judge: &str, directory: &Path) -> serde_json::Value {
    let cold = times(|| {
        let fresh = directory.join("cold");
        let _gone = std::fs::remove_dir_all(&fresh);
        let plugins = plugins(&fresh);
        let started = Instant::now();
        plugins.open_judge(judge).unwrap();
        microseconds(started, 1000)
    });
    let engine_to_verdict = times(|| {
        let started = Instant::now();
        let plugins = plugins(directory);
        plugins.open_judge(judge).unwrap().score(&[item(2)]).unwrap();
        microseconds(started, 1)
    });
    // An installed judge is not hashed at each use, as one that is named by its file is.
    let installed = install(judge, directory).0;
    let shared = plugins(directory);
    shared.open_judge(&installed).unwrap();
    let open_again = times(|| {
        let started = Instant::now();
        for _ in 0..100 {
            black_box(shared.open_judge(&installed).unwrap());
        }
        microseconds(started, 100)
    });
    let mut one = shared.open_judge(&installed).unwrap();
    let mut sway = shared.open_judge("sway").unwrap();
    serde_json::json!({
        "cold compile, ms": cold,
        "engine to first verdict, code cached, us": engine_to_verdict,
        "installed judge: find, store, instance and open, us": open_again,
        "warm score, 1 item of 2 candidates, us": times(|| warm(&mut *one, 1)),
        "warm score, 32 items, us": times(|| warm(&mut *one, 32)),
        "10,000 pairs judged by sway, its model answering at once, ms": times(|| pairs(&mut *sway)),
        "endless loop stopped after its deadline, both cores busy, ms": times(|| overrun(judge, directory)),
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["nothing", ..] => {}
        ["install", judge, home] => {
            let (name, ms) = install(judge, Path::new(home));
            println!("{}", serde_json::json!({ "name": name, "compile_ms": ms }));
        }
        ["__compile", component, code] => {
            dlm_plugins::compile_file(component.as_ref(), code.as_ref(), Metering::Time).unwrap()
        }
        ["first", judge, directory] => {
            let plugins = plugins(&PathBuf::from(directory));
            black_box(plugins.open_judge(judge).unwrap().score(&[item(2)]).unwrap());
        }
        ["all", judge, directory] => println!("{}", all(judge, &PathBuf::from(directory))),
        _ => panic!("usage: plugin_bench nothing | install FILE HOME | first JUDGE HOME | all FILE HOME"),
    }
}
