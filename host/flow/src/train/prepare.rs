//! Everything of a run that needs no weight: parse, resolve the base, make rows, plan, refuse.
//!
//! Invariant: what `dlm train` refuses and what `dlm check` says that it would refuse come of one function, [`judge`].

use std::path::Path;

use dlm_core::Event;
use dlm_core::manifest::Manifest;
use dlm_model::text::TextModel;
use dlm_plan::base::license::LicenseMoment;
use dlm_plan::base::{BaseLocation, ResolvedBase};
use dlm_plan::plan_train;
use dlm_plan::train::{TrainOptions, TrainPlan, TrainRequest, recipe};
use dlm_store::Store;
use dlm_train::{Dataset, DatasetOptions, SplitRule};

use super::command::TrainCommand;
use super::lane::Lane;
use super::prepared::PreparedRun;
use super::replay::{Draw, Memory};
use super::{pins, resume, room};
use crate::base::{self, ExportProbes, Reach, ReadyBase, UsableBase};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::surroundings::Surroundings;
use crate::{idle_keys, rows};

/// Does everything that needs no weight: parse, resolve the base, make rows, plan, refuse.
pub fn prepare(around: &Surroundings, command: &TrainCommand) -> Result<PreparedRun, Failure> {
    let document = document::load(&command.path)?;
    let Judgement::Ready(prepared) = judge(around, command, document, Reach::Hub)? else {
        unreachable!("whoever may fetch a base has it, or is told why not");
    };
    for warning in &prepared.plan.warnings {
        around.progress.event(Event::Warning(warning.clone()));
    }
    if prepared.lane.version == 0 {
        // What is worth knowing of a base is told before its first training, not at each.
        for note in &prepared.base.resolved.notes {
            around.note(note.clone());
        }
    }
    Ok(*prepared)
}

/// Says so where the document that was trained last is another file with the same id, a copy most likely: the two would be
/// trained in one store, one over the other.
fn twin(manifest: &Manifest, document: &Document) -> Option<String> {
    let remembered = Path::new(manifest.source_path.as_deref()?);
    let is_here = match (remembered.canonicalize(), document.path.canonicalize()) {
        (Ok(remembered), Ok(here)) => remembered == here,
        _ => return None,
    };
    let other = document::load(remembered).ok().filter(|_| !is_here)?;
    let has_same_id = other.parsed.frontmatter().dlm_id == document.parsed.frontmatter().dlm_id;
    has_same_id.then(|| {
        format!(
            "`{}` has the same dlm_id: both are trained in one store, one over the other; give a copy an id of its own with `dlm init` \
             and move its sections there",
            remembered.display()
        )
    })
}

/// What can be said of a run before a weight is read.
pub(crate) enum Judgement {
    /// Nothing is against it.
    Ready(Box<PreparedRun>),
    /// Nothing is against it as far as can be told: the base's files are not on this machine.
    Unfetched {
        /// What a person should read before the run.
        warnings: Vec<String>,
    },
}

/// Judges a document without reading a weight, in the order of a run.
///
/// **Errors** are those of `dlm train`, but for what only a lock on the store or the weights can tell.
pub(crate) fn judge(
    around: &Surroundings,
    command: &TrainCommand,
    document: Document,
    reach: Reach,
) -> Result<Judgement, Failure> {
    rows::check_rows(&document)?;
    rows::check_trainable(&document.parsed)?;
    let store = around.store(&document.parsed.frontmatter().dlm_id);
    let moment = LicenseMoment::Train {
        accepts_license: command.accepts_license,
    };
    let remarks = remarks(&document, command);
    let Some(usable) = base::usable_within(around, &document, moment, reach)? else {
        return Ok(Judgement::Unfetched { warnings: remarks });
    };
    let UsableBase {
        resolved,
        license,
        manifest,
    } = usable;
    room::check_kind(&resolved.record)?;
    rows::check_media(&document, &resolved.record)?;
    let options = options(around, command);
    let facts = rows::least_facts(&document.parsed, manifest.is_some(), command.skips_preferences);
    room::check_base(around, &resolved, &facts, &options)?;
    let is_elsewhere = matches!(resolved.location, BaseLocation::Hub { .. }) && !base::is_here(around, &resolved)?;
    if reach == Reach::ThisMachine && is_elsewhere {
        return Ok(Judgement::Unfetched { warnings: remarks });
    }
    let base = open_base(around, command, &store, resolved)?;
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
        skips_preferences: command.skips_preferences,
    };
    let (dataset, mut plan, drawn) = planner.plan(seed)?;
    dataset.check_lengths(plan.sequence_len.value as usize, base.facts.context_usable as usize)?;
    plan.warnings.extend(remarks);
    plan.warnings
        .extend(manifest.as_ref().and_then(|manifest| twin(manifest, &document)));
    plan.warnings.extend(rows::inexpressible(&document, &text)?);
    Ok(Judgement::Ready(Box::new(PreparedRun {
        replay: memory.settle(drawn),
        document,
        base,
        text,
        dataset,
        plan,
        lane,
        license,
    })))
}

fn options(around: &Surroundings, command: &TrainCommand) -> TrainOptions {
    TrainOptions {
        seed: command.seed,
        max_steps: command.max_steps,
        threads: command.threads,
        switches: command.switches,
        cache_off: command.cache_off.clone(),
        is_forced: around.is_forced,
        is_resume: command.is_resume,
        ..TrainOptions::default()
    }
}

/// What the document holds that no run of this version teaches, and what it says that changes nothing.
fn remarks(document: &Document, command: &TrainCommand) -> Vec<String> {
    let mut remarks = idle_keys::remarks(&document.parsed);
    if rows::preference_rows(&document.parsed, command.skips_preferences) > 0 {
        remarks.push(
            "the preference sections are not trained: the preference phase is not built yet in this version".into(),
        );
    }
    remarks
}

/// Opens the document's base; refuses one that could not be exported.
fn open_base(
    around: &Surroundings,
    command: &TrainCommand,
    store: &Store,
    resolved: ResolvedBase,
) -> Result<ReadyBase, Failure> {
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
    skips_preferences: bool,
}

impl Planner<'_> {
    /// Makes the rows, draws what is rehearsed beside them, and plans.
    ///
    /// The plan decides how long a window of prose is, so prose is cut for a first count and cut again if it differs.
    fn plan(&self, seed: i64) -> Result<(Dataset, TrainPlan, Draw), Failure> {
        let front = self.document.parsed.frontmatter();
        let sources = rows::sources(&self.document.parsed)?;
        let options = DatasetOptions {
            system_prompt: front.system().map(str::to_owned),
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
            document: &rows::document_facts(&self.document.parsed, dataset, self.skips_preferences),
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
    room::check_space(around, prepared)?;
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
