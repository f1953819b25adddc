//! `cargo xtask test`: everything that must hold before a change lands, in one command.
//!
//! Format, clippy, crate edges, licenses and versions, plugin hashes, every test of the workspace and of the guests' own logic,
//! the reference pages, and the golden files against a real base.
//! Prints one closing line that counts tests, and fails when any part failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{base, repository};

/// Runs every part, even after one has failed, so that one run shows all there is to mend.
pub fn run(arguments: &[String]) -> Result<()> {
    let quick = arguments.iter().any(|a| a == "--quick");
    let root = repository::root();
    std::env::set_current_dir(&root).context("entering the repository")?;
    let mut parts = Parts::default();
    parts.add("format", cargo(&["fmt", "--all", "--check"]));
    parts.add("edges", crate::edges::run(&[]));
    parts.add("deny", crate::deny::run(&[]));
    parts.add("plugins", crate::guests::run(&["--check".to_owned()]));
    parts.add(
        "clippy",
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    let base = base::find_or_fetch();
    match &base {
        Ok(path) => eprintln!("xtask test: real base {}", path.display()),
        Err(error) => eprintln!("xtask test: WITHOUT a real base ({error:#}); tests that need one are skipped"),
    }
    let mut counts = Counts::default();
    tests(&mut counts, &[], base.as_deref().ok())?;
    parts.add("format of guests", guests(&["fmt", "--all"], &["--check"]));
    parts.add(
        "clippy of guests",
        guests(&["clippy", "--workspace", "--all-targets"], &["--", "-D", "warnings"]),
    );
    tests(&mut counts, &GUESTS, None)?;
    parts.add("docs", crate::docs::run(&["--check".to_owned()]));
    if !quick {
        parts.add("golden", crate::golden::run(&[]));
    }
    let failed = counts.failed + parts.failed.len() as u64;
    println!(
        "{} passed, {failed} failed, {} skipped",
        counts.passed + parts.passed,
        counts.skipped
    );
    if failed == 0 {
        Ok(())
    } else {
        bail!("failed: {} tests, and {:?}", counts.failed, parts.failed)
    }
}

/// The parts beside the tests, each counted as one.
#[derive(Default)]
struct Parts {
    passed: u64,
    failed: Vec<String>,
}

impl Parts {
    fn add(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("xtask test: {name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }
}

/// The workspace of the guests, whose pure parts are tested on this machine.
const GUESTS: [&str; 2] = ["--manifest-path", "components/Cargo.toml"];
/// Where it is built: not in its own directory, whose files are hashed.
const GUESTS_TARGET: &str = "target/guests-native";

/// Runs cargo on the guests' workspace.
fn guests(before: &[&str], after: &[&str]) -> Result<()> {
    cargo(&[before, &GUESTS, after].concat())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new("cargo")
        .args(arguments)
        .envs(target_of(arguments))
        .status()
        .context("starting cargo")?;
    if status.success() {
        Ok(())
    } else {
        bail!("cargo {} ended with {status}", arguments.join(" "))
    }
}

/// The target directory of a command, where it is not the workspace's own.
fn target_of(arguments: &[&str]) -> Option<(&'static str, &'static str)> {
    arguments
        .contains(&GUESTS[1])
        .then_some(("CARGO_TARGET_DIR", GUESTS_TARGET))
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs a workspace's tests, passing their output on and adding up the closing lines.
fn tests(counts: &mut Counts, workspace: &[&str], base: Option<&std::path::Path>) -> Result<()> {
    let failed_before = counts.failed;
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(workspace)
        .envs(target_of(workspace))
        .stdout(Stdio::piped());
    if let Some(path) = base {
        command.env("DLM_TEST_BASE", path);
    }
    let mut child = command.spawn().context("starting cargo test")?;
    let stdout = child.stdout.take().context("reading cargo test")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading cargo test")?;
        println!("{line}");
        add_closing_line(counts, &line);
    }
    let status = child.wait().context("waiting for cargo test")?;
    if !status.success() && counts.failed == failed_before {
        bail!("cargo test ended with {status} before it ran every test");
    }
    Ok(())
}

/// Adds one `test result: ok. 3 passed; 0 failed; 1 ignored; ...` line.
fn add_closing_line(counts: &mut Counts, line: &str) {
    let Some(rest) = line.strip_prefix("test result: ") else {
        return;
    };
    let number = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    counts.passed += number("passed");
    counts.failed += number("failed");
    counts.skipped += number("ignored");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut counts = Counts::default();
        add_closing_line(
            &mut counts,
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        );
        add_closing_line(
            &mut counts,
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured",
        );
        add_closing_line(&mut counts, "test something ... ok");
        assert_eq!((counts.passed, counts.failed, counts.skipped), (5, 4, 1));
    }
}
