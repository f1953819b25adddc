//! Everything that can stop mining before the first sample, in the documented order.

use std::path::Path;
use std::sync::Arc;

use dlm_core::Subject;
use dlm_core::ports::model::Model;
use dlm_core::ports::model::Models;
use dlm_core::shell::quoted_path;
use dlm_plan::base::license::LicenseMoment;
use dlm_store::Store;

use super::{MineOptions, SUBJECT};
use crate::base;
use crate::document::Document;
use crate::failure::Failure;
use crate::named_adapters;
use crate::staging::model_failure;
use crate::surroundings::Surroundings;

/// Refuses numbers out of range, which need no document.
pub(super) fn numbers(options: &MineOptions) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::misuse(SUBJECT, what));
    if options.samples < 2 {
        return refuse(format!(
            "`--samples` is {}, expected at least 2: a pair needs two answers",
            options.samples
        ));
    }
    if let Some(threshold) = options.threshold.filter(|t| !t.is_finite() || *t < 0.0) {
        return refuse(format!("`--threshold` is {threshold}, expected a number of at least 0"));
    }
    if options.pairs_max == Some(0) {
        return refuse("`--max-pairs` is 0, expected at least 1".to_owned());
    }
    if !options.temperature.is_finite() || options.temperature < 0.0 {
        return refuse(format!(
            "`--temp` is {}, expected a number of at least 0",
            options.temperature
        ));
    }
    if options.temperature == 0.0 {
        return refuse("`--temp 0` gives the same answer every time, so there is nothing to compare".to_owned())
            .map_err(|failure: Failure| failure.hint("leave out `--temp`, or give a number over 0, such as 0.7"));
    }
    if let Some(top_p) = options.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
        return refuse(format!("`--top-p` is {top_p}, expected a number over 0 and at most 1"));
    }
    Ok(())
}

/// Refuses an adapter that does not fit the document, and `sway` with a named one (`spec/judges-and-teachers.md` section 3): its
/// scores are those of the adapter that is judged.
pub(super) fn adapter(document: &Document, options: &MineOptions) -> Result<(), Failure> {
    let slot = named_adapters::slot(document, options.adapter.as_deref(), SUBJECT)?;
    match slot.name() {
        Some(name) if options.judge == "sway" || options.judge.starts_with("sway:") => Err(Failure::misuse(
            SUBJECT,
            format!(
                "judge `{}` scores with the document's only adapter, and `{name}` is one of several",
                options.judge
            ),
        )
        .hint("give `--judge hf:<model>` or `--judge cli:<command>`")),
        _ => Ok(()),
    }
}

/// The newest run that ended well.
pub(super) fn newest_run(store: &Store, path: &Path) -> Result<u64, Failure> {
    let recorded = match store.metrics_reader()? {
        Some(reader) => reader.runs(&dlm_store::metrics::RunFilter::default())?,
        None => Vec::new(),
    };
    let well = |status: &Option<String>| matches!(status.as_deref(), Some("ok" | "completed"));
    if let Some(run) = recorded.iter().find(|run| well(&run.status)) {
        return Ok(run.run_id);
    }
    let manifest = store.manifest()?;
    let runs = manifest.iter().flat_map(|manifest| &manifest.training_runs);
    let completed = runs.filter(|run| run.status == dlm_core::manifest::RunStatus::Completed);
    completed.map(|run| run.run_id).max().ok_or_else(|| {
        Failure::new(
            SUBJECT,
            "no training run has ended yet, and a mined preference names the run it came from",
        )
        .hint(format!("dlm train {}", quoted_path(path)))
    })
}

/// Refuses a gated base whose license was never accepted, and one that is not text.
pub(crate) fn base(around: &Surroundings, document: &Document, subject: Subject) -> Result<(), Failure> {
    let resolved = base::usable(around, document, LicenseMoment::Use)?.resolved;
    if !resolved.record.modality.is_text() {
        let what = format!(
            "`{}` is a {} base; only text bases are supported",
            resolved.record.key,
            resolved.record.modality.name()
        );
        return Err(Failure::misuse(subject, what));
    }
    Ok(())
}

/// Refuses a back end that this program does not have.
pub(super) fn backend(options: &MineOptions) -> Result<(), Failure> {
    if options.wants_mlx {
        return Err(
            Failure::misuse(SUBJECT, "the MLX back end is not built into this program")
                .hint("leave out `--backend`, or give `auto` or `pytorch` (the native back end)"),
        );
    }
    Ok(())
}

/// The run's model with its adapter.
pub(super) fn trained_model(models: &dyn Models, path: &Path) -> Result<Arc<dyn Model>, Failure> {
    let model = models.current().map_err(|e| model_failure(SUBJECT, &e))?;
    if !model.info().has_adapter {
        return Err(Failure::new(
            SUBJECT,
            "no adapter was trained yet, so there is nothing to sample from",
        )
        .hint(format!("dlm train {}", quoted_path(path))));
    }
    Ok(model)
}
