//! The plugins that come with dlm: their bytes and their pinned hashes.
//!
//! Invariants: the bytes that run are the bytes of `plugins/`, checked against the recorded sha256 before each use. A
//! built-in plugin is granted what its manifest asks for, no more; the manifest is inside the pinned bytes, and a test
//! lists what each may do, so that a wider grant is seen in review.

use sha2::{Digest, Sha256};

use crate::manifest::Manifest;

/// One built-in plugin.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    /// The record that `cargo xtask guests` wrote beside it.
    record: &'static str,
}

macro_rules! builtin {
    ($name:literal) => {
        Builtin {
            name: $name,
            wasm: include_bytes!(concat!("../../../plugins/", $name, "/plugin.wasm")),
            record: include_str!(concat!("../../../plugins/", $name, "/plugin.toml")),
        }
    };
}

/// The bytes of a built-in plugin are not those of its record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}` has the sha256 {found}, recorded is {expected}")]
pub struct OtherBytes {
    pub plugin: String,
    pub expected: String,
    pub found: String,
}

/// The built-in plugins, in the order in which messages list them.
const BUILTINS: [Builtin; 15] = [
    builtin!("sway"),
    builtin!("cli"),
    builtin!("hf"),
    builtin!("self"),
    builtin!("openai"),
    builtin!("anthropic"),
    builtin!("vllm-server"),
    builtin!("ollama"),
    builtin!("llama-server"),
    builtin!("vllm"),
    builtin!("mlx-serve"),
    builtin!("bundled"),
    builtin!("dir"),
    builtin!("https"),
    builtin!("put"),
];

/// The built-in plugins.
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

impl Builtin {
    /// What it may do, in grant syntax: what its manifest, which is part of the pinned bytes, asks for.
    pub fn grants(&self) -> Vec<String> {
        let manifest = Manifest::of_component(self.wasm);
        // A built-in without a manifest cannot be opened, so it may do nothing.
        let requests = manifest.map(|manifest| manifest.requests).unwrap_or_default();
        requests.into_iter().map(|request| request.capability).collect()
    }

    /// The sha256 of the bytes, lower-case hex, after comparing it with the record.
    ///
    /// **Errors**: the bytes are not the recorded ones.
    pub fn checked_sha256(&self) -> Result<String, OtherBytes> {
        let found = sha256(self.wasm);
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

/// Lower-case hex of the SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of the line `sha256 = "…"`.
fn recorded(record: &str) -> Option<&str> {
    let line = record.lines().find_map(|line| line.strip_prefix("sha256 = \""))?;
    line.strip_suffix('"')
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
            let manifest = Manifest::of_component(builtin.wasm).unwrap();
            assert_eq!(manifest.name, builtin.name);
            for request in &manifest.requests {
                crate::capability::Capability::parse(&request.capability).unwrap();
                listed.push_str(&format!("{} {}\n", builtin.name, request.capability));
            }
        }
        assert_eq!(listed, GRANTS);
    }

    #[test]
    fn other_bytes_are_refused() {
        let changed = Builtin {
            wasm: b"\0asm",
            ..BUILTINS[0]
        };
        let error = changed.checked_sha256().unwrap_err();
        assert!(error.to_string().contains(changed.name));
    }
}
