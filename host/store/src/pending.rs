//! Plans that wait for the user's word: mined preferences and synthesized pairs, staged under the store.
//!
//! Invariants: a plan is replaced or removed as a whole, never edited; a file that is not exactly a plan is refused with
//! the place, so that nothing half-read reaches a document. Knows records, not grammar.

mod section;

use std::path::PathBuf;

use dlm_core::stamp::Stamp;
use dlm_core::{Hints, Section, SectionId, Subject, Ulid};
use dlm_files::DiskError;
use serde_json::{Map, Value, json};

use crate::json;
use crate::record::{self, Flaw, kind_of};
use crate::store::{Store, StoreGuard};

pub use section::SectionFlaw;

/// The version of the file; another one is refused.
const SCHEMA_VERSION: u64 = 1;
/// Largest plan that is read: as large as the largest document.
const BYTES_MAX: u64 = 64 << 20;

/// Which of the two plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanKind {
    Preference,
    Synth,
}

impl PlanKind {
    /// The command that makes and applies it.
    pub fn command(self) -> &'static str {
        match self {
            PlanKind::Preference => "preference",
            PlanKind::Synth => "synth",
        }
    }

    /// The word in front of messages about it.
    pub fn subject(self) -> Subject {
        match self {
            PlanKind::Preference => Subject::Preference,
            PlanKind::Synth => Subject::Synth,
        }
    }

    fn remake(self) -> &'static str {
        match self {
            PlanKind::Preference => "dlm preference mine <document>",
            PlanKind::Synth => "dlm synth instructions <document>",
        }
    }
}

/// A staged plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingPlan {
    /// Absolute path of the document when it was staged.
    pub source_path: String,
    pub created_at: Stamp,
    /// The document's id; absent in files of the reference implementation.
    pub dlm_id: Option<Ulid>,
    /// The sections that the plan was made from, so that an edit in the meantime is seen.
    pub made_from: Vec<SectionId>,
    /// What is to be added, in order.
    pub sections: Vec<Section>,
}

/// A staged plan that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    #[error("{}: the staged plan is corrupt: {flaw}", path.display())]
    Corrupt {
        path: PathBuf,
        kind: PlanKind,
        #[source]
        flaw: PendingFlaw,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is wrong with a staged plan.
#[derive(Debug, thiserror::Error)]
pub enum PendingFlaw {
    #[error(transparent)]
    File(#[from] Flaw),
    #[error("`schema_version` is {found}, this program reads {SCHEMA_VERSION}")]
    Version { found: String },
    #[error("`{key}` is missing")]
    Missing { key: &'static str },
    #[error("`{key}` is {found}, expected {expected}")]
    Type {
        key: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("section {index}: {flaw}")]
    Section { index: usize, flaw: SectionFlaw },
}

impl Hints for PendingError {
    fn subject(&self) -> Subject {
        match self {
            PendingError::Corrupt { kind, .. } => kind.subject(),
            PendingError::Disk(error) => error.subject(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            PendingError::Corrupt { path, kind, .. } => vec![format!(
                "make a new plan with `{}`, or delete `{}`",
                kind.remake(),
                path.display()
            )],
            PendingError::Disk(error) => error.hints(),
        }
    }
}

impl Store {
    /// The file of a plan.
    pub fn pending_path(&self, kind: PlanKind) -> PathBuf {
        self.paths().staging(kind.command()).join("pending.json")
    }

    /// Reads a staged plan; none when nothing is staged.
    ///
    /// **Errors** name the file and what is wrong with it, with the section's index.
    pub fn pending(&self, kind: PlanKind) -> Result<Option<PendingPlan>, PendingError> {
        let path = self.pending_path(kind);
        let Some(bytes) = dlm_files::read(&path, BYTES_MAX)? else {
            return Ok(None);
        };
        read(&bytes)
            .map(Some)
            .map_err(|flaw| PendingError::Corrupt { path, kind, flaw })
    }
}

impl StoreGuard {
    /// Stages a plan in place of an older one.
    ///
    /// **Errors** name the path; the older plan then stays.
    pub fn stage(&self, kind: PlanKind, plan: &PendingPlan) -> Result<(), PendingError> {
        self.disk().create_directories(&self.paths().staging(kind.command()))?;
        self.disk().write(&self.pending_path(kind), write(plan).as_bytes())?;
        Ok(())
    }

    /// Removes a staged plan and says whether there was one.
    ///
    /// **Errors** name the path.
    pub fn clear_pending(&self, kind: PlanKind) -> Result<bool, PendingError> {
        Ok(self.disk().remove_file(&self.pending_path(kind))?)
    }
}

fn write(plan: &PendingPlan) -> String {
    let mut top = json!({
        "schema_version": SCHEMA_VERSION,
        "source_path": plan.source_path,
        "created_at": plan.created_at.zoned(),
        "made_from": plan.made_from,
        "sections": plan.sections.iter().map(section::write).collect::<Vec<_>>(),
    });
    if let Some(id) = &plan.dlm_id {
        top["dlm_id"] = json!(id.as_str());
    }
    json::pretty(&top)
}

fn read(bytes: &[u8]) -> Result<PendingPlan, PendingFlaw> {
    let top = record::object(bytes)?;
    match top.get("schema_version") {
        None => return Err(PendingFlaw::Missing { key: "schema_version" }),
        Some(found) if found.as_u64() == Some(SCHEMA_VERSION) => {}
        Some(found) => {
            return Err(PendingFlaw::Version {
                found: found.to_string(),
            });
        }
    }
    let created_at = Stamp::parse_zoned(text(&top, "created_at")?).map_err(|e| PendingFlaw::Type {
        key: "created_at",
        found: format!("`{}`", e.found),
        expected: "a UTC time like `2026-04-19T18:30:14Z`",
    })?;
    let dlm_id = match top.get("dlm_id") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(&top, "dlm_id")?.parse().map_err(|_| PendingFlaw::Type {
            key: "dlm_id",
            found: format!("{}", top["dlm_id"]),
            expected: "a document's id",
        })?),
    };
    let mut made_from = Vec::new();
    if let Some(found) = top.get("made_from") {
        made_from = serde_json::from_value(found.clone()).map_err(|_| PendingFlaw::Type {
            key: "made_from",
            found: kind_of(found).to_owned(),
            expected: "a list of section ids",
        })?;
    }
    let listed = match top.get("sections") {
        Some(Value::Array(listed)) => listed,
        Some(other) => {
            return Err(PendingFlaw::Type {
                key: "sections",
                found: kind_of(other).to_owned(),
                expected: "a list",
            });
        }
        None => return Err(PendingFlaw::Missing { key: "sections" }),
    };
    let sections = listed
        .iter()
        .enumerate()
        .map(|(index, value)| section::read(value).map_err(|flaw| PendingFlaw::Section { index, flaw }))
        .collect::<Result<_, _>>()?;
    Ok(PendingPlan {
        source_path: text(&top, "source_path")?.to_owned(),
        created_at,
        dlm_id,
        made_from,
        sections,
    })
}

fn text<'a>(top: &'a Map<String, Value>, key: &'static str) -> Result<&'a str, PendingFlaw> {
    match top.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(PendingFlaw::Type {
            key,
            found: kind_of(other).to_owned(),
            expected: "a text",
        }),
        None => Err(PendingFlaw::Missing { key }),
    }
}

#[cfg(test)]
#[path = "pending/tests.rs"]
mod tests;
