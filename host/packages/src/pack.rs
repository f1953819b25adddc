//! Packing: a core module or component becomes a plugin file with its manifest inside, and is signed if asked.
//!
//! Invariants: what is written would install; the manifest of the author's file replaces any that was there. A module that asks for
//! WASI 0.1, as those of Go do, asks for WASI 0.2 afterwards, which the host gives empty.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wit_component::ComponentEncoder;

use crate::author::AuthorManifest;
use crate::check::{self, CheckedPlugin};
use crate::contract;
use crate::disk;
use crate::error::{ComponentError, FilesError, PackError, PackageError};
use crate::keys::TEXT_BYTES_MAX;
use crate::kind::Kind;
use crate::manifest::{COMPONENT_BYTES_MAX, MODULE_HEAD, ManifestError, append, without};
use crate::signature::signature_path;
use crate::wasi;
use dlm_core::inert::inert_line;

/// The author's file.
pub const AUTHOR_FILE: &str = "plugin.toml";

/// What to pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// The directory of `plugin.toml`.
    pub directory: PathBuf,
    /// The module or component; `[build] wasm` of the author's file where it is not given.
    pub wasm: Option<PathBuf>,
    /// Where to write; `<name>.wasm` in the directory where it is not given.
    pub out: Option<PathBuf>,
}

/// What was packed.
#[derive(Clone, Debug)]
pub struct PackedPlugin {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub checked: CheckedPlugin,
    /// True where the file was a core module before.
    pub was_module: bool,
    pub remarks: Vec<String>,
}

/// Reads the author's file of a directory.
///
/// **Errors**: it is missing or wrong.
pub fn author(directory: &Path) -> Result<AuthorManifest, PackageError> {
    let path = directory.join(AUTHOR_FILE);
    let bytes = disk::read(&path, TEXT_BYTES_MAX + 1)?.ok_or_else(|| PackError {
        path: path.clone(),
        cause: "there is no such file".to_owned(),
        hint: Some("start a plugin: dlm plugin new KIND NAME".to_owned()),
    })?;
    let wrong = |bad: ManifestError| ComponentError::Manifest {
        path: path.clone(),
        cause: bad.to_string(),
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong(ManifestError::Wrong("it is not UTF-8".to_owned())))?;
    Ok(AuthorManifest::parse(&text).map_err(wrong)?)
}

