//! An index of plugins: one signed file that says which plugins a publisher has, in which versions, what each file's hash is
//! and what each version asks for.
//!
//! Invariants: an index vouches for nothing but the bytes of files: what is installed goes through the same checks, questions
//! and pins as any other file; it is used only with the signature of a trusted key, and one older than the newest that was
//! seen from the same place is refused; no name in it leads out of the place where it lies; every part has a bound.

mod fetch;
mod make;
mod query;
mod seen;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use dlm_core::inert::inert_line;
use dlm_core::stamp::Stamp;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::contract::API;
use crate::error::IndexError;
use crate::kind::Kind;
use crate::manifest::{COMPONENT_BYTES_MAX, Request, is_name};

pub use fetch::{IndexSource, ReadIndex, fetch_release, read_index};
pub use make::{MadeIndex, make, sign_words, write};
pub use query::{Found, OutdatedPlugin, outdated, search};
pub use seen::remember;

/// The name of the file; its signature is beside it, with `.minisig` after the name.
pub const INDEX_FILE: &str = "index.json";
/// The one form so far.
const FORMAT: u32 = 1;
/// Largest index: thousands of plugins with their requests.
pub(crate) const INDEX_BYTES_MAX: u64 = 4 << 20;
/// Most plugins of an index.
const PLUGINS_MAX: usize = 10_000;
/// Most versions of one plugin.
const RELEASES_MAX: usize = 500;
/// Most requests of one version, as in a manifest.
const REQUESTS_MAX: usize = 100;
/// Longest description or reason, in bytes, as in a manifest.
const LINE_BYTES_MAX: usize = 1024;
/// Longest name of a file, in bytes, and most directories in it.
const FILE_BYTES_MAX: usize = 200;
const FILE_PARTS_MAX: usize = 4;

/// The file's contents. Keys that this version does not know are passed over, so that a later one can add some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub format: u32,
    /// Grows by at least one with each index that its publisher puts there.
    pub serial: u64,
    /// When it was made; UTC, such as `2026-11-21T19:00:00Z`.
    pub date: String,
    pub plugins: Vec<IndexPlugin>,
}

/// One plugin of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPlugin {
    pub name: String,
    /// In any order; [`Index::parse`] puts the newest first.
    pub releases: Vec<Release>,
}

/// One version of a plugin: what its manifest says, and where its file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub version: String,
    pub kinds: Vec<Kind>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Version of the contract that it was built for.
    pub api: String,
    /// Of the file, lower-case hex.
    pub sha256: String,
    /// Of the file, in bytes.
    pub size: u64,
    /// Relative to the index, with `/`.
    pub file: String,
    /// The capabilities that it asks for.
    #[serde(default, rename = "request", skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Request>,
}

impl Index {
    /// Reads and checks the text form; versions come back newest first.
    ///
    /// **Errors**: the first rule that it breaks, in words.
    pub fn parse(bytes: &[u8]) -> Result<Index, String> {
        if bytes.len() as u64 > INDEX_BYTES_MAX {
            return Err(format!("it is larger than {} MiB", INDEX_BYTES_MAX >> 20));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut index: Index = serde_json::from_str(text).map_err(|error| inert_line(&error.to_string()))?;
        if index.format != FORMAT {
            return Err(format!("it has format {}, this dlm reads {FORMAT}", index.format));
        }
        Stamp::parse_zoned(&index.date).map_err(|error| format!("its date: {error}"))?;
        if index.plugins.len() > PLUGINS_MAX {
            return Err(format!(
                "it has {} plugins, at most {PLUGINS_MAX} are read",
                index.plugins.len()
            ));
        }
        let mut names = BTreeSet::new();
        for plugin in &mut index.plugins {
            plugin.check()?;
            if !names.insert(plugin.name.clone()) {
                return Err(format!("`{}` is there twice", plugin.name));
            }
        }
        Ok(index)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("an index is plain data with text keys");
        text.push('\n');
        text
    }

    /// A plugin by its name.
    pub fn plugin(&self, name: &str) -> Option<&IndexPlugin> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }
}

