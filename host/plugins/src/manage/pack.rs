//! Packing: a core module or component becomes a plugin file with its manifest inside, and is signed if asked.
//!
//! Invariants: what is written would install; the manifest of the author's file replaces any that was there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wit_component::ComponentEncoder;

use super::COMPONENT_BYTES_MAX;
use super::check::{self, Checked};
use super::disk;
use super::error::ManageError;
use super::signature::{TEXT_BYTES_MAX, signature_path};
use crate::manifest::{AuthorManifest, BadManifest, MODULE_HEAD, append, without};
use crate::terminal::inert_line;

/// The author's file.
pub const AUTHOR_FILE: &str = "plugin.toml";

/// What to pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// The folder of `plugin.toml`.
    pub folder: PathBuf,
    /// The module or component; `[build] wasm` of the author's file where it is not given.
    pub wasm: Option<PathBuf>,
    /// Where to write; `<name>.wasm` in the folder where it is not given.
    pub out: Option<PathBuf>,
}

/// What was packed.
#[derive(Clone, Debug)]
pub struct Packed {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub checked: Checked,
    /// True where the file was a core module before.
    pub was_module: bool,
    pub remarks: Vec<String>,
}

/// Reads the author's file of a folder.
///
/// **Errors**: it is missing or wrong.
pub fn author(folder: &Path) -> Result<AuthorManifest, ManageError> {
    let path = folder.join(AUTHOR_FILE);
    let bytes = disk::read(&path, TEXT_BYTES_MAX + 1)?.ok_or_else(|| ManageError::Pack {
        path: path.clone(),
        cause: "there is no such file".to_owned(),
        hint: Some("start a plugin: dlm plugin new KIND NAME".to_owned()),
    })?;
    let wrong = |bad: BadManifest| ManageError::Manifest {
        path: path.clone(),
        cause: bad.to_string(),
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong(BadManifest::Wrong("it is not UTF-8".to_owned())))?;
    AuthorManifest::parse(&text).map_err(wrong)
}

/// Makes the plugin file in memory; writes nothing.
///
/// **Errors**: a wrong author's file, no module or component, or anything that installing it would refuse.
pub fn pack(options: &PackOptions) -> Result<Packed, ManageError> {
    let author = author(&options.folder)?;
    let wasm = match (&options.wasm, &author.build_wasm) {
        (Some(wasm), _) => wasm.clone(),
        (None, Some(wasm)) => options.folder.join(wasm),
        (None, None) => {
            return Err(ManageError::Pack {
                path: options.folder.join(AUTHOR_FILE),
                cause: "it does not say where the build leaves its file".to_owned(),
                hint: Some("say it: dlm plugin pack --wasm FILE, or `wasm = \"FILE\"` under [build]".to_owned()),
            });
        }
    };
    let input = disk::read(&wasm, COMPONENT_BYTES_MAX)?.ok_or_else(|| ManageError::Pack {
        path: wasm.clone(),
        cause: "there is no such file".to_owned(),
        hint: author
            .build_command
            .as_ref()
            .map(|command| format!("build it first: {}", inert_line(command))),
    })?;
    let was_module = input.starts_with(&MODULE_HEAD);
    let component = if was_module { encode(&wasm, &input)? } else { input };
    let mut bytes = without(&component).map_err(|bad| ManageError::manifest(&wasm, bad))?;
    append(&mut bytes, author.manifest.to_json().as_bytes());
    let checked = check::check(&wasm, &bytes)?;
    let default = options.folder.join(format!("{}.wasm", author.manifest.name));
    Ok(Packed {
        path: options.out.clone().unwrap_or(default),
        remarks: check::remarks(&checked),
        bytes,
        checked,
        was_module,
    })
}

/// Writes the plugin file; a signature of an earlier one goes.
///
/// **Errors**: a file that cannot be written.
pub fn write(packed: &Packed) -> Result<(), ManageError> {
    super::install::remove_file(&signature_path(&packed.path))?;
    disk::write(&packed.path, &packed.bytes)
}

fn encode(path: &Path, module: &[u8]) -> Result<Vec<u8>, ManageError> {
    let failed = |cause: String, hint: Option<&str>| ManageError::Pack {
        path: path.to_owned(),
        cause: inert_line(&cause),
        hint: hint.map(str::to_owned),
    };
    // The encoder reports some modules that no compiler makes by giving up; those are caught before.
    wasmparser::Validator::new()
        .validate_all(module)
        .map_err(|error| failed(format!("it is no valid module: {error}"), None))?;
    let world = "is it built with wit-bindgen for one of the worlds of dlm:plugin?";
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| failed(format!("no component can be made of it: {error:#}"), Some(world)))
}

/// The command that signs a packed file with the user's minisign key: program, then arguments.
pub fn sign_command(packed: &Packed, key: &Path) -> Vec<OsString> {
    let manifest = &packed.checked.manifest;
    let mut command: Vec<OsString> = vec!["minisign".into(), "-S".into()];
    for (flag, value) in [
        ("-s", key.as_os_str().to_owned()),
        ("-m", packed.path.as_os_str().to_owned()),
        ("-x", signature_path(&packed.path).into_os_string()),
        (
            "-t",
            format!("dlm-plugin {} {}", manifest.name, manifest.version).into(),
        ),
    ] {
        command.extend([flag.into(), value]);
    }
    command
}
