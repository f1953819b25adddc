//! Writes the model files of an export, checks them, and describes them to a target.

use std::path::Path;

use dlm_core::ports::target::{Artifact, ArtifactKind, ExportTarget, PreparedTarget, Stage, TargetPlan};
use dlm_core::units::size;
use dlm_core::{Quant, Subject};
use dlm_export::{
    AdapterExport, AdapterModule, AdapterPlan, Identity, Imatrix, ModelExport, ModelPlan, VerifyAgainst, Vocabulary,
    WriteOptions, compare_logits, plan_adapter, plan_model, verify_model, write_adapter, write_model,
};
use dlm_model::base::open_base;
use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::weights::WeightSource;
use dlm_model::{
    Adapter, Batch, CpuEngine, CpuOptions, Engine, EngineError, MergedSource, ReaderOptions, WeightStorage,
};
use dlm_plan::ExportPlan;
use dlm_plan::base::BaseLocation;
use dlm_plan::base::registry::DEFAULT_HUB_ROOT;
use dlm_plan::export::ImatrixChoice;
use dlm_store::integrity::EXPORT_MANIFEST_FILE;

use super::artifact::{WrittenArtifacts, artifact, artifact_name};
use super::chosen::Chosen;
use super::imatrix::Calibration;
use super::place::Place;
use super::reuse::{self, MadeOf};
use super::{ModelCheck, PlannedFile, describe, imatrix};
use crate::failure::Failure;
use crate::inference::{LoadedModel, LocatedModel};
use crate::surroundings::Surroundings;

/// Tokens of the text on which written and loaded model are compared.
const CHECK_TEXT: &str = "The quick brown fox jumps over the lazy dog, and in 1969 two people walked on the Moon.";
/// The adapter, beside a model that it is not merged into.
const ADAPTER_FILE: &str = "adapter.gguf";

/// Writes base and adapter, or the merged model, into `directory`.
pub(super) fn artifacts(
    around: &Surroundings,
    chosen: &Chosen,
    loaded: &LoadedModel,
    plan: &ExportPlan,
    calibration: Option<&Calibration>,
    (place, directory): (&Place, &Path),
) -> Result<WrittenArtifacts, Failure> {
    let located = &chosen.located;
    let adapter = loaded
        .adapter
        .as_ref()
        .ok_or_else(|| Failure::new(Subject::Export, "there is no adapter to export"))?;
    let opened = &located.base.opened;
    let merged = MergedSource::new(opened.weights(), adapter);
    let weights: &dyn WeightSource = match plan.merged.value {
        true => &merged,
        false => opened.weights(),
    };
    // What cannot be written as an adapter is refused before the model is.
    let adapter_plan = match plan.merged.value {
        true => None,
        false => Some(adapter_file(located, adapter)?),
    };
    let name = model_name(plan);
    let path = directory.join(&name);
    let job = ModelJob {
        weights,
        adapter: plan.merged.value.then_some(adapter),
        importance: calibration.map(|c| &c.matrix),
        quant: plan.quant.value,
    };
    let made_of = MadeOf {
        base_revision: &located.base.resolved.record.revision,
        imatrix_sha256: calibration.map(|c| c.sha256.as_str()),
    };
    let model = planned_file(located, &job)?;
    let disk = around.private_disk();
    let is_base_cached = !plan.merged.value
        && place
            .alike(plan.quant.value)
            .iter()
            .any(|before| reuse::take(&disk, (before, &name), &path, &model, &made_of));
    let mut verified = Vec::new();
    if !is_base_cached {
        verified.push(model_file(around, located, loaded, &job, (&model, &path))?);
    }
    let mut artifacts = vec![artifact(&name, ArtifactKind::Gguf, &path)?];
    if let Some(adapter_plan) = adapter_plan {
        let path = directory.join(ADAPTER_FILE);
        write_adapter(&adapter_plan, &path)?;
        artifacts.push(artifact(ADAPTER_FILE, ArtifactKind::Adapter, &path)?);
    }
    Ok(WrittenArtifacts {
        artifacts,
        verified,
        notes: model.notes.into_iter().chain(merge_notes(chosen, plan)).collect(),
        beside: Vec::new(),
        imatrix_sha256: None,
        is_base_cached,
    })
}

/// What is said of merged weights.
fn merge_notes(chosen: &Chosen, plan: &ExportPlan) -> Vec<String> {
    let mut notes = Vec::new();
    if let (true, Some(storage)) = (plan.merged.value, quantized_storage(&chosen.located)) {
        notes.push(format!(
            "the base is stored as {storage} alone, so the adapter is merged into what that decodes to"
        ));
    }
    notes
}

