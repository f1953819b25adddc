//! Everything of a run that needs no weight: parse, resolve the base, make rows, plan, refuse.

use dlm_core::Event;
use dlm_model::text::TextModel;
use dlm_plan::base::ResolvedBase;
use dlm_plan::base::license::LicenseMoment;
use dlm_plan::plan_train;
use dlm_plan::train::{TrainOptions, TrainPlan, TrainRequest, recipe};
use dlm_store::Store;
use dlm_train::{Dataset, DatasetOptions, SplitRule};

use super::command::TrainCommand;
use super::lane::Lane;
use super::prepared::PreparedRun;
use super::replay::{Draw, Memory};
use super::{pins, resume, room};
use crate::base::{self, ExportProbes, ReadyBase, UsableBase};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::rows;
use crate::surroundings::Surroundings;

/// Does everything that needs no weight: parse, resolve the base, make rows, plan, refuse.
pub fn prepare(around: &Surroundings, command: &TrainCommand) -> Result<PreparedRun, Failure> {
    let document = document::load(&command.path)?;
    rows::check_rows(&document)?;
    rows::check_trainable(&document.path, &document.parsed)?;
    let store = around.store(&document.parsed.frontmatter().dlm_id);
    let moment = LicenseMoment::Train {
        accepts_license: command.accepts_license,
    };
    let UsableBase {
        resolved,
        license,
        manifest,
    } = base::usable(around, &document, moment)?;
    let options = TrainOptions {
        seed: command.seed,
        max_steps: command.max_steps,
        threads: command.threads,
        switches: command.switches,
        is_forced: around.is_forced,
        is_resume: command.is_resume,
        ..TrainOptions::default()
    };
    let base = open_base(around, command, &store, resolved, &options)?;
    let text = base.opened.text_as(base.resolved.record.template)?;
    let lane = Lane::of(manifest.as_ref());
    let seed = command.seed.unwrap_or(document.parsed.frontmatter().training.seed);
    let memory = Memory::load(&store, manifest.as_ref(), &document.parsed, seed, lane.version)?;
    let planner = Planner {
        around,
        document: &document,
        base: &base,
        text: &text,
        options: &options,
        memory: &memory,
    };
    let (dataset, plan, drawn) = planner.plan(seed)?;
    dataset.check_lengths(plan.sequence_len.value as usize)?;
    let prepared = PreparedRun {
        replay: memory.settle(drawn),
        document,
        base,
        text,
        dataset,
        plan,
        lane,
        license,
    };
    warn_about_the_untrained(around, &prepared);
    if let Some(warning) = rows::inexpressible(&prepared.document, &prepared.text)? {
        around.warn(warning);
    }
    if prepared.lane.version == 0 {
        // What is worth knowing of a base is told before its first training, not at each.
        for note in &prepared.base.resolved.notes {
            around.note(note.clone());
        }
    }
    Ok(prepared)
}

/// Opens the document's base; refuses one that no document could be trained on here, or that could not be exported.
fn open_base(
    around: &Surroundings,
    command: &TrainCommand,
    store: &Store,
    resolved: ResolvedBase,
    options: &TrainOptions,
) -> Result<ReadyBase, Failure> {
    room::check_base(around, &resolved, options)?;
    let base = base::open_resolved(around, resolved, true)?;
    let export_probes = match crate::init::skips_export_probes(store)? {
        true => ExportProbes::Skip,
        false => command.export_probes,
    };
    base::check_probes(&base.resolved, &base.opened, export_probes)?;
    Ok(base)
}

/// Makes rows and plan, which depend on each other.
struct Planner<'a> {
    around: &'a Surroundings,
    document: &'a Document,
    base: &'a ReadyBase,
    text: &'a TextModel,
    options: &'a TrainOptions,
    memory: &'a Memory,
}

impl Planner<'_> {
    /// Makes the rows, draws what is rehearsed beside them, and plans.
    ///
    /// The plan decides how long a window of prose is, so prose is cut for a first count and cut again if it differs.
    fn plan(&self, seed: i64) -> Result<(Dataset, TrainPlan, Draw), Failure> {
        let front = self.document.parsed.frontmatter();
        let sources = rows::sources(&self.document.parsed)?;
        let options = DatasetOptions {
            system_prompt: front.system_prompt.clone(),
            window: recipe::PROSE_WINDOW as usize,
            split: SplitRule::new(seed, front.training.holdout, &sources),
        };
        let mut dataset = Dataset::new(sources, options, self.text)?;
        let mut drawn = self.draw(&mut dataset);
        let mut plan = self.plan_for(&dataset)?;
        let window = plan.prose.window_tokens.value as usize;
        if window != dataset.window() {
            dataset.rewindow(window, self.text)?;
            drawn = self.draw(&mut dataset);
            plan = self.plan_for(&dataset)?;
        }
        Ok((dataset, plan, drawn))
    }

    fn draw(&self, dataset: &mut Dataset) -> Draw {
        let drawn = self.memory.draw(dataset, self.text, self.sequence_len_max());
        dataset.rehearse(drawn.entries.clone());
        drawn
    }

    /// The longest row that the document may have on this base.
    fn sequence_len_max(&self) -> usize {
        let written = self.document.parsed.frontmatter().written_knobs().sequence_len;
        let wanted = written.unwrap_or(recipe::SEQUENCE_LEN);
        wanted.min(self.base.facts.context_usable) as usize
    }

    fn plan_for(&self, dataset: &Dataset) -> Result<TrainPlan, Failure> {
        Ok(plan_train(&TrainRequest {
            document: &rows::document_facts(&self.document.parsed, dataset),
            base: &self.base.facts,
            hardware: &self.around.hardware,
            options: self.options,
        })?)
    }
}

/// Refuses what [`super::run`] would refuse before it loads a weight, without a lock on the store and without writing;
/// says what a run with `--resume` would go on from.
pub fn rehearse(
    around: &Surroundings,
    command: &TrainCommand,
    prepared: &PreparedRun,
) -> Result<Option<String>, Failure> {
    let store = around.store(&prepared.document.parsed.frontmatter().dlm_id);
    if let Some(manifest) = store.manifest()? {
        let lock = pins::current_lock(around, prepared, &manifest);
        pins::check_lock(around, &store, &lock, command.lock.mode()?)?;
    }
    if !command.is_resume {
        return Ok(None);
    }
    resume::check_any(&store, &prepared.lane)?;
    let kept = store
        .inspect()?
        .and_then(|found| found.resumable_versions.into_iter().next());
    let current = prepared.lane.current(&store)?;
    Ok(match (kept, current) {
        (Some(kept), _) => Some(format!(
            "goes on from {} after step {}, where document, base and flags are as they were",
            kept.path, kept.step
        )),
        (None, Some(current)) => Some(format!("trains {} further", current.relative)),
        (None, None) => None,
    })
}

/// Says what the document holds that this run does not teach.
fn warn_about_the_untrained(around: &Surroundings, prepared: &PreparedRun) {
    if prepared.plan.rows.preference_rows > 0 {
        around.progress.event(Event::Warning(
            "the preference sections are not trained: the preference phase is not built yet in this version".into(),
        ));
    }
    for warning in &prepared.plan.warnings {
        around.progress.event(Event::Warning(warning.clone()));
    }
}
