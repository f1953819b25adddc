//! What must hold after a kill, and after the next run of the same command.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::scene::{DOCUMENT, DOCUMENT_ID, Ran, Scene, Stage};
use super::tree;
use crate::repository;

/// How long processes may take to notice that dlm is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// The record beside the files of an export.
const MANIFEST: &str = "export_manifest.json";
/// Locks by their file: without a holder they are none, and the next writer takes them.
const LOCKS: [&str; 2] = ["home/store/*/.lock", "home/cache/plugins/*/*.lock"];
/// Words of a crash.
const CRASHES: [&str; 3] = ["panicked at", "SIGSEGV", "stack overflow"];

/// What whole runs leave.
pub(super) struct Golden {
    /// The longer of two runs.
    pub duration: Duration,
    /// Names that are there after one run or two.
    names: BTreeSet<String>,
    before: Option<Vec<u8>>,
    /// The document after the command; none where two runs differ.
    after: Option<Vec<u8>>,
}

impl Golden {
    /// Runs the command to its end twice, and once more on top.
    pub(super) fn make(scene: &Scene, before: &Stage, root: &Path) -> Result<Golden> {
        // Not those from before: what a command removes must be gone.
        let mut names = BTreeSet::new();
        let mut duration = Duration::ZERO;
        let mut documents = Vec::new();
        for run in ["whole", "whole-too"] {
            let stage = before.copy(&root.join(run))?;
            let ran = stage.run(scene.command)?;
            ensure!(
                ran.code == 0,
                "the command itself ended with {}: {}",
                ran.code,
                ran.said
            );
            duration = duration.max(ran.time);
            names.extend(tree::names(&stage.root)?);
            documents.push(std::fs::read(stage.work(DOCUMENT)).ok());
            let next = stage.run(scene.command)?;
            ensure!(
                is_expected(scene, &next),
                "the command again ended with {}: {}",
                next.code,
                next.said
            );
            for then in scene.then {
                let ran = stage.run(then)?;
                ensure!(
                    ran.code == 0,
                    "{} ended with {}: {}",
                    then.join(" "),
                    ran.code,
                    ran.said
                );
            }
            // The checks open databases, which leaves files beside them.
            let mut flaws = Vec::new();
            opens(scene, &stage, "after whole runs", &mut flaws)?;
            ensure!(flaws.is_empty(), "{}", flaws.join("\n"));
            names.extend(tree::names(&stage.root)?);
            tree::clear(&stage.root)?;
        }
        let is_same = documents.first() == documents.last();
        let after = documents.pop().flatten().filter(|_| is_same);
        Ok(Golden {
            duration,
            names,
            before: std::fs::read(before.work(DOCUMENT)).ok(),
            after,
        })
    }

    /// What is wrong after a kill, and after the next run.
    pub(super) fn flaws(&self, scene: &Scene, stage: &Stage) -> Result<Vec<String>> {
        let mut flaws = Vec::new();
        self.document(stage, "after the kill", false, &mut flaws);
        opens(scene, stage, "after the kill", &mut flaws)?;
        let next = stage.run(scene.command)?;
        if !is_expected(scene, &next) {
            flaws.push(format!("the next run ended with {}: {}", next.code, short(&next)));
        }
        for then in scene.then {
            let ran = stage.run(then)?;
            if ran.code != 0 {
                flaws.push(format!(
                    "then `dlm {}` ended with {}: {}",
                    then.join(" "),
                    ran.code,
                    short(&ran)
                ));
            }
        }
        flaws.extend(left_running(stage));
        self.document(stage, "after the next run", true, &mut flaws);
        opens(scene, stage, "after the next run", &mut flaws)?;
        let left = tree::names(&stage.root)?.into_iter();
        let left = left.filter(|name| !self.names.contains(name) && !LOCKS.contains(&name.as_str()));
        flaws.extend(left.map(|name| format!("left after the next run: {name}")));
        Ok(flaws)
    }

    /// The document is the old one or the new one, and in the end the new one.
    fn document(&self, stage: &Stage, when: &str, is_end: bool, flaws: &mut Vec<String>) {
        let Some(after) = &self.after else {
            return;
        };
        let found = std::fs::read(stage.work(DOCUMENT)).ok();
        let is_old = !is_end && found == self.before;
        if !is_old && found.as_ref() != Some(after) {
            flaws.push(format!("{when} the document is neither the old one nor the new one"));
        }
    }
}

