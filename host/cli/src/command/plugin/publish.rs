//! `dlm plugin index`: the index of a directory of packed plugins, for whoever publishes them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};
use dlm_packages::error::PackageError;
use dlm_packages::index::{make, sign_words, write};
use dlm_packages::settings::signing_key;
use dlm_packages::signature::signature_path;

use super::{Manager, pack};
use crate::console::Console;
use crate::render::index as render;

/// `dlm plugin index`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Directory of packed plugins; index.json is written into it
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Sign the index with minisign and the key minisign.key of dlm's home
    #[arg(long)]
    pub sign: bool,
}

/// Writes and signs an index.
pub(super) fn run(args: &PublishArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let made = make(&args.dir, &manager.now)?;
    let words = sign_words(&made, &signing_key(manager.home()));
    if args.sign {
        // What cannot be signed is told before the index that lies there is replaced.
        pack::check_signing(&made.path, &signing_key(manager.home()))?;
    }
    write(&made)?;
    console.info(&render::made(&made));
    if args.sign {
        pack::sign(&made.path, &words)?;
        console.info(&format!("plugin: signed {}", signature_path(&made.path).display()));
    } else {
        console.info(&format!(
            "  nobody can use it before it is signed: {}",
            pack::by_hand(&words)
        ));
    }
    Ok(ExitCode::SUCCESS)
}
