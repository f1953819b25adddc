//! `cargo xtask races`: the tests of the kernels, whose threads share memory by hand, under the thread sanitizer.
//!
//! The standard library is not instrumented: its source is not here, so what it synchronizes is seen where it is compiled into our
//! crate or goes through the system's threads, and its own channel below the test harness is left out of the reports.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::repository;

/// The flags of the sanitizer are not stable; the pinned compiler has them all the same.
const FLAGS: &str = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer";
/// Reports that are none: the harness's, whose channel is the standard library's.
const SUPPRESSIONS: &str = "race:std::sync::mpmc\nrace:test::\n";
/// The exit code of a test program with a report.
const REPORTED: i32 = 66;

/// Builds and runs them.
pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "there are no arguments");
    let place = repository::root().join("target/races");
    std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
    let suppressions = place.join("suppressions");
    std::fs::write(&suppressions, SUPPRESSIONS).context("writing the suppressions")?;
    for program in build(&place)? {
        let status = Command::new(&program)
            .env(
                "TSAN_OPTIONS",
                format!("suppressions={} exitcode={REPORTED}", suppressions.display()),
            )
            .status()
            .with_context(|| format!("starting {}", program.display()))?;
        ensure!(
            status.code() != Some(REPORTED),
            "the sanitizer saw a race; the report is above"
        );
        ensure!(status.success(), "the tests ended with {status}");
    }
    println!("races: none in the tests of dlm-kernels");
    Ok(())
}

/// Builds the tests; returns the programs.
fn build(place: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("cargo")
        .args([
            "test",
            "-p",
            "dlm-kernels",
            "--lib",
            "--no-run",
            "--message-format",
            "json",
        ])
        // With a target named, the flags are not for build scripts.
        .args(["--target", &repository::host()?])
        .current_dir(repository::root())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", place)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "the tests cannot be built ({})", output.status);
    let told = String::from_utf8_lossy(&output.stdout);
    let programs = told.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    let programs: Vec<PathBuf> = programs.collect();
    ensure!(!programs.is_empty(), "cargo names no test program");
    Ok(programs)
}
