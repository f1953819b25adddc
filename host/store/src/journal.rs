//! The journal of a commit: what is to be recorded of a run, on disk before its version becomes current.
//!
//! Invariants: it is whole or not there; it counts only while the pointer names its version; it is removed when everything
//! that it says is recorded, and finishing it twice changes nothing.

use dlm_files::DiskError;
use serde::{Deserialize, Serialize};

use crate::commit::RunCommit;
use crate::error::StoreError;
use crate::layout::AdapterSlot;
use crate::recover::verify_version;
use crate::store::{StoreGuard, StoreNotice};
use crate::version::{CommittedVersion, CurrentVersion};

/// Largest journal that is read: it holds the new sections of a document.
const BYTES_MAX: u64 = 1 << 30;

/// A commit that is under way.
#[derive(Debug, Serialize, Deserialize)]
struct Journal<C> {
    /// The adapter's name; none in the flat layout.
    adapter: Option<String>,
    version: u32,
    commit: C,
}

impl StoreGuard {
    /// Writes the journal; what is in it is not done yet.
    pub(crate) fn write_journal(&self, slot: &AdapterSlot, version: u32, commit: &RunCommit) -> Result<(), DiskError> {
        let journal = Journal {
            adapter: slot.name().map(str::to_owned),
            version,
            commit,
        };
        let bytes = serde_json::to_vec(&journal).expect("a commit is plain data with text keys");
        self.disk().write(&self.paths().journal(), &bytes)
    }

    pub(crate) fn remove_journal(&self) -> Result<(), DiskError> {
        self.disk().remove_file(&self.paths().journal()).map(drop)
    }

    /// Finishes the commit of a run that died between the pointer and the end; returns the run's number where there was one.
    /// The journal of a version that never became current, or that is damaged, is dropped.
    pub(crate) fn finish_journal(&mut self) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = dlm_files::read(&self.paths().journal(), BYTES_MAX)? else {
            return Ok(None);
        };
        // One that cannot be read was not written by this version; what it was for is settled without it.
        let journal: Option<Journal<RunCommit>> = serde_json::from_slice(&bytes).ok();
        let found = journal.and_then(|journal| Some((self.committed(&journal)?, journal)));
        let run_id = match found {
            Some((version, journal)) => {
                let run_id = journal.commit.run.run_id;
                let (slot, version_number) = (version.slot.clone(), version.number);
                self.record_commit(version, journal.commit)?;
                self.notice(StoreNotice::VersionRecorded {
                    slot,
                    version: version_number,
                    run_id,
                });
                Some(run_id)
            }
            None => None,
        };
        self.remove_journal()?;
        Ok(run_id)
    }

    /// The version of a journal, where the pointer names it and its files are whole.
    fn committed(&self, journal: &Journal<RunCommit>) -> Option<CommittedVersion> {
        let slot = AdapterSlot::of(journal.adapter.as_deref()).ok()?;
        let current = self.current_version(&slot).ok()??;
        let CurrentVersion {
            number,
            directory,
            relative,
        } = current;
        let is_it = number == Some(journal.version) && verify_version(&directory).is_ok();
        is_it.then_some(CommittedVersion {
            slot,
            number: journal.version,
            directory,
            relative,
        })
    }
}
