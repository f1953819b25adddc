//! Which adapter is exported: the document's own, a named one, one of a directory, or several as one.
//!
//! Invariant: everything here is decided and refused before a weight is read.
//! **Source:** `spec/export.md` sections 8 and 10.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::digest::sha256_hex;
use dlm_core::training::MixMethod;
use dlm_model::{Adapter, AdapterError, AdapterKind, Engine, PeftFacts, PeftMeta};
use dlm_plan::export::parse_mix;
use dlm_store::Store;
use dlm_store::state::TRAINING_RUN_FILE;
use serde_json::{Value, json};

use super::ExportCommand;
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::gate;
use crate::inference::{self, AdapterNeed, FoundBase, LocatedAdapter, LocatedModel};
use crate::named_adapters;
use crate::surroundings::Surroundings;
use crate::trained;

/// What the records call the weights of a learned gate that were frozen.
pub(super) const GATE_MODE: &str = "static_mean";
/// What targets call several adapters that became one.
pub(super) const MIXED: &str = "mixed";
/// What they call the only adapter.
const ONLY: &str = "default";
/// Largest tensor file that is read.
const TENSORS_BYTES_MAX: u64 = 8 << 30;
/// Longest name that an export gets from its adapters.
const LABEL_LEN_MAX: usize = 60;

/// The adapter of an export; nothing heavy is loaded.
pub(super) struct Chosen {
    pub located: LocatedModel,
    pub mix: Option<Mix>,
    /// What tells its exports from those of other adapters of the document.
    pub label: Option<String>,
    /// It, or one of those that are mixed, was trained on 4-bit weights.
    pub was_trained_quantized: bool,
}

/// Several adapters as one.
pub(super) struct Mix {
    members: Vec<(LocatedAdapter, f64)>,
    method: MixMethod,
    /// The weights are those of the document's gate.
    pub is_gate: bool,
}

/// Finds the adapter that a command asks for.
///
/// **Errors:** a mix of adapters that are not there or cannot be mixed, a record of a training that cannot be read.
pub(super) fn choose(around: &Surroundings, command: &ExportCommand) -> Result<Chosen, Failure> {
    let document = document::load(&command.path)?;
    if let Some(directory) = &command.adapter_directory {
        let located = inference::locate_directory(around, document, directory, Subject::Export)?;
        return Ok(Chosen {
            mix: None,
            label: Some(directory_label(directory)),
            was_trained_quantized: was_trained_quantized(directory)?,
            located,
        });
    }
    if let Some((spec, method)) = &command.mix {
        let declared = named_adapters::declared(&document)
            .ok_or_else(|| named_adapters::none(&document, "--adapter-mix", Subject::Export))?;
        let weights = parse_mix(spec, &declared)?;
        return mixed(around, document, weights, *method, false);
    }
    if command.adapter.is_none()
        && let Some(weights) = gate_weights(around, &document)?
    {
        let shown: Vec<String> = weights.iter().map(|(name, w)| format!("{name} {w:.2}")).collect();
        around.note(format!(
            "the weights of the learned gate are frozen: every question gets {} (give `--adapter` for one of them)",
            shown.join(", ")
        ));
        return mixed(around, document, weights, MixMethod::Linear, true);
    }
    let adapter = command.adapter.as_deref();
    let located = inference::locate_in(around, document, AdapterNeed::Trained, adapter, Subject::Export)?;
    let directory = located.adapter.as_ref().map(|(directory, _)| directory.as_path());
    Ok(Chosen {
        mix: None,
        label: located.adapter_name.clone(),
        was_trained_quantized: directory.map_or(Ok(false), was_trained_quantized)?,
        located,
    })
}

fn mixed(
    around: &Surroundings,
    document: Document,
    weights: Vec<(String, f64)>,
    method: MixMethod,
    is_gate: bool,
) -> Result<Chosen, Failure> {
    let names: Vec<String> = weights.iter().map(|(name, _)| name.clone()).collect();
    let (located, adapters) = FoundBase::new(around, document)?.with_all(around, &names, Subject::Export)?;
    let mut quantized = false;
    for adapter in &adapters {
        let facts = PeftFacts::read(&adapter.directory).map_err(|error| Failure::from(error).under(Subject::Export))?;
        if facts.kind != AdapterKind::Lora {
            let what = format!(
                "adapter `{}` is a DoRA, and only LoRA adapters are mixed in an export",
                adapter.name
            );
            return Err(Failure::new(Subject::Export, what).hint(format!(
                "export it alone: `--adapter {} --merged`; `dlm prompt` mixes it by the gate",
                adapter.name
            )));
        }
        quantized |= was_trained_quantized(&adapter.directory)?;
    }
    let members = adapters.into_iter().zip(weights.iter().map(|(_, weight)| *weight));
    Ok(Chosen {
        label: Some(match is_gate {
            true => "gate".to_owned(),
            false => mix_label(&weights, method),
        }),
        mix: Some(Mix {
            members: members.collect(),
            method,
            is_gate,
        }),
        was_trained_quantized: quantized,
        located,
    })
}

