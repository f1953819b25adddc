//! Loads what answers for a document: its base, and the adapter that its store currently points at.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::manifest::Manifest;
use dlm_core::shell::quoted_path;
use dlm_core::training::Precision;
use dlm_core::units::size;
use dlm_model::text::TextModel;
use dlm_model::{Adapter, Cpu, CpuEngine, CpuOptions, Engine, PeftFacts, Prepare, WeightStorage};
use dlm_plan::base::ResolvedBase;
use dlm_plan::base::license::LicenseMoment;
use dlm_store::{AdapterSlot, CurrentVersion};

use crate::base::{self, ReadyBase, UsableBase};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::integrity::check_adapter;
use crate::named_adapters;
use crate::surroundings::Surroundings;
use crate::trained;

/// Which weights answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// As they are stored, quantized ones multiplied as such: what a person talks to.
    AsStored,
    /// Every product is exact: quantized weights are decoded, once where that leaves room, else at every pass. Both give the
    /// same numbers, bit for bit.
    Exact,
    /// [`Weights::Exact`] of the base as it was published, also where the adapter was trained on it in four bits: what an export is
    /// written from.
    Published,
}

/// The part of the free memory that weights may take which are decoded once: beyond it they stay as they are stored.
const DECODED_SHARE: u64 = 2;
/// The program, the tokenizer's tables and one token's working set.
const FIXED_BYTES: u64 = 96 << 20;

/// How weights are kept, and the bytes that they take so.
struct Keeping {
    storage: WeightStorage,
    /// Single tokens of quantized weights are multiplied as integers; without this each token decodes every block.
    prepare: Prepare,
    bytes: u64,
}

impl Keeping {
    fn new(around: &Surroundings, located: &LocatedModel, weights: Weights) -> Keeping {
        let opened = &located.base.opened;
        if located.is_four_bit && weights != Weights::Published {
            // The adapter corrects these very weights, and recall was counted with them.
            return Keeping {
                storage: WeightStorage::FourBits,
                prepare: if weights == Weights::AsStored {
                    Prepare::Decode
                } else {
                    Prepare::Nothing
                },
                bytes: opened.weights_memory_bytes(WeightStorage::FourBits) + opened.decode_memory_bytes(),
            };
        }
        let stored = opened.weights_memory_bytes(WeightStorage::AsStored);
        if weights == Weights::AsStored {
            return Keeping {
                storage: WeightStorage::AsStored,
                prepare: Prepare::Decode,
                bytes: stored + opened.decode_memory_bytes(),
            };
        }
        let decoded = opened.weights_memory_bytes(WeightStorage::Dequantized);
        let has_room = decoded <= around.hardware.memory_available_bytes / DECODED_SHARE;
        Keeping {
            storage: if has_room {
                WeightStorage::Dequantized
            } else {
                WeightStorage::AsStored
            },
            prepare: Prepare::Nothing,
            bytes: if has_room { decoded } else { stored },
        }
    }
}

/// A document with its base opened and its adapter located; nothing heavy is loaded.
pub struct LocatedModel {
    pub document: Document,
    pub base: ReadyBase,
    pub text: TextModel,
    /// Directory and number of the current adapter version; `None` when the base alone is asked for.
    pub adapter: Option<(PathBuf, u32)>,
    /// Its name, on a document with several.
    pub adapter_name: Option<String>,
    /// Whether the adapter, or one of several, was trained on the base in four bits.
    pub is_four_bit: bool,
}

impl LocatedModel {
    /// Version of the adapter; none of one from elsewhere, which has none.
    pub(crate) fn version(&self) -> Option<u32> {
        self.adapter
            .as_ref()
            .map(|(_, version)| *version)
            .filter(|version| *version > 0)
    }
}

/// A model ready to answer.
pub struct LoadedModel {
    /// What the engine computes with, and what encodes weights for an export.
    pub cpu: Cpu,
    pub engine: Box<CpuEngine>,
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
    path: &Path,
    is_base_only: bool,
    adapter: Option<&str>,
    subject: Subject,
) -> Result<LocatedModel, Failure> {
    let need = if is_base_only {
        AdapterNeed::BaseOnly
    } else {
        AdapterNeed::Trained
    };
    locate_for(around, path, need, adapter, subject)
}

