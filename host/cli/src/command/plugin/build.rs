//! `dlm plugin build`: runs the build command of `plugin.toml` with the tools that this machine has, and packs what it leaves.
//!
//! Invariants: nothing of this machine stands in the project, so that it builds on another one too; a tool that is missing is
//! named with the command that brings it, before anything is run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, ValueHint};
use dlm_core::Cancel;
use dlm_core::inert::inert;
use dlm_packages::error::{FilesError, PackError, PackageError};
use dlm_packages::new::bringing;
use dlm_packages::pack::{AUTHOR_FILE, PackOptions, PackedPlugin, author, pack, write};

use super::sources::{Sources, built_file};
use crate::console::Console;
use crate::{environment, program, render, wiring};

/// `dlm plugin build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Directory of plugin.toml
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// Where a Python environment and Node's packages keep their programs, in a project.
const TOOL_DIRECTORIES: [&str; 2] = [".venv/bin", "node_modules/.bin"];
/// The compilers that a Makefile of `dlm plugin new` takes.
const CLANGS: [&str; 7] = [
    "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang",
];
/// What Debian calls the linker of WebAssembly, newest first.
const DEBIAN_LINKERS: [&str; 3] = ["wasm-ld-19", "wasm-ld-16", "wasm-ld"];
/// What guests in Rust are built for.
const RUST_TARGET: &str = "wasm32-unknown-unknown";
/// Builds and packs a project.
pub(super) fn run(args: &BuildArgs, console: &Console) -> Result<ExitCode, PackageError> {
    let cancel = wiring::cancel_on_interrupt().map_err(|error| FilesError {
        action: "build in",
        path: args.dir.clone(),
        source: std::io::Error::other(error.error.to_string()),
    })?;
    let packed = build(&args.dir, console, &cancel)?;
    console.info(&render::plugin::packed(&packed));
    Ok(ExitCode::SUCCESS)
}

/// Builds, where `plugin.toml` says how, and packs.
pub(super) fn build(directory: &Path, console: &Console, cancel: &Cancel) -> Result<PackedPlugin, PackageError> {
    if let Some(line) = author(directory)?.build_command {
        let environment = tools(directory, &line)?;
        console.info(&format!("plugin: {}", inert(&line)));
        let shell = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let status = program::run(
            shell.0.as_ref(),
            &[shell.1, &line],
            Some(directory),
            &environment,
            cancel,
        );
        let status = status.map_err(|source| FilesError {
            action: "run the build in",
            path: directory.to_owned(),
            source,
        })?;
        if cancel.is_cancelled() {
            return Err(PackageError::Cancelled);
        }
        if !status.success() {
            return Err(failed(directory, format!("its build ended with {status}"), None).into());
        }
    }
    packed(directory, console)
}

/// Packs what a build left.
fn packed(directory: &Path, console: &Console) -> Result<PackedPlugin, PackageError> {
    let packed = pack(&options(directory)?)?;
    packed.remarks.iter().for_each(|remark| console.warning(remark));
    write(&packed)?;
    Ok(packed)
}

/// Packs with the file that the build leaves, wherever cargo puts it.
pub(super) fn options(directory: &Path) -> Result<PackOptions, PackageError> {
    let wasm = author(directory)?.build_wasm;
    Ok(PackOptions {
        directory: directory.to_owned(),
        wasm: wasm.map(|wasm| built_file(directory, &wasm)),
        out: None,
    })
}

/// Builds and packs the project of `file` where its sources are newer, and packs where only the built file is.
pub(super) fn refresh(file: &Path, console: &Console, cancel: &Cancel) -> Result<(), PackageError> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.join(AUTHOR_FILE).is_file() {
        return Ok(());
    }
    let author = author(directory)?;
    if file.file_stem().and_then(|stem| stem.to_str()) != Some(&author.manifest.name) {
        return Ok(());
    }
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let packed_at = changed(file);
    let is_newer = |time: SystemTime| packed_at.is_none_or(|packed_at| time > packed_at);
    if author.build_command.is_some()
        && let Some(source) = Sources::of(directory)
            .newest_source(directory)
            .filter(|(_, time)| is_newer(*time))
    {
        console.info(&format!(
            "plugin: {} is newer than {}; building (--no-build tests the file as it is)",
            inert(&source.0.display().to_string()),
            inert(&file.display().to_string())
        ));
        return build(directory, console, cancel).map(drop);
    }
    let built = author.build_wasm.map(|wasm| built_file(directory, &wasm));
    if let Some(built) = built.filter(|built| changed(built).is_some_and(is_newer)) {
        console.info(&format!(
            "plugin: {} is newer than {}; packing (--no-build tests the file as it is)",
            inert(&built.display().to_string()),
            inert(&file.display().to_string())
        ));
        return packed(directory, console).map(drop);
    }
    Ok(())
}

