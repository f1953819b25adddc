//! The plugins that come with dlm: their bytes and their pinned hashes.
//!
//! Which plugins those are, `builtin/grants.txt` says, and it alone: one line `name capability` for each capability, one line
//! `name` for a plugin without any. The build script embeds the plugins that it names.
//!
//! Invariants: the bytes that run are the bytes of `plugins/`, checked against the recorded sha256 before each use. A
//! built-in plugin is granted what its manifest asks for, no more; the manifest is inside the pinned bytes, and a test
//! holds it against the list, so that a wider grant is seen in review.

use std::path::Path;

use dlm_core::digest::sha256_hex;

use crate::error::ComponentError;
use crate::kind::Kind;
use crate::manifest::{Manifest, ManifestError};

/// One built-in plugin.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    /// The record that `cargo xtask guests` wrote beside it.
    record: &'static str,
}

/// The bytes of a built-in plugin are not those of its record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}` has the sha256 {found}, recorded is {expected}")]
pub struct OtherBytes {
    pub plugin: String,
    pub expected: String,
    pub found: String,
}

// `BUILTINS`, written by the build script: the plugins that `builtin/grants.txt` names, in the order in which it does.
include!(concat!(env!("OUT_DIR"), "/builtins.rs"));

/// The built-in plugins.
pub fn builtins() -> &'static [Builtin] {
    BUILTINS
}

impl Builtin {
    /// What it may do, in grant syntax: what its manifest, which is part of the pinned bytes, asks for.
    pub fn grants(&self) -> Vec<String> {
        // A built-in without a manifest cannot be opened, so it may do nothing.
        let requests = self.manifest().map(|manifest| manifest.requests).unwrap_or_default();
        requests.into_iter().map(|request| request.capability).collect()
    }

    /// What it says about itself.
    ///
    /// **Errors**: those of a component that is no plugin; a test holds that there are none.
    pub fn manifest(&self) -> Result<Manifest, ManifestError> {
        Manifest::of_component(self.wasm)
    }

    /// True where it can be used as this kind.
    pub fn is_a(&self, kind: Kind) -> bool {
        self.manifest().is_ok_and(|manifest| manifest.kinds.contains(&kind))
    }

    /// The sha256 of the bytes, lower-case hex, after comparing it with the record.
    ///
    /// **Errors**: the bytes are not the recorded ones.
    pub fn checked_sha256(&self) -> Result<String, OtherBytes> {
        let found = sha256_hex(self.wasm);
        let expected = recorded(self.record).unwrap_or("no hash");
        if found == expected {
            return Ok(found);
        }
        Err(OtherBytes {
            plugin: self.name.to_owned(),
            expected: expected.to_owned(),
            found,
        })
    }
}

/// Names that only the plugins inside dlm may have, beside those that are there.
const RESERVED: [&str; 10] = [
    "dlm", "local", "http", "https", "peer", "file", "git", "oci", "base", "bundled",
];

/// Says whether only a plugin inside dlm may have this name.
pub fn is_reserved(name: &str) -> bool {
    let is_inside = || builtins().iter().any(|builtin| builtin.name == name);
    name.len() == 1 || RESERVED.contains(&name) || is_inside()
}

/// Says why this name is not free for a plugin that is not inside dlm.
pub fn reserved(name: &str) -> Option<String> {
    is_reserved(name).then(|| format!("`{name}` is the name of a plugin inside dlm"))
}

/// Refuses the names of the plugins inside dlm; `path` is where messages say the file is.
pub(crate) fn outside(path: &Path, manifest: Manifest) -> Result<Manifest, ComponentError> {
    match reserved(&manifest.name) {
        None => Ok(manifest),
        Some(cause) => Err(ComponentError::Manifest {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// The value of the line `sha256 = "…"`.
fn recorded(record: &str) -> Option<&str> {
    let line = record.lines().find_map(|line| line.strip_prefix("sha256 = \""))?;
    line.strip_suffix('"')
}

/// A built-in plugin whose bytes are not those of its record.
#[cfg(test)]
pub(crate) fn damaged() -> Builtin {
    Builtin {
        wasm: b"\0asm",
        ..BUILTINS[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every built-in plugin may do. A line that changes here is a decision about every user's machine.
    const GRANTS: &str = include_str!("builtin/grants.txt");

    #[test]
    fn every_builtin_is_the_recorded_one_and_may_do_what_is_listed() {
        let mut listed = String::new();
        for builtin in builtins() {
            builtin.checked_sha256().unwrap();
            let manifest = builtin.manifest().unwrap();
            assert_eq!(manifest.name, builtin.name);
            if manifest.requests.is_empty() {
                listed.push_str(&format!("{}\n", builtin.name));
            }
            for request in &manifest.requests {
                crate::capability::Capability::parse(&request.capability).unwrap();
                listed.push_str(&format!("{} {}\n", builtin.name, request.capability));
            }
        }
        assert_eq!(listed, GRANTS);
    }

    #[test]
    fn other_bytes_are_refused() {
        let changed = damaged();
        let error = changed.checked_sha256().unwrap_err();
        assert!(error.to_string().contains(changed.name));
    }
}
