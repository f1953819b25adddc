//! The models of a run for those who only know the port: the document's own, and others by name.
//!
//! Invariants: a model is opened once per run and its weights are loaded at the first call that needs them; two names of
//! the same files share their weights, as the views with and without the adapter do; license, cache, download and memory
//! rules are those of `dlm prompt`; calls of several threads take turns.

mod classifier;
mod convert;
mod decoder;
mod open;
mod turn;
mod weights;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dlm_core::Cancel;
use dlm_core::ports::model::{Model, ModelError, Models};
use dlm_model::{Cpu, WeightStorage};

use crate::surroundings::Surroundings;
use decoder::DecoderModel;
use open::OpenedModel;
use turn::{Turn, Turns};
use weights::Weights;

/// What [`EngineModels`] needs of the run around it.
pub struct EngineSetup {
    /// Its cancellation stops downloads; the calls of a model are given a flag of their own.
    pub around: Surroundings,
    /// Threads of the products; without, one per core.
    pub threads: Option<u32>,
    /// The document whose base and current adapter are [`Models::current`]; without, there is no current model.
    pub document: Option<PathBuf>,
    /// Which of its adapters, on a document with several.
    pub adapter: Option<String>,
}

/// The models of one run.
///
/// `current()` is the document's base with its current adapter (base alone before the first training); `named(selector)`
/// takes a registry key, the name of a local base, or `hf:org/name`, which may also be a reward model. Both open files and
/// check the license, and nothing more: weights are loaded by the first call of the model that needs them.
pub struct EngineModels {
    run: Arc<Run>,
    document: Option<PathBuf>,
    adapter: Option<String>,
    current: Mutex<Option<Arc<dyn Model>>>,
    named: Mutex<HashMap<String, Arc<dyn Model>>>,
    /// By the place of the files and how they are kept, so that two names of one base share them.
    bases: Mutex<HashMap<(PathBuf, WeightStorage), Arc<Weights>>>,
}

/// What all models of a run share.
struct Run {
    around: Surroundings,
    threads: usize,
    /// Its threads start with the first weights: most commands with plugins never ask a model.
    cpu: OnceLock<Cpu>,
    turns: Turns,
}

impl Run {
    fn cpu(&self) -> &Cpu {
        self.cpu
            .get_or_init(|| Cpu::new(self.threads, self.around.hardware.simd))
    }

    /// Waits until no other call computes.
    ///
    /// **Errors:** a flag that is raised before that.
    fn turn(&self, cancel: &Cancel) -> Result<Turn<'_>, ModelError> {
        self.turns.next(cancel)
    }
}

/// A call that panicked leaves nothing half-written behind a lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EngineModels {
    /// Takes what the run has; opens and loads nothing.
    pub fn new(setup: EngineSetup) -> EngineModels {
        let run = Run {
            threads: setup.threads.unwrap_or(setup.around.hardware.cpu_cores).max(1) as usize,
            around: setup.around,
            cpu: OnceLock::new(),
            turns: Turns::default(),
        };
        EngineModels {
            run: Arc::new(run),
            document: setup.document,
            adapter: setup.adapter,
            current: Mutex::new(None),
            named: Mutex::new(HashMap::new()),
            bases: Mutex::new(HashMap::new()),
        }
    }

    /// The weights of a base that was opened, or those of the same files that are there already.
    fn share(&self, opened: dlm_model::OpenedBase, key: &str, storage: WeightStorage) -> Arc<Weights> {
        let mut bases = lock(&self.bases);
        let path = opened.path().to_owned();
        let fresh = || Arc::new(Weights::new(self.run.clone(), opened, key, storage));
        bases.entry((path, storage)).or_insert_with(fresh).clone()
    }
}

impl Models for EngineModels {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        let mut current = lock(&self.current);
        if let Some(model) = &*current {
            return Ok(model.clone());
        }
        let document = self.document.as_deref().ok_or_else(|| {
            ModelError::Unavailable("this command works on no document, so there is no current model".to_owned())
        })?;
        let located = open::document(&self.run, document, self.adapter.as_deref())?;
        let key = located.base.resolved.record.key.clone();
        let record = located.base.resolved.record;
        let storage = match located.is_four_bit {
            true => WeightStorage::FourBits,
            false => WeightStorage::AsStored,
        };
        let weights = self.share(located.base.opened, &key, storage);
        let model = DecoderModel::new(
            weights,
            &record,
            located.text,
            located.adapter,
            Some(document.to_owned()),
        );
        let model: Arc<dyn Model> = Arc::new(model);
        *current = Some(model.clone());
        Ok(model)
    }

    fn named(&self, selector: &str) -> Result<Arc<dyn Model>, ModelError> {
        let mut named = lock(&self.named);
        if let Some(model) = named.get(selector) {
            return Ok(model.clone());
        }
        let model: Arc<dyn Model> = match open::named(&self.run, self.document.as_deref(), selector)? {
            OpenedModel::Decoder { record, opened, text } => {
                let weights = self.share(*opened, &record.key, WeightStorage::AsStored);
                Arc::new(DecoderModel::new(weights, &record, *text, None, None))
            }
            OpenedModel::Classifier { record, opened } => {
                Arc::new(classifier::ClassifierModel::new(self.run.clone(), &record, *opened))
            }
        };
        named.insert(selector.to_owned(), model.clone());
        Ok(model)
    }
}
