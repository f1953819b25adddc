//! The weights of one base, loaded once, whoever names it.

use std::sync::Arc;
use std::sync::Mutex;

use dlm_core::ports::model::ModelError;
use dlm_core::training::Precision;
use dlm_core::units::size;
use dlm_core::{Event, Subject};
use dlm_model::{Cpu, CpuEngine, CpuOptions, Engine, OpenedBase, Prepare, WeightStorage};

use super::open::failed;
use super::{Run, lock};
use crate::failure::Failure;

/// Part of the free memory that packed copies may take: the caches and buffers of answers need room too.
const PACKED_SHARE: f64 = 0.5;
/// Bytes of one packed weight.
const PACKED_BYTES: u64 = 4;

/// A base whose files are open, and its weights after the first call that needed them.
pub(super) struct Weights {
    pub run: Arc<Run>,
    pub opened: OpenedBase,
    key: String,
    storage: WeightStorage,
    /// Locked only by whoever has the run's turn.
    engine: Mutex<Option<Arc<dyn Engine>>>,
}

impl Weights {
    pub fn new(run: Arc<Run>, opened: OpenedBase, key: &str, storage: WeightStorage) -> Weights {
        Weights {
            run,
            opened,
            key: key.to_owned(),
            storage,
            engine: Mutex::new(None),
        }
    }

    /// Returns the weights, loading them the first time. `taken` is what the run's weights take so far.
    ///
    /// Quantized weights stay as they are: sampled tokens multiply them as integers, as `dlm prompt` does; prompts, scores
    /// and greedy answers decode them, exactly. Where memory allows, the decoded form is kept packed, which changes no bit
    /// and saves decoding at every pass.
    ///
    /// **Errors:** no room for the weights, or weights that cannot be read.
    pub fn load(&self, taken: &mut u64) -> Result<Arc<dyn Engine>, ModelError> {
        let mut engine = lock(&self.engine);
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        let facts = self.opened.facts();
        let stored = self.opened.weights_memory_bytes(self.storage);
        let streamed = stored + self.opened.decode_memory_bytes();
        let free = room(&self.run, &self.key, streamed, *taken)?;
        let packed = streamed + PACKED_BYTES * facts.params;
        let prepare = match packed as f64 <= PACKED_SHARE * free as f64 {
            true => Prepare::Inference,
            false => Prepare::Decode,
        };
        let load = |cpu: &Cpu, options: &CpuOptions| {
            let storage = self.storage;
            CpuEngine::load(cpu, &self.opened, &CpuOptions { storage, ..*options })
        };
        let loaded = loading(&self.run, &self.key, load, prepare).map_err(|error| failed(error.into()))?;
        *taken += loaded.facts().weights_bytes;
        Ok(engine.insert(Arc::new(loaded)).clone())
    }
}

/// Returns the free memory, less what other models of the run took; refuses weights that do not fit.
pub(super) fn room(run: &Run, key: &str, need: u64, taken: u64) -> Result<u64, ModelError> {
    let free = run.around.hardware.memory_available_bytes.saturating_sub(taken);
    if need > free && !run.around.is_forced {
        let what = format!("the weights of `{key}` need {} and {} are free", size(need), size(free));
        let failure = Failure::new(Subject::Model, what)
            .hint("free some memory, choose a smaller base, or set DLM_FORCE=1 to try all the same");
        return Err(super::open::unavailable(failure));
    }
    Ok(free)
}

/// Loads something, telling so.
pub(super) fn loading<T>(run: &Run, key: &str, load: impl FnOnce(&Cpu, &CpuOptions) -> T, prepare: Prepare) -> T {
    let phase = format!("loading {key}");
    run.around.progress.event(Event::PhaseStarted {
        phase: phase.clone(),
        total: None,
        unit: "tensors",
    });
    let options = CpuOptions {
        precision: Precision::Fp32,
        storage: WeightStorage::AsStored,
        prepare,
    };
    let loaded = load(run.cpu(), &options);
    run.around.progress.event(Event::PhaseEnded { phase });
    loaded
}