/// Mean weights of the document's gate, where no adapter is named and a gate would decide; in the order of the declaration.
fn gate_weights(around: &Surroundings, document: &Document) -> Result<Option<Vec<(String, f64)>>, Failure> {
    let front = document.parsed.frontmatter();
    let Some(names) = named_adapters::declared(document).filter(|names| names.len() > 1) else {
        return Ok(None);
    };
    if !front.training.gate.enabled {
        return Ok(None);
    }
    let store = around.store(&front.dlm_id);
    let found = FoundBase::new(around, document::load(&document.path)?)?;
    let revision = &found.resolved.record.revision;
    // What is wrong with a gate is a warning, and then there is none: an adapter must be named.
    let uniform = 1.0 / names.len() as f64;
    let weights: Vec<f64> = match gate::decide(around, document, &store, revision, Subject::Export)? {
        gate::Decision::Uniform => vec![uniform; names.len()],
        gate::Decision::Gate(_) => mean_weights(around, &store, &names).unwrap_or_else(|| vec![uniform; names.len()]),
    };
    Ok(Some(names.iter().map(|name| (*name).to_owned()).zip(weights).collect()))
}

/// What the newest gate on record gave each adapter; none without a record.
fn mean_weights(around: &Surroundings, store: &Store, names: &[&str]) -> Option<Vec<f64>> {
    let read = store.metrics_reader().and_then(|reader| match reader {
        Some(reader) => reader.last_gate(),
        None => Ok(None),
    });
    let rows = match read {
        Ok(found) => found?.1,
        Err(error) => {
            around.warn(format!(
                "metrics: the gate's weights cannot be read, and each adapter counts alike: {error}"
            ));
            return None;
        }
    };
    let weight = |name: &&str| {
        let row = rows.iter().find(|row| row.adapter_name == **name);
        row.and_then(|row| row.mean_weight).unwrap_or(0.0)
    };
    Some(names.iter().map(weight).collect())
}

/// Whether an adapter was trained on 4-bit weights, by the record of its training or, without one, by its pins.
///
/// **Errors:** a record that does not say so, which would weaken the rule of merging.
fn was_trained_quantized(directory: &Path) -> Result<bool, Failure> {
    let path = directory.join(TRAINING_RUN_FILE);
    let refuse = |cause: String| {
        let subject = Subject::Runtime("preflight[training_run_json]".to_owned());
        Failure::new(
            subject,
            format!(
                "{}: {cause}; whether the adapter was trained on 4-bit weights decides how it is merged",
                path.display()
            ),
        )
        .hint("put the file back, or train again: a new version has its own")
    };
    let stated = trained::stated_four_bits(directory).map_err(refuse)?;
    Ok(stated.unwrap_or_else(|| trained::pins_four_bits(directory)))
}

/// The last part of a directory's name, in letters that every target takes.
fn directory_label(directory: &Path) -> String {
    let name = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let name = name
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            c
        } else {
            '-'
        }
    };
    let label: String = name.chars().map(plain).collect();
    short(format!("dir-{}", label.trim_matches('-')))
}

fn mix_label(weights: &[(String, f64)], method: MixMethod) -> String {
    let parts: Vec<String> = weights
        .iter()
        .map(|(name, weight)| format!("{name}-{weight}"))
        .collect();
    let method = if method == MixMethod::Svd { "svd-" } else { "" };
    short(format!("mix-{method}{}", parts.join("-")))
}

/// A label that is too long is told by its digest.
fn short(label: String) -> String {
    match label.len() <= LABEL_LEN_MAX {
        true => label,
        false => format!("{}-{}", &label[..3], &sha256_hex(label.as_bytes())[..16]),
    }
}

