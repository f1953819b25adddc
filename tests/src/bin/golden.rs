//! Runs every golden file found under a directory and prints a line a case with the largest deviation.
//!
//! `golden DIR [BASE.gguf]`: the directory is laid out like `tests/golden`; what is there decides what runs. Cases of the
//! real model need its GGUF file. Exit status 1 on any miss.

#![expect(clippy::print_stdout, reason = "the lines are the program's result")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dlm_kernels::{Ctx, Simd};
use dlm_testkit::golden::{CaseResult, run_arch_case, run_real_cases, run_text_cases, run_tokenizer_dir};
use dlm_tests::{Case, Failed, quant, schedules};

/// Files of the real model; any of them asks for the base.
const REAL: [&str; 6] = [
    "weights.json",
    "logits.json",
    "greedy.json",
    "lora_train.json",
    "tokenizer.json",
    "chat_template.json",
];
/// Directories of models with pictures or sound, which this version does not run.
const MEDIA: [&str; 5] = ["qwen2-vl", "paligemma", "internvl", "mistral3-pixtral", "qwen2-audio"];

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    not_run: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Some(dir) = arguments.first() else {
        println!("usage: golden DIR [BASE.gguf]");
        return ExitCode::from(2);
    };
    let mut tally = Tally::default();
    arch(dir, &mut tally);
    if dir.join("quant").is_dir() {
        tally.cases("quant", quant::run(&dir.join("quant")));
    }
    if dir.join("lr_schedules.json").exists() {
        tally.cases("lr_schedules", schedules::run(&dir.join("lr_schedules.json")));
    }
    real(dir, arguments.get(1).map(PathBuf::as_path), &mut tally);
    if dir.join("preference.json").exists() {
        tally.not_run("preference.json", "the preference phase is not built yet");
    }
    println!(
        "golden: {} passed, {} failed, {} not run",
        tally.passed, tally.failed, tally.not_run
    );
    let nothing = tally.passed + tally.failed == 0;
    if tally.failed > 0 || nothing {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn arch(dir: &Path, tally: &mut Tally) {
    let Ok(entries) = std::fs::read_dir(dir.join("arch")) else {
        return;
    };
    let mut directories: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.is_dir())
        .collect();
    directories.sort();
    for directory in directories {
        let name = directory
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if MEDIA.contains(&name.as_str()) {
            tally.not_run(&format!("arch/{name}"), "pictures and sound are not built yet");
        } else if directory.join("model.safetensors").exists() {
            tally.results(&format!("arch/{name}"), run_arch_case(&directory));
        } else {
            tally.results(&format!("arch/{name}"), run_tokenizer_dir(&directory));
        }
    }
}

fn real(dir: &Path, base: Option<&Path>, tally: &mut Tally) {
    if !REAL.iter().any(|name| dir.join(name).exists()) {
        return;
    }
    let Some(base) = base else {
        tally.not_run("the real model", "no base file was given");
        return;
    };
    tally.results("text", run_text_cases(dir, base));
    tally.results("real", run_real_cases(dir, base, Ctx::new(2, Simd::detect())));
}

impl Tally {
    fn line(&mut self, place: &str, name: &str, deviation: f64, tolerance: f64, is_pass: bool) {
        let word = if is_pass { "ok  " } else { "MISS" };
        println!("{word} {place}: {name}: deviation {deviation:.3e}, tolerance {tolerance:.3e}");
        if is_pass { self.passed += 1 } else { self.failed += 1 }
    }

    fn results<E: std::fmt::Display>(&mut self, place: &str, results: Result<Vec<CaseResult>, E>) {
        match results {
            Ok(results) => results
                .iter()
                .for_each(|r| self.line(place, &r.name, r.deviation, r.tolerance, r.pass)),
            Err(error) => self.error(place, &error.to_string()),
        }
    }

    fn cases(&mut self, place: &str, cases: Result<Vec<Case>, Failed>) {
        match cases {
            Ok(cases) => cases
                .iter()
                .for_each(|c| self.line(place, &c.name, c.deviation, c.tolerance, c.is_pass())),
            Err(error) => self.error(place, &error.to_string()),
        }
    }

    fn error(&mut self, place: &str, error: &str) {
        println!("MISS {place}: {error}");
        self.failed += 1;
    }

    fn not_run(&mut self, place: &str, why: &str) {
        println!("--   {place}: not run: {why}");
        self.not_run += 1;
    }
}