/// The type that most of a base's weights are stored in, where that is no float.
fn quantized_storage(located: &LocatedModel) -> Option<String> {
    let storage = located.base.opened.facts().storage.to_string();
    (!["F32", "F16", "BF16"].contains(&storage.as_str())).then_some(storage)
}

/// Describes a model file that is to be written: what cannot be written is refused here, without a weight.
fn plan_file<'a>(
    located: &'a LocatedModel,
    weights: &'a dyn WeightSource,
    vocabulary: &Vocabulary,
    (quant, is_weighted, is_merged): (Quant, bool, bool),
) -> Result<ModelPlan, Failure> {
    Ok(plan_model(&ModelExport {
        config: located.base.opened.config(),
        weights,
        vocabulary,
        chat_template: located.text.template.as_ref().map(|t| t.source()),
        identity: &identity(located, is_merged),
        quant,
        is_weighted,
    })?)
}

fn vocabulary(located: &LocatedModel) -> Result<Vocabulary, Failure> {
    let mut vocabulary = Vocabulary::new(&located.text.tokenizer, located.base.opened.config().vocab)?;
    vocabulary.eot = located.text.end_of_turn.filter(|id| Some(*id) != vocabulary.eos);
    if vocabulary.add_bos && begins_without_bos(located) {
        // A runtime would put it before what the template renders; in training nothing stood there.
        vocabulary.add_bos = false;
        let note = "conversations of this base begin without its BOS token, so the file asks for none; plain text without the template has none either";
        vocabulary.notes.push(note.to_owned());
    }
    Ok(vocabulary)
}

/// Says so where a server would read a special token in the system prompt, which is text here.
pub(super) fn warn_of_markup(around: &Surroundings, located: &LocatedModel) {
    let Some(system) = located.document.parsed.frontmatter().system() else {
        return;
    };
    // What has no special token comes back as it is.
    let is_marked = located.text.tokenizer.literal(system).is_ok_and(|text| text != system);
    if is_marked {
        around.warn(
            "the system prompt holds the text of a special token; dlm reads it as text, and a server reads the token: write it differently",
        );
    }
}

/// Says whether what the chat template renders has no BOS token in front.
fn begins_without_bos(located: &LocatedModel) -> bool {
    let question = [Message::user("Who?")];
    let ids = located
        .text
        .conversation_ids(&question, Ending::GenerationPrompt, Thinking::default());
    ids.is_ok_and(|ids| ids.first().copied() != located.text.tokenizer.specials.bos)
}

/// A model file to be written.
struct ModelJob<'a> {
    weights: &'a dyn WeightSource,
    /// What is merged into the weights.
    adapter: Option<&'a Adapter>,
    importance: Option<&'a Imatrix>,
    quant: Quant,
}

fn planned_file(located: &LocatedModel, job: &ModelJob<'_>) -> Result<ModelPlan, Failure> {
    let (is_weighted, is_merged) = (job.importance.is_some(), job.adapter.is_some());
    plan_file(
        located,
        job.weights,
        &vocabulary(located)?,
        (job.quant, is_weighted, is_merged),
    )
}

fn write_job(
    around: &Surroundings,
    loaded: &LoadedModel,
    job: &ModelJob<'_>,
    (plan, path): (&ModelPlan, &Path),
) -> Result<(), Failure> {
    let weights = job.weights;
    let importance = job.importance.map(|matrix| matrix.importance(plan)).transpose()?;
    let options = WriteOptions {
        importance: importance.as_ref(),
        progress: &*around.progress,
        cancel: &around.cancel,
    };
    write_model(loaded.cpu.ctx(), plan, weights, path, &options)?;
    Ok(())
}

/// Writes the base alone at a level, unchecked: what is measured with it is its check.
pub(super) fn bare(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    quant: Quant,
    calibration: Option<&Calibration>,
    path: &Path,
) -> Result<(), Failure> {
    let job = ModelJob {
        weights: located.base.opened.weights(),
        adapter: None,
        importance: calibration.map(|c| &c.matrix),
        quant,
    };
    write_job(around, loaded, &job, (&planned_file(located, &job)?, path))
}

/// Writes one model file and checks it.
fn model_file(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    job: &ModelJob<'_>,
    (plan, path): (&ModelPlan, &Path),
) -> Result<ModelCheck, Failure> {
    write_job(around, loaded, job, (plan, path))?;
    check_file(around, located, loaded, plan, job.weights, job.adapter, path)
}

