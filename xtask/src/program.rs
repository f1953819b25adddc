//! Builds and runs the release binary, as the demo, the teaching runs and the benchmarks do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::repository;

/// The built program with a home directory of its own.
pub struct Program {
    pub path: PathBuf,
    pub home: PathBuf,
}

/// One finished call.
pub struct Call {
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Builds the release binary and gives it an empty home below the target directory.
    pub fn build(home_name: &str) -> Result<Self> {
        Self::at(build_release(&["--package", "dlm-cli"])?.join("dlm"), home_name)
    }

    /// Takes a program that is built already and gives it an empty home below the target directory.
    pub fn at(path: PathBuf, home_name: &str) -> Result<Self> {
        ensure!(path.is_file(), "{} is not a program", path.display());
        let home = target_directory().join(home_name);
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("clearing {}", home.display()))?;
        }
        std::fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        Ok(Self { path, home })
    }

    /// Runs `dlm` and returns what it printed; its stderr is also shown when `is_shown`.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S], is_shown: bool) -> Result<Call> {
        let call = self.try_run(arguments, is_shown)?;
        call.map_err(|(status, stderr)| {
            let words: Vec<String> = arguments
                .iter()
                .map(|a| a.as_ref().to_string_lossy().into_owned())
                .collect();
            anyhow::anyhow!("dlm {} ended with {status}\n{stderr}", words.join(" "))
        })
    }

    /// Runs `dlm`; a failing exit status comes back with the error text.
    pub fn try_run<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        is_shown: bool,
    ) -> Result<std::result::Result<Call, (String, String)>> {
        let output = Command::new(&self.path)
            .args(arguments)
            .env("DLM_HOME", &self.home)
            .stdin(Stdio::null())
            .stderr(if is_shown { Stdio::inherit() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .with_context(|| format!("running {}", self.path.display()))?;
        let call = Call {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        Ok(if output.status.success() {
            Ok(call)
        } else {
            Err((output.status.to_string(), call.stderr))
        })
    }

    /// Runs `dlm` and reads its stdout as JSON.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: &[S], is_shown: bool) -> Result<Value> {
        let call = self.run(arguments, is_shown)?;
        serde_json::from_str(&call.stdout).with_context(|| format!("reading JSON from: {}", call.stdout))
    }

    /// Adds the real base under its registry key.
    pub fn add_base(&self, base: &Path) -> Result<()> {
        let arguments = [
            OsStr::new("base"),
            OsStr::new("add"),
            OsStr::new("smollm2-135m"),
            OsStr::new("--from"),
            base.as_os_str(),
        ];
        self.run(&arguments, false).map(drop)
    }
}

/// Builds in release what `arguments` of cargo name, and returns the directory of the programs.
pub fn build_release(arguments: &[&str]) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release"])
        .args(arguments)
        .current_dir(repository::root())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target_directory().join("release"))
}

/// The directory that cargo builds into.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository::root().join("target"), PathBuf::from)
}

/// Reads a number at a path of a JSON value.
pub fn number(value: &Value, pointer: &str) -> Result<f64> {
    match value.pointer(pointer).and_then(Value::as_f64) {
        Some(number) => Ok(number),
        None => bail!("the report has no number at {pointer}: {value}"),
    }
}
