//! `dlm plugin keys`: the keys whose signatures count, and revoking one.

use std::process::ExitCode;

use clap::Args;
use dlm_packages::error::PackageError;
use dlm_packages::keys::{revoke_key, trusted_keys};
use dlm_packages::lockfile::Lock;
use serde_json::json;

use super::Manager;
use super::trust::key_text;
use crate::console::Console;
use crate::render;

/// `dlm plugin keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Trust this key no longer (its text or .pub file)
    #[arg(long, value_name = "KEY", conflicts_with = "json")]
    pub revoke: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Lists the keys, or revokes one.
pub(super) fn run(args: &KeysArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    if let Some(typed) = &args.revoke {
        return revoke(typed, manager, console);
    }
    let keys = trusted_keys(manager.home())?;
    let lock = Lock::read(manager.home())?;
    let signed = |key: &str| -> Vec<String> {
        let own = lock.plugins.iter().filter(|entry| entry.signer.as_deref() == Some(key));
        own.map(|entry| format!("{} {}", entry.name, entry.version)).collect()
    };
    match args.json {
        true => {
            let rows = keys.iter().map(|key| {
                json!({
                    "key": key.text,
                    "names": key.names,
                    "added": key.added,
                    "file": key.path.display().to_string(),
                    "signed": signed(&key.text),
                })
            });
            console.json(&json!({ "keys": rows.collect::<Vec<_>>() }));
        }
        false => {
            let rows: Vec<_> = keys.iter().map(|key| (key, signed(&key.text))).collect();
            console.result(&render::plugin::keys(&rows));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn revoke(typed: &str, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let revoked = revoke_key(manager.home(), &key_text(typed)?, &manager.now)?;
    console.info(&format!("plugin: the key {} is no longer trusted", revoked.key));
    for entry in &revoked.signed {
        console.info(&format!(
            "  {} {} was signed by it and runs on as it is pinned; to remove it: dlm plugin remove {}",
            entry.name,
            entry.version,
            match &entry.path {
                Some(path) => dlm_core::shell::quoted_path(path),
                None => entry.name.clone(),
            }
        ));
    }
    Ok(ExitCode::SUCCESS)
}
