//! `cargo xtask cases [DIR] [--binary PATH] [--only TEXT]`: inputs from the field, each run through the program and held
//! against what was written down for it.
//!
//! A case is a folder with a script `cmd`, which is run as `DLM=path bash cmd`; `attacks/` holds more of them, `lib/` is help. What is
//! right stands in `expect.toml` beside `cmd`, or under the same name in `tests/cases` of the repository, so that a
//! directory that may not be written to can be run. A case without either must at least end in time, without a panic,
//! a crash or a raw control character on the screen.
//!
//! Invariants: nothing is written into DIR: the cases run in a copy, each with a home of its own.

mod expectation;
mod place;
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use self::expectation::Expectation;
use self::place::Place;
use crate::{program, repository};

/// Where cases and expectations of the repository lie.
pub(crate) const DIRECTORY: &str = "tests/cases";

/// What was asked for.
struct Request {
    directory: PathBuf,
    binary: Option<PathBuf>,
    /// Cases whose name holds this text; all without one.
    only: Option<String>,
}

/// One case of a directory.
struct Case {
    /// `01-name`, or `attacks/name`.
    name: String,
    expectation: Expectation,
}

/// Runs the cases of a directory and prints a line each.
pub fn run(arguments: &[String]) -> Result<()> {
    let request = request(arguments)?;
    let binary = match &request.binary {
        Some(path) => std::path::absolute(path).context("finding the program")?,
        None => built()?,
    };
    ensure!(binary.is_file(), "{} is not a program", binary.display());
    let cases = find(&request)?;
    ensure!(!cases.is_empty(), "{} holds no case", request.directory.display());
    let place = Place::make(&request.directory, &binary)?;
    let (left, run): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.expectation.left_out.is_some());
    let mut failed = 0;
    for case in &run {
        failed += usize::from(!run_one(case, &place)?);
    }
    for case in &left {
        let reason = case.expectation.left_out.as_deref().unwrap_or_default();
        println!("left  {:<44} {reason}", case.name);
    }
    // What was not run does not count as holding.
    println!(
        "{} of {} cases hold, {} left out",
        run.len() - failed,
        run.len(),
        left.len()
    );
    ensure!(failed == 0, "{failed} of {} cases do not hold", run.len());
    Ok(())
}

/// Runs a case and prints its line; says whether it holds.
fn run_one(case: &Case, place: &Place) -> Result<bool> {
    let told = |word: &str, what: &str| println!("{word:<5} {:<44} {what}", case.name);
    let prepared = place
        .prepare(case)
        .with_context(|| format!("preparing {}", case.name))?;
    let outcome = process::run(&prepared.command(), &case.expectation.limits())
        .with_context(|| format!("running {}", case.name))?;
    let flaws = case.expectation.flaws(&outcome, &prepared.scratch);
    let used = format!(
        "{:.1} s, {} MiB",
        outcome.seconds,
        outcome.memory_bytes.div_ceil(1 << 20)
    );
    if flaws.is_empty() {
        told("holds", &used);
        return Ok(true);
    }
    told("FAILS", &used);
    for flaw in &flaws {
        println!("        {flaw}");
    }
    println!("        output: {}", prepared.keep(&outcome.output)?.display());
    Ok(false)
}

fn request(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        directory: repository::root().join(DIRECTORY),
        binary: None,
        only: None,
    };
    let mut words = arguments.iter();
    let mut has_directory = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{word}` needs a value"));
        match word.as_str() {
            "--binary" => request.binary = Some(PathBuf::from(value()?)),
            "--only" => request.only = Some(value()?.clone()),
            other if other.starts_with('-') => {
                bail!("there is no option `{other}`: [DIR] [--binary PATH] [--only TEXT]")
            }
            other if has_directory => bail!("one directory at a time; `{other}` is a second one"),
            other => {
                request.directory = std::path::absolute(other).context("finding the cases")?;
                has_directory = true;
            }
        }
    }
    Ok(request)
}

/// Builds the program as the tests do, so that nothing is compiled a second time.
fn built() -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--workspace", "--bins"])
        .current_dir(repository::root())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(program::target_directory().join("debug/dlm"))
}

/// The cases of a directory, those of `attacks/` last.
fn find(request: &Request) -> Result<Vec<Case>> {
    let mut names = names_below(&request.directory, "")?;
    names.extend(names_below(&request.directory, "attacks/")?);
    let is_wanted = |name: &String| request.only.as_ref().is_none_or(|text| name.contains(text));
    let wanted = names.into_iter().filter(is_wanted);
    wanted
        .map(|name| {
            let expectation = Expectation::of(&request.directory, &name)?;
            Ok(Case { name, expectation })
        })
        .collect()
}

fn names_below(directory: &Path, prefix: &str) -> Result<Vec<String>> {
    let directory = directory.join(prefix);
    if !directory.is_dir() {
        ensure!(!prefix.is_empty(), "{} is not a directory", directory.display());
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", directory.display()))?;
        if entry.path().join("cmd").is_file() {
            names.push(format!("{prefix}{}", entry.file_name().to_string_lossy()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_the_directory_come_in_any_order() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found = request(&words("--binary /a/dlm /cases --only rope")).unwrap();
        assert_eq!(found.directory, Path::new("/cases"));
        assert_eq!(found.binary.as_deref(), Some(Path::new("/a/dlm")));
        assert_eq!(found.only.as_deref(), Some("rope"));
        assert!(request(&words("a b")).is_err());
        assert!(request(&words("--binary")).is_err());
        assert!(request(&words("--quick")).is_err());
    }

    /// Every expectation of the repository can be read, also those of cases whose inputs lie elsewhere.
    #[test]
    fn every_expectation_of_the_repository_reads() {
        let root = repository::root().join(DIRECTORY);
        let files = repository::files_below(&root).unwrap();
        let expectations = files.iter().filter(|path| path.ends_with("expect.toml"));
        let mut count = 0;
        for path in expectations {
            let name = path.parent().unwrap().strip_prefix(&root).unwrap();
            Expectation::of(&root, &name.to_string_lossy()).unwrap();
            count += 1;
        }
        assert!(count > 0);
    }
}
