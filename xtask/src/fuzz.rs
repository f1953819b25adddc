//! `cargo xtask fuzz --minutes N [--only TARGET] [--jobs J]`: builds the fuzz targets with the address sanitizer and runs them.
//!
//! The minutes are spread over the targets, J of which run at a time; each has a budget of memory, of time for one input and of
//! input length. What is found lies under `target/fuzz-runs/TARGET`: `findings/`, and `inputs/`, which later runs begin with.
//!
//! Invariants: the pinned compiler builds them, the lock file is kept; a line a target, and failure where one has a finding. A
//! process that ends because foreign work passed its allowance, on which `dlm` ends too, is no finding: it is begun again.

mod output;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::output::Told;
use crate::repository;

/// Most memory of a target, in MiB; the sanitizer's own is part of it.
const MEMORY_MIB: u32 = 2560;
/// Longest time of one input in seconds, on a busy machine.
const INPUT_SECONDS: u32 = 60;
/// Longest input in bytes.
const INPUT_BYTES: usize = 16 << 10;
/// Targets whose seeds are longer.
const LONGER: &[(&str, usize)] = &[("gguf_model", 128 << 10), ("tokenizer", 32 << 10)];
/// A target with this many findings is not begun again.
const FINDINGS_MAX: usize = 8;
/// The exit code of a process that passed an allowance, as in `fuzz/src/lib.rs`.
const EXCESS: i32 = 88;

/// What `cargo fuzz` adds, but for `--cfg fuzzing`: what runs is what ships.
const FLAGS: &[&str] = &[
    "-Zsanitizer=address",
    "-Cforce-frame-pointers=yes",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];
/// Leaks are not looked for: what lives as long as the program counts as one. A null pointer for too much is what the program
/// would get, too. SQLite is instrumented by another compiler, whose variables look as if they were there twice.
const SANITIZER: &str = "detect_leaks=0:detect_odr_violation=0:allocator_may_return_null=1:quarantine_size_mb=16:detect_stack_use_after_return=0";

/// What was asked for.
struct Request {
    time: Duration,
    only: Option<String>,
    jobs: usize,
}

/// What a target did.
struct Outcome {
    target: String,
    told: Told,
    /// Times that it was begun again behind an allowance that was passed.
    excesses: usize,
    findings: Vec<PathBuf>,
}

/// Builds, runs, and prints a line a target.
pub fn run(arguments: &[String]) -> Result<()> {
    let request = request(arguments)?;
    let root = repository::root();
    let targets = targets(&root, request.only.as_deref())?;
    let host = repository::host()?;
    build(&root, &host, request.only.as_deref())?;
    let rounds = targets.len().div_ceil(request.jobs);
    let share = request.time / u32::try_from(rounds).context("counting the targets")?;
    let binaries = root.join("target/fuzz").join(host).join("release");
    let waiting: Mutex<VecDeque<&String>> = Mutex::new(targets.iter().collect());
    let next = || waiting.lock().ok()?.pop_front();
    let done = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while let Some(target) = next() {
                let outcome = fuzz(&root, &binaries.join(target), target, share)?;
                println!("{}", outcome.line());
                done.push(outcome);
            }
            Ok(done)
        };
        let jobs: Vec<_> = (0..request.jobs).map(|_| scope.spawn(work)).collect();
        let joined = jobs.into_iter().map(|job| job.join().expect("a job does not panic"));
        joined.collect::<Result<Vec<Vec<Outcome>>>>()
    })?;
    let all: Vec<Outcome> = done.into_iter().flatten().collect();
    let executions: u64 = all.iter().map(|outcome| outcome.told.executions).sum();
    let findings: Vec<&PathBuf> = all.iter().flat_map(|outcome| &outcome.findings).collect();
    println!(
        "{} targets, {executions} executions, {} findings",
        all.len(),
        findings.len()
    );
    if findings.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = findings.iter().map(|path| format!("    {}", path.display())).collect();
    bail!(
        "findings; mend the fault and keep the input below fuzz/corpus, where tests replay it:\n{}",
        shown.join("\n")
    )
}

impl Outcome {
    fn line(&self) -> String {
        format!(
            "{:<20} {:>11} executions  {:>6} new inputs  {:>3} beyond an allowance  {:>2} findings",
            self.target,
            self.told.executions,
            self.told.new_inputs,
            self.excesses,
            self.findings.len()
        )
    }
}

fn request(arguments: &[String]) -> Result<Request> {
    let (mut minutes, mut only, mut jobs) = (None, None, 1);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().with_context(|| format!("`{flag}` needs a value"))?;
        match flag.as_str() {
            "--minutes" => {
                minutes = Some(
                    value
                        .parse::<f64>()
                        .with_context(|| format!("`{value}` is no number"))?,
                )
            }
            "--only" => only = Some(value.clone()),
            "--jobs" => jobs = value.parse().with_context(|| format!("`{value}` is no number"))?,
            other => bail!("there is no flag `{other}`; --minutes N [--only TARGET] [--jobs J]"),
        }
    }
    let minutes = minutes.context("how long? `cargo xtask fuzz --minutes 30`")?;
    ensure!(minutes > 0.0 && jobs > 0, "minutes and jobs are above 0");
    Ok(Request {
        time: Duration::try_from_secs_f64(minutes * 60.0).context("reading --minutes")?,
        only,
        jobs,
    })
}

