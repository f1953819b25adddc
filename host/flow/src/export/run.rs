//! The runs of one command: every target at every quantization, refused together before any weight is read, made one after the
//! other with one loaded model and one importance matrix.

use std::path::Path;

use dlm_core::ports::target::{
    ExportTarget, Stage, TargetInfo, TargetPlan, TargetReport, TargetRun, TargetSource, run_target,
};
use dlm_core::training::Precision;
use dlm_core::{Quant, Subject};
use dlm_plan::ExportPlan;
use dlm_plan::export::{ExportOptions, ImatrixChoice, plan_export};
use dlm_store::Store;

use super::artifact::WrittenArtifacts;
use super::imatrix::Calibration;
use super::place::Place;
use super::{
    ExportCommand, ExportPreview, ExportReport, Exported, ExportedFile, Form, adapter, check_programs, describe,
    files_alone, files_of, imatrix, memory_bytes, ollama, record, sway, write,
};
use crate::failure::Failure;
use crate::inference::{self, LoadedModel, LocatedModel, Weights};
use crate::surroundings::Surroundings;

/// One target at one quantization.
pub(super) struct Job {
    plan: ExportPlan,
    target: Box<dyn ExportTarget>,
    form: Form,
    place: Place,
    is_installed: bool,
    memory_bytes: u64,
}