/// Refuses, before a weight is read, what can be refused without: what the model file cannot hold, what its disk has no room
/// for, and what the target says to a draft of the export.
pub(super) fn judge(
    around: &Surroundings,
    chosen: &Chosen,
    plan: &ExportPlan,
    target: &mut dyn ExportTarget,
    place: &Place,
    directory: &Path,
) -> Result<Vec<PlannedFile>, Failure> {
    let located = &chosen.located;
    let quant = plan.quant.value;
    // A merged model has the tensors of its base.
    let model = plan_file(
        located,
        located.base.opened.weights(),
        &vocabulary(located)?,
        (quant, plan.imatrix.value != ImatrixChoice::Off, plan.merged.value),
    )?;
    check_space(place.directory(), model.bytes, quant)?;
    if let ImatrixChoice::File(path) = &plan.imatrix.value {
        imatrix::given(Path::new(path))?.matrix.importance(&model)?;
    }
    let drafted = |name: String, kind, size| Artifact {
        path: directory.join(&name),
        staged_path: Some(name.clone()),
        name: artifact_name(&name),
        kind,
        size,
        sha256: String::new(),
    };
    let mut artifacts = vec![drafted(model_name(plan), ArtifactKind::Gguf, model.bytes)];
    if !plan.merged.value {
        artifacts.push(drafted(ADAPTER_FILE.to_owned(), ArtifactKind::Adapter, 0));
    }
    let name = artifacts.last().map(|a| a.name.clone()).unwrap_or_default();
    let stage = Stage {
        directory: directory.to_path_buf(),
        artifacts,
        reserved: vec![EXPORT_MANIFEST_FILE.to_owned()],
        is_draft: true,
    };
    let target_plan = TargetPlan {
        quant: quant.name().to_owned(),
        is_merged: plan.merged.value,
        ..describe::unquantized_plan(around, chosen, plan, name)
    };
    let prepared = target.prepare(&target_plan, &stage)?;
    let beside = match plan.imatrix.value {
        ImatrixChoice::Own => &imatrix::FILES[..],
        ImatrixChoice::Off | ImatrixChoice::File(_) => &[],
    };
    Ok(planned_files(&stage, beside, &prepared))
}

/// The files of a draft: those that were handed to the target, what lies beside them, and its own.
pub(super) fn planned_files(stage: &Stage, beside: &[&str], prepared: &PreparedTarget) -> Vec<PlannedFile> {
    let own = stage.artifacts.iter().map(|artifact| PlannedFile {
        name: artifact.staged_path.clone().unwrap_or_else(|| artifact.name.clone()),
        bytes: (artifact.size > 0).then_some(artifact.size),
    });
    let beside = beside.iter().map(|name| PlannedFile {
        name: (*name).to_owned(),
        bytes: None,
    });
    let theirs = prepared.files.iter().map(|file| PlannedFile {
        name: file.name.clone(),
        bytes: None,
    });
    let mut files: Vec<PlannedFile> = own.chain(beside).collect();
    // A target that places what it was handed lists it among its own.
    files.extend(theirs.filter(|file| stage.artifacts.iter().all(|artifact| artifact.name != file.name)));
    files
}

/// The name of the model file.
fn model_name(plan: &ExportPlan) -> String {
    let kind = if plan.merged.value { "merged" } else { "base" };
    format!("{kind}.{}.gguf", plan.quant.value.name())
}

/// Reads a written model back and compares it with the model in memory.
fn check_file(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    plan: &ModelPlan,
    weights: &dyn WeightSource,
    adapter: Option<&Adapter>,
    path: &Path,
) -> Result<ModelCheck, Failure> {
    let (config, quant) = (located.base.opened.config(), plan.quant);
    // The file lies aside still, and where that is says nothing to a person.
    let shown = path.file_name().unwrap_or_default().to_string_lossy();
    around.note(format!("checking {shown}"));
    let report = verify_model(
        loaded.cpu.ctx(),
        path,
        plan,
        &VerifyAgainst {
            config,
            weights,
            tokenizer: Some(&located.text.tokenizer),
        },
    )?;
    let expected = check_logits(&*loaded.engine, adapter, located)?;
    // Decoded on the way, which changes no bit: the file is held as it is beside the model that it was made from.
    let options = CpuOptions {
        storage: WeightStorage::AsStored,
        ..CpuOptions::EXACT
    };
    let written = CpuEngine::load(&loaded.cpu, &open_base(path)?, &options)
        .map_err(|e| Failure::from(e).under(Subject::Export))?;
    let found = check_logits(&written, None, located)?;
    let logits = compare_logits(quant, &expected, &found, config.vocab);
    if !logits.is_within() {
        return Err(Failure::new(
            Subject::Export,
            format!(
                "{shown} does not say what the model in memory says: mean divergence {:.2e}, the bound of {} is {:.0e}",
                logits.kl_mean,
                quant.name(),
                logits.kl_bound
            ),
        )
        .hint(match quant {
            Quant::F16 => "choose another base: this one does not survive half floats",
            Quant::Q8_0 => "export with a wider type: `--quant F16`",
            _ => "export with a wider type, such as `--quant Q8_0`",
        }));
    }
    Ok(ModelCheck {
        file: shown.into_owned(),
        tensors: report.tensors,
        metadata_keys: report.metadata_keys,
        tokens_equal: report.tokens_equal,
        errors: report
            .errors
            .iter()
            .map(|e| (e.ty.name().to_owned(), e.relative, e.bound))
            .collect(),
        logits_kl: logits.kl_mean,
        logits_kl_bound: logits.kl_bound,
        argmax_equal: logits.argmax_equal,
        positions: logits.rows,
    })
}

