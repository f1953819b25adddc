//! The runs of one command: every target at every quantization, refused together before any weight is read, made one after the
//! other with one loaded model and one importance matrix.

use std::path::{Path, PathBuf};

use dlm_core::ports::target::{
    ExportTarget, Stage, TargetInfo, TargetPlan, TargetReport, TargetRun, TargetSource, run_target,
};
use dlm_core::training::Precision;
use dlm_core::{Quant, Subject};
use dlm_plan::ExportPlan;
use dlm_plan::export::{ExportOptions, ImatrixChoice, plan_export};
use dlm_store::Store;

use super::artifact::WrittenArtifacts;
use super::chosen::{self, Chosen};
use super::imatrix::Calibration;
use super::place::Place;
use super::{
    ExportCommand, ExportPreview, ExportReport, Exported, ExportedFile, Form, adapter, check_programs, describe,
    files_alone, files_of, imatrix, memory_bytes, ollama, record, sway, write,
};
use crate::failure::Failure;
use crate::inference::{self, LoadedModel, Weights};
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
    pub chosen: Chosen,
    pub store: Store,
    loaded: Option<LoadedModel>,
    calibration: Option<Calibration>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(around: &'a Surroundings, command: &'a ExportCommand) -> Result<Shared<'a>, Failure> {
        let chosen = chosen::choose(around, command)?;
        if command.emits_sway && chosen.mix.is_some() {
            let what = "`sway.yaml` names one trained adapter, and a mix has no directory of its own";
            return Err(
                Failure::misuse(Subject::Export, what).hint("leave out `--emit-sway-json`, or give `--adapter`")
            );
        }
        Ok(Shared {
            store: around.store(&chosen.located.document.parsed.frontmatter().dlm_id),
            around,
            command,
            chosen,
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
        let located = &self.chosen.located;
        let front = located.document.parsed.frontmatter();
        let target = targets.open(selector)?;
        let form = Form::of(target.info());
        let is_mix = self.chosen.mix.is_some();
        let options = ExportOptions {
            quant,
            target: Some(selector.to_owned()),
            default_quant: front
                .wrote("export.default_quant")
                .then_some(front.export.default_quant),
            // An adapter as it was trained is merged by nobody.
            was_trained_quantized: self.chosen.was_trained_quantized && form == Form::Gguf,
            is_mix,
            ..self.command.options.clone()
        };
        let plan = plan_export(&located.base.facts, &options)?;
        let is_installed = self.command.is_registered || !target.info().needs_registration;
        check_programs(target.info(), is_installed, &self.command.path)?;
        let memory_bytes = memory_bytes(self.around, located, form, plan.quant.value, is_mix);
        inference::check_memory(self.around, located, memory_bytes)
            .map_err(|failure| failure.under(Subject::Export))?;
        Ok(Job {
            place: Place::of(&self.store, form, &plan, target.info(), self.chosen.label.as_deref())?,
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
                let (text, directory) = (&self.chosen.located.text, staging.directory());
                let mut checked = ollama::CheckedTarget::new(job.target.as_mut(), &name, text, directory);
                write::judge(
                    self.around,
                    &self.chosen,
                    &job.plan,
                    &mut checked,
                    &job.place,
                    directory,
                )?
            }
            Form::Adapter => {
                let draft = self.chosen.mix.as_ref().map(|mix| {
                    let files = mix.draft()?;
                    chosen::write_aside(self.around, staging.directory(), files)
                });
                let made = adapter::artifacts(&self.chosen, draft.transpose()?.as_deref())?;
                let stage = Stage {
                    is_draft: true,
                    ..write::stage(staging.directory(), &made)
                };
                let target_plan = adapter::target_plan(self.around, &self.chosen, &job.plan);
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
        let mut checked = ollama::CheckedTarget::new(target.as_mut(), &name, &self.chosen.located.text, directory);
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
        chosen::remove_aside(around, directory)?;
        let mut files = files_of(directory, &made, &report);
        files.extend(place.keep(around, directory, before)?);
        let (quant, is_merged) = match form {
            Form::Gguf => (plan.quant.value.name(), plan.merged.value),
            Form::Adapter => (adapter::QUANT, false),
        };
        let record = record::Record {
            around,
            plan: &plan,
            chosen: &self.chosen,
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
            true => Some(sway::write(around, &self.chosen.located, place.directory())?),
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
            let mixed = self.mixed(directory)?;
            let mut made = adapter::artifacts(&self.chosen, mixed.as_deref())?;
            made.notes.extend(self.mix_note());
            return Ok((made, adapter::target_plan(around, &self.chosen, plan)));
        }
        self.prepare(plan)?;
        let (loaded, calibration) = self.ready(plan);
        let mut made = write::artifacts(around, &self.chosen, loaded, plan, calibration, (place, directory))?;
        made.notes.extend(self.mix_note());
        if self.command.options.is_dequantize_confirmed && !plan.dequantized {
            let note = "`--dequantize` changes nothing: the adapter was trained on unquantized weights";
            made.notes.push(note.to_owned());
        }
        if let Some(calibration) = calibration {
            made.beside = calibration.copy_to(around, directory)?;
            made.imatrix_sha256 = Some(calibration.sha256.clone());
        }
        let target_plan = describe::target_plan(around, &self.chosen, loaded, plan, &made)?;
        Ok((made, target_plan))
    }

    /// Loads the model and measures the importance matrix, once for all jobs.
    pub(super) fn prepare(&mut self, plan: &ExportPlan) -> Result<(), Failure> {
        let around = self.around;
        self.load()?;
        if self.calibration.is_none() {
            let loaded = self.loaded.as_ref().expect("it was just loaded");
            self.calibration = match &plan.imatrix.value {
                ImatrixChoice::Off => None,
                ImatrixChoice::Own => Some(imatrix::own(around, &self.chosen.located, loaded, &self.store)?),
                ImatrixChoice::File(path) => Some(imatrix::given(Path::new(path))?),
            };
        }
        Ok(())
    }

    /// Loads the model, with the one adapter that several become.
    fn load(&mut self) -> Result<(), Failure> {
        if self.loaded.is_some() {
            return Ok(());
        }
        let threads = self.command.threads;
        let located = &self.chosen.located;
        let mut loaded = inference::load(self.around, located, Weights::Published, Precision::Fp32, threads)?;
        if let Some(mix) = &self.chosen.mix {
            loaded.adapter = Some(mix.make(&*loaded.engine)?);
        }
        self.loaded = Some(loaded);
        Ok(())
    }

    /// Writes the one adapter that several become, for a target that takes it as PEFT does.
    fn mixed(&mut self, directory: &Path) -> Result<Option<PathBuf>, Failure> {
        if self.chosen.mix.is_none() {
            return Ok(None);
        }
        self.load()?;
        let adapter = self.loaded.as_ref().and_then(|loaded| loaded.adapter.as_ref());
        let adapter = adapter.expect("a mix was made");
        adapter
            .check_finite()
            .map_err(|error| Failure::new(Subject::Export, error))?;
        let files = chosen::peft_files(&self.chosen.located, adapter);
        chosen::write_aside(self.around, directory, files).map(Some)
    }

    fn mix_note(&self) -> Option<String> {
        let adapter = self.loaded.as_ref()?.adapter.as_ref()?;
        Some(self.chosen.mix.as_ref()?.note(adapter))
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