/// Makes the plugin file in memory; writes nothing.
///
/// **Errors**: a wrong author's file, no module or component, or anything that installing it would refuse.
pub fn pack(options: &PackOptions) -> Result<PackedPlugin, PackageError> {
    let author = author(&options.directory)?;
    let wasm = match (&options.wasm, &author.build_wasm) {
        (Some(wasm), _) => wasm.clone(),
        (None, Some(wasm)) => options.directory.join(wasm),
        (None, None) => {
            return Err(PackError {
                path: options.directory.join(AUTHOR_FILE),
                cause: "it does not say where the build leaves its file".to_owned(),
                hint: Some("say it: dlm plugin pack --wasm FILE, or `wasm = \"FILE\"` under [build]".to_owned()),
            }
            .into());
        }
    };
    let input = disk::read(&wasm, COMPONENT_BYTES_MAX)?.ok_or_else(|| PackError {
        path: wasm.clone(),
        cause: "there is no such file".to_owned(),
        hint: author
            .build_command
            .as_ref()
            .map(|command| format!("build it first: {}", inert_line(command))),
    })?;
    let was_module = input.starts_with(&MODULE_HEAD);
    let component = match was_module {
        true => encode(&wasm, input, &author.manifest.kinds)?,
        false => input,
    };
    let mut bytes = without(&component).map_err(|bad| ComponentError::of_manifest(&wasm, bad))?;
    append(&mut bytes, author.manifest.to_json().as_bytes());
    let checked = check::check(&wasm, &bytes)?;
    let default = options.directory.join(format!("{}.wasm", author.manifest.name));
    Ok(PackedPlugin {
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
pub fn write(packed: &PackedPlugin) -> Result<(), FilesError> {
    disk::remove(&signature_path(&packed.path))?;
    disk::write(&packed.path, &packed.bytes)
}

/// Makes a component of a core module. One that does not say which world it is built for gets that of its manifest.
fn encode(path: &Path, mut module: Vec<u8>, kinds: &[Kind]) -> Result<Vec<u8>, PackError> {
    let failed = |cause: String, hint: Option<&str>| PackError {
        path: path.to_owned(),
        cause: inert_line(&cause),
        hint: hint.map(str::to_owned),
    };
    // The encoder reports some modules that no compiler makes by giving up; those are caught before.
    wasmparser::Validator::new()
        .validate_all(&module)
        .map_err(|error| failed(format!("it is no valid module: {error}"), None))?;
    if wasi::is_program(&module) {
        let cause =
            "it is a program, which runs once from `_start`; a plugin is a library, called function by function";
        let hint = "build a library: in Go, `go build -buildmode=c-shared`";
        return Err(failed(cause.to_owned(), Some(hint)));
    }
    if !names_its_world(&module) {
        contract::embed(&mut module, kinds);
    }
    let world = "is it built with wit-bindgen for one of the worlds of dlm:plugin?";
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| match wasi::is_asked_by(&module) {
            true => encoder.adapter(wasi::NAME, &wasi::adapter()),
            false => Ok(encoder),
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| failed(format!("no component can be made of it: {error:#}"), Some(world)))
}

fn names_its_world(module: &[u8]) -> bool {
    let sections = wasmparser::Parser::new(0).parse_all(module).flatten();
    sections.into_iter().any(|payload| match payload {
        wasmparser::Payload::CustomSection(section) => section.name().starts_with(contract::WORLD_SECTION),
        _ => false,
    })
}

/// The command that signs a packed file with the user's minisign key: program, then arguments.
pub fn sign_command(packed: &PackedPlugin, key: &Path) -> Vec<OsString> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnose;

    const OPEN: &str = r#"(func (export "dlm:plugin/teacher@1.0.0#open") (param i32 i32) (result i32) unreachable)"#;
    const COMPLETE: &str = r#"(func (export "dlm:plugin/teacher@1.0.0#complete")
        (param i32 i32 i32 i32 i32 f32 i32 f32 i32 i64) (result i32) unreachable)"#;

    /// Packs a core module of these functions as a teacher.
    fn packed(functions: &[&str]) -> Result<PackedPlugin, PackageError> {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            r#"(module (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable) {})"#,
            functions.concat()
        );
        std::fs::write(directory.path().join("core.wasm"), wat::parse_str(text).unwrap()).unwrap();
        let toml = "schema = 1\nname = \"parrot\"\nversion = \"1.0.0\"\nkinds = [\"teacher\"]\ndescription = \"Says it again\"\n\
                    [build]\nwasm = \"core.wasm\"\n";
        std::fs::write(directory.path().join(AUTHOR_FILE), toml).unwrap();
        pack(&PackOptions {
            directory: directory.path().to_owned(),
            ..PackOptions::default()
        })
    }

    #[test]
    fn a_module_that_names_no_world_gets_that_of_its_kind() {
        let done = packed(&[OPEN, COMPLETE]).unwrap();
        assert!(done.was_module);
        assert_eq!(done.checked.shape.kinds(), [Kind::Teacher]);
        assert_eq!(done.checked.api, "1.0.0");
    }

    #[test]
    fn a_function_that_is_missing_is_named() {
        let error = packed(&[OPEN]).unwrap_err();
        assert_eq!(error.code(), "plugin::pack");
        assert!(
            error
                .to_string()
                .contains("`dlm:plugin/teacher@1.0.0` function `complete`"),
            "{error}"
        );
    }
}
