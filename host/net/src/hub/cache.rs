//! The hub cache on disk: `models--<org>--<name>/{blobs,refs,snapshots}`, the layout that the hub's own tools use.
//!
//! A blob has its final name only when it is whole and verified; a snapshot is a directory of links to blobs.

use std::fs;
use std::path::{Path, PathBuf};

use dlm_core::Cancel;
use dlm_core::digest::is_hex;
use dlm_core::ports::{BaseSourceError, Snapshot};
use dlm_files::{Disk, DiskError, LockFile};

use super::{HubSettings, listing};

/// The longest weight index that is read; the largest published ones have about 1 MB.
pub(super) const INDEX_BYTES_MAX: u64 = 32 << 20;
/// Held by the process that fetches; other tools have locks of their own, one for each file.
const LOCK: &str = ".dlm-download.lock";
/// A ref is one commit id.
const REF_BYTES_MAX: u64 = 256;

/// One repository's part of the cache.
#[derive(Clone, Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    pub(super) disk: Disk,
}

impl RepoCache {
    pub(super) fn new(settings: &HubSettings, hf_id: &str) -> Self {
        let name = format!("models--{}", hf_id.replace('/', "--"));
        RepoCache {
            root: settings.cache_dir.join(name),
            disk: settings.disk.clone(),
        }
    }

    pub(super) fn snapshot_dir(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, name: &str) -> PathBuf {
        self.root.join("blobs").join(name)
    }

    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{name}.part"))
    }

    fn create_dir(&self, path: &Path) -> Result<(), BaseSourceError> {
        self.disk
            .create_directories(path)
            .map_err(|e| io(path, "cannot create it", e.into_io()))
    }

    pub(super) fn create(&self) -> Result<(), BaseSourceError> {
        ["blobs", "refs", "snapshots"]
            .iter()
            .try_for_each(|name| self.create_dir(&self.root.join(name)))
    }

    /// The right to fetch into this part of the cache; after `on_wait` waits for the process that has it. None where `cancel`
    /// is raised meanwhile.
    pub(super) fn lock(&self, cancel: &Cancel, on_wait: impl FnOnce()) -> Result<Option<LockFile>, BaseSourceError> {
        let path = self.root.join(LOCK);
        LockFile::take(&self.disk, &path, cancel, on_wait).map_err(|e| io(&path, "cannot lock it", e.into_io()))
    }

    /// Makes `name` of the snapshot stand for a blob.
    pub(super) fn link(&self, commit: &str, name: &str, blob: &str) -> Result<(), BaseSourceError> {
        let dir = self.snapshot_dir(commit);
        self.create_dir(&dir)?;
        let path = dir.join(name);
        self.disk
            .remove_file(&path)
            .map_err(|e| io(&path, "cannot replace it", e.into_io()))?;
        self.disk
            .link(&Path::new("../../blobs").join(blob), &path)
            .map_err(|e| io(&path, "cannot link it", e.into_io()))
    }

    pub(super) fn write_ref(&self, name: &str, commit: &str) -> Result<(), BaseSourceError> {
        let path = self.root.join("refs").join(name);
        let written = self.disk.write(&path, commit.as_bytes());
        written.map_err(|e| io(&path, "cannot write it", e.into_io()))
    }

    /// The snapshot of a commit (or of what `main` was last) if nothing of it is missing.
    pub(super) fn snapshot(&self, revision: Option<&str>) -> Result<Option<Snapshot>, BaseSourceError> {
        let commit = match revision {
            Some(revision) => revision.to_owned(),
            None => match read_small(&self.root.join("refs").join("main"), REF_BYTES_MAX)? {
                Some(text) => text.trim().to_owned(),
                None => return Ok(None),
            },
        };
        if !is_hex(&commit, 40) {
            return Ok(None);
        }
        let dir = self.snapshot_dir(&commit);
        let Ok(entries) = fs::read_dir(&dir) else {
            return Ok(None);
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| io(&dir, "cannot list it", e))?;
            // Follows the link, so a name whose blob is gone does not count.
            if fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file())
                && let Ok(name) = entry.file_name().into_string()
            {
                files.push(name);
            }
        }
        files.sort();
        let has = |name: &str| files.iter().any(|file| file == name);
        let is_complete = has("config.json")
            && files.iter().any(|name| name.starts_with("tokenizer"))
            && files.iter().any(|name| name.ends_with(".safetensors"))
            && self.missing_shards(&commit)?.is_empty();
        Ok(is_complete.then_some(Snapshot {
            dir,
            commit,
            files,
            bytes_fetched: 0,
        }))
    }

    /// Checks that every shard which the weight index names is there.
    pub(super) fn check_index(&self, hf_id: &str, commit: &str) -> Result<(), BaseSourceError> {
        let missing = self.missing_shards(commit)?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(BaseSourceError::BadAnswer {
            hf_id: hf_id.to_owned(),
            reason: format!(
                "its weight index names {}, which the repository does not hold",
                missing.join(", ")
            ),
        })
    }

    fn missing_shards(&self, commit: &str) -> Result<Vec<String>, BaseSourceError> {
        let dir = self.snapshot_dir(commit);
        let Some(text) = read_small(&dir.join(listing::INDEX), INDEX_BYTES_MAX)? else {
            return Ok(Vec::new());
        };
        // An index beside the whole file is not read by anything.
        if dir.join(listing::SINGLE).is_file() {
            return Ok(Vec::new());
        }
        let Some(shards) = listing::shards(text.as_bytes()) else {
            return Ok(vec!["no readable weight_map".into()]);
        };
        Ok(shards.into_iter().filter(|shard| !dir.join(shard).is_file()).collect())
    }
}

/// Reads a text that should be small; none when it is not there.
fn read_small(path: &Path, limit: u64) -> Result<Option<String>, BaseSourceError> {
    let failed = |error: DiskError| match error {
        DiskError::TooLarge { found_bytes, .. } => {
            let too_large = std::io::Error::other(format!("{found_bytes} bytes, more than {limit}"));
            io(path, "cannot read it", too_large)
        }
        error => io(path, "cannot read it", error.into_io()),
    };
    dlm_files::read_text(path, limit).map_err(failed)
}

pub(super) fn io(path: &Path, action: &'static str, source: std::io::Error) -> BaseSourceError {
    BaseSourceError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}
