//! Everything of a run that needs no weight: parse, resolve the base, make rows, plan, refuse.
//!
//! Invariant: what `dlm train` refuses and what `dlm check` says that it would refuse come of one function, [`judge`].

use std::path::Path;
use std::rc::Rc;

use dlm_core::manifest::Manifest;
use dlm_core::shell::quoted_path;
use dlm_core::training::PhaseSelection;
use dlm_core::{Event, FailureKind, Subject};
use dlm_doc::{Section, SectionKind};
use dlm_model::text::TextModel;
use dlm_plan::PlanError;
use dlm_plan::base::license::{LicenseDecision, LicenseMoment};
use dlm_plan::base::{BaseLocation, ResolvedBase};
use dlm_plan::train::{TrainOptions, TrainPlan, TrainRequest, recipe};
use dlm_store::Store;
use dlm_store::inspect::ResumableVersion;
use dlm_store::replay::MinedPreferences;
use dlm_train::{Dataset, DatasetOptions, Pair, SplitRule};

use super::command::TrainCommand;
use super::lane::Lane;
use super::prepared::PreparedRun;
use super::replay::{Draw, Memory};
use super::{pins, resume, room};
use crate::base::{self, ExportProbes, Reach, ReadyBase, UsableBase};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::rows::PreferenceFilter;
use crate::speed::Speed;
use crate::surroundings::Surroundings;
use crate::{idle_keys, rows, trained};

/// Does everything that needs no weight: parse, resolve the base, make rows, plan, refuse. Returns the adapters of the document
/// that have something to learn, in their order.
pub fn prepare(around: &Surroundings, command: &TrainCommand) -> Result<Vec<PreparedRun>, Failure> {
    let document = document::load(&command.path)?;
    let Judgement::Ready(prepared) = judge(around, command, document, Reach::Hub)? else {
        unreachable!("whoever may fetch a base has it, or is told why not");
    };
    for (index, run) in prepared.iter().enumerate() {
        // What is told of the document or its base is told once.
        let is_new = |warning: &&String| {
            !prepared[..index]
                .iter()
                .any(|before| before.plan.warnings.contains(warning))
        };
        for warning in run.plan.warnings.iter().filter(is_new) {
            around.progress.event(Event::Warning(warning.clone()));
        }
    }
    if prepared.iter().all(|run| run.lane.version == 0) {
        // What is worth knowing of a base is told before its first training, not at each.
        for note in prepared.iter().take(1).flat_map(|run| &run.base.resolved.notes) {
            around.note(note.clone());
        }
    }
    Ok(prepared)
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
    /// Nothing is against it; one entry for each adapter that has something to learn, at least one.
    Ready(Vec<PreparedRun>),
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
    if command.phases == PhaseSelection::Preference {
        check_preferences(&document, command.preferences())?;
    }
    let store = around.store(&document.parsed.frontmatter().dlm_id);
    let moment = LicenseMoment::Train {
        accepts_license: command.accepts_license,
    };
    let remarks = remarks(&document, command);
    let filter = command.preferences();
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
    let facts = rows::least_facts(&document.parsed, manifest.is_some(), filter);
    let speed = Speed::default();
    room::check_base(around, &resolved, &facts, &options, &speed)?;
    let is_elsewhere = matches!(resolved.location, BaseLocation::Hub { .. }) && !base::is_here(around, &resolved)?;
    if reach == Reach::ThisMachine && is_elsewhere {
        return Ok(Judgement::Unfetched { warnings: remarks });
    }
    let base = open_base(around, command, &store, resolved)?;
    let mut notices = remarks;
    notices.extend(manifest.as_ref().and_then(|manifest| twin(manifest, &document)));
    let text = base.opened.text_as(base.resolved.record.template)?;
    notices.extend(rows::inexpressible(&document, &text)?);
    let planner = Planner {
        around,
        command,
        document: Rc::new(document),
        base: Rc::new(base),
        text: Rc::new(text),
        options: &options,
        speed: &speed,
        store: &store,
        manifest: manifest.as_ref(),
        license: &license,
    };
    Ok(Judgement::Ready(planner.runs(&notices)?))
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
        phases: command.phases,
        allows_slow: command.allows_slow,
        ..TrainOptions::default()
    }
}

