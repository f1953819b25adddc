//! What a store's files should be, and whether they are: the digests that a version was written with, and the check of
//! everything that carries one.
//!
//! Invariants: reading changes nothing; damage is told with the file, what it should be and what it is.

use std::collections::BTreeMap;
use std::path::Path;

use dlm_core::digest::is_hex;
use dlm_core::manifest::Manifest;
use dlm_files::{DiskError, sha256_file};
use serde_json::Value;

use crate::error::StoreError;
use crate::layout::AdapterSlot;
use crate::recover::verify_version;
use crate::seen::Hash;
use crate::state::STATE_FILE;
use crate::store::Store;
use crate::sums::{VersionDamage, check_files, read_sums};
use crate::version::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE};

/// The record of an export, beside its files.
pub const EXPORT_MANIFEST_FILE: &str = "export_manifest.json";
/// Ends the name of files that failed the smoke test of their export.
pub const FAILED_EXPORT: &str = ".failed";
/// Largest record of an export that is read.
const EXPORT_BYTES_MAX: u64 = 16 << 20;

/// The digests of a version that was written before versions had a file of them: the manifest has those of the last one.
fn recorded(manifest: Option<&Manifest>, slot: &AdapterSlot, number: Option<u32>) -> BTreeMap<String, String> {
    let manifest = manifest.filter(|manifest| {
        *slot == AdapterSlot::Flat && number.is_some_and(|number| number == manifest.version_of(None))
    });
    let digests = manifest.map(|manifest| {
        [
            (ADAPTER_MODEL_FILE, manifest.adapter_sha256.clone()),
            (ADAPTER_CONFIG_FILE, manifest.adapter_config_sha256.clone()),
        ]
    });
    let known = digests.into_iter().flatten();
    known
        .filter_map(|(name, digest)| Some((name.to_owned(), digest?)))
        .collect()
}

impl Store {
    /// Holds what a version answers with (adapter, tokenizer, template) against the digests that it was written with; one of
    /// which none is known passes. The training state has a digest of its own, which is checked when it is read.
    ///
    /// **Errors** with the first file that is damaged.
    pub fn check_version(
        &self,
        slot: &AdapterSlot,
        directory: &Path,
        number: Option<u32>,
        hash: &mut Hash<'_>,
    ) -> Result<(), VersionDamage> {
        let sums = match read_sums(directory)? {
            Some(sums) => sums,
            // A manifest that cannot be read is told by the command that needs it.
            None => recorded(self.manifest().ok().flatten().as_ref(), slot, number),
        };
        check_files(directory, &sums, |name| name != STATE_FILE, hash)
    }

    /// The other versions of a slot whose files are all what was written, newest first, relative to the store's root.
    pub fn whole_versions(&self, slot: &AdapterSlot) -> Vec<String> {
        let versions = self.versions(slot).unwrap_or_default();
        let is_whole = |directory: &Path| match read_sums(directory) {
            Ok(Some(sums)) => check_files(directory, &sums, |_| true, &mut sha256_file).is_ok(),
            _ => false,
        };
        let whole = versions.into_iter().rev().filter(|version| {
            let directory = self.paths().versions(slot).join(&version.name);
            !version.is_rejected && !version.is_current && is_whole(&directory)
        });
        whole
            .map(|version| format!("{}/versions/{}", slot.relative(), version.name))
            .collect()
    }

    /// Checks everything that carries a digest: versions with their states, replay frames, exports, blobs, and the metrics
    /// database; one line per damage.
    ///
    /// **Errors** when the store cannot be read at all.
    /// **Cost:** reads all of it once.
    pub fn verify(&self) -> Result<Vec<String>, StoreError> {
        let manifest = self.manifest()?;
        let mut found = Vec::new();
        let mut slots = vec![AdapterSlot::Flat];
        slots.extend(self.adapter_slots()?);
        for slot in slots {
            self.verify_slot(&slot, manifest.as_ref(), &mut found);
        }
        let corpus = self.replay()?;
        found.extend(corpus.extra_flaw.clone());
        for entry in corpus.entries() {
            if let Err(error) = corpus.read(entry) {
                found.push(error.to_string());
            }
        }
        let metrics = self
            .metrics_reader()
            .map(|reader| reader.and_then(|reader| reader.damage()));
        if let Some(damage) = metrics.unwrap_or_else(|error| Some(error.to_string())) {
            found.push(format!("`{}` is damaged: {damage}", self.paths().metrics().display()));
        }
        self.verify_exports(&mut found)?;
        self.verify_blobs(&mut found)?;
        Ok(found)
    }

