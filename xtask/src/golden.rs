//! `cargo xtask golden [--dir DIR]`: every golden file of a directory, a line a case, exit 1 on any miss.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{base, repository};

/// Runs the cases of `--dir`, or of `tests/golden`, on the real base where it can be had.
pub fn run(arguments: &[String]) -> Result<()> {
    let dir = match arguments {
        [] => repository::root().join("tests/golden"),
        [flag, dir] if flag == "--dir" => std::path::absolute(dir).context("--dir")?,
        _ => anyhow::bail!("usage: cargo xtask golden [--dir DIR]"),
    };
    ensure!(dir.is_dir(), "{} is not a directory", dir.display());
    let mut command = Command::new("cargo");
    command
        .args(["run", "--quiet", "--package", "dlm-tests", "--bin", "golden", "--"])
        .arg(&dir)
        .current_dir(repository::root());
    match base::find_or_fetch() {
        Ok(path) => {
            command.arg(path);
        }
        Err(error) => eprintln!("xtask golden: WITHOUT the real base ({error:#}); its cases are not run"),
    }
    let status = command.status().context("starting cargo")?;
    ensure!(status.success(), "some golden cases missed ({status})");
    Ok(())
}
