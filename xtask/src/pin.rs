//! `cargo xtask pin`: what a refactoring must not change, kept as digests.
//!
//! Tiny models and the real base are trained for twelve steps (LoRA and DoRA, f32 and bf16, with `--resume`), asked, scored
//! and exported; plugins are packed; reports, plans and refusals are printed. Every output is kept as a file below
//! `target/pin`, with what differs from run to run (times, rates, places) masked. `--record` keeps the outputs of the program
//! as it stands; without it, the outputs are compared with those, file by file. Sums in floating point differ between
//! processors, so a record is good for the machine that made it and is not committed.

mod mask;
mod scenario;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::program::{Program, target_directory};
use crate::{base, repository};

/// Runs the scenario; `--record` keeps its outputs, otherwise they are compared with the record.
///
/// `--program PATH` takes a program that is built already; `--record-in DIR` and `--against DIR` name another place for the
/// record, for instance another worktree's; `--tiny` leaves the real base out.
pub fn run(arguments: &[String]) -> Result<()> {
    let option = |name: &str| {
        let place = arguments.iter().position(|a| a == name)?;
        arguments.get(place + 1)
    };
    let record = target_directory().join("pin/record");
    let is_record = arguments.iter().any(|a| a == "--record");
    let before = option("--against").map_or(record.clone(), PathBuf::from);
    let outputs = if is_record {
        option("--record-in").map_or(record, PathBuf::from)
    } else {
        ensure!(
            before.is_dir(),
            "there is no record in {}; make one with the program as it was: `cargo xtask pin --record --program PATH`",
            before.display()
        );
        target_directory().join("pin/now")
    };
    let program = match option("--program") {
        Some(path) => Program::at(PathBuf::from(path), "pin-home")?,
        None => Program::build("pin-home")?,
    };
    let real = match arguments.iter().any(|a| a == "--tiny") {
        true => None,
        false => Some(base::find_or_fetch()?),
    };
    scenario::run(&program, real.as_deref(), &outputs)?;
    let now = digests(&outputs)?;
    if is_record {
        println!("pin: {} outputs are kept in {}", now.len(), outputs.display());
        return Ok(());
    }
    compare(&before, &outputs, &now, real.is_some())
}

/// Says which outputs changed, and fails when any did; those of the real base count where it was run.
fn compare(before: &Path, outputs: &Path, now: &BTreeMap<String, String>, has_real: bool) -> Result<()> {
    let mut kept = digests(before)?;
    kept.retain(|name, _| has_real || !name.starts_with(scenario::REAL_BASE));
    let mut problems = Vec::new();
    for (name, digest) in &kept {
        match now.get(name) {
            None => problems.push(format!("{name} is gone")),
            Some(other) if other != digest => problems.push(format!("{name} changed")),
            Some(_) => {}
        }
    }
    problems.extend(
        now.keys()
            .filter(|name| !kept.contains_key(*name))
            .map(|name| format!("{name} is new")),
    );
    if problems.is_empty() {
        println!("pin: {} outputs, all as recorded", now.len());
        return Ok(());
    }
    bail!(
        "{} of {} outputs are not as recorded:\n  {}\ncompare: diff -r {} {}",
        problems.len(),
        now.len(),
        problems.join("\n  "),
        before.display(),
        outputs.display()
    )
}

/// The digest of every file below a directory, by relative path.
fn digests(directory: &Path) -> Result<BTreeMap<String, String>> {
    repository::files_below(directory)?
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
            Ok((name, repository::sha256(&bytes)))
        })
        .collect()
}
