//! `dlm plugin test`: the cases of a plugin, and the checks that need none, through the real host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueHint};
use dlm_core::Cancel;
use dlm_core::inert::inert;
use dlm_files::{Disk, DiskError};
use dlm_flow::synth::{sample_problem, sample_request};
use dlm_packages::error::{FilesError, PackError, PackageError};
use dlm_packages::inspect::is_file_name;
use dlm_packages::pack::author;
use dlm_packages::selector::Selector;
use dlm_plugins::NativeProcess;
use dlm_plugins::trial::{Bench, CaseFile, CaseReport, Standing, Trial, Uses};
use serde_json::json;

use super::{Manager, build, rounds};
use crate::console::Console;
use crate::{render, wiring};

/// `dlm plugin test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// A .wasm file with cases/ beside it, or the name of a plugin
    #[arg(value_name = "NAME|FILE")]
    pub plugin: String,
    /// Run this case instead of those beside the plugin (repeatable)
    #[arg(long = "case", value_name = "F", value_hint = ValueHint::FilePath)]
    pub cases: Vec<PathBuf>,
    /// Write what was found into the cases that fail
    #[arg(long, conflicts_with = "bench")]
    pub update: bool,
    /// Test the file as it is, also where its sources are newer
    #[arg(long, conflicts_with = "watch")]
    pub no_build: bool,
    /// Build, pack and test again at every change of the project
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Measure start and call of each case
    #[arg(long)]
    pub bench: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Largest case file.
const CASE_BYTES_MAX: u64 = 16 << 20;
/// Instances and calls that `--bench` measures.
const ROUNDS: usize = 101;
/// Tests a plugin, once or at every change.
pub(super) fn run(args: &TestArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    if !args.watch {
        if is_file_name(&args.plugin) && !args.no_build {
            build::refresh(&manager.finder.resolve(&args.plugin), console, &Cancel::new())?;
        }
        return once(args, manager, console);
    }
    let directory = project(args, manager)?;
    rounds::watch(&directory, console, &|| once(args, manager, console))
}

fn once(args: &TestArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let scratch = tempfile::Builder::new().prefix("dlm-plugin-test-").tempdir();
    let scratch = scratch.map_err(|source| FilesError {
        action: "make a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let typed = match is_file_name(&args.plugin) {
        // A path selector begins with its directory.
        true => absolute(&manager.finder.resolve(&args.plugin))?.display().to_string(),
        false => args.plugin.clone(),
    };
    let plugin = Selector::parse(&typed)
        .map_err(PackageError::from)
        .and_then(|selector| manager.finder.find(&selector, None))
        .map_err(|error| manager.finder.explain(&args.plugin, error))?;
    let files = cases(args, plugin.path.as_deref())?;
    let trial = Trial {
        plugin,
        places: manager.places().clone(),
        scratch: scratch.path().to_owned(),
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
        compile: wiring::plugins::compile(manager.home()),
        compiler: Arc::new(NativeProcess::new(Vec::new(), Vec::new())),
        uses: Uses {
            teacher_request: sample_request,
            teacher_problem: sample_problem,
            template_problem: dlm_flow::templates::problem,
        },
    };
    let read: Vec<CaseFile> = files.iter().map(|(_, file)| file.clone()).collect();
    let reports: Vec<CaseReport> = read.iter().map(|file| trial.run(file)).collect();
    if args.update {
        update(&trial, &files, &reports, console)?;
        return Ok(ExitCode::SUCCESS);
    }
    let standing: Vec<Standing> = trial.standing(&read, &reports);
    for (check, shown) in standing.iter().filter_map(|check| Some((check, check.shown.as_ref()?))) {
        if check.problem.is_none() {
            console.detail(&format!("{}:\n{}", check.name, inert(shown)));
        }
    }
    let mut benches: Vec<Result<Bench, String>> = Vec::new();
    if args.bench {
        benches = read.iter().map(|file| trial.bench(file, ROUNDS)).collect();
    }
    let is_passed = reports.iter().all(CaseReport::is_passed) && standing.iter().all(|check| check.problem.is_none());
    match args.json {
        true => console.json(&json!({
            "plugin": trial.plugin.manifest.name,
            "version": trial.plugin.manifest.version,
            "passed": is_passed,
            "cases": reports,
            "standing": standing,
            "bench": benches.iter().filter_map(|bench| bench.as_ref().ok()).collect::<Vec<_>>(),
        })),
        false => console.result(&render::plugin::trial(
            &trial.plugin.manifest,
            &reports,
            &standing,
            &benches,
        )),
    }
    Ok(match is_passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}

/// Writes what was found into the cases that fail; those that pass stay as their author wrote them.
fn update(
    trial: &Trial,
    files: &[(PathBuf, CaseFile)],
    reports: &[CaseReport],
    console: &Console,
) -> Result<(), PackageError> {
    if files.is_empty() {
        console.warning("no case was found, so none was written: name one with --case");
    }
    for ((path, file), report) in files.iter().zip(reports) {
        if report.is_passed() {
            console.info(&format!("plugin: {} passes", path.display()));
            continue;
        }
        let text = trial.updated(file).map_err(|cause| PackError {
            path: path.clone(),
            cause: format!("it has no answer yet: {cause}"),
            hint: None,
        })?;
        if text == file.text {
            console.info(&format!("plugin: {} says it already", path.display()));
            continue;
        }
        Disk::new().write(path, text.as_bytes()).map_err(|error| FilesError {
            action: "write",
            path: path.clone(),
            source: error.into_io(),
        })?;
        console.info(&format!("plugin: wrote what was found into {}", path.display()));
    }
    Ok(())
}

/// The case files: those that were named, else `cases/` beside the plugin's file.
fn cases(args: &TestArgs, plugin: Option<&Path>) -> Result<Vec<(PathBuf, CaseFile)>, FilesError> {
    let mut paths = args.cases.clone();
    if paths.is_empty() {
        let directory = plugin.and_then(Path::parent).map(|directory| directory.join("cases"));
        let entries = directory.and_then(|directory| std::fs::read_dir(directory).ok());
        paths = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
    }
    let read = |path: PathBuf| {
        let text = dlm_files::read_text_required(&path, CASE_BYTES_MAX).map_err(|error| FilesError {
            action: "read",
            path: path.clone(),
            source: match error {
                DiskError::TooLarge { .. } => std::io::Error::other("it is larger than 16 MiB"),
                error => error.into_io(),
            },
        })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok((
            path,
            CaseFile {
                name: inert(&name),
                text,
            },
        ))
    };
    paths.into_iter().map(read).collect()
}

/// The directory of the sources, for `--watch`.
fn project(args: &TestArgs, manager: &Manager) -> Result<PathBuf, PackageError> {
    let file = manager.finder.resolve(&args.plugin);
    let directory = file.parent().map(Path::to_owned).unwrap_or_default();
    let directory = if directory.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        directory
    };
    author(&directory)?;
    Ok(directory)
}

fn absolute(path: &Path) -> Result<PathBuf, FilesError> {
    std::path::absolute(path).map_err(|source| FilesError {
        action: "find",
        path: path.to_owned(),
        source,
    })
}