/// [`locate`] with a say in whether the adapter must be there.
pub fn locate_for(
    around: &Surroundings,
    path: &Path,
    need: AdapterNeed,
    adapter: Option<&str>,
    subject: Subject,
) -> Result<LocatedModel, Failure> {
    locate_in(around, document::load(path)?, need, adapter, subject)
}

/// [`locate_for`] of a document that is read already.
pub(crate) fn locate_in(
    around: &Surroundings,
    document: Document,
    need: AdapterNeed,
    adapter: Option<&str>,
    subject: Subject,
) -> Result<LocatedModel, Failure> {
    let slot = match (need, adapter) {
        // The base of a document with several adapters needs none of them.
        (AdapterNeed::BaseOnly, None) => AdapterSlot::Flat,
        _ => named_adapters::slot(&document, adapter, subject.clone())?,
    };
    let found = FoundBase::new(around, document)?;
    let current = found.current(around, need, &slot, subject)?;
    let model = found.open(around, current.as_ref())?;
    Ok(LocatedModel {
        is_four_bit: current
            .as_ref()
            .is_some_and(|current| trained::was_in_four_bits(&current.directory)),
        adapter_name: slot.name().filter(|_| adapter.is_some()).map(str::to_owned),
        adapter: current.map(|current| (current.directory, current.number.unwrap_or(0))),
        ..model
    })
}

/// Finds the base of a document and, in the place of its own adapter, one in a directory of PEFT's.
///
/// Tokenizer and chat template are the base's: those beside a stranger's adapter were never tried.
///
/// **Errors:** no settings there, or such as are not applied.
pub(crate) fn locate_directory(
    around: &Surroundings,
    document: Document,
    directory: &Path,
    subject: Subject,
) -> Result<LocatedModel, Failure> {
    let facts = PeftFacts::read(directory).map_err(|error| Failure::from(error).under(subject))?;
    let found = FoundBase::new(around, document)?;
    let record = &found.resolved.record;
    let is_other = |base: &String| *base != record.hf_id && *base != record.key;
    if let Some(base) = facts.base.filter(is_other) {
        around.warn(format!(
            "the adapter says that it was trained on `{base}`, and it is laid over `{}`",
            record.key
        ));
    }
    let model = found.open(around, None)?;
    Ok(LocatedModel {
        is_four_bit: trained::was_in_four_bits(directory),
        adapter: Some((directory.to_owned(), 0)),
        ..model
    })
}

/// A document with a base that may be used; nothing of it is opened.
pub(crate) struct FoundBase {
    pub document: Document,
    pub resolved: ResolvedBase,
    manifest: Option<Manifest>,
}

/// One of a document's adapters, found and whole.
#[derive(Clone, Debug)]
pub struct LocatedAdapter {
    pub name: String,
    pub directory: PathBuf,
    pub version: u32,
}

impl FoundBase {
    /// **Errors:** an unknown base, one whose license was never accepted.
    pub(crate) fn new(around: &Surroundings, document: Document) -> Result<FoundBase, Failure> {
        let UsableBase { resolved, manifest, .. } = base::usable(around, &document, LicenseMoment::Use)?;
        Ok(FoundBase {
            document,
            resolved,
            manifest,
        })
    }

    /// The version of an adapter that is current, as far as it is wanted.
    ///
    /// **Errors:** one that was not trained, or on another base; damaged files.
    fn current(
        &self,
        around: &Surroundings,
        need: AdapterNeed,
        slot: &AdapterSlot,
        subject: Subject,
    ) -> Result<Option<CurrentVersion>, Failure> {
        let (front, path) = (self.document.parsed.frontmatter(), &self.document.path);
        let store = around.store(&front.dlm_id);
        let current = match need {
            AdapterNeed::BaseOnly => None,
            AdapterNeed::Trained | AdapterNeed::IfTrained => store.current_version(slot)?,
        };
        let elsewhere = current.as_ref().and_then(|current| {
            trained::elsewhere(self.manifest.as_ref()?, slot.name(), current, front, &self.resolved)
        });
        let current = match (need, current, elsewhere) {
            (AdapterNeed::Trained, None, _) => return Err(untrained(path, slot.name(), subject)),
            (AdapterNeed::Trained, Some(_), Some(elsewhere)) => return Err(elsewhere.failure(path, subject)),
            // An adapter of another base is none of this one.
            (AdapterNeed::IfTrained, Some(_), Some(_)) => None,
            (_, current, _) => current,
        };
        if let Some(current) = &current {
            check_adapter(around, &store, slot, current, path)?;
        }
        Ok(current)
    }

