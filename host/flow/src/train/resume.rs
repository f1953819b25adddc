//! Finds what a run can go on from, and puts a run's state into the store's container.

use std::collections::BTreeMap;
use std::path::Path;

use dlm_core::Subject;
use dlm_core::training::{MomentType, TrainPhase};
use dlm_model::engine::{EightBit, Moments};
use dlm_model::{Adapter, Engine, TrainTensors};
use dlm_store::state::STATE_FILE;
use dlm_store::{ResumeIntegrityError, StateData, StateTensor, Store, TrainingState, VersionEntry, read_state};
use dlm_train::TrainState;
use dlm_train::state::StateHeader;
use serde_json::{Map, Value};

use super::command::TrainCommand;
use super::lane::Lane;
use super::prepared::PreparedRun;
use crate::failure::Failure;
use crate::integrity::check_adapter;
use crate::surroundings::Surroundings;

/// The key of the count of updates among the run's fields.
const UPDATES: &str = "updates";
/// The moments of AdamW, by their names in the state; those in eight bits are codes and the scales of their blocks.
const FIRST: &str = "adamw.m";
const SECOND: &str = "adamw.v";

/// Where a run goes on.
pub(super) struct ResumePoint {
    pub adapter: Adapter,
    pub state: TrainState,
    pub note: String,
}

/// What is about to run, for which a state is looked for.
pub(super) struct PlannedRun<'a> {
    pub command: &'a TrainCommand,
    /// Of recipe, rows, adapter and base.
    pub digest: &'a str,
    /// Revision of the base.
    pub base: &'a str,
    /// What training would begin with without a state.
    pub fresh: &'a Adapter,
    /// How its optimizer keeps its moments.
    pub moments: MomentType,
}

impl PlannedRun<'_> {
    /// The optimizer that a state was kept by and the one of the plan, where its moments are of no use to the plan's.
    fn other_optimizer(&self, state: &TrainState) -> Option<[&'static str; 2]> {
        let there = state.tensors.moment_type();
        (there != self.moments).then(|| [there, self.moments].map(|moments| moments.adamw().name()))
    }
}

/// The way out that loses nothing.
fn again(command: &TrainCommand) -> String {
    format!(
        "run `{}` to begin again from the base; earlier versions are kept",
        command.again("--fresh")
    )
}

