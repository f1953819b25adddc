//! `cargo xtask bench plugins`: what running a plugin costs. Writes the section `Plugins` of `docs/internals/benchmarks.md`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{median, numbers, spread};
use crate::program::{build_release, target_directory};
use crate::repository;

/// The last section of the page; everything after it is replaced.
const HEADING: &str = "## Plugins";
/// Runs of a whole process.
const RUNS: usize = 21;
/// What each figure may be at most, from the issue that asked for them.
const TARGETS: [(&str, f64); 4] = [
    ("cold compile, ms", 100.0),
    ("installed judge: find, store, instance and open, us", 50.0),
    ("warm score, 1 item of 2 candidates, us", 3.0),
    ("endless loop stopped after its deadline, both cores busy, ms", 50.0),
];

/// Measures and writes the section.
pub fn run() -> Result<()> {
    let program = build()?;
    let judge = repository::root().join("tests/guests/test-judge/plugin.wasm");
    let directory = target_directory().join("bench").join("plugins");
    // Code and installed plugins of an earlier run would hide what compiling costs.
    let _gone = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)?;
    let judge = judge.to_str().context("the path of the repository is not UTF-8")?;
    let directory_text = directory
        .to_str()
        .context("the path of the target directory is not UTF-8")?;
    let output = Command::new(&program).args(["all", judge, directory_text]).output()?;
    ensure!(
        output.status.success(),
        "plugin_bench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let nothing = whole(&program, &["nothing"])?;
    let mut section = section(&figures)?;
    section.push_str(&first(&program, "Rust", judge, directory_text, &nothing, 5.0)?);
    // A component of Python is too large for the repository; `examples/plugins/rubric/build.sh` makes one.
    match std::env::var(PYTHON_JUDGE) {
        Ok(python) => section.push_str(&first(&program, "Python", &python, directory_text, &nothing, 15.0)?),
        Err(_) => println!("no Python judge was measured: set {PYTHON_JUDGE} to its .wasm"),
    }
    write(&section)?;
    println!("{section}");
    Ok(())
}

fn build() -> Result<PathBuf> {
    let programs = build_release(&["--package", "dlm-plugins", "--example", "plugin_bench"])?;
    Ok(programs.join("examples/plugin_bench"))
}

/// Milliseconds of whole processes.
fn whole(program: &Path, arguments: &[&str]) -> Result<Vec<f64>> {
    let run = || -> Result<f64> {
        let started = Instant::now();
        let status = Command::new(program).args(arguments).status()?;
        ensure!(status.success(), "{} ended with {status}", program.display());
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    std::iter::repeat_with(run).take(RUNS).collect()
}

/// Names the file of a Python judge that asks for no grant.
const PYTHON_JUDGE: &str = "DLM_BENCH_PYTHON_JUDGE";

/// The rows of one installed judge: how long compiling took, and a whole process from nothing to its first verdict.
fn first(program: &Path, language: &str, judge: &str, home: &str, nothing: &[f64], most: f64) -> Result<String> {
    let output = Command::new(program).args(["install", judge, home]).output()?;
    ensure!(
        output.status.success(),
        "installing {judge}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let installed: Value = serde_json::from_slice(&output.stdout)?;
    let name = installed["name"].as_str().context("plugin_bench printed no name")?;
    let first = whole(program, &["first", name, home])?;
    let over = median(&first) - median(nothing);
    Ok(format!(
        "| {language}: compiled at install, ms | {:.0} | once, with a bar |\n\
         | {language}: whole process to the first verdict, installed and compiled, less an empty process, ms | {over:.2} (process: {}) | at most {most} |\n",
        installed["compile_ms"].as_f64().unwrap_or_default(),
        spread(&first)
    ))
}

fn section(figures: &Value) -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut out = format!(
        "{HEADING}\n\nWritten by `cargo xtask bench plugins`: a Rust judge of {} KB, medians of {RUNS}, smallest and largest in \
         brackets, load before the page was written {}.\n\n| what | median | target |\n|---|---|---|\n",
        std::fs::metadata(repository::root().join("tests/guests/test-judge/plugin.wasm"))?.len() / 1000,
        load.split(' ').next().unwrap_or("?"),
    );
    let table = figures.as_object().context("plugin_bench printed no object")?;
    for (name, values) in table {
        let values = numbers(values);
        let target = TARGETS.iter().find(|(of, _)| of == name);
        let target = target.map_or(String::new(), |(_, most)| format!("at most {most}"));
        out.push_str(&format!("| {name} | {} | {target} |\n", spread(&values)));
    }
    Ok(out)
}

fn write(section: &str) -> Result<()> {
    let path = repository::root().join("docs/internals/benchmarks.md");
    let page = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let before = page.split_once(HEADING).map_or(page.as_str(), |(before, _)| before);
    std::fs::write(&path, format!("{}\n\n{section}", before.trim_end()))?;
    Ok(())
}
