//! Loads what answers for a document: its base, and the adapter that its store currently points at.

use std::path::PathBuf;

use dlm_core::Subject;
use dlm_core::shell::quoted_path;
use dlm_core::training::Precision;
use dlm_core::units::size;
use dlm_model::text::TextModel;
use dlm_model::{Adapter, Cpu, CpuEngine, CpuOptions, Engine, Prepare};
use dlm_plan::base::license::LicenseMoment;
use dlm_store::{AdapterSlot, Store};

use crate::base::{self, ReadyBase};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::named_adapters;
use crate::surroundings::Surroundings;

/// Which weights answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// As they are stored, quantized ones multiplied as such: what a person talks to.
    AsStored,
    /// Dequantized to f32, so that every product is exact.
    Exact,
}

/// A document with its base opened and its adapter located; nothing heavy is loaded.
pub struct LocatedModel {
    pub document: Document,
    pub base: ReadyBase,
    pub text: TextModel,
    /// Directory and number of the current adapter version; `None` when the base alone is asked for.
    pub adapter: Option<(PathBuf, u32)>,
}

/// A model ready to answer.
pub struct LoadedModel {
    /// What the engine computes with, and what encodes weights for an export.
    pub cpu: Cpu,
    pub engine: Box<dyn Engine>,
    pub adapter: Option<Adapter>,
}

/// Whether a document's adapter is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterNeed {
    /// The base alone; its files may be downloaded.
    BaseOnly,
    /// It must have been trained.
    Trained,
    /// Where it was trained; before that the base alone.
    IfTrained,
}

/// Finds base and adapter of a document, refusing what cannot work before any weight is read.
pub fn locate(
    around: &Surroundings,
    path: &std::path::Path,
    is_base_only: bool,
    subject: Subject,
) -> Result<LocatedModel, Failure> {
    let need = if is_base_only {
        AdapterNeed::BaseOnly
    } else {
        AdapterNeed::Trained
    };
    locate_for(around, path, need, subject)
}

/// [`locate`] with a say in whether the adapter must be there.
pub fn locate_for(
    around: &Surroundings,
    path: &std::path::Path,
    need: AdapterNeed,
    subject: Subject,
) -> Result<LocatedModel, Failure> {
    let document = document::load(path)?;
    let front = document.parsed.frontmatter();
    let store = Store::new(&around.home, &front.dlm_id);
    named_adapters::check_document(&document, None, subject.clone())?;
    let resolved = base::usable(around, &document, LicenseMoment::Use)?.resolved;
    let adapter = match need {
        AdapterNeed::BaseOnly => None,
        AdapterNeed::Trained => Some(current_adapter(&store, path, subject)?),
        AdapterNeed::IfTrained => store
            .current_version(&AdapterSlot::Flat)?
            .map(|current| (current.directory, current.number.unwrap_or(0))),
    };
    let base = base::open_resolved(around, resolved, adapter.is_none())?;
    let text = match &adapter {
        Some((directory, _)) => TextModel::from_dir(directory, Some(base.resolved.record.template))?,
        None => base.opened.text_as(base.resolved.record.template)?,
    };
    Ok(LocatedModel {
        document,
        base,
        text,
        adapter,
    })
}

fn current_adapter(store: &Store, path: &std::path::Path, subject: Subject) -> Result<(PathBuf, u32), Failure> {
    let slot = AdapterSlot::Flat;
    match store.current_version(&slot)? {
        Some(current) => Ok((current.directory, current.number.unwrap_or(0))),
        None => Err(
            Failure::new(subject, format!("no adapter was trained yet for {}", path.display()))
                .hint(format!("dlm train {}", quoted_path(path))),
        ),
    }
}

/// Bytes of the weights in memory, as [`load`] keeps them for answers.
pub(crate) fn weights_bytes(located: &LocatedModel, weights: Weights) -> u64 {
    match weights {
        // Stored blocks are laid out once more for single tokens.
        Weights::AsStored => 2 * located.base.opened.weights_memory_bytes(true),
        Weights::Exact => located.base.opened.weights_memory_bytes(false),
    }
}

/// Refuses weights for which there is no room.
///
/// **Errors** with what is needed and what is free; `DLM_FORCE` passes.
pub(crate) fn check_memory(around: &Surroundings, located: &LocatedModel, need: u64) -> Result<(), Failure> {
    let free = around.hardware.memory_available_bytes;
    if need <= free || around.is_forced {
        return Ok(());
    }
    Err(Failure::new(
        Subject::Inference,
        format!(
            "the weights of `{}` need {} and {} are free",
            located.base.resolved.record.key,
            size(need),
            size(free)
        ),
    )
    .hint("free some memory, choose a smaller base, or set DLM_FORCE=1 to try all the same"))
}

/// Loads base and adapter; `precision` is that of the frozen products of more than four rows.
///
/// **Errors:** no room for the weights (refused before loading, with the numbers), unreadable weights, an adapter that
/// does not fit the base.
pub fn load(
    around: &Surroundings,
    located: &LocatedModel,
    weights: Weights,
    precision: Precision,
    threads: Option<u32>,
) -> Result<LoadedModel, Failure> {
    check_memory(around, located, weights_bytes(located, weights))?;
    let keep_quantized = weights == Weights::AsStored;
    let threads = threads.unwrap_or(around.hardware.cpu_cores).max(1) as usize;
    let cpu = Cpu::new(threads, around.hardware.simd);
    let options = CpuOptions {
        precision,
        keep_quantized,
        // Single tokens of quantized weights are multiplied as integers; without this each token decodes every block.
        prepare: if keep_quantized {
            Prepare::Decode
        } else {
            Prepare::Nothing
        },
    };
    let engine = CpuEngine::load(&cpu, &located.base.opened, &options);
    let engine = engine.map_err(|e| Failure::from(e).under(Subject::Inference))?;
    let adapter = match &located.adapter {
        Some((directory, _)) => {
            let adapter = engine.read_adapter(directory);
            Some(adapter.map_err(|e| Failure::new(Subject::Inference, e))?)
        }
        None => None,
    };
    Ok(LoadedModel {
        cpu,
        engine: Box::new(engine),
        adapter,
    })
}