/// Finds the newest state: of an interrupted run of exactly this document and plan, else of the current version.
///
/// **Errors:** nothing was trained yet, a state that is damaged, or one of another document or plan.
pub(super) fn find(
    around: &Surroundings,
    store: &Store,
    lane: &Lane,
    engine: &dyn Engine,
    run: &PlannedRun<'_>,
) -> Result<ResumePoint, Failure> {
    let PlannedRun {
        command, digest, fresh, ..
    } = run;
    let current = lane.current(store)?;
    for version in unfinished(store, lane)? {
        let directory = store.paths().versions(&lane.slot).join(&version.name);
        match read_state(&directory) {
            Ok(stored) => {
                let state = from_stored(&stored).ok_or_else(|| damaged(command, &version.name))?;
                if let Some([there, here]) = run.other_optimizer(&state) {
                    return Err(Failure::new(
                        Subject::Resume,
                        format!(
                            "`{}` was interrupted after step {} of optimizer `{there}`, and the plan's is `{here}`",
                            version.name, state.header.step
                        ),
                    )
                    .hint(format!("write `optimizer: {there}` under `training` to go on"))
                    .hint(again(command)));
                }
                if state.header.run_digest != *digest {
                    return Err(Failure::new(
                        Subject::Resume,
                        format!(
                            "`{}` was interrupted after step {}, but the document, the base, `--seed` or \
                             `--max-steps` have changed since",
                            version.name, state.header.step
                        ),
                    )
                    .hint("repeat the run's own flags beside `--resume`, or take the edit back")
                    .hint(again(command)));
                }
                let note = format!("resuming {} after step {}", version.name, state.header.step);
                return Ok(ResumePoint {
                    adapter: (*fresh).clone(),
                    state,
                    note,
                });
            }
            // A run that died before its first snapshot left an empty directory; the one before it may have a state.
            Err(ResumeIntegrityError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let current = current.ok_or_else(nothing)?;
    check_adapter(around, store, &lane.slot, &current, &command.path)?;
    further(&current.directory, current.number.unwrap_or(0), engine, run)
}

fn nothing() -> Failure {
    Failure::new(
        Subject::Resume,
        "there is nothing to resume: the document was never trained",
    )
    .hint("run `dlm train` without `--resume`")
}

/// A phase of an adapter, both by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub adapter: usize,
    pub phase: usize,
}

/// Finds the phase of the first adapter that was interrupted; none where no planned one was.
pub(super) fn interrupted(store: &Store, runs: &[PreparedRun]) -> Result<Option<Place>, Failure> {
    // Where there is one phase in all, nothing needs to be read to know which was stopped.
    if runs.iter().map(|run| run.plan.phases.len()).sum::<usize>() < 2 {
        return Ok(None);
    }
    for (adapter, run) in runs.iter().enumerate() {
        for version in unfinished(store, &run.lane)? {
            let directory = store.paths().versions(&run.lane.slot).join(&version.name);
            // A state that cannot be read is told by the run that wants it.
            let Some(state) = read_state(&directory).ok().as_ref().and_then(from_stored) else {
                continue;
            };
            let was_preference = state.header.phase.is_some_and(TrainPhase::is_preference);
            let mut phases = run.plan.phases.iter();
            let found = phases.position(|phase| phase.phase.is_preference() == was_preference);
            return Ok(found.map(|phase| Place { adapter, phase }));
        }
    }
    Ok(None)
}

/// Lists the versions after the current one, the newest first.
fn unfinished(store: &Store, lane: &Lane) -> Result<Vec<VersionEntry>, Failure> {
    let done = lane.current(store)?.and_then(|current| current.number).unwrap_or(0);
    let mut versions = lane.kept(store)?;
    versions.retain(|version| !version.is_current && version.number > done);
    versions.sort_by_key(|version| std::cmp::Reverse(version.number));
    Ok(versions)
}

/// Refuses to resume where nothing was ever kept, before anything heavy is loaded; [`find`] looks closer.
pub(super) fn check_any(store: &Store, lane: &Lane) -> Result<(), Failure> {
    let directory = store.paths().versions(&lane.slot);
    let mut versions = lane.kept(store)?.into_iter();
    match versions.any(|version| version.is_current || directory.join(&version.name).join(STATE_FILE).is_file()) {
        true => Ok(()),
        false => Err(nothing()),
    }
}

/// Says in what a trained adapter differs from the one that a plan asks for; its parameters mean nothing under another
/// scale, kind or choice of modules.
fn differences(trained: &Adapter, planned: &Adapter) -> Vec<String> {
    let (there, here) = (&trained.spec, &planned.spec);
    let numbers = [
        ("lora_r", there.r as f64, here.r as f64),
        ("lora_alpha", f64::from(there.alpha), f64::from(here.alpha)),
        ("lora_dropout", f64::from(there.dropout), f64::from(here.dropout)),
    ];
    let mut out: Vec<String> = numbers
        .into_iter()
        .filter(|(_, there, here)| there != here)
        .map(|(name, there, here)| format!("`{name}` is {there} there and {here} here"))
        .collect();
    if there.kind != here.kind {
        let (there, here) = (there.kind.name(), here.kind.name());
        out.push(format!("`adapter` is {there} there and {here} here"));
    }
    let paths = |adapter: &Adapter| -> Vec<String> { adapter.modules.iter().map(|m| m.path.clone()).collect() };
    let (there, here) = (paths(trained), paths(planned));
    if there != here {
        out.push(format!(
            "`target_modules` name {} modules there and {} here, and not the same ones",
            there.len(),
            here.len()
        ));
    } else if trained.params.len() != planned.params.len() {
        out.push("the base's matrices have other sizes".to_owned());
    }
    out
}

/// Trains the current adapter for another run: its moments are kept, its schedule begins anew.
fn further(directory: &Path, number: u32, engine: &dyn Engine, run: &PlannedRun<'_>) -> Result<ResumePoint, Failure> {
    let PlannedRun {
        command,
        digest,
        base,
        fresh,
        ..
    } = *run;
    let stored = from_stored(&read_state(directory)?).ok_or_else(|| damaged(command, &format!("v{number:04}")))?;
    let adapter = engine
        .read_adapter(directory)
        .map_err(|e| Failure::new(Subject::Resume, e))?;
    let mut differences = differences(&adapter, fresh);
    if stored.header.base.as_ref().is_some_and(|trained| trained != base) {
        let trained = stored.header.base.as_deref().unwrap_or_default();
        differences.push(format!("the base is `{trained}` there and `{base}` here"));
    }
    if let Some([there, here]) = run.other_optimizer(&stored) {
        differences.push(format!("`optimizer` is {there} there and {here} here"));
    }
    if !differences.is_empty() {
        return Err(Failure::new(
            Subject::Resume,
            format!("v{number:04} is not what the plan asks for: {}", differences.join("; ")),
        )
        .hint("take the edit back to train it further")
        .hint(again(command)));
    }
    let state = TrainState {
        // The document may have changed, so nothing is known about its rows yet.
        header: StateHeader {
            last_loss: stored.header.last_loss,
            ..StateHeader::new(digest, base)
        },
        tensors: TrainTensors {
            params: adapter.params.clone(),
            ..stored.tensors
        },
        best: None,
    };
    Ok(ResumePoint {
        adapter,
        state,
        note: format!("training v{number:04} further"),
    })
}

fn damaged(command: &TrainCommand, name: &str) -> Failure {
    Failure::new(Subject::Resume, format!("the training state of `{name}` lacks a part")).hint(again(command))
}

/// Puts a state into the store's container; nothing of it is copied.
pub(super) fn to_stored(state: TrainState) -> TrainingState {
    let vector = |values: Vec<f32>| StateTensor {
        shape: vec![values.len()],
        data: StateData::F32(values),
    };
    let mut tensors = BTreeMap::from([("params".to_owned(), vector(state.tensors.params))]);
    match state.tensors.moments {
        Moments::Full { m, v } => {
            for (name, moment) in [(FIRST, m), (SECOND, v)] {
                tensors.insert(name.to_owned(), vector(moment));
            }
        }
        Moments::EightBit { m, v } => {
            for (name, moment) in [(FIRST, m), (SECOND, v)] {
                let codes = StateTensor {
                    shape: vec![moment.codes.len()],
                    data: StateData::U8(moment.codes),
                };
                tensors.insert(format!("{name}.codes"), codes);
                tensors.insert(format!("{name}.scales"), vector(moment.scales));
            }
        }
    }
    if let Some(best) = state.best {
        tensors.insert("best".to_owned(), vector(best));
    }
    let mut run = serde_json::to_value(&state.header).expect("a header is plain data");
    run[UPDATES] = state.tensors.updates.into();
    let mut rng = Map::new();
    rng.insert("kind".into(), "functions of seed and position".into());
    rng.insert("step".into(), state.header.step.into());
    TrainingState {
        tensors,
        fields: Map::from_iter([("run".to_owned(), run)]),
        rng,
    }
}

fn from_stored(stored: &TrainingState) -> Option<TrainState> {
    let vector = |name: &str| match &stored.tensors.get(name)?.data {
        StateData::F32(values) => Some(values.clone()),
        StateData::U8(_) => None,
    };
    let eight_bit = |name: &str| {
        let codes = match &stored.tensors.get(&format!("{name}.codes"))?.data {
            StateData::U8(codes) => codes.clone(),
            StateData::F32(_) => return None,
        };
        let scales = vector(&format!("{name}.scales"))?;
        Some(EightBit { codes, scales })
    };
    let moments = match stored.tensors.contains_key(FIRST) {
        true => Moments::Full {
            m: vector(FIRST)?,
            v: vector(SECOND)?,
        },
        false => Moments::EightBit {
            m: eight_bit(FIRST)?,
            v: eight_bit(SECOND)?,
        },
    };
    let run: &Value = stored.fields.get("run")?;
    let tensors = TrainTensors {
        params: vector("params")?,
        moments,
        updates: run.get(UPDATES)?.as_u64()?,
    };
    tensors.is_whole().then_some(TrainState {
        header: serde_json::from_value(run.clone()).ok()?,
        tensors,
        best: vector("best"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_container() {
        let state = TrainState {
            header: StateHeader {
                step: 7,
                run_digest: "d".into(),
                base: Some("b".into()),
                phase: Some(TrainPhase::Dpo),
                best_loss: Some(0.1 + 0.2),
                best_step: Some(3),
                evals_since_best: 1,
                last_loss: 1.0 / 3.0,
                row_losses: vec![None, Some(0.1)],
                tokens: 12,
            },
            tensors: TrainTensors {
                params: vec![1.0, -2.5],
                moments: Moments::Full {
                    m: vec![0.1, 0.2],
                    v: vec![0.3, 0.4],
                },
                updates: 9,
            },
            best: Some(vec![5.0, 6.0]),
        };
        let moment = |code, scale| EightBit {
            codes: vec![code, 255],
            scales: vec![scale],
        };
        let moments = Moments::EightBit {
            m: moment(3, 0.1),
            v: moment(7, 1e-9),
        };
        let eight_bit = TrainState {
            tensors: TrainTensors {
                moments,
                ..state.tensors.clone()
            },
            ..state.clone()
        };
        for state in [state, eight_bit] {
            let mut stored = to_stored(state.clone());
            assert_eq!(from_stored(&stored), Some(state));
            let second = stored.tensors.keys().find(|name| name.starts_with(SECOND));
            let second = second.cloned().unwrap();
            stored.tensors.remove(&second);
            assert_eq!(from_stored(&stored), None, "without {second}");
        }
    }
}
