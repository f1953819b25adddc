//! Where an index lies, reading it, and fetching a file that it names.
//!
//! Invariants: nothing of an index is used before its signature and its serial were checked; a file is used only if it has
//! the size and the hash that the index says.

use std::path::{Path, PathBuf};

use dlm_core::Cancel;
use dlm_core::digest::sha256_hex;
use dlm_core::inert::inert_line;
use dlm_core::ports::guest_http::GuestHttp;

use super::{INDEX_BYTES_MAX, INDEX_FILE, Index, Release, signed};
use crate::check::CheckedPlugin;
use crate::disk;
use crate::error::{IndexError, PackageError};
use crate::fetch::{FetchedPlugin, Get, Source};
use crate::keys::{TEXT_BYTES_MAX, trusted_keys};
use crate::kind::Kind;
use crate::manifest::{COMPONENT_BYTES_MAX, Request};
use crate::signature::signature_path;

/// Where an index lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexSource {
    /// The directory of `index.json`.
    Directory(PathBuf),
    /// The address of the directory, `/` at its end.
    Web(String),
}

/// An index that may be used.
#[derive(Clone, Debug)]
pub struct ReadIndex {
    pub index: Index,
    pub source: IndexSource,
    /// The key that signed it.
    pub signer: String,
}

impl IndexSource {
    /// Reads what was typed after `--index` or stands in the settings: a directory, or an `https:` address with or without
    /// `index.json` at its end. `resolve` turns a typed path into a real one.
    ///
    /// **Errors**: another scheme, or an address with a query.
    pub fn parse(text: &str, resolve: impl Fn(&str) -> PathBuf) -> Result<IndexSource, PackageError> {
        let bare = |text: &str| text.strip_suffix(INDEX_FILE).unwrap_or(text).to_owned();
        match Source::parse(text, resolve)? {
            Source::Web(url) if url.contains(['?', '#']) => Err(IndexError::Address { url: inert_line(&url) }.into()),
            Source::Web(url) => {
                let url = bare(&url);
                let end = if url.ends_with('/') { "" } else { "/" };
                Ok(IndexSource::Web(format!("{url}{end}")))
            }
            Source::File(path) if path.is_file() && path.ends_with(INDEX_FILE) => Ok(IndexSource::Directory(
                path.parent().map(Path::to_owned).unwrap_or_default(),
            )),
            Source::File(path) => Ok(IndexSource::Directory(path)),
        }
    }

    /// The place as it is remembered and shown; that of a directory does not depend on where one stands.
    pub fn place(&self) -> String {
        match self {
            IndexSource::Web(url) => url.clone(),
            IndexSource::Directory(path) => {
                let mut text = crate::discover::place_of(path).to_string_lossy().into_owned();
                if !text.ends_with('/') {
                    text.push('/');
                }
                text
            }
        }
    }

    /// A file beside the index; nothing where there is none.
    fn read(&self, file: &str, bytes_max: u64, get: &Get<'_>) -> Result<Option<Vec<u8>>, PackageError> {
        match self {
            IndexSource::Directory(path) => Ok(disk::read(&path.join(file), bytes_max)?),
            IndexSource::Web(url) => get.body(&format!("{url}{file}"), bytes_max),
        }
    }
}

/// Reads the index at `source` and checks its form, its signature and its serial.
///
/// **Errors**: there is none, it breaks a rule, no trusted key signed it, or a newer one was seen before.
pub fn read_index(
    home: &Path,
    source: &IndexSource,
    http: &dyn GuestHttp,
    user_agent: &str,
    cancel: &Cancel,
) -> Result<ReadIndex, PackageError> {
    let get = Get {
        http,
        user_agent,
        cancel,
    };
    let place = source.place();
    let bytes = source.read(INDEX_FILE, INDEX_BYTES_MAX, &get)?;
    let bytes = bytes.ok_or_else(|| IndexError::Missing {
        place: inert_line(&place),
    })?;
    let index = Index::parse(&bytes).map_err(|cause| IndexError::Malformed {
        place: inert_line(&place),
        cause,
    })?;
    let signature = source.read(&beside(INDEX_FILE), TEXT_BYTES_MAX, &get)?;
    let signer = signed::check(&trusted_keys(home)?, signature.as_deref(), &bytes, &index, &place)?;
    super::remember(home, &place, &index, &sha256_hex(&bytes))?;
    Ok(ReadIndex {
        index,
        source: source.clone(),
        signer,
    })
}

/// Fetches the file of a version with its signature.
///
/// **Errors**: it is not there, or is not the one that the index lists.
pub fn fetch_release(
    read: &ReadIndex,
    plugin: &str,
    release: &Release,
    http: &dyn GuestHttp,
    user_agent: &str,
    cancel: &Cancel,
) -> Result<FetchedPlugin, PackageError> {
    let get = Get {
        http,
        user_agent,
        cancel,
    };
    let other = |found: String| IndexError::OtherFile {
        plugin: plugin.to_owned(),
        version: release.version.clone(),
        file: release.file.clone(),
        expected: format!("{} bytes with the sha256 {}", release.size, release.sha256),
        found,
    };
    let bytes_max = match read.source {
        IndexSource::Directory(_) => COMPONENT_BYTES_MAX,
        // Nobody makes us fetch more than was announced.
        IndexSource::Web(_) => release.size,
    };
    let bytes = read.source.read(&release.file, bytes_max, &get)?;
    let bytes = bytes.ok_or_else(|| other("there is no such file".to_owned()))?;
    let found = sha256_hex(&bytes);
    if bytes.len() as u64 != release.size || found != release.sha256 {
        return Err(other(format!("it has {} bytes with the sha256 {found}", bytes.len())).into());
    }
    Ok(FetchedPlugin {
        bytes,
        signature: read.source.read(&beside(&release.file), TEXT_BYTES_MAX, &get)?,
        source: format!("{}{}", read.source.place(), release.file),
        is_from_network: matches!(read.source, IndexSource::Web(_)),
    })
}

impl Release {
    /// Refuses an entry that says something else than the manifest in the file: what was shown before is then not what is
    /// installed.
    ///
    /// **Errors** name the first difference.
    pub fn compare(&self, plugin: &str, checked: &CheckedPlugin) -> Result<(), IndexError> {
        let manifest = &checked.manifest;
        let asks = |requests: &[Request]| {
            let text = |request: &Request| match request.optional {
                true => format!("{} (optional)", request.capability),
                false => request.capability.clone(),
            };
            requests.iter().map(text).collect::<Vec<_>>().join("; ")
        };
        let kinds = |kinds: &[Kind]| {
            let mut names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            names.sort_unstable();
            names.join(", ")
        };
        let pairs = [
            ("name", plugin.to_owned(), manifest.name.clone()),
            ("version", self.version.clone(), manifest.version.clone()),
            ("requests", asks(&self.requests), asks(&manifest.requests)),
            ("kinds", kinds(&self.kinds), kinds(&manifest.kinds)),
        ];
        match pairs.into_iter().find(|(_, listed, own)| listed != own) {
            None => Ok(()),
            Some((what, listed, own)) => Err(IndexError::OtherManifest {
                plugin: plugin.to_owned(),
                version: self.version.clone(),
                what,
                listed: inert_line(&listed),
                own: inert_line(&own),
            }),
        }
    }
}

/// The name of the signature beside a file.
fn beside(file: &str) -> String {
    signature_path(Path::new(file)).to_string_lossy().into_owned()
}
