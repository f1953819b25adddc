//! A model file as data, and the writing of it.
//!
//! Invariants: the plan knows every byte count before a weight is read; writing holds one tensor at a time.

use std::collections::BTreeMap;
use std::path::Path;

use dlm_core::{Cancel, Event, Progress, Quant};
use dlm_kernels::Ctx;
use dlm_model::config::DecoderConfig;
use dlm_model::gguf::Value;
use dlm_model::weights::WeightSource;

use crate::encode::tensor_bytes;
use crate::error::ExportError;
use crate::metadata::{Identity, general, hyperparameters, rope_tensors};
use crate::names::{Place, place, sort_key};
use crate::recipe::{ModelFacts, tensor_type};
use crate::tensor::{Importance, PlannedTensor, Source};
use crate::vocabulary::Vocabulary;
use crate::writer::{GgufWriter, TensorRow, WrittenFile, file_bytes};

/// What a model file is made of. Adapters are merged by handing in a source that merges.
#[derive(Clone, Copy)]
pub struct ModelExport<'a> {
    pub config: &'a DecoderConfig,
    pub weights: &'a dyn WeightSource,
    pub vocabulary: &'a Vocabulary,
    pub chat_template: Option<&'a str>,
    pub identity: &'a Identity,
    pub quant: Quant,
    /// Columns will be weighted by an importance matrix ([`WriteOptions::importance`]); one level spends fewer bits then.
    pub is_weighted: bool,
}

/// A model file that is about to be written.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    pub quant: Quant,
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<PlannedTensor>,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// What other programs do otherwise with such a file.
    pub notes: Vec<String>,
}

/// What accompanies the writing of a model.
#[derive(Clone, Copy)]
pub struct WriteOptions<'a> {
    /// Weights of input columns; a tensor or an expert without is quantized evenly.
    pub importance: Option<&'a Importance>,
    pub progress: &'a dyn Progress,
    pub cancel: &'a Cancel,
}

/// Finds the checkpoint tensors of every tensor of the file, with their shapes.
fn sources(export: &ModelExport<'_>) -> Result<BTreeMap<String, (Source, Vec<usize>)>, ExportError> {
    let mut own = BTreeMap::new();
    let mut stacks: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for name in export.weights.names() {
        match place(export.config, &name)? {
            Place::Implied => {}
            Place::Expert { name: stack, expert } => {
                stacks.entry(stack).or_default().insert(expert, name);
            }
            Place::Own {
                name: file_name,
                change,
            } => {
                let shape = export.weights.tensor(&name)?.shape;
                own.insert(file_name, (Source::Tensor { name, change }, shape));
            }
        }
    }
    let count = export.config.experts.map_or(0, |experts| experts.count);
    for (stack, members) in stacks {
        let complete = members.len() == count && members.keys().copied().eq(0..count);
        let first = members
            .values()
            .next()
            .filter(|_| complete)
            .ok_or_else(|| ExportError::Inexpressible {
                what: format!(
                    "`{stack}` needs experts 0 to {count} (exclusive), the checkpoint has {:?}",
                    members.keys()
                ),
            })?;
        let mut shape = export.weights.tensor(first)?.shape;
        shape.insert(0, count);
        own.insert(stack, (Source::Stack(members.into_values().collect()), shape));
    }
    for (name, values) in rope_tensors(export.config) {
        let shape = vec![values.len()];
        own.insert(name.to_owned(), (Source::Values(values), shape));
    }
    Ok(own)
}

/// Who the model is, with the word in its name by which runtimes know that special tokens take the spaces after them.
fn identity(export: &ModelExport<'_>) -> Identity {
    let mut identity = export.identity.clone();
    let name = identity.name.to_lowercase();
    if export.vocabulary.strips_as_phi3 && !name.contains("phi-3") && !name.contains("phi3") {
        identity.name.push_str(" (Phi-3)");
    }
    identity
}

/// Plans a model file: every tensor with its type, every metadata value, every byte. Touches nothing.
///
/// **Errors:** a tensor without a place, a setting that the format cannot say.
pub fn plan_model(export: &ModelExport<'_>) -> Result<ModelPlan, ExportError> {
    let config = export.config;
    let facts = ModelFacts {
        layers: config.n_layers,
        tied: config.tied,
        experts: config.experts.map_or(0, |experts| experts.count),
        heads_per_kv: config.n_heads / config.n_kv_heads.max(1),
        is_weighted: export.is_weighted,
    };
    let mut tensors: Vec<PlannedTensor> = sources(export)?
        .into_iter()
        .map(|(name, (source, shape))| {
            let ty = tensor_type(export.quant, &name, &shape, &facts);
            PlannedTensor {
                row: TensorRow { name, shape, ty },
                source,
            }
        })
        .collect();
    tensors.sort_by_cached_key(|tensor| sort_key(&tensor.row.name));
    if export.vocabulary.tokens.len() != config.vocab {
        return Err(ExportError::Tokenizer {
            cause: format!(
                "it lists {} tokens for {} embedding rows",
                export.vocabulary.tokens.len(),
                config.vocab
            ),
        });
    }
    let count = |tensor: &PlannedTensor| tensor.row.shape.iter().map(|n| *n as u64).product::<u64>();
    let mut metadata = general(
        config.arch,
        &identity(export),
        export.quant,
        tensors.iter().map(count).sum(),
    );
    let (numbers, mut notes) = hyperparameters(config)?;
    notes.extend(export.vocabulary.notes.iter().cloned());
    metadata.extend(numbers);
    metadata.extend(export.vocabulary.metadata(export.chat_template));
    let rows: Vec<TensorRow> = tensors.iter().map(|tensor| tensor.row.clone()).collect();
    let bytes = file_bytes(&metadata, &rows)?;
    Ok(ModelPlan {
        quant: export.quant,
        metadata,
        tensors,
        bytes,
        notes,
    })
}

/// Writes a planned model.
///
/// **Errors:** an unreadable weight, a value that its type cannot carry, a failed write, a raised `cancel`. A failed
/// export leaves nothing behind and an earlier file as it was.
/// **Cost:** memory of one tensor, as stored and as written.
pub fn write_model(
    ctx: &Ctx,
    plan: &ModelPlan,
    weights: &dyn WeightSource,
    path: &Path,
    options: &WriteOptions<'_>,
) -> Result<WrittenFile, ExportError> {
    let WriteOptions {
        importance,
        progress,
        cancel,
    } = *options;
    let phase = || "export".to_owned();
    let rows: Vec<TensorRow> = plan.tensors.iter().map(|tensor| tensor.row.clone()).collect();
    let mut writer = GgufWriter::create(path, &plan.metadata, &rows)?;
    progress.event(Event::PhaseStarted {
        phase: phase(),
        total: Some(rows.len() as u64),
        unit: "tensors",
    });
    for (done, tensor) in plan.tensors.iter().enumerate() {
        if cancel.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        let columns = importance.and_then(|all| all.get(&tensor.row.name)).map(Vec::as_slice);
        let bytes = tensor_bytes(ctx, tensor, weights, columns)?;
        writer.tensor(&tensor.row.name, &bytes)?;
        weights.release_pages();
        progress.event(Event::PhaseAdvanced {
            phase: phase(),
            done: done as u64 + 1,
        });
    }
    let written = writer.finish()?;
    progress.event(Event::PhaseEnded { phase: phase() });
    Ok(written)
}