    /// Opens the base, with the tokenizer of an adapter where there is one.
    fn open(self, around: &Surroundings, adapter: Option<&CurrentVersion>) -> Result<LocatedModel, Failure> {
        let base = base::open_resolved(around, self.resolved, adapter.is_none())?;
        let text = match adapter {
            Some(version) => TextModel::from_dir(&version.directory, Some(base.resolved.record.template))?,
            None => base.opened.text_as(base.resolved.record.template)?,
        };
        Ok(LocatedModel {
            document: self.document,
            base,
            text,
            adapter: None,
            adapter_name: None,
            is_four_bit: false,
        })
    }

    /// Finds all adapters of a document with several; the model has the tokenizer of the first, and none of them is its own.
    ///
    /// **Errors:** as of [`locate`], of the first adapter that has one.
    /// **Panics:** without a name.
    pub(crate) fn with_all(
        self,
        around: &Surroundings,
        names: &[String],
        subject: Subject,
    ) -> Result<(LocatedModel, Vec<LocatedAdapter>), Failure> {
        let mut versions = Vec::with_capacity(names.len());
        for name in names {
            let slot = named_adapters::slot(&self.document, Some(name), subject.clone())?;
            let current = self.current(around, AdapterNeed::Trained, &slot, subject.clone())?;
            versions.push(current.expect("a trained adapter has a version"));
        }
        let is_four_bit = versions
            .iter()
            .any(|version| trained::was_in_four_bits(&version.directory));
        let model = LocatedModel {
            is_four_bit,
            ..self.open(around, Some(&versions[0]))?
        };
        let located = |(name, version): (&String, CurrentVersion)| LocatedAdapter {
            name: name.clone(),
            version: version.number.unwrap_or(0),
            directory: version.directory,
        };
        Ok((model, names.iter().zip(versions).map(located).collect()))
    }
}

fn untrained(path: &Path, name: Option<&str>, subject: Subject) -> Failure {
    let what = match name {
        Some(name) => format!("adapter `{name}` of {} was not trained yet", path.display()),
        None => format!("no adapter was trained yet for {}", path.display()),
    };
    Failure::new(subject, what).hint(format!("dlm train {}", quoted_path(path)))
}

/// Bytes of the weights in memory, as [`load`] keeps them for answers.
pub(crate) fn weights_bytes(around: &Surroundings, located: &LocatedModel, weights: Weights) -> u64 {
    Keeping::new(around, located, weights).bytes
}

/// Bytes that a command takes which loads the weights and reads with them, caches of long answers apart.
pub(crate) fn memory_bytes(around: &Surroundings, located: &LocatedModel, weights: Weights) -> u64 {
    weights_bytes(around, located, weights) + located.base.opened.largest_tensor_bytes() + FIXED_BYTES
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
    let keeping = Keeping::new(around, located, weights);
    check_memory(around, located, keeping.bytes)?;
    let threads = threads.unwrap_or(around.hardware.cpu_cores).max(1) as usize;
    let cpu = Cpu::new(threads, around.hardware.simd);
    let options = CpuOptions {
        precision,
        storage: keeping.storage,
        prepare: keeping.prepare,
    };
    let engine = CpuEngine::load(&cpu, &located.base.opened, &options);
    let engine = engine.map_err(|e| Failure::from(e).under(Subject::Inference))?;
    let adapter = match &located.adapter {
        Some((directory, _)) => {
            let adapter = engine.read_adapter(directory);
            Some(adapter.map_err(|e| Failure::from(e).under(Subject::Inference))?)
        }
        None => None,
    };
    Ok(LoadedModel {
        cpu,
        engine: Box::new(engine),
        adapter,
    })
}
