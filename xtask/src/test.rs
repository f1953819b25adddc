//! `cargo xtask test`: everything that must hold before a change lands, in one command.
//!
//! Format, clippy, crate edges, licenses and versions, plugin hashes, every test of the workspace and of the guests' own logic,
//! the cases from the field, the reference pages, and the golden files against a real base.
//! Prints the slowest tests and one closing line that counts tests, and fails when any part failed. A test that needs what is
//! not here, such as a real base, counts as skipped: it is marked `#[ignore]` with the reason.

mod outcome;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use self::outcome::Outcome;
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
    let runner = Runner::find();
    let mut outcome = Outcome::default();
    parts.add("tests", runner.tests(&mut outcome, &[], base.as_deref().ok()));
    parts.add("format of guests", guests(&["fmt", "--all"], &["--check"]));
    parts.add(
        "clippy of guests",
        guests(&["clippy", "--workspace", "--all-targets"], &["--", "-D", "warnings"]),
    );
    parts.add("tests of guests", runner.tests(&mut outcome, &GUESTS, None));
    parts.add("cases", crate::cases::run(&[]));
    parts.add("docs", crate::docs::run(&["--check".to_owned()]));
    if !quick {
        parts.add("golden", crate::golden::run(&[]));
    }
    if runner == Runner::Nextest {
        println!("the slowest tests:\n{}", outcome.slowest(SLOWEST).join("\n"));
    }
    let failed = outcome.failed + parts.failed.len() as u64;
    println!(
        "{} passed, {failed} failed, {} skipped",
        outcome.passed + parts.passed,
        outcome.skipped
    );
    if failed == 0 {
        Ok(())
    } else {
        bail!("failed: {} tests, and {:?}", outcome.failed, parts.failed)
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

/// How many of the slowest tests are told.
const SLOWEST: usize = 10;

/// What some tests need beside the base: the variable that names it, and what their names have in common.
const OTHERS: &[(&str, &str)] = &[
    ("DLM_TEST_LLAMA_SERVER", "with_llama_server"),
    ("DLM_TEST_GEMMA", "the_real_gemma"),
    (crate::interop::LLAMA_CPP, "with_llama_cpp"),
    (crate::interop::PEFT, "with_peft"),
];

/// What runs the tests: nextest where it is installed, else cargo's own runner, which knows no limit of time.
#[derive(Clone, Copy, PartialEq)]
enum Runner {
    Nextest,
    Cargo,
}

impl Runner {
    fn find() -> Runner {
        let version = Command::new("cargo").args(["nextest", "--version"]).output();
        if version.is_ok_and(|output| output.status.success()) {
            return Runner::Nextest;
        }
        eprintln!(
            "xtask test: cargo-nextest is not installed, so `cargo test` runs the tests, without a limit of time and without \
             the list of the slowest; `cargo install cargo-nextest --locked`"
        );
        Runner::Cargo
    }

    /// Runs a workspace's tests and adds them up; without a base, those that need one are left out and counted as skipped.
    fn tests(self, outcome: &mut Outcome, workspace: &[&str], base: Option<&Path>) -> Result<()> {
        let all: &[&str] = match base {
            Some(_) => &["--", "--include-ignored"],
            None => &[],
        };
        let absent = |(variable, _): &&(&str, &str)| std::env::var_os(variable).is_none();
        let others = OTHERS.iter().filter(|_| base.is_some()).filter(absent);
        let other: Vec<&str> = others.flat_map(|(_, name)| ["--skip", name]).collect();
        match self {
            Runner::Cargo => {
                let arguments = [&["test", "--workspace", "--no-fail-fast"], workspace, all, &other].concat();
                counted(outcome, &arguments, base)
            }
            Runner::Nextest => {
                let run = ["nextest", "run", "--workspace", "--no-fail-fast", "--color", "never"];
                let told = ["--status-level", "pass", "--config-file", NEXTEST_CONFIG];
                let arguments = [&run[..], &told, workspace, all, &other].concat();
                counted(outcome, &arguments, base)?;
                // Nextest runs no examples of the documentation.
                let arguments = [&["test", "--workspace", "--no-fail-fast", "--doc"], workspace].concat();
                counted(outcome, &arguments, base)
            }
        }
    }
}

/// Read from here also for the guests, whose workspace is another directory.
const NEXTEST_CONFIG: &str = ".config/nextest.toml";

/// Runs one command of cargo, passing its output on and adding up what it tells.
fn counted(outcome: &mut Outcome, arguments: &[&str], base: Option<&Path>) -> Result<()> {
    let failed_before = outcome.failed;
    let mut command = Command::new("cargo");
    command.args(arguments).envs(target_of(arguments));
    if let Some(path) = base {
        command.env("DLM_TEST_BASE", path);
    }
    // Nextest tells everything on stderr, the harness its results on stdout.
    let is_nextest = arguments.first() == Some(&"nextest");
    match is_nextest {
        true => command.stderr(Stdio::piped()),
        false => command.stdout(Stdio::piped()),
    };
    let mut child = command.spawn().context("starting cargo")?;
    let told: Box<dyn Read> = match is_nextest {
        true => Box::new(child.stderr.take().context("reading the tests' output")?),
        false => Box::new(child.stdout.take().context("reading the tests' output")?),
    };
    for line in BufReader::new(told).lines() {
        let line = line.context("reading the tests' output")?;
        println!("{line}");
        outcome.read(&line);
    }
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() && outcome.failed == failed_before {
        bail!("cargo {} ended with {status} before it ran every test", arguments[0]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bans of `clippy.toml` hold where a crate asks for them, so every crate of the program must.
    #[test]
    fn every_crate_of_the_program_asks_for_the_bans() {
        let host = repository::root().join("host");
        for entry in std::fs::read_dir(host).unwrap() {
            let crate_root = entry.unwrap().path().join("src");
            let head = ["lib.rs", "main.rs"].map(|name| crate_root.join(name));
            let head = head.iter().find(|path| path.is_file()).unwrap();
            let text = std::fs::read_to_string(head).unwrap();
            let is_asking = text.contains("#![cfg_attr(not(test), warn(clippy::disallowed_methods))]");
            assert!(
                is_asking || head.starts_with(repository::root().join("host/testkit")),
                "{}",
                head.display()
            );
        }
    }
}
