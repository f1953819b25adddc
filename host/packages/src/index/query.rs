//! Questions to an index: what it has, and what of that is newer than what is installed.

use semver::Version;
use serde::Serialize;

use super::{Index, IndexPlugin, ReadIndex, Release};
use crate::kind::Kind;
use crate::lockfile::{Lock, LockEntry};
use crate::manifest::Request;

/// One plugin of an index, as a search shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    pub name: String,
    /// The newest version that runs on this dlm.
    pub version: String,
    pub versions: Vec<String>,
    pub kinds: Vec<Kind>,
    pub description: String,
    pub sha256: String,
    pub size: u64,
    pub requests: Vec<Request>,
    /// The version that is installed under this name.
    pub installed: Option<String>,
}

/// An installed plugin of which the index has a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutdatedPlugin {
    pub name: String,
    pub installed: String,
    pub newest: String,
    /// Capabilities that the newest version asks for and the installed one was not granted.
    pub new_requests: Vec<String>,
    /// It was installed from this index. One from elsewhere may be another plugin of the same name.
    pub is_from_here: bool,
}

/// The plugins that a text and a kind fit, by name.
pub fn search(index: &Index, lock: &Lock, query: Option<&str>, kind: Option<Kind>) -> Vec<Found> {
    let query = query.unwrap_or_default().to_lowercase();
    let row = |plugin: &IndexPlugin| {
        let newest = plugin.choose(None).ok()?;
        let is_named = plugin.name.contains(&query) || newest.description.to_lowercase().contains(&query);
        let is_of_kind = kind.is_none_or(|kind| newest.kinds.contains(&kind));
        (is_named && is_of_kind).then(|| Found {
            name: plugin.name.clone(),
            version: newest.version.clone(),
            versions: plugin.releases.iter().map(|release| release.version.clone()).collect(),
            kinds: newest.kinds.clone(),
            description: newest.description.clone(),
            sha256: newest.sha256.clone(),
            size: newest.size,
            requests: newest.requests.clone(),
            installed: lock.installed(&plugin.name).map(|entry| entry.version.clone()),
        })
    };
    let mut found: Vec<Found> = index.plugins.iter().filter_map(row).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The installed plugins of which the index has a newer version that runs on this dlm.
pub fn outdated(read: &ReadIndex, lock: &Lock) -> Vec<OutdatedPlugin> {
    let place = read.source.place();
    let row = |entry: &LockEntry| {
        let newest = read.index.plugin(&entry.name)?.choose(None).ok()?;
        is_newer(newest, entry).then(|| OutdatedPlugin {
            name: entry.name.clone(),
            installed: entry.version.clone(),
            newest: newest.version.clone(),
            new_requests: new_requests(newest, entry),
            is_from_here: entry.source.starts_with(&place),
        })
    };
    let installed = lock.plugins.iter().filter(|entry| entry.path.is_none());
    installed.filter_map(row).collect()
}

fn is_newer(release: &Release, entry: &LockEntry) -> bool {
    match (Version::parse(&release.version), Version::parse(&entry.version)) {
        (Ok(listed), Ok(installed)) => listed > installed,
        _ => false,
    }
}

fn new_requests(release: &Release, entry: &LockEntry) -> Vec<String> {
    let granted = entry.granted();
    let requests = release.requests.iter().map(|request| request.capability.clone());
    requests.filter(|capability| !granted.contains(capability)).collect()
}