fn targets(root: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let files = repository::files_below(&root.join("fuzz/fuzz_targets"))?;
    let mut targets: Vec<String> = files.iter().filter_map(stem).collect();
    if let Some(only) = only {
        ensure!(
            targets.iter().any(|target| target == only),
            "there is no target `{only}`; there are {}",
            targets.join(", ")
        );
        targets.retain(|target| target == only);
    }
    Ok(targets)
}

fn build(root: &Path, host: &str, only: Option<&str>) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--locked"])
        // With a target named, the flags are not for build scripts.
        .args(["--target", host])
        .current_dir(root.join("fuzz"))
        // The flags of the sanitizer are not stable; the pinned compiler has them all the same.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env("CARGO_TARGET_DIR", root.join("target/fuzz"));
    match only {
        Some(target) => command.args(["--bin", target]),
        None => command.arg("--bins"),
    };
    let status = command.status().context("starting cargo")?;
    ensure!(
        status.success(),
        "the targets cannot be built ({status}): where a C++ compiler is missing, install Debian's `g++`; where the lock file is not \
         up to date, `cargo xtask edges` says what to type"
    );
    Ok(())
}

/// Runs one target for its share of the time.
fn fuzz(root: &Path, binary: &Path, target: &str, share: Duration) -> Result<Outcome> {
    let place = root.join("target/fuzz-runs").join(target);
    let (inputs, findings) = (place.join("inputs"), place.join("findings"));
    for directory in [&inputs, &findings] {
        std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let known = found(&findings)?;
    let mut outcome = Outcome {
        target: target.to_owned(),
        told: Told::default(),
        excesses: 0,
        findings: Vec::new(),
    };
    let mut log = std::fs::File::create(place.join("log")).context("writing a log")?;
    let until = Instant::now() + share;
    while let seconds @ 1.. = until.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64 {
        let mut command = Command::new(binary);
        command
            .arg(&inputs)
            .arg(root.join("fuzz/corpus").join(target))
            .args([
                format!("-max_total_time={seconds}"),
                format!("-rss_limit_mb={MEMORY_MIB}"),
                format!("-timeout={INPUT_SECONDS}"),
                format!("-max_len={}", input_bytes(target)),
                format!("-artifact_prefix={}/", findings.display()),
                "-print_final_stats=1".to_owned(),
            ])
            .args(dictionary(root, target))
            .env("ASAN_OPTIONS", SANITIZER)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let (code, told) = watch(command, &mut log)?;
        outcome.told.add(&told);
        outcome.findings = found(&findings)?
            .into_iter()
            .filter(|path| !known.contains(path))
            .collect();
        match code {
            Some(0) => break,
            Some(EXCESS) if !told.is_ready => bail!("a seed of {target} passes its allowance; it cannot be begun with"),
            Some(EXCESS) => outcome.excesses += 1,
            _ if outcome.findings.len() >= FINDINGS_MAX => break,
            // A process that ends without an input to show for it cannot be gone on with.
            _ if told.is_finding => {}
            code => bail!("{target} ended with {code:?}; {}", place.join("log").display()),
        }
    }
    Ok(outcome)
}

fn input_bytes(target: &str) -> usize {
    let longer = LONGER.iter().find(|(name, _)| *name == target);
    longer.map_or(INPUT_BYTES, |(_, bytes)| *bytes)
}

/// The words of a target's language, where it has one.
fn dictionary(root: &Path, target: &str) -> Option<String> {
    let path = root.join("fuzz/dictionaries").join(target);
    path.is_file().then(|| format!("-dict={}", path.display()))
}

/// Runs a process to its end, keeping what it says.
fn watch(mut command: Command, log: &mut std::fs::File) -> Result<(Option<i32>, Told)> {
    let mut child = command.spawn().context("starting a target")?;
    let mut told = Told::default();
    let said = BufReader::new(child.stderr.take().context("reading what a target says")?);
    for line in said.split(b'\n') {
        let line = line.context("reading what a target says")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(log, "{line}").context("writing a log")?;
        told.read(&line);
    }
    let status = child.wait().context("waiting for a target")?;
    Ok((status.code(), told))
}

/// The inputs that were kept because the target failed on them; a slow one is none.
fn found(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = repository::files_below(directory)?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["crash-", "oom-", "timeout-", "leak-"]
            .iter()
            .any(|kind| name.starts_with(kind))
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_wrong_ones_refused() {
        let read = |text: &str| request(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let asked = read("--minutes 0.5 --only wheel --jobs 2").unwrap();
        assert_eq!(
            (asked.time.as_secs(), asked.only.as_deref(), asked.jobs),
            (30, Some("wheel"), 2)
        );
        for wrong in [
            "",
            "--minutes",
            "--minutes x",
            "--minutes 0",
            "--minutes 1 --jobs 0",
            "--hours 1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_target_has_seeds_that_are_no_longer_than_its_inputs() {
        let root = repository::root();
        for target in targets(&root, None).unwrap() {
            let seeds = repository::files_below(&root.join("fuzz/corpus").join(&target)).unwrap();
            assert!(!seeds.is_empty(), "{target} has no seed");
            for seed in seeds {
                let bytes = std::fs::metadata(&seed).unwrap().len();
                assert!(bytes <= input_bytes(&target) as u64, "{} is cut", seed.display());
            }
        }
        assert!(targets(&root, Some("nothing")).is_err());
    }

    #[test]
    fn a_dictionary_belongs_to_a_target() {
        let root = repository::root();
        let known = targets(&root, None).unwrap();
        for path in repository::files_below(&root.join("fuzz/dictionaries")).unwrap() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(known.contains(&name), "{name}");
        }
    }
}
