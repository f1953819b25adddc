//! The anchors of a base: read from its cache, or prepared once and kept there.

use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::{Event, Subject};
use dlm_files::LockFile;
use dlm_model::{Engine, PrecisionPaths, ReaderOptions};
use dlm_plan::train::PhasePlan;
use dlm_train::anchors::{AnchorError, AnchorOptions, AnchorSet};

use super::prepared::PreparedRun;
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// Returns the base's anchors, where the plan trains with some; a cache that is damaged is made again.
///
/// **Errors:** interrupted, a base that cannot render a question, a disk that fails.
pub(super) fn anchors(
    around: &Surroundings,
    prepared: &PreparedRun,
    phase: &PhasePlan,
    engine: &dyn Engine,
) -> Result<Option<AnchorSet>, Failure> {
    let anchors = &phase.anchors.value;
    if !anchors.is_on || anchors.rows_per_step == 0 {
        return Ok(None);
    }
    let options = AnchorOptions {
        rows: anchors.set_rows as usize,
        greedy_share: anchors.greedy_share,
        tokens_max: anchors.row_tokens_max as usize,
        top: anchors.top_k as usize,
    };
    let path = cache(around, prepared, &options);
    if let Some(set) = kept(around, &path) {
        return Ok(Some(set));
    }
    let disk = &around.disk;
    disk.create_directories(path.parent().expect("the path has a directory"))?;
    // Of several runs that begin at once one asks the base, and the others take what it kept.
    let waits = || around.note("another run asks this base what to hold on to; waiting for it");
    let Some(_lock) = LockFile::take(disk, &path.with_extension("lock"), &around.cancel, waits)? else {
        return Err(Failure::interrupted(""));
    };
    if let Some(set) = kept(around, &path) {
        return Ok(Some(set));
    }
    around.note("the base is asked what to hold on to: once for this base, precision and system prompt, kept for every later run");
    let failed = |error: AnchorError| match error {
        _ if around.cancel.is_cancelled() => Failure::interrupted(""),
        AnchorError::Cancelled => Failure::interrupted(""),
        other => Failure::new(Subject::Training, other),
    };
    let mut base = engine
        .reader(
            None,
            ReaderOptions {
                precision_paths: PrecisionPaths::STREAMED,
                cancel: around.cancel.clone(),
            },
        )
        .map_err(|e| Failure::new(Subject::Training, e))?;
    let set = AnchorSet::prepare(
        &mut *base,
        &prepared.text,
        prepared.document.parsed.frontmatter().system(),
        &options,
        &*around.progress,
        &around.cancel,
    );
    let set = set.map_err(failed)?;
    disk.write(&path, &set.to_bytes())?;
    disk.sweep_beside(&path)?;
    Ok(Some(set))
}

/// The set that an earlier run kept; none where there is none, or a damaged one.
fn kept(around: &Surroundings, path: &Path) -> Option<AnchorSet> {
    let bytes = std::fs::read(path).ok()?;
    match AnchorSet::from_bytes(&bytes) {
        Ok(set) => Some(set),
        Err(error) => {
            let warning = format!("{}: {error}; it is made again", path.display());
            around.progress.event(Event::Warning(warning));
            None
        }
    }
}

/// Where the set of a base, a precision and a system prompt is kept.
fn cache(around: &Surroundings, prepared: &PreparedRun, options: &AnchorOptions) -> PathBuf {
    let system = prepared.document.parsed.frontmatter().system();
    let system = system.map_or(String::new(), |text| format!("-{}", &sha256_hex(text)[..16]));
    let mut products = prepared.plan.precision.value.name().to_owned();
    if prepared.plan.four_bits.value {
        products.push_str("-nf4");
    }
    let name = format!(
        "{}-{}{system}.anchors",
        &prepared.base.resolved.record.revision,
        options.tag(&products)
    );
    around.home.bases().join(".hold").join(name)
}