/// What the jobs of a command share.
pub(super) struct Shared<'a> {
    pub around: &'a Surroundings,
    pub command: &'a ExportCommand,
    pub located: LocatedModel,
    pub store: Store,
    loaded: Option<LoadedModel>,
    calibration: Option<Calibration>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(around: &'a Surroundings, command: &'a ExportCommand) -> Result<Shared<'a>, Failure> {
        let adapter = command.adapter.as_deref();
        let located = inference::locate(around, &command.path, false, adapter, Subject::Export)?;
        Ok(Shared {
            store: around.store(&located.document.parsed.frontmatter().dlm_id),
            around,
            command,
            located,
            loaded: None,
            calibration: None,
        })
    }

    /// Plans every run of the command.
    pub(super) fn jobs(&self, targets: &dyn TargetSource) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::new();
        for selector in &self.command.targets {
            let first = self.job(targets, selector, self.command.quants.first().copied())?;
            let is_converted = first.form == Form::Gguf;
            jobs.push(first);
            for quant in self.command.quants.iter().skip(1).filter(|_| is_converted) {
                jobs.push(self.job(targets, selector, Some(*quant))?);
            }
        }
        Ok(jobs)
    }

    fn job(&self, targets: &dyn TargetSource, selector: &str, quant: Option<Quant>) -> Result<Job, Failure> {
        let front = self.located.document.parsed.frontmatter();
        let options = ExportOptions {
            quant,
            target: Some(selector.to_owned()),
            default_quant: front
                .wrote("export.default_quant")
                .then_some(front.export.default_quant),
            ..self.command.options.clone()
        };
        let plan = plan_export(&self.located.base.facts, &options)?;
        let target = targets.open(selector)?;
        let is_installed = self.command.is_registered || !target.info().needs_registration;
        check_programs(target.info(), is_installed, &self.command.path)?;
        let form = Form::of(target.info());
        let memory_bytes = memory_bytes(self.around, &self.located, form, plan.quant.value);
        inference::check_memory(self.around, &self.located, memory_bytes)
            .map_err(|failure| failure.under(Subject::Export))?;
        Ok(Job {
            place: Place::of(&self.store, form, &plan, target.info())?,
            plan,
            target,
            form,
            is_installed,
            memory_bytes,
        })
    }

    /// Refuses what can be refused without weights, the target on a draft among it; returns what would be written.
    pub(super) fn judge(&self, job: &mut Job) -> Result<ExportPreview, Failure> {
        let staging = job.place.begin(self.around)?;
        let files = match job.form {
            Form::Gguf => {
                let name = job.plan.target.value.clone();
                let (text, directory) = (&self.located.text, staging.directory());
                let mut checked = ollama::CheckedTarget::new(job.target.as_mut(), &name, text, directory);
                write::judge(
                    self.around,
                    &self.located,
                    &job.plan,
                    &mut checked,
                    &job.place,
                    directory,
                )?
            }
            Form::Adapter => {
                let made = adapter::artifacts(&self.located)?;
                let stage = Stage {
                    is_draft: true,
                    ..write::stage(staging.directory(), &made)
                };
                let target_plan = adapter::target_plan(self.around, &self.located, &job.plan);
                let prepared = job.target.prepare(&target_plan, &stage)?;
                write::planned_files(&stage, &[], &prepared)
            }
        };
        Ok(ExportPreview {
            plan: job.plan.clone(),
            directory: job.place.directory().to_owned(),
            files,
            memory_bytes: job.memory_bytes,
        })
    }

    /// Makes one export; `before` are the files that an earlier job of this command put into the same place.
    pub(super) fn run(&mut self, job: Job, before: &[ExportedFile]) -> Result<ExportReport, Failure> {
        let (around, started) = (self.around, self.around.clock.seconds());
        let Job {
            plan,
            mut target,
            form,
            place,
            is_installed,
            memory_bytes,
        } = job;
        let staging = place.begin(around)?;
        let directory = staging.directory();
        let (made, target_plan) = self.artifacts(form, &plan, &place, directory)?;
        let name = plan.target.value.clone();
        let mut checked = ollama::CheckedTarget::new(target.as_mut(), &name, &self.located.text, directory);
        let run = TargetRun {
            is_installed,
            is_smoked: self.command.is_smoked,
        };
        let stage = write::stage(directory, &made);
        let report = match hand_over(&mut checked, &target_plan, &stage, run, &self.command.path) {
            Ok(report) => report,
            Err(failure) if checked.is_prepared => return Err(place.keep_failed(staging, failure)),
            Err(failure) => return Err(failure),
        };
        let conversations = checked.compared;
        let mut files = files_of(directory, &made, &report);
        files.extend(place.keep(around, directory, before)?);
        let (quant, is_merged) = match form {
            Form::Gguf => (plan.quant.value.name(), plan.merged.value),
            Form::Adapter => (adapter::QUANT, false),
        };
        let record = record::Record {
            around,
            plan: &plan,
            located: &self.located,
            quant,
            is_merged,
            files: &files,
            report: &report,
            imatrix_sha256: made.imatrix_sha256.as_deref(),
        };
        record.write_manifest(directory)?;
        let files = place.take(around, staging, &files)?;
        record.append(&self.store, started)?;
        let sway = match self.command.emits_sway {
            true => Some(sway::write(around, &self.located, place.directory())?),
            false => None,
        };
        let report = Exported {
            made,
            report,
            files,
            conversations,
            is_installed,
            memory_bytes,
        }
        .report(plan, &place, (quant, is_merged), around.clock.seconds() - started);
        Ok(ExportReport { sway, ..report })
    }

    /// Writes the model's files in the form that the target wants, and says what the target is told about them.
    fn artifacts(
        &mut self,
        form: Form,
        plan: &ExportPlan,
        place: &Place,
        directory: &Path,
    ) -> Result<(WrittenArtifacts, TargetPlan), Failure> {
        let around = self.around;
        if form == Form::Adapter {
            adapter::warn_of_unused(around, &plan.target.value, self.command);
            let made = adapter::artifacts(&self.located)?;
            return Ok((made, adapter::target_plan(around, &self.located, plan)));
        }
        self.prepare(plan)?;
        let (loaded, calibration) = self.ready(plan);
        let mut made = write::artifacts(around, &self.located, loaded, plan, calibration, (place, directory))?;
        if let Some(calibration) = calibration {
            made.beside = calibration.copy_to(around, directory)?;
            made.imatrix_sha256 = Some(calibration.sha256.clone());
        }
        let target_plan = describe::target_plan(around, &self.located, loaded, plan, &made)?;
        Ok((made, target_plan))
    }

    /// Loads the model and measures the importance matrix, once for all jobs.
    pub(super) fn prepare(&mut self, plan: &ExportPlan) -> Result<(), Failure> {
        let (around, threads) = (self.around, self.command.threads);
        if self.loaded.is_none() {
            let loaded = inference::load(around, &self.located, Weights::Published, Precision::Fp32, threads)?;
            self.loaded = Some(loaded);
        }
        if self.calibration.is_none() {
            let loaded = self.loaded.as_ref().expect("it was just loaded");
            self.calibration = match &plan.imatrix.value {
                ImatrixChoice::Off => None,
                ImatrixChoice::Own => Some(imatrix::own(around, &self.located, loaded, &self.store)?),
                ImatrixChoice::File(path) => Some(imatrix::given(Path::new(path))?),
            };
        }
        Ok(())
    }

    /// The loaded model, and the matrix where the plan wants one; after [`Shared::prepare`].
    pub(super) fn ready(&self, plan: &ExportPlan) -> (&LoadedModel, Option<&Calibration>) {
        let loaded = self.loaded.as_ref().expect("it was prepared");
        let calibration = self.calibration.as_ref();
        (loaded, calibration.filter(|_| plan.imatrix.value != ImatrixChoice::Off))
    }
}

impl Job {
    /// Where the export lies when it is done.
    pub(super) fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// What is told of the target.
    pub(super) fn info(&self) -> &TargetInfo {
        self.target.info()
    }
}

/// Gives the files to the target: its own files, the registration, the smoke test.
fn hand_over(
    target: &mut dyn ExportTarget,
    plan: &TargetPlan,
    stage: &Stage,
    run: TargetRun,
    path: &Path,
) -> Result<TargetReport, Failure> {
    let needs_registration = target.info().needs_registration;
    run_target(target, plan, stage, run).map_err(|error| {
        let failure = Failure::from(error);
        match run.is_installed && needs_registration {
            // The files are written and checked by now; only the hand-over to the program failed.
            true => failure.hint(files_alone(path)),
            false => failure,
        }
    })
}
