//! `dlm plugin trust`: a name, a file, or a key.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use dlm_packages::error::{FilesError, PackageError, SelectorError};
use dlm_packages::inspect::is_file_name;
use dlm_packages::keys::{is_key, trust_key};
use dlm_packages::manifest::is_name;
use dlm_packages::trust::{TrustFlags, trust_file, trust_name};

use super::Manager;
use crate::console::Console;
use crate::render;

/// Most of a file with a key; one has two lines.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// `dlm plugin trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Name of a plugin, a .wasm file, or a minisign public key (text or .pub file)
    #[arg(value_name = "NAME|FILE|KEY")]
    pub subject: String,
    /// Grant a capability that the plugin requests (repeatable)
    #[arg(long = "grant", value_name = "CAP")]
    pub grants: Vec<String>,
    /// Take a grant back (repeatable)
    #[arg(long = "revoke", value_name = "CAP")]
    pub revoked: Vec<String>,
    /// Let the key sign only plugins whose name fits, such as 'acme-*', beside those that it may sign already; '*' lifts the
    /// limit (repeatable)
    #[arg(long = "for-names", value_name = "GLOB", conflicts_with_all = ["grants", "revoked"])]
    pub names: Vec<String>,
    /// Trust the file although a newer version was trusted there
    #[arg(long)]
    pub allow_downgrade: bool,
}

/// Changes what is trusted.
pub(super) fn run(args: &TrustArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let is_key_file = args.subject.ends_with(".pub");
    // Before files: the text of a key may hold a slash.
    if is_key_file || is_key(&args.subject) || !(is_file_name(&args.subject) || is_name(&args.subject)) {
        return key(args, manager, console);
    }
    if !args.names.is_empty() {
        return Err(wrong(args, "is a plugin; `--for-names` limits a key"));
    }
    let changed = match is_file_name(&args.subject) {
        true => {
            let path = manager.finder.resolve(&args.subject);
            let policy = manager.settings.policy;
            let flags = TrustFlags {
                grants: &args.grants,
                revoked: &args.revoked,
                is_allowing_downgrade: args.allow_downgrade,
            };
            trust_file(manager.home(), policy, &path, flags, &manager.now)
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

fn key(args: &TrustArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    if !args.grants.is_empty() || !args.revoked.is_empty() {
        return Err(wrong(
            args,
            "is a key; `--grant` and `--revoke` change the grants of a plugin",
        ));
    }
    let text = key_text(&args.subject)?;
    let changed = trust_key(manager.home(), &text, &args.names, &manager.now)?;
    console.info(&match changed.is_new {
        true => format!("plugin: the key {} is trusted", changed.key),
        false => format!("plugin: the key {} was trusted before", changed.key),
    });
    if let Some(revoked) = &changed.revoked {
        console.warning(&format!(
            "you revoked this key at {revoked}; it is trusted again. If that was not meant: dlm plugin keys --revoke {}",
            changed.key
        ));
    }
    console.info(&render::plugin::may_sign(&changed.names));
    Ok(ExitCode::SUCCESS)
}

/// The text of a key, or of the file that holds it.
pub(super) fn key_text(typed: &str) -> Result<String, PackageError> {
    if !typed.ends_with(".pub") {
        return Ok(typed.to_owned());
    }
    let read = dlm_files::read_text_required(Path::new(typed), KEY_BYTES_MAX);
    Ok(read.map_err(|error| FilesError {
        action: "read",
        path: typed.into(),
        source: error.into_io(),
    })?)
}

fn wrong(args: &TrustArgs, cause: &str) -> PackageError {
    SelectorError {
        text: dlm_core::inert::inert(&args.subject),
        cause: cause.to_owned(),
        hint: None,
    }
    .into()
}