/// What the environment of a build holds besides the user's.
///
/// **Errors**: a tool that the command begins with is missing.
fn tools(directory: &Path, line: &str) -> Result<Vec<(OsString, OsString)>, PackageError> {
    let own = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let mut path: Vec<PathBuf> = TOOL_DIRECTORIES
        .iter()
        .map(|tools| own.join(tools))
        .filter(|tools| tools.is_dir())
        .collect();
    let inherited = environment::path("PATH").map(|path| path.value).unwrap_or_default();
    path.extend(std::env::split_paths(&inherited));
    let is_here = |name: &str| path.iter().any(|directory| directory.join(name).is_file());
    let missing = |program: &str| {
        let hint = bringing(program).map(str::to_owned);
        let cause = format!("its build needs `{program}`, which is not here");
        failed(directory, cause, hint)
    };
    let programs: Vec<&str> = line.split(['&', ';', '|']).map(program_of).collect();
    let mut known = programs.iter().filter(|program| bringing(program).is_some());
    if let Some(program) = known.find(|program| !is_here(program)) {
        return Err(missing(program).into());
    }
    let program = programs.first().copied().unwrap_or_default();
    let mut environment = Vec::new();
    match program {
        "make" if !CLANGS.into_iter().any(is_here) => return Err(missing("clang").into()),
        "npm" if !own.ancestors().any(|above| above.join("node_modules").is_dir()) => {
            let hint = Some("npm install".to_owned());
            return Err(failed(directory, "its packages are not here".to_owned(), hint).into());
        }
        "cargo" if line.contains(RUST_TARGET) && !has_target("rustc") => {
            let Some(linker) = debian_linker() else {
                let hint = Some(format!("rustup target add {RUST_TARGET}"));
                let cause = format!("the Rust on your PATH has no target `{RUST_TARGET}`");
                return Err(failed(directory, cause, hint).into());
            };
            path.insert(0, PathBuf::from("/usr/bin"));
            let set = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
            environment.extend([
                set("RUSTC", "/usr/bin/rustc"),
                // Its own standard library is built from Debian's sources.
                set("RUSTC_BOOTSTRAP", "1"),
                set("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort"),
                set("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker),
            ]);
        }
        _ => {}
    }
    if let Ok(path) = std::env::join_paths(path) {
        environment.push(("PATH".into(), path));
    }
    Ok(environment)
}

/// The program that a command begins with, behind variables that are set for it.
fn program_of(command: &str) -> &str {
    let mut words = command.split_whitespace().filter(|word| !word.contains('='));
    words.next().unwrap_or_default()
}

fn failed(directory: &Path, cause: String, hint: Option<String>) -> PackError {
    PackError {
        path: directory.to_owned(),
        cause,
        hint,
    }
}

/// Says whether a compiler has the standard library of plugins.
fn has_target(rustc: &str) -> bool {
    asked(rustc, &["target-libdir", "--target", RUST_TARGET]).is_some_and(|library| library.is_dir())
}

/// The linker of Debian's Rust, where Debian's sources of the standard library are here too.
fn debian_linker() -> Option<&'static str> {
    let sysroot = asked("/usr/bin/rustc", &["sysroot"])?;
    let has_sources = sysroot.join("lib/rustlib/src/rust/library").is_dir();
    let mut linkers = DEBIAN_LINKERS.into_iter();
    let linker = linkers.find(|linker| Path::new("/usr/bin").join(linker).is_file());
    linker.filter(|_| has_sources)
}

fn asked(rustc: &str, what: &[&str]) -> Option<PathBuf> {
    let answer = program::command(rustc).args(["--print"]).args(what).output().ok()?;
    Some(PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim()))
}
