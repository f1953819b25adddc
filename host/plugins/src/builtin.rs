//! The plugins that come with dlm: their bytes, their pinned hashes, and what each may do.
//!
//! Invariants: the bytes that run are the bytes of `plugins/`, checked against the recorded sha256 before each use; the
//! grants are fixed here, and a test holds them equal to what the plugin asks for.

use sha2::{Digest, Sha256};

use crate::error::PluginError;

/// One built-in plugin.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    /// The record that `cargo xtask guests` wrote beside it.
    record: &'static str,
    /// What it may do, in grant syntax.
    pub grants: &'static [&'static str],
}

/// The built-in targets, in the order in which messages list them.
const BUILTINS: [Builtin; 2] = [
    Builtin {
        name: "ollama",
        wasm: include_bytes!("../../../plugins/ollama/plugin.wasm"),
        record: include_str!("../../../plugins/ollama/plugin.toml"),
        grants: &[
            "exec:ollama --version",
            "exec:ollama create * -f *",
            "exec:ollama run * Hello.",
        ],
    },
    Builtin {
        name: "llama-server",
        wasm: include_bytes!("../../../plugins/llama-server/plugin.wasm"),
        record: include_str!("../../../plugins/llama-server/plugin.toml"),
        grants: &[
            "exec:llama-server --model * --ctx-size * --host 127.0.0.1 --port *",
            "exec:llama-server --model * --ctx-size * --host 127.0.0.1 --port * --lora *",
            "exec:llama-server --model * --ctx-size * --jinja --chat-template-file * --host 127.0.0.1 --port *",
            "exec:llama-server --model * --ctx-size * --jinja --chat-template-file * --host 127.0.0.1 --port * --lora *",
        ],
    },
];

/// The built-in targets.
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

impl Builtin {
    /// The sha256 of the bytes, lower-case hex, after comparing it with the record.
    ///
    /// **Errors**: [`PluginError::Tampered`].
    pub fn checked_sha256(&self) -> Result<String, PluginError> {
        let found = sha256(self.wasm);
        let expected = recorded(self.record).unwrap_or("no hash");
        if found == expected {
            return Ok(found);
        }
        Err(PluginError::Tampered {
            plugin: self.name.to_owned(),
            expected: expected.to_owned(),
            found,
        })
    }
}

/// Lower-case hex of the SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of the line `sha256 = "…"`.
fn recorded(record: &str) -> Option<&str> {
    let line = record.lines().find_map(|line| line.strip_prefix("sha256 = \""))?;
    line.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn every_builtin_is_the_recorded_one_and_asks_for_what_it_holds() {
        for builtin in builtins() {
            builtin.checked_sha256().unwrap();
            let manifest = Manifest::read(builtin.name, builtin.wasm).unwrap();
            assert_eq!(manifest.name, builtin.name);
            let asked: Vec<&str> = manifest
                .requests
                .iter()
                .map(|request| request.capability.as_str())
                .collect();
            assert_eq!(asked, builtin.grants);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let changed = Builtin {
            wasm: b"\0asm",
            ..BUILTINS[0]
        };
        let error = changed.checked_sha256().unwrap_err();
        assert_eq!(error.code(), "plugin::tampered");
        assert!(error.to_string().contains("ollama"));
    }
}