impl Chosen {
    /// The name by which a target knows the adapter.
    pub(super) fn module(&self) -> &str {
        match (&self.mix, &self.located.adapter_name) {
            (Some(_), _) => MIXED,
            (None, Some(name)) => name,
            (None, None) => ONLY,
        }
    }

    /// Version of the adapter, of a mix the largest; none of one from elsewhere.
    pub(super) fn version(&self) -> Option<u32> {
        match &self.mix {
            Some(mix) => mix.members.iter().map(|(member, _)| member.version).max(),
            None => self.located.version(),
        }
    }

    /// The directory of the one adapter.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.located.adapter.as_ref().map(|(directory, _)| directory.as_path())
    }
}

impl Mix {
    /// Names and weights, for the records.
    pub(super) fn weights(&self) -> Vec<(String, f64)> {
        let members = self.members.iter();
        members.map(|(member, weight)| (member.name.clone(), *weight)).collect()
    }

    /// What is said of it when it is made.
    pub(super) fn note(&self, adapter: &Adapter) -> String {
        let parts: Vec<String> = self
            .members
            .iter()
            .map(|(m, weight)| format!("{} {weight}", m.name))
            .collect();
        let (parts, method, r) = (parts.join(", "), self.method.name(), adapter.spec.r);
        format!("adapters mixed: {parts} ({method}, rank {r})")
    }

    /// Makes the one adapter.
    pub(super) fn make(&self, engine: &dyn Engine) -> Result<Adapter, Failure> {
        let failed = |error: AdapterError| Failure::from(error).under(Subject::Export);
        let members = self.members.iter();
        let read: Vec<Adapter> = members
            .map(|(member, _)| engine.read_adapter(&member.directory))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let weights = self.members.iter().map(|(_, weight)| *weight as f32);
        let parts: Vec<(&Adapter, f32)> = read.iter().zip(weights).collect();
        engine.mix(&parts, self.method).map_err(failed)
    }

    /// Files as those of the one adapter will be, but for modules and tensors, which are the first member's: what a target is asked
    /// about before a weight is read.
    pub(super) fn draft(&self) -> Result<[(&'static str, Vec<u8>); 2], Failure> {
        let mut ranks = Vec::new();
        for (member, _) in &self.members {
            let facts =
                PeftFacts::read(&member.directory).map_err(|error| Failure::from(error).under(Subject::Export))?;
            ranks.push(facts.r);
        }
        let r: usize = match self.method {
            MixMethod::Linear => ranks.iter().sum(),
            MixMethod::Svd => ranks.iter().copied().max().unwrap_or(1),
        };
        let [settings, tensors] = PEFT_FILES;
        let read = |name: &str| dlm_files::read_required(&self.members[0].0.directory.join(name), TENSORS_BYTES_MAX);
        let mut value: Value =
            serde_json::from_slice(&read(settings)?).map_err(|error| Failure::new(Subject::Export, error))?;
        for (key, number) in [("r", r), ("lora_alpha", r)] {
            value[key] = json!(number);
        }
        let bytes = serde_json::to_vec(&value).expect("plain data");
        Ok([(settings, bytes), (tensors, read(tensors)?)])
    }
}

/// The two files of a mixed adapter, in PEFT's form.
pub(super) fn peft_files(located: &LocatedModel, adapter: &Adapter) -> [(&'static str, Vec<u8>); 2] {
    let record = &located.base.resolved.record;
    adapter.peft_files(&PeftMeta {
        base: record.hf_id.clone(),
        revision: Some(record.revision.clone()),
    })
}

/// The two files of an adapter in a directory of PEFT's.
pub(super) const PEFT_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The files of a mix, apart from the export that is being made until a target places them.
pub(super) fn write_aside(
    around: &Surroundings,
    directory: &Path,
    files: [(&'static str, Vec<u8>); 2],
) -> Result<PathBuf, Failure> {
    let (disk, aside) = (around.private_disk(), aside(directory));
    disk.create_directories(&aside)?;
    for (name, bytes) in files {
        disk.write(&aside.join(name), &bytes)?;
    }
    Ok(aside)
}

/// Removes them again.
pub(super) fn remove_aside(around: &Surroundings, directory: &Path) -> Result<(), Failure> {
    Ok(around.private_disk().remove_tree(&aside(directory))?)
}

fn aside(directory: &Path) -> PathBuf {
    directory.join(".mixed")
}