/// What the document says that changes nothing.
fn remarks(document: &Document, command: &TrainCommand) -> Vec<String> {
    let mut remarks = idle_keys::remarks(&document.parsed);
    let front = document.parsed.frontmatter();
    let is_asked_for = front.wrote("training.preference.enabled") && front.training.preference.enabled;
    let filter = command.preferences();
    if is_asked_for && filter.is_wanted && filter.sections(&document.parsed).next().is_none() {
        remarks.push(
            "`training.preference.enabled` is true, and no preference section is there to train: write one, or mine some with \
             `dlm preference mine`"
                .to_owned(),
        );
    }
    remarks
}

/// Refuses a preference phase by itself that has nothing to teach, or nothing to begin with.
///
/// **Errors** say which.
fn check_preferences(document: &Document, filter: PreferenceFilter) -> Result<(), Failure> {
    let parsed = &document.parsed;
    if filter.sections(parsed).next().is_some() {
        return Ok(());
    }
    if !parsed.preference_enabled() && parsed.sections().iter().any(|s| s.kind == SectionKind::Preference) {
        let what =
            "`training.preference.enabled` is false in the document, and `--phase preference` trains nothing else";
        return Err(Failure::new(Subject::Training, what).hint("take the line out"));
    }
    Err(PlanError::NoPreferences.into())
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

/// Makes rows and plan, which depend on each other, adapter by adapter.
struct Planner<'a> {
    around: &'a Surroundings,
    command: &'a TrainCommand,
    document: Rc<Document>,
    base: Rc<ReadyBase>,
    text: Rc<TextModel>,
    options: &'a TrainOptions,
    speed: &'a Speed,
    store: &'a Store,
    manifest: Option<&'a Manifest>,
    license: &'a LicenseDecision,
}

