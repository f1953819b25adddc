//! `cargo xtask vocabulary`: one word per idea. Refuses a second definition of a type whose words `dlm-core` owns, and the
//! ways in which two such types used to be joined.
//!
//! Invariants: reads the sources under `host/`, nothing else; an exception stands here with its reason or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::repository;

/// Types of the same name that mean something else, by the folder of their crate.
const OTHERS: &[(&str, &str, &str)] = &[
    ("Ending", "model", "whether a rendered conversation asks for an answer"),
    (
        "AdapterKind",
        "model",
        "the arithmetic of an adapter: QLoRA computes as LoRA does",
    ),
    (
        "Backend",
        "cli",
        "the words of the reference's `--backend`, which is not built",
    ),
];

/// What must not come back, with what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("same_word", "use the type of dlm-core on both sides"),
    ("TrainingKnobs", "use dlm_core::training::WrittenKnobs"),
    ("MetricsRunStatus", "use dlm_core::manifest::RunStatus"),
    ("HowEnded", "use dlm_core::training::Ending"),
    ("DeterminismClass", "use dlm_core::Determinism"),
    (
        "from_value(serde_json::to_value(",
        "use one type, or match on the variants",
    ),
    (
        ":?}\").to_lowercase()",
        "give the type a table of words (dlm_core::Choice)",
    ),
    (":?}\", self.", "give the type a table of words (dlm_core::Choice)"),
    ("fn gib(bytes", "use dlm_core::units::size"),
    ("fn mib(bytes", "use dlm_core::units::size"),
    ("} GB", "use dlm_core::units::size: sizes are said in GiB and MiB"),
    ("} MB", "use dlm_core::units::size: sizes are said in GiB and MiB"),
];

/// A word with hyphens turned into one with underscores joins two tables of words; these places make identifiers of Rust.
const IDENTIFIERS: &[&str] = &["packages/src/"];

/// Checks every source file under `host/`.
pub fn run(_arguments: &[String]) -> Result<()> {
    let problems = check(&repository::root().join("host"))?;
    if problems.is_empty() {
        println!("vocabulary: every choice is defined once");
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}

fn check(host: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    sources(host, &mut files)?;
    let mut texts = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file.strip_prefix(host).unwrap_or(&file).display().to_string();
        texts.push((name, text));
    }
    let owned: Vec<&str> = texts
        .iter()
        .filter(|(file, _)| file.starts_with("core/src/"))
        .flat_map(|(_, text)| text.lines().filter_map(|line| line.strip_prefix("impl Choice for ")))
        .filter_map(|rest| rest.strip_suffix(" {"))
        .collect();
    if owned.is_empty() {
        bail!("host/core/src holds no `impl Choice for`");
    }
    let problems = texts
        .iter()
        .flat_map(|(file, text)| problems(file, text, &owned))
        .collect();
    Ok(problems)
}

/// What is wrong in one file.
fn problems(file: &str, text: &str, owned: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut report = |what: &str| problems.push(format!("host/{file}:{}: {what}", index + 1));
        for (banned, instead) in BANNED {
            if line.contains(banned) {
                report(&format!("`{banned}`: {instead}"));
            }
        }
        let makes_identifier = IDENTIFIERS.iter().any(|place| file.starts_with(place));
        if line.contains(".replace('-', \"_\")") && !makes_identifier {
            report("joins two tables of words; use the type of dlm-core on both sides");
        }
        if let Some(name) = enum_name(line)
            && owned.contains(&name)
            && !file.starts_with("core/src/")
            && !OTHERS
                .iter()
                .any(|(other, folder, _)| *other == name && file.starts_with(&format!("{folder}/")))
        {
            report(&format!("`{name}` is defined in dlm-core"));
        }
    }
    problems
}

/// The name of the enum that a line begins to define.
fn enum_name(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let rest = rest
        .strip_prefix("pub(crate) ")
        .or_else(|| rest.strip_prefix("pub "))
        .unwrap_or(rest);
    rest.strip_prefix("enum ")?.split([' ', '<', '{']).next()
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_holds_one_definition_of_each_choice() {
        let problems = check(&repository::root().join("host")).expect("sources");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn a_copy_a_bridge_and_a_decimal_size_are_found() {
        let check = |file: &str, line: &str| problems(file, line, &["Quant", "AdapterKind"]).len();
        assert_eq!(check("plan/src/export.rs", "pub enum Quant {"), 1);
        assert_eq!(check("core/src/quant.rs", "pub enum Quant {"), 0);
        assert_eq!(check("model/src/adapter.rs", "pub enum AdapterKind {"), 0);
        assert_eq!(check("train/src/adapter.rs", "enum AdapterKind {"), 1);
        assert_eq!(check("plan/src/export.rs", "pub enum QuantError {"), 0);
        let bridge = "let class = word.replace('-', \"_\");";
        assert_eq!(check("flow/src/train.rs", bridge), 1);
        assert_eq!(check("packages/src/new.rs", bridge), 0);
        assert_eq!(check("cli/src/render.rs", "format!(\"{bytes} GB\")"), 1);
    }
}