impl IndexPlugin {
    fn check(&mut self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!("`{}` is not a plugin name", shown(&self.name)));
        }
        let name = &self.name;
        if let Some(cause) = crate::builtin::reserved(name) {
            return Err(cause);
        }
        if self.releases.is_empty() || self.releases.len() > RELEASES_MAX {
            return Err(format!(
                "`{name}` has {} versions, 1 to {RELEASES_MAX} are read",
                self.releases.len()
            ));
        }
        let mut ordered = Vec::new();
        for release in &self.releases {
            let version = release
                .check()
                .map_err(|cause| format!("`{name}` {}: {cause}", shown(&release.version)))?;
            ordered.push((version, release.clone()));
        }
        ordered.sort_by(|a, b| b.0.cmp(&a.0));
        if let Some([twice, _]) = ordered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("`{name}` {} is there twice", twice.0));
        }
        self.releases = ordered.into_iter().map(|(_, release)| release).collect();
        Ok(())
    }

    /// The newest version that fits what was asked for and runs on this dlm. One before its release (`1.0.0-beta`) is taken
    /// only where it was asked for.
    ///
    /// **Errors** name the versions that there are.
    pub fn choose(&self, wanted: Option<&VersionReq>) -> Result<&Release, IndexError> {
        let any = VersionReq::STAR;
        let wanted = wanted.unwrap_or(&any);
        let fits = |release: &&Release| Version::parse(&release.version).is_ok_and(|version| wanted.matches(&version));
        let mut fitting = self.releases.iter().filter(fits);
        fitting
            .clone()
            .find(|release| release.runs_here())
            .ok_or_else(|| IndexError::NoVersion {
                plugin: self.name.clone(),
                wanted: wanted.to_string(),
                versions: self.releases.iter().map(|release| release.version.clone()).collect(),
                newer_api: fitting.next().map(|release| release.api.clone()),
            })
    }
}

impl Release {
    fn check(&self) -> Result<Version, String> {
        let version = Version::parse(&self.version).map_err(|error| error.to_string())?;
        Version::parse(&self.api).map_err(|error| format!("its API version: {error}"))?;
        if !dlm_core::digest::is_hex(&self.sha256, 64) {
            return Err("its sha256 is not 64 lower-case hex digits".to_owned());
        }
        if self.size == 0 || self.size > COMPONENT_BYTES_MAX {
            return Err(format!(
                "its size is {}, a plugin has 1 to {COMPONENT_BYTES_MAX} bytes",
                self.size
            ));
        }
        if self.kinds.is_empty() {
            return Err("it is of no kind".to_owned());
        }
        check_file(&self.file)?;
        if self.description.len() > LINE_BYTES_MAX || self.requests.len() > REQUESTS_MAX {
            return Err("its description or its list of requests is longer than a manifest's may be".to_owned());
        }
        for request in &self.requests {
            crate::check::canonical(&request.capability).map_err(|error| error.to_string())?;
            if request.reason.len() > LINE_BYTES_MAX {
                return Err("a reason is longer than a manifest's may be".to_owned());
            }
        }
        Ok(version)
    }

    /// Says whether this dlm has the contract that it was built for; a newer minor version runs as far as it goes.
    pub fn runs_here(&self) -> bool {
        Version::parse(&self.api).is_ok_and(|api| api.major == API.0)
    }
}

/// What was typed after `NAME@`: a whole version is that one alone (`1.2.0`), anything else is a range (`^1.2`, `<2`, `1.2`).
///
/// **Errors**: what cannot be a version.
pub fn wanted(typed: &str) -> Result<VersionReq, semver::Error> {
    match Version::parse(typed) {
        Ok(_) => VersionReq::parse(&format!("={typed}")),
        Err(_) => VersionReq::parse(typed),
    }
}

/// Refuses a name that could mean a file elsewhere, in a directory or in an address.
fn check_file(file: &str) -> Result<(), String> {
    let parts: Vec<&str> = file.split('/').collect();
    let is_plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
    };
    let is_good = file.len() <= FILE_BYTES_MAX
        && parts.len() <= FILE_PARTS_MAX
        && parts.iter().all(is_plain)
        && file.ends_with(".wasm");
    match is_good {
        true => Ok(()),
        false => Err(format!(
            "its file `{}` is no plain name beside the index: letters, digits, `.`, `_`, `+` and `-`, directories with `/`, \
             `.wasm` at the end",
            shown(file)
        )),
    }
}

/// A text of the index in a message about it.
fn shown(text: &str) -> String {
    inert_line(&dlm_core::inert::cut(text, 80))
}
