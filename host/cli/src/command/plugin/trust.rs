//! `dlm plugin trust`: a name, a file, or a key.

use std::path::Path;
use std::process::ExitCode;

use dlm_packages::error::{FilesError, PackageError, SelectorError};
use dlm_packages::inspect::is_file_name;
use dlm_packages::manifest::is_name;
use dlm_packages::signature::trust_key;
use dlm_packages::trust::{trust_file, trust_name};

use super::Setting;
use crate::args::plugin::Trust;
use crate::console::Console;

/// Changes what is trusted.
pub(super) fn run(args: &Trust, setting: &Setting, console: &Console) -> Result<ExitCode, PackageError> {
    let is_key_file = args.subject.ends_with(".pub");
    if is_key_file || !(is_file_name(&args.subject) || is_name(&args.subject)) {
        return key(args, setting, console, is_key_file);
    }
    if !args.names.is_empty() {
        return Err(wrong(args, "is a plugin; `--for-names` limits a key"));
    }
    let changed = match is_file_name(&args.subject) {
        true => {
            let path = setting.finder.resolve(&args.subject);
            let policy = setting.settings.policy;
            trust_file(setting.home(), policy, &path, &args.grants, &args.revoked, &setting.now)
                .map_err(|error| setting.finder.explain(&args.subject, error))?
        }
        false => trust_name(
            &setting.finder,
            &args.subject,
            &args.grants,
            &args.revoked,
            &setting.now,
        )?,
    };
    let entry = &changed.entry;
    if changed.is_new {
        console.info(&format!(
            "plugin: {} {} is trusted where it lies",
            entry.name, entry.version
        ));
        console.info(&format!("  sha256 {}", entry.sha256));
    }
    for text in &changed.added {
        console.info(&format!(
            "plugin: {} is granted {}",
            entry.name,
            dlm_packages::inert(text)
        ));
    }
    for text in &changed.revoked {
        console.info(&format!(
            "plugin: {} is no longer granted {}",
            entry.name,
            dlm_packages::inert(text)
        ));
    }
    if !changed.is_new && changed.added.is_empty() && changed.revoked.is_empty() {
        console.info(&format!("plugin: nothing to change for {}", entry.name));
    }
    match entry.granted().as_slice() {
        [] => console.info("  in all: nothing"),
        granted => console.info(&format!("  in all: {}", dlm_packages::inert(&granted.join("; ")))),
    }
    Ok(ExitCode::SUCCESS)
}

fn key(args: &Trust, setting: &Setting, console: &Console, is_file: bool) -> Result<ExitCode, PackageError> {
    if !args.grants.is_empty() || !args.revoked.is_empty() {
        return Err(wrong(
            args,
            "is a key; `--grant` and `--revoke` change the grants of a plugin",
        ));
    }
    let text = match is_file {
        true => std::fs::read_to_string(Path::new(&args.subject)).map_err(|source| FilesError {
            action: "read",
            path: args.subject.clone().into(),
            source,
        })?,
        false => args.subject.clone(),
    };
    let key = trust_key(setting.home(), &text, &args.names, &setting.now)?;
    console.info(&format!("plugin: the key {key} is trusted"));
    match args.names.as_slice() {
        [] => console.info("  it may sign every plugin"),
        names => console.info(&format!("  it may sign: {}", names.join(", "))),
    }
    Ok(ExitCode::SUCCESS)
}

fn wrong(args: &Trust, cause: &str) -> PackageError {
    SelectorError {
        text: dlm_packages::inert(&args.subject),
        cause: cause.to_owned(),
        hint: None,
    }
    .into()
}