    fn verify_slot(&self, slot: &AdapterSlot, manifest: Option<&Manifest>, found: &mut Vec<String>) {
        // What cannot even be read is told once.
        let mut broken = None;
        match self.current_version(slot) {
            Ok(Some(current)) => {
                if let Err(damage) = verify_version(&current.directory) {
                    found.push(format!("{}: {damage}", current.relative));
                    broken = Some(current.directory.clone());
                }
                let sums = recorded(manifest, slot, current.number);
                if let Err(damage) = check_files(&current.directory, &sums, |_| true, &mut sha256_file) {
                    found.push(damage.to_string());
                }
            }
            Ok(None) => {
                let recorded = manifest.map_or(0, |manifest| manifest.version_of(slot.name()));
                if recorded > 0 {
                    found.push(format!(
                        "{slot}: the manifest records v{recorded:04}, but there is no pointer"
                    ));
                }
            }
            Err(error) => found.push(error.to_string()),
        }
        for version in self.versions(slot).unwrap_or_default() {
            let directory = self.paths().versions(slot).join(&version.name);
            if broken.as_ref() == Some(&directory) {
                continue;
            }
            let checked = read_sums(&directory).and_then(|sums| match sums {
                Some(sums) => check_files(&directory, &sums, |_| true, &mut sha256_file),
                None => Ok(()),
            });
            if let Err(damage) = checked {
                let line = damage.to_string();
                if !found.contains(&line) {
                    found.push(line);
                }
            }
        }
    }

    fn verify_exports(&self, found: &mut Vec<String>) -> Result<(), DiskError> {
        let exports = self.paths().root().join("exports");
        for entry in dlm_files::list(&exports)? {
            // What begins with a dot is being written, and what failed its smoke test is no export.
            if !entry.is_directory || entry.name.starts_with('.') || entry.name.ends_with(FAILED_EXPORT) {
                continue;
            }
            let directory = exports.join(&entry.name);
            let record = directory.join(EXPORT_MANIFEST_FILE);
            let Some(bytes) = dlm_files::read(&record, EXPORT_BYTES_MAX)? else {
                found.push(format!("`{}`: an export that was not finished", directory.display()));
                continue;
            };
            match export_sums(&bytes) {
                Some(sums) => {
                    if let Err(damage) = check_files(&directory, &sums, |_| true, &mut sha256_file) {
                        found.push(damage.to_string());
                    }
                }
                None => found.push(format!("`{}` is damaged: it lists no files", record.display())),
            }
        }
        Ok(())
    }

    /// A blob has its digest for a name.
    fn verify_blobs(&self, found: &mut Vec<String>) -> Result<(), DiskError> {
        let blobs = self.paths().blobs();
        for part in dlm_files::list(&blobs)?.into_iter().filter(|part| part.is_directory) {
            for entry in dlm_files::list(&blobs.join(&part.name))? {
                let path = blobs.join(&part.name).join(&entry.name);
                let name = entry.name.split('.').next().unwrap_or_default();
                if is_hex(name, 64) && sha256_file(&path)? != name {
                    found.push(format!("`{}` is damaged: its SHA-256 is not its name", path.display()));
                }
            }
        }
        Ok(())
    }
}

/// The files that the record of an export lists, with their digests.
pub fn export_sums(record: &[u8]) -> Option<BTreeMap<String, String>> {
    let record: Value = serde_json::from_slice(record).ok()?;
    let artifacts = record.get("artifacts")?.as_array()?;
    let file = |artifact: &Value| {
        let (path, digest) = (artifact.get("path")?.as_str()?, artifact.get("sha256")?.as_str()?);
        Some((path.to_owned(), digest.to_owned()))
    };
    artifacts.iter().map(file).collect()
}
