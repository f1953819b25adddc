//! Finds what a run can go on from, and puts a run's state into the store's container.

use std::collections::BTreeMap;
use std::path::Path;

use dlm_core::Subject;
use dlm_model::{Adapter, Engine, TrainTensors};
use dlm_store::state::STATE_FILE;
use dlm_store::{ResumeIntegrityError, StateData, StateTensor, Store, TrainingState, read_state};
use dlm_train::TrainState;
use dlm_train::state::StateHeader;
use serde_json::{Map, Value};

use super::lane::Lane;
use crate::failure::Failure;
use crate::integrity::check_adapter;
use crate::surroundings::Surroundings;

/// The key of the count of updates among the run's fields.
const UPDATES: &str = "updates";

/// Where a run goes on.
pub(super) struct ResumePoint {
    pub adapter: Adapter,
    pub state: TrainState,
    pub note: String,
}

/// Finds the newest state: of an interrupted run of exactly this document and plan, else of the current version.
///
/// **Errors:** nothing was trained yet, a state that is damaged, or one of another document or plan.
pub(super) fn find(
    (around, document): (&Surroundings, &Path),
    store: &Store,
    lane: &Lane,
    engine: &dyn Engine,
    fresh: &Adapter,
    digest: &str,
) -> Result<ResumePoint, Failure> {
    let current = lane.current(store)?;
    let done = current.as_ref().map_or(0, |current| current.number.unwrap_or(0));
    let mut interrupted = lane.kept(store)?;
    interrupted.retain(|version| !version.is_current && version.number > done);
    interrupted.sort_by_key(|version| std::cmp::Reverse(version.number));
    for version in interrupted {
        let directory = store.paths().versions(&lane.slot).join(&version.name);
        match read_state(&directory) {
            Ok(stored) => {
                let state = from_stored(&stored).ok_or_else(|| damaged(&version.name))?;
                if state.header.run_digest != digest {
                    return Err(Failure::new(
                        Subject::Resume,
                        format!(
                            "`{}` was interrupted after step {}, but the document, the base, `--seed` or \
                             `--max-steps` have changed since",
                            version.name, state.header.step
                        ),
                    )
                    .hint("repeat the run's own flags beside `--resume`, or take the edit back")
                    .hint("run `dlm train --fresh` to begin again from the base; earlier versions are kept"));
                }
                let note = format!("resuming {} after step {}", version.name, state.header.step);
                return Ok(ResumePoint {
                    adapter: fresh.clone(),
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
    check_adapter(around, store, &lane.slot, &current, document)?;
    further(&current.directory, current.number.unwrap_or(0), engine, fresh, digest)
}

fn nothing() -> Failure {
    Failure::new(
        Subject::Resume,
        "there is nothing to resume: the document was never trained",
    )
    .hint("run `dlm train` without `--resume`")
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

/// Trains the current adapter for another run: its moments are kept, its schedule begins anew.
fn further(
    directory: &Path,
    number: u32,
    engine: &dyn Engine,
    fresh: &Adapter,
    digest: &str,
) -> Result<ResumePoint, Failure> {
    let stored = from_stored(&read_state(directory)?).ok_or_else(|| damaged(&format!("v{number:04}")))?;
    let adapter = engine
        .read_adapter(directory)
        .map_err(|e| Failure::new(Subject::Resume, e))?;
    if adapter.spec.r != fresh.spec.r || adapter.params.len() != fresh.params.len() {
        return Err(Failure::new(
            Subject::Resume,
            "the current adapter has another shape than the plan asks for",
        )
        .hint("run `dlm train --fresh` to begin again from the base; earlier versions are kept"));
    }
    let state = TrainState {
        // The document may have changed, so nothing is known about its rows yet.
        header: StateHeader {
            last_loss: stored.header.last_loss,
            ..StateHeader::new(digest)
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

fn damaged(name: &str) -> Failure {
    Failure::new(Subject::Resume, format!("the training state of `{name}` lacks a part"))
        .hint("run `dlm train --fresh` to begin again from the base; earlier versions are kept")
}

/// Puts a state into the store's container.
pub(super) fn to_stored(state: &TrainState) -> TrainingState {
    let vector = |values: &[f32]| StateTensor {
        shape: vec![values.len()],
        data: StateData::F32(values.to_vec()),
    };
    let mut tensors = BTreeMap::from([
        ("params".to_owned(), vector(&state.tensors.params)),
        ("adamw.m".to_owned(), vector(&state.tensors.m)),
        ("adamw.v".to_owned(), vector(&state.tensors.v)),
    ]);
    if let Some(best) = &state.best {
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
    let run: &Value = stored.fields.get("run")?;
    let tensors = TrainTensors {
        params: vector("params")?,
        m: vector("adamw.m")?,
        v: vector("adamw.v")?,
        updates: run.get(UPDATES)?.as_u64()?,
    };
    let len = tensors.params.len();
    let is_whole = tensors.m.len() == len && tensors.v.len() == len;
    is_whole.then_some(TrainState {
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
                best_loss: Some(0.1 + 0.2),
                best_step: Some(3),
                evals_since_best: 1,
                last_loss: 1.0 / 3.0,
                row_losses: vec![None, Some(0.1)],
                tokens: 12,
            },
            tensors: TrainTensors {
                params: vec![1.0, -2.5],
                m: vec![0.1, 0.2],
                v: vec![0.3, 0.4],
                updates: 9,
            },
            best: Some(vec![5.0, 6.0]),
        };
        assert_eq!(from_stored(&to_stored(&state)), Some(state));
    }
}
