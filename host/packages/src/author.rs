//! `plugin.toml` as its author writes it: the manifest, and how the plugin is built.
//!
//! Invariant: unlike in a component, an unknown key is a mistake here.

use crate::builtin::reserved;
use crate::manifest::keys::{BUILD, MANIFEST, names};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestError};

/// The author's file: the manifest, and how the plugin is built.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorManifest {
    pub manifest: Manifest,
    /// `[build] command`, run by the author's own shell.
    pub build_command: Option<String>,
    /// `[build] wasm`: where the build leaves the component or core module, relative to the file.
    pub build_wasm: Option<String>,
}

impl AuthorManifest {
    /// Reads `plugin.toml`, where an unknown key is a mistake.
    ///
    /// **Errors**: not TOML, an unknown key, or a broken rule; the text names the key.
    pub fn parse(text: &str) -> Result<AuthorManifest, ManifestError> {
        let wrong = ManifestError::Wrong;
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(wrong("it is larger than 64 KiB".to_owned()));
        }
        let mut table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| wrong(error.to_string().trim_end().to_owned()))?;
        let build = table.remove("build");
        let json = serde_json::to_vec(&table).map_err(|error| wrong(error.to_string()))?;
        let manifest = Manifest::from_json(&json)?;
        if let Some(key) = manifest.unknown_keys.first() {
            return Err(wrong(format!(
                "the key `{key}` is not known; the keys are {}",
                names(&MANIFEST).join(", ")
            )));
        }
        if let Some(reserved) = reserved(&manifest.name) {
            return Err(wrong(reserved));
        }
        let mut author = AuthorManifest {
            manifest,
            build_command: None,
            build_wasm: None,
        };
        match build {
            None => {}
            Some(toml::Value::Table(build)) => author.take(build).map_err(wrong)?,
            Some(other) => {
                return Err(wrong(format!(
                    "`build` is a {}, a table was expected",
                    other.type_str()
                )));
            }
        }
        Ok(author)
    }

    /// Reads `[build]`.
    fn take(&mut self, build: toml::Table) -> Result<(), String> {
        for (key, value) in build {
            let slot = match key.as_str() {
                "command" => &mut self.build_command,
                "wasm" => &mut self.build_wasm,
                _ => {
                    let known = names(&BUILD).join(", ");
                    return Err(format!("the key `build.{key}` is not known; the keys are {known}"));
                }
            };
            let toml::Value::String(text) = value else {
                return Err(format!("`build.{key}` is a {}, a text was expected", value.type_str()));
            };
            *slot = Some(text);
        }
        Ok(())
    }
}
