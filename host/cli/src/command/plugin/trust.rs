//! `dlm plugin trust`: a name, a file, or a key.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use dlm_packages::error::{FilesError, PackageError, SelectorError};
use dlm_packages::inspect::is_file_name;
use dlm_packages::manifest::is_name;
use dlm_packages::signature::trust_key;
use dlm_packages::trust::{trust_file, trust_name};

use super::Manager;
use crate::console::Console;

/// Most of a file with a key; one has two lines.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// `dlm plugin trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Name of an installed plugin, a .wasm file, or a minisign public key (text or .pub file)
    #[arg(value_name = "NAME|FILE|KEY")]
    pub subject: String,
    /// Grant a capability that the plugin requests (repeatable)
    #[arg(long = "grant", value_name = "CAP")]
    pub grants: Vec<String>,
    /// Take a grant back (repeatable)
    #[arg(long = "revoke", value_name = "CAP")]
    pub revoked: Vec<String>,
    /// Let the key sign only plugins whose name fits, such as 'acme-*' (repeatable)
    #[arg(long = "for-names", value_name = "GLOB", conflicts_with_all = ["grants", "revoked"])]
    pub names: Vec<String>,
}

/// Changes what is trusted.
pub(super) fn run(args: &TrustArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let is_key_file = args.subject.ends_with(".pub");
    if is_key_file || !(is_file_name(&args.subject) || is_name(&args.subject)) {
        return key(args, manager, console, is_key_file);
    }
    if !args.names.is_empty() {
        return Err(wrong(args, "is a plugin; `--for-names` limits a key"));
    }
    let changed = match is_file_name(&args.subject) {
        true => {
            let path = manager.finder.resolve(&args.subject);
            let policy = manager.settings.policy;
            trust_file(manager.home(), policy, &path, &args.grants, &args.revoked, &manager.now)
                .map_err(|error| manager.finder.explain(&args.subject, error))?
        }
        false => trust_name(
            &manager.finder,
            &args.subject,
            &args.grants,
            &args.revoked,
            &manager.now,
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
            dlm_core::inert::inert(text)
        ));
    }
    for text in &changed.revoked {
        console.info(&format!(
            "plugin: {} is no longer granted {}",
            entry.name,
            dlm_core::inert::inert(text)
        ));
    }
    if !changed.is_new && changed.added.is_empty() && changed.revoked.is_empty() {
        console.info(&format!("plugin: nothing to change for {}", entry.name));
    }
    match entry.granted().as_slice() {
        [] => console.info("  in all: nothing"),
        granted => console.info(&format!("  in all: {}", dlm_core::inert::inert(&granted.join("; ")))),
    }
    Ok(ExitCode::SUCCESS)
}

fn key(args: &TrustArgs, manager: &Manager, console: &Console, is_file: bool) -> Result<ExitCode, PackageError> {
    if !args.grants.is_empty() || !args.revoked.is_empty() {
        return Err(wrong(
            args,
            "is a key; `--grant` and `--revoke` change the grants of a plugin",
        ));
    }
    let text = match is_file {
        true => dlm_files::read_text_required(Path::new(&args.subject), KEY_BYTES_MAX).map_err(|error| FilesError {
            action: "read",
            path: args.subject.clone().into(),
            source: error.into_io(),
        })?,
        false => args.subject.clone(),
    };
    let key = trust_key(manager.home(), &text, &args.names, &manager.now)?;
    console.info(&format!("plugin: the key {key} is trusted"));
    match args.names.as_slice() {
        [] => console.info("  it may sign every plugin"),
        names => console.info(&format!("  it may sign: {}", names.join(", "))),
    }
    Ok(ExitCode::SUCCESS)
}

fn wrong(args: &TrustArgs, cause: &str) -> PackageError {
    SelectorError {
        text: dlm_core::inert::inert(&args.subject),
        cause: cause.to_owned(),
        hint: None,
    }
    .into()
}
