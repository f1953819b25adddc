//! What a version was trained on, held against the base that its document names now.
//!
//! Invariants: the revision decides, since one base may have several names and one name several bases over time; where no
//! revision of ours is known, the name does.

use std::path::Path;

use dlm_core::Subject;
use dlm_core::lock::ENGINE_PIN;
use dlm_core::manifest::{Manifest, RunRecord, RunStatus};
use dlm_core::shell::quoted_path;
use dlm_doc::Frontmatter;
use dlm_plan::base::ResolvedBase;
use dlm_store::CurrentVersion;
use dlm_store::state::{PINNED_VERSIONS_FILE, TRAINING_RUN_FILE};
use serde_json::Value;

use crate::failure::Failure;

/// Bytes of a record beside an adapter.
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Digits of a revision that tell two of them apart.
const REVISION_DIGITS: usize = 12;

/// The base of a version that was trained on another base than its document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherBase {
    version: String,
    then: String,
    now: String,
    name_then: String,
    name_now: String,
}

impl OtherBase {
    /// Why the version cannot answer, and what to type.
    pub(crate) fn failure(self, document: &Path, subject: Subject) -> Failure {
        let restore = match self.name_then == self.name_now {
            true => format!(
                "or add the files again that `{}` had then: `dlm base add`",
                self.name_then
            ),
            false => format!("or write `base_model: {}` again", self.name_then),
        };
        Failure::new(subject, self.to_string())
            .hint(format!(
                "train again: `dlm train {} --update-lock`",
                quoted_path(document)
            ))
            .hint(restore)
    }
}

impl std::fmt::Display for OtherBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} was trained on {}, and the document names {}",
            self.version, self.then, self.now
        )
    }
}

/// Says whether an adapter was trained on a base in four bits, by the facts that lie beside it; adapters of the reference program
/// that have none tell by the library that they pinned.
///
/// **Source:** `spec/inference.md` section 4.
pub(crate) fn was_in_four_bits(adapter: &Path) -> bool {
    let stated = stated_four_bits(adapter).ok().flatten();
    stated.unwrap_or_else(|| pins_four_bits(adapter))
}

/// What the record of an adapter's training says of four bits; `None` without a record.
///
/// **Errors:** why the record cannot be read, or that it does not say.
pub(crate) fn stated_four_bits(adapter: &Path) -> Result<Option<bool>, String> {
    let bytes =
        dlm_files::read(&adapter.join(TRAINING_RUN_FILE), RECORD_BYTES_MAX).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let record: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let said = record.get("use_qlora").and_then(Value::as_bool);
    said.map(Some)
        .ok_or_else(|| "`use_qlora` is neither true nor false".to_owned())
}

/// Says whether an adapter pins the library that the reference program quantizes with.
pub(crate) fn pins_four_bits(adapter: &Path) -> bool {
    let bytes = dlm_files::read(&adapter.join(PINNED_VERSIONS_FILE), RECORD_BYTES_MAX);
    let pins: Option<Value> = bytes
        .ok()
        .flatten()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let pin = pins.as_ref().and_then(|pins| pins.get("bitsandbytes")?.as_str());
    pin.is_some_and(|version| !version.is_empty())
}

/// The run that made a version; the last one where a number was given twice.
fn run_of<'m>(manifest: &'m Manifest, adapter: Option<&str>, version: &CurrentVersion) -> Option<&'m RunRecord> {
    let number = version.number?;
    let is_it = |run: &&RunRecord| {
        run.adapter_version == number && run.adapter_name.as_deref() == adapter && run.status == RunStatus::Completed
    };
    manifest.training_runs.iter().rev().find(is_it)
}

/// Says where a version was trained on another base than the document names.
pub(crate) fn elsewhere(
    manifest: &Manifest,
    adapter: Option<&str>,
    version: &CurrentVersion,
    front: &Frontmatter,
    base: &ResolvedBase,
) -> Option<OtherBase> {
    compare(
        manifest,
        adapter,
        version,
        &front.base_model,
        Some(&base.record.revision),
    )
}

/// As [`elsewhere`]; `revision` is none where the base that the document names is not known here.
pub(crate) fn compare(
    manifest: &Manifest,
    adapter: Option<&str>,
    version: &CurrentVersion,
    name: &str,
    revision: Option<&str>,
) -> Option<OtherBase> {
    // Another program's revision of a base may be another one of ours.
    let own = run_of(manifest, adapter, version).filter(|run| run.pinned_versions.contains_key(ENGINE_PIN));
    let then = own.and_then(|run| run.base_model_revision.as_deref());
    let plain = |name: &str| name.strip_prefix("local:").unwrap_or(name).to_owned();
    let is_same = match (then, revision) {
        (Some(then), Some(now)) => then == now,
        _ => plain(&manifest.base_model) == plain(name),
    };
    let shown = |name: &str, revision: Option<&str>| match revision {
        Some(revision) => {
            let short: String = revision.chars().take(REVISION_DIGITS).collect();
            format!("`{name}` (revision {short})")
        }
        None => format!("`{name}`"),
    };
    (!is_same).then(|| OtherBase {
        version: version.relative.rsplit('/').next().unwrap_or_default().to_owned(),
        then: shown(&manifest.base_model, then),
        now: shown(name, revision),
        name_then: manifest.base_model.clone(),
        name_now: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use dlm_core::stamp::Stamp;

    use super::*;

    #[test]
    fn the_revision_decides_and_without_one_the_name() {
        let at = Stamp::from_unix_ms(0);
        let mut manifest = Manifest::new("01HZ4X7TGZM3J1A2B3C4D5E6F7", "tiny", at);
        let version = CurrentVersion {
            number: Some(1),
            directory: "v0001".into(),
            relative: "adapter/versions/v0001".into(),
        };
        let told = |manifest: &Manifest, name, revision| {
            compare(manifest, None, &version, name, revision).map(|other| other.to_string())
        };
        assert_eq!(told(&manifest, "local:tiny", Some("b")), None);
        assert_eq!(
            told(&manifest, "other", Some("b")).unwrap(),
            "v0001 was trained on `tiny`, and the document names `other` (revision b)"
        );
        let run = |pins: &[&str]| RunRecord {
            run_id: 1,
            started_at: at,
            ended_at: Some(at),
            adapter_version: 1,
            base_model_revision: Some("a".to_owned()),
            seed: 42,
            steps: 1,
            final_train_loss: None,
            final_val_loss: None,
            status: RunStatus::Completed,
            pinned_versions: pins.iter().map(|pin| ((*pin).to_owned(), "1".to_owned())).collect(),
            summary_path: None,
            adapter_name: None,
            weight_distribution: None,
        };
        manifest.training_runs = vec![run(&[ENGINE_PIN])];
        assert_eq!(told(&manifest, "tiny", Some("a")), None);
        assert_eq!(told(&manifest, "another-name", Some("a")), None, "the same files");
        assert_eq!(
            told(&manifest, "tiny", Some("b")).unwrap(),
            "v0001 was trained on `tiny` (revision a), and the document names `tiny` (revision b)"
        );
        manifest.training_runs = vec![run(&["torch"])];
        assert_eq!(told(&manifest, "tiny", Some("b")), None, "another program's revision");
    }
}
