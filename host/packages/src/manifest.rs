//! What a plugin says about itself: a custom section at the top level of the component, JSON; authors write TOML.
//!
//! Invariants: reading it runs nothing; the section is there exactly once; sizes are bounded before anything is parsed;
//! every value has passed [`Manifest::check`] before anybody else sees it. Nothing in it grants anything.

mod config;
pub mod keys;
mod section;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use dlm_core::inert::inert_line;

pub use config::{ConfigError, ConfigKey, ConfigKind, ConfigValue, GivenValue};
pub use section::append;
pub(crate) use section::{MODULE_HEAD, without};

/// Name of the custom section.
pub(crate) const SECTION: &str = "dlm:plugin-manifest";
/// Largest component file.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest manifest.
pub(crate) const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Most requests, authors or config keys: far more than a screen of consent can show.
const LIST_MAX: usize = 100;
/// Longest text that is shown on one line.
const LINE_BYTES_MAX: usize = 1024;
/// The one schema so far.
const SCHEMA: u32 = 1;
/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub name: String,
    pub version: String,
    pub kinds: Vec<Kind>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// SPDX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The author's promise that the same input gives the same answer.
    #[serde(default)]
    pub deterministic: bool,
    /// An export target's result is of no use before `install` has told a program on this machine of it: without the program
    /// nothing is exported, unless the user asks for the files alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_registration: bool,
    /// The capabilities it asks for.
    #[serde(default, rename = "request", skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Request>,
    /// Its settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, ConfigKey>,
    /// Keys that this version does not know, such as those of a newer author tool: a warning at install.
    #[serde(skip)]
    pub unknown_keys: Vec<String>,
}

/// One capability that a plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// In grant syntax.
    pub capability: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Why there is no usable manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The file is no component.
    #[error("{0}")]
    Malformed(String),
    /// The file is a core module.
    #[error("it is a core module, not a component")]
    NotAComponent,
    /// A component without the section.
    #[error("it is missing")]
    Missing,
    /// The section breaks a rule.
    #[error("{0}")]
    Wrong(String),
}

impl Manifest {
    /// Reads the manifest of a component.
    ///
    /// **Errors**: not a component, no manifest or more than one, too large, or a wrong field.
    pub fn of_component(component: &[u8]) -> Result<Manifest, ManifestError> {
        let section = section::find(component)?.ok_or(ManifestError::Missing)?;
        Manifest::from_json(section)
    }