/// Store, document, adapter, export, bases and plugins open.
fn opens(scene: &Scene, stage: &Stage, when: &str, flaws: &mut Vec<String>) -> Result<()> {
    let mut ask = |arguments: &[&str]| -> Result<Option<Ran>> {
        let ran = stage.run(arguments)?;
        let is_crash = CRASHES.iter().any(|word| ran.said.contains(word));
        if ran.code == 0 && !is_crash {
            return Ok(Some(ran));
        }
        flaws.push(format!(
            "{when} `dlm {}` ended with {}: {}",
            arguments.join(" "),
            ran.code,
            short(&ran)
        ));
        Ok(None)
    };
    ask(&["base", "list"])?;
    ask(&["plugin", "verify"])?;
    for document in [DOCUMENT, "new.dlm"] {
        if stage.work(document).exists() {
            ask(&["check", document])?;
            ask(&["show", document, "--json"])?;
            ask(&["metrics", "show", document, "--json"])?;
        }
    }
    if scene.has_adapter {
        ask(&["prompt", DOCUMENT, "Who?", "--max-tokens", "2"])?;
    }
    flaws.extend(exports(stage)?.into_iter().map(|flaw| format!("{when} {flaw}")));
    Ok(())
}

/// What is wrong with the exports of the store: a directory that holds files and no manifest, or files that are not the manifest's.
fn exports(stage: &Stage) -> Result<Vec<String>> {
    let exports = stage.root.join("home/store").join(DOCUMENT_ID).join("exports");
    if !exports.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = repository::files_below(&exports)?;
    // What is written aside takes its place whole.
    let is_aside = |file: &Path| {
        file.strip_prefix(&exports)
            .is_ok_and(|name| name.to_string_lossy().starts_with('.'))
    };
    files.retain(|file| !is_aside(file));
    let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    let is_whole = |directory: &&Path| directory.join(MANIFEST).is_file();
    let roots: Vec<&Path> = directories.iter().copied().filter(is_whole).collect();
    let stray = directories
        .iter()
        .filter(|directory| !roots.iter().any(|root| directory.starts_with(root)));
    let stray = stray.map(|directory| format!("the export {} has no manifest", directory.display()));
    let wrong = roots.iter().filter_map(|root| export(root));
    Ok(stray.chain(wrong).collect())
}

/// An export that is there is whole: every file is the one that its manifest names.
fn export(directory: &Path) -> Option<String> {
    let read = || -> Result<Option<String>> {
        let bytes = std::fs::read(directory.join(MANIFEST)).context("reading the manifest")?;
        let manifest: Value = serde_json::from_slice(&bytes).context("reading the manifest")?;
        let artifacts = manifest["artifacts"].as_array().context("it lists no artifacts")?;
        for artifact in artifacts {
            let path = artifact["path"].as_str().context("an artifact without a path")?;
            let bytes = std::fs::read(directory.join(path)).with_context(|| path.to_owned())?;
            if artifact["sha256"] != repository::sha256(&bytes).as_str() {
                return Ok(Some(format!("the export's {path} is not the one of its manifest")));
            }
        }
        Ok(None)
    };
    read().unwrap_or_else(|error| Some(format!("the export's manifest: {error:#}")))
}

fn is_expected(scene: &Scene, ran: &Ran) -> bool {
    let is_crash = CRASHES.iter().any(|word| ran.said.contains(word));
    let is_done = scene
        .done
        .iter()
        .any(|done| done.code == ran.code && ran.said.contains(done.says));
    !is_crash && (ran.code == 0 || is_done)
}

fn short(ran: &Ran) -> String {
    let said = if ran.said.trim().is_empty() {
        &ran.out
    } else {
        &ran.said
    };
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines
        .iter()
        .rev()
        .take(3)
        .rev()
        .copied()
        .collect::<Vec<_>>()
        .join(" | ");
    last.chars().take(400).collect()
}

/// Processes that outlive the command: those of its program, and those that it started in the stage.
pub(super) fn left_running(stage: &Stage) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = running(stage);
        if found.is_empty() || Instant::now() > until {
            return found.into_iter().map(|line| format!("still runs: {line}")).collect();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn running(stage: &Stage) -> Vec<String> {
    let root = stage.root.display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let line = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let process = entry.path();
        let is_ours = std::fs::read_link(process.join("exe")).is_ok_and(|program| program == stage.binary());
        let is_here = std::fs::read_link(process.join("cwd")).is_ok_and(|place| place.starts_with(&root));
        let line = std::fs::read(process.join("cmdline")).ok()?;
        // One that has ended and was not waited for has no command line.
        let is_alive = !line.is_empty();
        ((is_ours || is_here) && is_alive).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    };
    entries.filter_map(line).collect()
}
