//! Everything that must hold of a plugin file before it is installed, trusted or packed.
//!
//! Invariant: the manifest's kinds are exactly those that the component exports; what a manifest claims is never believed
//! where the component itself can be asked.

use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use semver::Version;

use crate::builtin::outside;
use crate::capability::{Capability, CapabilityError};
use crate::component::Shape;
use crate::contract::API;
use crate::error::{ComponentError, PackageError};
use crate::imports::{self, Wasi};
use crate::manifest::Manifest;
use dlm_core::inert::{cut, inert_line};

/// Most of a capability that a refusal repeats.
const CAPABILITY_BYTES_SHOWN: usize = 120;

/// A plugin file that may be installed.
#[derive(Clone, Debug)]
pub struct CheckedPlugin {
    pub manifest: Manifest,
    pub shape: Shape,
    pub sha256: String,
    pub bytes: u64,
    pub wasi: Wasi,
    /// Version of the contract that it was built for.
    pub api: String,
}

/// Checks a whole plugin file; `path` is where messages say it is.
///
/// **Errors**: no component, no valid manifest, a name of dlm's own, kinds that are not those of the component, an
/// unsupported version of the contract, or an import that its kinds may not have.
pub fn check(path: &Path, bytes: &[u8]) -> Result<CheckedPlugin, PackageError> {
    let manifest = Manifest::of_component(bytes).map_err(|bad| ComponentError::of_manifest(path, bad))?;
    let manifest = outside(path, manifest)?;
    let shape = Shape::read(path, bytes)?;
    let api = check_shape(path, &manifest.name, &manifest.version, &shape)?;
    let exported = shape.kinds();
    let mut claimed = manifest.kinds.clone();
    claimed.sort();
    if claimed != exported {
        return Err(ComponentError::Kinds {
            path: path.to_owned(),
            claimed,
            exported,
        }
        .into());
    }
    for request in &manifest.requests {
        canonical(&request.capability)?;
    }
    Ok(CheckedPlugin {
        wasi: Wasi::of(&shape.imports),
        sha256: sha256_hex(bytes),
        bytes: bytes.len() as u64,
        api,
        shape,
        manifest,
    })
}

/// Refuses a request that is not written as the runtime reads it, so that what is shown is what is granted: a host name in
/// letters that look like others would be shown as it stands.
pub(crate) fn canonical(capability: &str) -> Result<(), CapabilityError> {
    let wrong = |cause: String| CapabilityError {
        text: inert_line(&cut(capability, CAPABILITY_BYTES_SHOWN)),
        cause,
    };
    let read = Capability::parse(capability)
        .map_err(|bad| wrong(bad.cause))?
        .to_string();
    if read == capability {
        return Ok(());
    }
    Err(wrong(format!(
        "must be written `{}`",
        inert_line(&cut(&read, CAPABILITY_BYTES_SHOWN))
    )))
}

/// Checks exports, versions and imports; returns the version of the contract.
pub(crate) fn check_shape(path: &Path, name: &str, version: &str, shape: &Shape) -> Result<String, ComponentError> {
    let kinds = shape.kinds();
    if kinds.is_empty() {
        return Err(ComponentError::NoKind { path: path.to_owned() });
    }
    let versions = shape.versions();
    let refused = |found: &str| ComponentError::Api {
        plugin: name.to_owned(),
        version: version.to_owned(),
        found: inert_line(found),
    };
    let mut highest: Option<Version> = None;
    for text in &versions {
        let version = Version::parse(text).map_err(|_| refused(text))?;
        if version.major != API.0 {
            return Err(refused(&versions.join(" and ")));
        }
        highest = highest.max(Some(version));
    }
    imports::check(&kinds, &shape.imports).map_err(|bad| ComponentError::Import {
        plugin: name.to_owned(),
        import: inert_line(&bad.import),
        cause: bad.cause,
    })?;
    Ok(highest.map(|version| version.to_string()).unwrap_or_default())
}

/// True for a guest that imports every function with authority of its world, as an interpreter does for the code that it runs.
fn imports_everything(checked: &CheckedPlugin) -> bool {
    let has = |power: &str| {
        checked.shape.imports.iter().any(|import| {
            let is_it = import.ours().is_some_and(|(interface, _)| interface == power);
            is_it && !import.functions.is_empty()
        })
    };
    checked
        .manifest
        .kinds
        .iter()
        .any(|kind| kind.powers().iter().all(|power| has(power)))
}

/// What is worth knowing beside what is refused: unknown keys, imports that no request covers, requests that nothing uses.
pub fn remarks(checked: &CheckedPlugin) -> Vec<String> {
    let manifest = &checked.manifest;
    let mut remarks: Vec<String> = manifest
        .unknown_keys
        .iter()
        .map(|key| format!("its manifest has the key `{key}`, which this dlm does not know"))
        .collect();
    // The interpreter in a guest imports all that its kind may, whatever the author's code uses: that says nothing.
    let unasked: Vec<(String, _)> = match imports_everything(checked) {
        true => Vec::new(),
        false => crate::ask::imports_unasked(&checked.shape.imports, &manifest.requests)
            .into_iter()
            .map(|(import, start)| (inert_line(&import), start))
            .collect(),
    };
    match unasked.as_slice() {
        [] => {}
        [(import, start)] => remarks.push(format!(
            "it imports `{import}` and requests no `{start}`: every use will be denied"
        )),
        several => {
            let starts: Vec<String> = several.iter().map(|(_, start)| format!("`{start}`")).collect();
            remarks.push(format!(
                "it imports what needs {}, and requests none of them: every use will be denied",
                starts.join(", ")
            ));
        }
    }
    for unused in crate::ask::requests_unused(&checked.shape.imports, &manifest.requests) {
        remarks.push(format!(
            "it requests `{}` and imports nothing that could use it",
            inert_line(unused)
        ));
    }
    remarks
}

/// The name of a plugin file for messages before it is installed.
pub(crate) fn place(source: &str) -> PathBuf {
    PathBuf::from(inert_line(source))
}