/// Refuses a file that its disk has no room for; an earlier export stays until the new one is whole.
fn check_space(path: &Path, bytes: u64, quant: Quant) -> Result<(), Failure> {
    let Some(free) = path.parent().and_then(dlm_files::free_bytes) else {
        return Ok(());
    };
    if bytes <= free {
        return Ok(());
    }
    Err(Failure::new(
        Subject::Disk,
        format!(
            "{} needs {} and its disk has {} free",
            path.display(),
            size(bytes),
            size(free)
        ),
    )
    .hint(match quant {
        Quant::Q4_K_M | Quant::IQ4_XS | Quant::Q3_K_M => {
            "free some space, or keep the stores elsewhere: `DLM_HOME=<dir>`"
        }
        _ => {
            "free some space, export a smaller type (`--quant Q4_K_M`), or keep the stores elsewhere: `DLM_HOME=<dir>`"
        }
    }))
}

/// Logits at every position of the check text.
fn check_logits(engine: &dyn Engine, adapter: Option<&Adapter>, located: &LocatedModel) -> Result<Vec<f32>, Failure> {
    let ids = located
        .text
        .tokenizer
        .encode(CHECK_TEXT)
        .map_err(|e| Failure::new(Subject::Export, e))?;
    let rows: Vec<usize> = (0..ids.len()).collect();
    let mut reader = engine.reader(adapter, ReaderOptions::default()).map_err(failed)?;
    reader.logits(&Batch::packed(&[ids]), &rows).map_err(failed)
}

fn failed(error: EngineError) -> Failure {
    Failure::new(Subject::Export, error)
}

fn adapter_file(located: &LocatedModel, adapter: &Adapter) -> Result<AdapterPlan, Failure> {
    let modules = AdapterModule::of(adapter);
    let identity = identity(located, true);
    plan_adapter(&AdapterExport {
        config: located.base.opened.config(),
        modules: &modules,
        identity: &identity,
    })
    .map_err(|e| Failure::new(Subject::Export, e).hint("export with `--merged`"))
}

/// What the file says of its origin in keys of our own; only one that holds the adapter names its version, so that the base's
/// file stays the same from version to version.
///
/// **Source:** `spec/export.md` section 6.
fn provenance(located: &LocatedModel, has_adapter: bool) -> Vec<(String, String)> {
    let id = located.document.parsed.frontmatter().dlm_id.as_str().to_owned();
    let version = located.adapter.as_ref().filter(|_| has_adapter);
    let version = version.map(|(_, version)| version.to_string());
    let entries = [
        ("dlm.id", Some(id)),
        ("dlm.base_revision", Some(located.base.resolved.record.revision.clone())),
        ("dlm.adapter_version", version),
        ("dlm.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
    ];
    let said = entries
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)));
    said.collect()
}

fn identity(located: &LocatedModel, has_adapter: bool) -> Identity {
    let record = &located.base.resolved.record;
    // A local base has no address on the web.
    let address = match &located.base.resolved.location {
        BaseLocation::Hub { hf_id, .. } => Some(format!("{DEFAULT_HUB_ROOT}/{hf_id}")),
        BaseLocation::Local(_) => None,
    };
    Identity {
        name: document_name(&located.document.path),
        basename: Some(record.key.clone()),
        size_label: None,
        license: Some(record.license_spdx.clone()),
        base_model: Some((record.key.clone(), address)),
        provenance: provenance(located, has_adapter),
    }
}

fn document_name(path: &Path) -> String {
    path.file_stem()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_else(|| "model".to_owned())
}

/// The directory and files that the target works with.
pub(super) fn stage(directory: &Path, made: &WrittenArtifacts) -> Stage {
    Stage {
        directory: directory.to_path_buf(),
        artifacts: made.artifacts.clone(),
        reserved: vec![EXPORT_MANIFEST_FILE.to_owned()],
        is_draft: false,
    }
}
