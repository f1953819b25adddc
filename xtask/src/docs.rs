//! `cargo xtask docs`: writes `docs/reference` out of what the program says of itself; `--check` refuses stale pages.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

/// Writes the pages, or compares them.
pub fn run(arguments: &[String]) -> Result<()> {
    let is_check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask docs [--check]"),
    };
    let pages = pages()?;
    let directory = repository::root().join("docs/reference");
    let old = repository::files_below(&directory).unwrap_or_default();
    let is_known = |path: &std::path::Path| pages.keys().any(|name| directory.join(name) == path);
    let left_over: Vec<_> = old.iter().filter(|path| !is_known(path)).collect();
    if !is_check {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for path in left_over {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        for (name, text) in &pages {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("docs: wrote {} pages to docs/reference", pages.len());
        return Ok(());
    }
    let is_fresh = |name: &str, text: &str| std::fs::read_to_string(directory.join(name)).is_ok_and(|old| old == text);
    let stale: Vec<&str> = pages
        .iter()
        .filter(|(name, text)| !is_fresh(name, text))
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(
        stale.is_empty() && left_over.is_empty(),
        "docs/reference is stale ({}); run `cargo xtask docs`",
        if stale.is_empty() {
            "a page too many".to_owned()
        } else {
            stale.join(", ")
        }
    );
    println!("docs: {} pages say what the program does", pages.len());
    Ok(())
}

/// Asks the program, built as the tests build it.
fn pages() -> Result<BTreeMap<String, String>> {
    let output = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--package",
            "dlm-cli",
            "--bin",
            "dlm",
            "--",
            "__reference",
        ])
        .current_dir(repository::root())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("starting cargo run")?;
    ensure!(
        output.status.success(),
        "`dlm __reference` ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("`dlm __reference` printed no pages")
}