    /// Reads the JSON form.
    ///
    /// **Errors**: a field that is missing, of another type, or breaks a rule.
    pub fn from_json(json: &[u8]) -> Result<Manifest, ManifestError> {
        if json.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Wrong("it is larger than 64 KiB".to_owned()));
        }
        let text = std::str::from_utf8(json).map_err(|_| ManifestError::Wrong("it is not UTF-8".to_owned()))?;
        let wrong = |error: serde_json::Error| ManifestError::Wrong(inert_line(&error.to_string()));
        // The typed read goes first: it is the one that refuses a key that stands twice.
        let mut manifest: Manifest = serde_json::from_str(text).map_err(wrong)?;
        let whole: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
        manifest.unknown_keys = unknown_keys(&whole);
        manifest.check().map_err(ManifestError::Wrong)?;
        Ok(manifest)
    }

    /// The JSON form, as it stands in the section.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a manifest is plain data with text keys")
    }

    /// The manifest of a file that has none: it runs only by path, with the name of its file.
    pub fn absent(file_stem: &str, kinds: Vec<Kind>) -> Manifest {
        let mut name: String = file_stem
            .to_ascii_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .take(39)
            .collect();
        if !is_name(&name) {
            name.insert(0, 'x');
        }
        if !is_name(&name) {
            name = "unnamed".to_owned();
        }
        Manifest {
            schema: SCHEMA,
            name,
            version: "0.0.0".to_owned(),
            kinds,
            description: String::new(),
            authors: Vec::new(),
            license: None,
            homepage: None,
            deterministic: false,
            needs_registration: false,
            requests: Vec::new(),
            config: BTreeMap::new(),
            unknown_keys: Vec::new(),
        }
    }

    /// True where the plugin asks for exactly this text.
    pub fn requests_text(&self, capability: &str) -> bool {
        self.requests.iter().any(|request| request.capability == capability)
    }

    /// Holds the fields against the rules of `plugins.md` section 7; the first broken one is named.
    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema is {}, {SCHEMA} was expected", self.schema));
        }
        if !is_name(&self.name) {
            return Err(format!(
                "`{}` is not a plugin name: a lower-case letter, then 1 to 39 lower-case letters, digits and `-`",
                short(&self.name)
            ));
        }
        semver::Version::parse(&self.version)
            .map_err(|error| format!("version `{}` is no semantic version: {error}", short(&self.version)))?;
        if self.kinds.is_empty() {
            return Err(format!(
                "kinds is empty; the kinds are {}",
                Kind::ALL.map(Kind::name).join(", ")
            ));
        }
        if self.needs_registration && !self.kinds.contains(&Kind::Target) {
            return Err("needs_registration is for export targets alone".to_owned());
        }
        let mut kinds = self.kinds.clone();
        kinds.sort();
        kinds.dedup();
        if kinds.len() != self.kinds.len() {
            return Err("kinds names one kind twice".to_owned());
        }
        for (what, text) in [("description", &self.description)]
            .into_iter()
            .chain(self.license.iter().map(|text| ("license", text)))
            .chain(self.homepage.iter().map(|text| ("homepage", text)))
            .chain(self.authors.iter().map(|text| ("an author", text)))
        {
            one_line(what, text)?;
        }
        if let Some(homepage) = &self.homepage
            && !(homepage.starts_with("https://") || homepage.starts_with("http://"))
        {
            return Err(format!("homepage `{}` is no https: or http: address", short(homepage)));
        }
        for (what, count) in [
            ("authors", self.authors.len()),
            ("requests", self.requests.len()),
            ("config keys", self.config.len()),
        ] {
            if count > LIST_MAX {
                return Err(format!("it has {count} {what}, at most {LIST_MAX} are allowed"));
            }
        }
        self.check_requests()?;
        self.config.iter().try_for_each(|(name, key)| key.check(name))
    }

    fn check_requests(&self) -> Result<(), String> {
        for (index, request) in self.requests.iter().enumerate() {
            one_line("a requested capability", &request.capability)?;
            one_line("a reason", &request.reason)?;
            if request.capability.is_empty() {
                return Err("a request has an empty capability".to_owned());
            }
            let earlier = self.requests.iter().take(index);
            if earlier.into_iter().any(|other| other.capability == request.capability) {
                return Err(format!("`{}` is requested twice", short(&request.capability)));
            }
        }
        Ok(())
    }
}

/// Says whether this can be the name of a plugin.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && (2..=40).contains(&name.len())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Keys that no version so far knows, with the place of those inside a request or a setting.
fn unknown_keys(whole: &serde_json::Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut look = |place: &str, value: &serde_json::Value, known: &[keys::Key]| {
        for key in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !known.iter().any(|known| known.name == key) {
                unknown.push(short(&format!("{place}{key}")));
            }
        }
    };
    look("", whole, &keys::MANIFEST);
    for request in whole
        .get("request")
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
    {
        look("request.", request, &keys::REQUEST);
    }
    for (name, key) in whole
        .get("config")
        .and_then(serde_json::Value::as_object)
        .into_iter()
        .flatten()
    {
        look(&format!("config.{name}."), key, &keys::CONFIG);
    }
    unknown
}

fn one_line(what: &str, text: &str) -> Result<(), String> {
    if text.len() > LINE_BYTES_MAX {
        return Err(format!("{what} is longer than {LINE_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} `{}` holds a control character", short(text)));
    }
    Ok(())
}

/// A foreign text inside a message.
fn short(text: &str) -> String {
    inert_line(&dlm_core::inert::cut(text, 80))
}

#[cfg(test)]
mod tests;