impl Planner<'_> {
    /// Plans every adapter of the document that has something to learn; `notices` are told with the first.
    ///
    /// **Errors:** none has.
    fn runs(&self, notices: &[String]) -> Result<Vec<PreparedRun>, Failure> {
        let front = self.document.parsed.frontmatter();
        let lanes = Lane::all(front, self.manifest).map_err(|e| Failure::new(Subject::Store, e))?;
        let (mut runs, mut idle) = (Vec::new(), Vec::new());
        for lane in lanes {
            let name = lane.name().map(str::to_owned);
            match (self.run(lane), name) {
                (Ok(run), _) => runs.push(run),
                // An adapter of several may wait for its first section.
                (Err(failure), Some(name)) if failure.kind == FailureKind::NothingToDo => idle.push((name, failure)),
                (Err(failure), _) => return Err(failure),
            }
        }
        let Some(last) = runs.last_mut() else {
            let (_, failure) = idle.swap_remove(0);
            return Err(failure);
        };
        last.is_last = true;
        let idle = idle.iter().map(|(name, _)| {
            format!("adapter `{name}` has nothing to learn and is not trained: no section names it with `#{name}`, and there is no prose")
        });
        let told = notices.iter().cloned().chain(idle);
        runs[0].plan.warnings.extend(told);
        Ok(runs)
    }

    fn run(&self, lane: Lane) -> Result<PreparedRun, Failure> {
        let parsed = &self.document.parsed;
        if self.command.phases == PhaseSelection::Preference {
            self.check_start(&lane)?;
        }
        let seed = self.command.seed.unwrap_or(parsed.frontmatter().training.seed);
        let mined = match self.command.skips_mined {
            true => MinedPreferences::Exclude,
            false => MinedPreferences::Include,
        };
        let memory = Memory::load(self.store, self.manifest, parsed, seed, &lane, mined)?;
        let (dataset, pairs, mut plan, drawn) = self.plan(seed, &lane, &memory)?;
        if let Some(name) = lane.name() {
            // What is known of the base is told once, whichever adapter comes first.
            let of_base = |warning: &String| warning.starts_with(&format!("{}: ", self.base.facts.key));
            let own = plan.warnings.iter_mut().filter(|warning| !of_base(warning));
            own.for_each(|warning| *warning = format!("adapter `{name}`: {warning}"));
        }
        let readable = self.base.facts.context_usable as usize;
        dataset.check_lengths(plan.sequence_len.value as usize, readable)?;
        for pair in &pairs {
            pair.check_length(plan.sequence_len.value as usize, readable)?;
        }
        Ok(PreparedRun {
            replay: memory.settle(drawn, &pairs),
            document: self.document.clone(),
            base: self.base.clone(),
            text: self.text.clone(),
            dataset,
            pairs,
            plan,
            lane,
            license: self.license.clone(),
            is_last: false,
        })
    }

    /// Refuses a preference phase by itself without an adapter of this base to begin with.
    fn check_start(&self, lane: &Lane) -> Result<(), Failure> {
        let front = self.document.parsed.frontmatter();
        let path = &self.command.path;
        let Some(current) = lane.current(self.store)? else {
            let which = lane.name().map_or(String::new(), |name| format!(" `{name}`"));
            let what = format!("`--phase preference` begins with an adapter, and{which} none was trained yet");
            return Err(Failure::new(Subject::Training, what).hint(format!("dlm train {}", quoted_path(path))));
        };
        let elsewhere = self
            .manifest
            .and_then(|manifest| trained::elsewhere(manifest, lane.name(), &current, front, &self.base.resolved));
        match elsewhere {
            Some(elsewhere) => Err(elsewhere.failure(path, Subject::Training)),
            None => Ok(()),
        }
    }

    /// Makes the rows, draws what is rehearsed beside them, and plans.
    ///
    /// The plan decides how long a window of prose is, so prose is cut for a first count and cut again if it differs.
    fn plan(&self, seed: i64, lane: &Lane, memory: &Memory) -> Result<(Dataset, Vec<Pair>, TrainPlan, Draw), Failure> {
        let parsed = &self.document.parsed;
        let front = parsed.frontmatter();
        let takes = |section: &Section| lane.takes_section(section);
        let sources = rows::sources(parsed, takes)?;
        let mut pairs = rows::document_pairs(parsed, self.command.preferences(), takes, &self.text)?;
        pairs.extend(memory.draw_pairs(pairs.len(), front.system(), &self.text, self.sequence_len_max()));
        let options = DatasetOptions {
            system_prompt: front.system().map(str::to_owned),
            window: recipe::PROSE_WINDOW as usize,
            split: SplitRule::new(seed, front.training.holdout, &sources),
        };
        let mut dataset = Dataset::new(sources, options, &self.text)?;
        let mut drawn = self.draw(memory, &mut dataset);
        let mut plan = self.plan_for(lane, &dataset, &pairs)?;
        let window = plan.prose.window_tokens.value as usize;
        if window != dataset.window() {
            dataset.rewindow(window, &self.text)?;
            drawn = self.draw(memory, &mut dataset);
            plan = self.plan_for(lane, &dataset, &pairs)?;
        }
        Ok((dataset, pairs, plan, drawn))
    }

    fn draw(&self, memory: &Memory, dataset: &mut Dataset) -> Draw {
        let drawn = memory.draw(dataset, &self.text, self.sequence_len_max());
        dataset.rehearse(drawn.entries.clone());
        drawn
    }

    /// The longest row that the document may have on this base.
    fn sequence_len_max(&self) -> usize {
        let written = self.document.parsed.frontmatter().written_knobs(None).sequence_len;
        let wanted = written.unwrap_or(recipe::SEQUENCE_LEN);
        wanted.min(self.base.facts.context_usable) as usize
    }

    fn plan_for(&self, lane: &Lane, dataset: &Dataset, pairs: &[Pair]) -> Result<TrainPlan, Failure> {
        let request = TrainRequest {
            document: &rows::document_facts(&self.document.parsed, lane.name(), dataset, pairs),
            base: &self.base.facts,
            hardware: &self.around.hardware,
            options: self.options,
        };
        Ok(self.speed.plan(self.around, &request)?)
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
    let versions = format!("{}/versions/", prepared.lane.slot.relative());
    let is_own = |version: &ResumableVersion| version.path.starts_with(&versions);
    let kept = store
        .inspect()?
        .and_then(|found| found.resumable_versions.into_iter().find(is_own));
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
