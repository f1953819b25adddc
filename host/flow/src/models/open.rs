//! From a document or a selector to an opened model: which base, which adapter, and whether it may be used.

use std::path::Path;

use dlm_core::base::{BaseRecord, LicenseAcceptance};
use dlm_core::ports::base_source::{BaseRequest, BaseSourceError};
use dlm_core::ports::model::ModelError;
use dlm_core::{FailureKind, Subject};
use dlm_model::base::is_classifier;
use dlm_model::text::TextModel;
use dlm_model::{OpenedBase, OpenedRanker, open_ranker};
use dlm_plan::base::license::{self, LicenseMoment};
use dlm_plan::base::{BaseError, HubAnswer, Registry, Resolution, ResolvedBase, resolve_base, synthesize};

use super::Run;
use crate::base;
use crate::failure::Failure;
use crate::inference::{AdapterNeed, LocatedModel, locate_for};

/// An opened model; nothing heavy is loaded.
pub(super) enum OpenedModel {
    Decoder {
        record: Box<BaseRecord>,
        opened: Box<OpenedBase>,
        text: Box<TextModel>,
    },
    Classifier {
        record: Box<BaseRecord>,
        opened: Box<OpenedRanker>,
    },
}

/// Opens a document's base and finds its adapter, where it was trained.
pub(super) fn document(run: &Run, path: &Path, adapter: Option<&str>) -> Result<LocatedModel, ModelError> {
    locate_for(&run.around, path, AdapterNeed::IfTrained, adapter, Subject::Model).map_err(unavailable)
}

/// Opens a model by registry key, local base or `hf:org/name`; a license that was accepted for the document counts.
pub(super) fn named(run: &Run, document: Option<&Path>, selector: &str) -> Result<OpenedModel, ModelError> {
    let around = &run.around;
    let resolved = resolve(run, selector)?;
    let accepted = match document {
        Some(path) if resolved.record.requires_acceptance => acceptance(run, path).map_err(unavailable)?,
        _ => None,
    };
    license::decide(
        &resolved.record,
        accepted.as_ref(),
        LicenseMoment::Use,
        &around.hub_root,
    )
    .map_err(|error| unavailable(error.into()))?;
    let path = base::locate(around, &resolved, true).map_err(unavailable)?;
    let record = Box::new(resolved.record.clone());
    if is_classifier(&path).map_err(|error| unavailable(error.into()))? {
        let opened = open_ranker(&path).map_err(|error| failed(error.into()))?;
        return Ok(OpenedModel::Classifier {
            record,
            opened: Box::new(opened),
        });
    }
    let ready = base::open_resolved(around, resolved, true).map_err(unavailable)?;
    let text = ready.opened.text_as(record.template);
    Ok(OpenedModel::Decoder {
        text: Box::new(text.map_err(|error| unavailable(error.into()))?),
        record,
        opened: Box::new(ready.opened),
    })
}

/// The license that the store of a document says was accepted.
fn acceptance(run: &Run, path: &Path) -> Result<Option<LicenseAcceptance>, Failure> {
    let document = crate::document::load(path)?;
    let manifest = run.around.store(&document.parsed.frontmatter().dlm_id).manifest()?;
    Ok(manifest.and_then(|manifest| manifest.license_acceptance))
}

fn resolve(run: &Run, selector: &str) -> Result<ResolvedBase, ModelError> {
    let locals = base::local_bases(&run.around.home).map_err(unavailable)?;
    match resolve_base(selector, Registry::builtin(), &locals) {
        Ok(Resolution::Ready(base)) => Ok(*base),
        Ok(Resolution::AskHub { hf_id }) => ask_hub(run, &hf_id),
        Err(error @ (BaseError::Unknown { .. } | BaseError::UnknownLocal { .. })) => {
            Err(ModelError::NotFound(said(error.into())))
        }
        Err(error @ BaseError::Malformed { .. }) => Err(ModelError::InvalidInput(said(error.into()))),
        Err(error) => Err(unavailable(error.into())),
    }
}

fn ask_hub(run: &Run, hf_id: &str) -> Result<ResolvedBase, ModelError> {
    let request = BaseRequest {
        hf_id: hf_id.to_owned(),
        revision: None,
        license_url: None,
    };
    let remote = match run.around.hub.inspect(&request, &run.around.cancel) {
        Ok(remote) => remote,
        // Whoever works offline means what is on this machine.
        Err(offline @ BaseSourceError::Offline { .. }) => {
            let cached = run
                .around
                .hub
                .cached(&request)
                .map_err(|error| unavailable(error.into()))?;
            let snapshot = cached.ok_or_else(|| unavailable(offline.into()))?;
            return base::from_snapshot(hf_id, &snapshot).map_err(unavailable);
        }
        Err(error @ BaseSourceError::NotFound { .. }) => return Err(ModelError::NotFound(said(error.into()))),
        Err(error) => return Err(unavailable(error.into())),
    };
    synthesize(&HubAnswer::from_remote(hf_id, &remote)).map_err(|error| unavailable(error.into()))
}

/// The message of a failure with its remedies.
pub(super) fn said(failure: Failure) -> String {
    failure.in_a_line()
}

/// A failure of whatever a model needs to be there.
pub(super) fn unavailable(failure: Failure) -> ModelError {
    match failure.kind {
        FailureKind::Interrupted => ModelError::Cancelled,
        _ => ModelError::Unavailable(said(failure)),
    }
}

/// A model that is there and cannot be used.
pub(super) fn failed(failure: Failure) -> ModelError {
    ModelError::Failed(said(failure))
}
