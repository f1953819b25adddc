//! Which index was seen last from each place, so that an old one cannot be put in its place.
//!
//! Invariants: a serial never goes down; two different indexes never have one serial; what was seen is written before
//! anything is installed from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlm_files::Disk;
use serde::{Deserialize, Serialize};

use super::Index;
use crate::disk;
use crate::error::{FilesError, IndexError, PackageError};
use crate::keys::TEXT_BYTES_MAX;
use crate::lockfile::plugins_directory;

/// Most places that are remembered: far more than anybody uses.
const PLACES_MAX: usize = 200;

/// What the file holds, by place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenIndexes {
    index: BTreeMap<String, Seen>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    serial: u64,
    date: String,
    /// Of the whole file.
    sha256: String,
}

fn path(home: &Path) -> PathBuf {
    plugins_directory(home).join("indexes.toml")
}

/// Compares an index with the newest one that was seen at `place`, and remembers it where it is newer.
///
/// **Errors**: it is older, or another one with the same serial; the file of memory is damaged or cannot be written.
pub fn remember(home: &Path, place: &str, index: &Index, sha256: &str) -> Result<(), PackageError> {
    let busy = plugins_directory(home).join(".busy-indexes");
    disk::make_directory(&plugins_directory(home))?;
    let held = Disk::new().hold(&busy);
    let _held = held.map_err(|error| FilesError::of("lock", &busy)(error.into_io()))?;
    let path = path(home);
    let mut seen: SeenIndexes = match disk::read(&path, TEXT_BYTES_MAX)? {
        None => SeenIndexes::default(),
        Some(bytes) => {
            toml::from_str(&String::from_utf8_lossy(&bytes)).map_err(|_| IndexError::Memory { path: path.clone() })?
        }
    };
    let now = Seen {
        serial: index.serial,
        date: index.date.clone(),
        sha256: sha256.to_owned(),
    };
    if let Some(before) = seen.index.get(place) {
        if *before == now {
            return Ok(());
        }
        if index.serial <= before.serial {
            return Err(IndexError::Older {
                place: dlm_core::inert::inert_line(place),
                serial: index.serial,
                date: index.date.clone(),
                seen_serial: before.serial,
                seen_date: dlm_core::inert::inert_line(&before.date),
                memory: path,
            }
            .into());
        }
    } else if seen.index.len() >= PLACES_MAX {
        return Err(IndexError::TooManyPlaces { memory: path }.into());
    }
    seen.index.insert(place.to_owned(), now);
    let body = toml::to_string(&seen).expect("plain data with text keys");
    let head = "# Written by `dlm plugin`: the newest index that was seen at each place; older ones are refused.\n";
    disk::write(&path, format!("{head}{body}").as_bytes())?;
    Ok(())
}
