//! `dlm plugin pack` and `dlm plugin new`: what an author types.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum, ValueHint};
use dlm_core::Cancel;
use dlm_core::shell::quoted;
use dlm_packages::Kind;
use dlm_packages::error::{PackageError, SignatureError};
use dlm_packages::new::{self, Language, NewOptions, a_kind};
use dlm_packages::pack::{PackOptions, pack, sign_command, write};
use dlm_packages::settings::signing_key;
use dlm_packages::signature::signature_path;

use super::Manager;
use super::{build, kind};
use crate::console::Console;
use crate::{program, render};

/// `dlm plugin pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// Directory of plugin.toml
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// The module or component [default: `wasm` under [build] in plugin.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub wasm: Option<PathBuf>,
    /// Where to write [default: <name>.wasm in the directory]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Sign with minisign and the key minisign.key of dlm's home
    #[arg(long)]
    pub sign: bool,
}

/// `dlm plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// What the plugin is
    #[arg(value_parser = kind())]
    pub kind: Kind,
    /// Its name
    pub name: String,
    /// Language of the sources
    #[arg(long, value_enum, default_value_t = LanguageChoice::Rust)]
    pub lang: LanguageChoice,
    /// Where to write [default: the name]
    #[arg(long, value_name = "D", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// Languages that projects are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LanguageChoice {
    Rust,
    Python,
    Js,
    C,
    Go,
}

/// Packs a plugin.
pub(super) fn run(args: &PackArgs, manager: &Manager, console: &Console) -> Result<ExitCode, PackageError> {
    let usual = build::options(&args.dir)?;
    let packed = pack(&PackOptions {
        wasm: args.wasm.clone().or(usual.wasm),
        out: args.out.clone(),
        ..usual
    })?;
    write(&packed)?;
    for remark in &packed.remarks {
        console.warning(remark);
    }
    console.info(&render::plugin::packed(&packed));
    if args.sign {
        let key = signing_key(manager.home());
        check_signing(&packed.path, &key)?;
        sign(&packed.path, &sign_command(&packed, &key))?;
        console.info(&format!("plugin: signed {}", signature_path(&packed.path).display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn unsigned(file: &Path, cause: String, hint: String) -> SignatureError {
    SignatureError {
        subject: format!("`{}`", file.display()),
        cause,
        hint: Some(hint),
    }
}

/// Refuses to sign where there is no key.
///
/// **Errors** say how one is made.
pub(super) fn check_signing(file: &Path, key: &Path) -> Result<(), SignatureError> {
    if key.is_file() {
        return Ok(());
    }
    Err(unsigned(
        file,
        format!("cannot be signed: there is no key `{}`", key.display()),
        format!(
            "make one: minisign -G -s {} -p {}",
            dlm_core::shell_quoted(&key.to_string_lossy()),
            dlm_core::shell_quoted(&format!("{}.pub", key.display()))
        ),
    ))
}

/// A command as it is typed.
pub(super) fn by_hand(words: &[OsString]) -> String {
    let line: Vec<String> = words.iter().map(|word| quoted(&word.to_string_lossy())).collect();
    line.join(" ")
}

/// Lets minisign sign `file` by the command `words`: it asks for the passphrase itself, on the terminal.
pub(super) fn sign(file: &Path, words: &[OsString]) -> Result<(), SignatureError> {
    let by_hand = format!("sign it by hand: {}", by_hand(words));
    let (program, arguments) = words.split_first().expect("a command begins with its program");
    let status = program::run(program, arguments, None, &[], &Cancel::new()).map_err(|error| {
        unsigned(
            file,
            format!("cannot be signed: minisign does not start: {error}"),
            format!("install minisign, then {by_hand}"),
        )
    })?;
    match status.success() {
        true => Ok(()),
        false => Err(unsigned(
            file,
            format!("was not signed: minisign ended with {status}"),
            by_hand,
        )),
    }
}

/// Starts a plugin's project.
pub(super) fn run_new(args: &NewArgs, console: &Console) -> Result<ExitCode, PackageError> {
    let directory = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let files = new::write(&NewOptions {
        kind: args.kind,
        name: args.name.clone(),
        language: match args.lang {
            LanguageChoice::Rust => Language::Rust,
            LanguageChoice::Python => Language::Python,
            LanguageChoice::Js => Language::Js,
            LanguageChoice::C => Language::C,
            LanguageChoice::Go => Language::Go,
        },
        directory: directory.clone(),
    })?;
    for file in files {
        console.detail(&format!("plugin: wrote {}", file.display()));
    }
    console.info(&format!(
        "plugin: {} called {} is in {}",
        a_kind(args.kind),
        args.name,
        directory.display()
    ));
    console.info(&format!("next: cd {}", quoted(&directory.to_string_lossy())));
    console.info("      read README.md, then: dlm plugin build");
    Ok(ExitCode::SUCCESS)
}
