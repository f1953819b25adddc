//! Writes the model files of an export, checks them, and describes them to a target.

use std::path::{Path, PathBuf};

use dlm_core::base::{LocalBaseFormat, TemplateDialect};
use dlm_core::ports::target::{
    Artifact, ArtifactKind, ExportTarget, Stage, TargetAdapter, TargetBase, TargetChat, TargetPlan, TargetProbe,
};
use dlm_core::units::size;
use dlm_core::{Quant, Subject};
use dlm_export::{
    AdapterExport, AdapterModule, AdapterPlan, Identity, Imatrix, ModelExport, ModelPlan, VerifyAgainst, Vocabulary,
    WriteOptions, compare_logits, plan_adapter, plan_model, verify_model, write_adapter, write_model,
};
use dlm_model::base::open_base;
use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::generate::{GenerateOptions, Sequence, generate};
use dlm_model::sampling::Sampling;
use dlm_model::weights::WeightSource;
use dlm_model::{Adapter, Batch, CpuEngine, CpuOptions, Engine, EngineError, MergedSource, ReaderOptions};
use dlm_plan::ExportPlan;
use dlm_plan::base::registry::DEFAULT_HUB_ROOT;
use dlm_plan::base::{BaseLocation, ResolvedBase};
use dlm_plan::export::ImatrixChoice;
use dlm_store::integrity::EXPORT_MANIFEST_FILE;
use dlm_train::rows::question_messages;

use super::place::Place;
use super::{ExportedFile, ModelCheck, imatrix, ollama};
use crate::failure::Failure;
use crate::inference::{LoadedModel, LocatedModel};
use crate::surroundings::Surroundings;

/// Tokens of the text on which written and loaded model are compared.
const CHECK_TEXT: &str = "The quick brown fox jumps over the lazy dog, and in 1969 two people walked on the Moon.";
/// Tokens of the answer that the smoke test compares.
const PROBE_TOKENS: u32 = 24;
/// The adapter, beside a model that it is not merged into.
const ADAPTER_FILE: &str = "adapter.gguf";
/// What the smoke test asks when the document has no question of its own.
const PROBE_QUESTION: &str = "What is the capital of Japan?";

/// The files that were made, and what their check found.
pub(super) struct WrittenArtifacts {
    pub artifacts: Vec<Artifact>,
    pub verified: Vec<ModelCheck>,
    pub notes: Vec<String>,
    /// What lies beside them and is none of the target's business.
    pub beside: Vec<ExportedFile>,
    pub imatrix_sha256: Option<String>,
}

/// Writes base and adapter, or the merged model, into `directory`.
pub(super) fn artifacts(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    plan: &ExportPlan,
    importance: Option<&Imatrix>,
    directory: &Path,
) -> Result<WrittenArtifacts, Failure> {
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
        importance,
        quant: plan.quant.value,
    };
    let (verified, notes) = model_file(around, located, loaded, &job, &path)?;
    let mut artifacts = vec![artifact(&name, ArtifactKind::Gguf, &path)?];
    if let Some(adapter_plan) = adapter_plan {
        let path = directory.join(ADAPTER_FILE);
        write_adapter(&adapter_plan, &path)?;
        artifacts.push(artifact(ADAPTER_FILE, ArtifactKind::Adapter, &path)?);
    }
    Ok(WrittenArtifacts {
        artifacts,
        verified: vec![verified],
        notes,
        beside: Vec::new(),
        imatrix_sha256: None,
    })
}

/// Describes a model file that is to be written: what cannot be written is refused here, without a weight.
fn plan_file<'a>(
    located: &'a LocatedModel,
    weights: &'a dyn WeightSource,
    vocabulary: &Vocabulary,
    (quant, is_merged): (Quant, bool),
) -> Result<ModelPlan, Failure> {
    Ok(plan_model(&ModelExport {
        config: located.base.opened.config(),
        weights,
        vocabulary,
        chat_template: located.text.template.as_ref().map(|t| t.source()),
        identity: &identity(located, is_merged),
        quant,
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

/// Writes one model file and checks it.
fn model_file(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    job: &ModelJob<'_>,
    path: &Path,
) -> Result<(ModelCheck, Vec<String>), Failure> {
    let weights = job.weights;
    let plan = plan_file(
        located,
        weights,
        &vocabulary(located)?,
        (job.quant, job.adapter.is_some()),
    )?;
    let importance = job.importance.map(|matrix| matrix.importance(&plan)).transpose()?;
    let options = WriteOptions {
        importance: importance.as_ref(),
        progress: &*around.progress,
        cancel: &around.cancel,
    };
    write_model(loaded.cpu.ctx(), &plan, weights, path, &options)?;
    let checked = check_file(around, located, loaded, &plan, weights, job.adapter, path)?;
    Ok((checked, plan.notes))
}

/// Refuses, before a weight is read, what can be refused without: what the model file cannot hold, what its disk has no room
/// for, and what the target says to a draft of the export.
pub(super) fn judge(
    around: &Surroundings,
    located: &LocatedModel,
    plan: &ExportPlan,
    target: &mut dyn ExportTarget,
    place: &Place,
    directory: &Path,
) -> Result<(), Failure> {
    let quant = plan.quant.value;
    // A merged model has the tensors of its base.
    let model = plan_file(
        located,
        located.base.opened.weights(),
        &vocabulary(located)?,
        (quant, plan.merged.value),
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
        ..unquantized_plan(around, located, plan, name)
    };
    target.prepare(&target_plan, &stage)?;
    Ok(())
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
        keep_quantized: true,
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
        Quant::Q4_K_M => "free some space, or keep the stores elsewhere: `DLM_HOME=<dir>`",
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

pub(super) fn artifact(name: &str, kind: ArtifactKind, path: &PathBuf) -> Result<Artifact, Failure> {
    let fail =
        |e: std::io::Error| Failure::new(Subject::Export, format!("{} cannot be read back: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(fail)?;
    let (sha256, size) = dlm_files::digest::sha256_of(file).map_err(fail)?;
    Ok(Artifact {
        name: artifact_name(name),
        kind,
        path: path.clone(),
        size,
        sha256,
        staged_path: Some(name.to_owned()),
    })
}

/// Targets know artefacts by fixed names; the file on disk says its type too.
fn artifact_name(name: &str) -> String {
    match name.split('.').next() {
        Some("base") => "base.gguf".to_owned(),
        Some("merged") => "merged.gguf".to_owned(),
        _ => name.to_owned(),
    }
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

/// Describes the export to its target, with a question whose greedy answer is known.
pub(super) fn target_plan(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    plan: &ExportPlan,
    made: &WrittenArtifacts,
) -> Result<TargetPlan, Failure> {
    let artifact = made.artifacts.last().map(|a| a.name.clone()).unwrap_or_default();
    let probe = probe(around, located, loaded, plan)?;
    Ok(TargetPlan {
        quant: plan.quant.value.name().to_owned(),
        is_merged: plan.merged.value,
        probe: Some(probe),
        ..unquantized_plan(around, located, plan, artifact)
    })
}

/// What the description says whatever the form of the weights.
pub(super) fn unquantized_plan(
    around: &Surroundings,
    located: &LocatedModel,
    plan: &ExportPlan,
    artifact: String,
) -> TargetPlan {
    let front = located.document.parsed.frontmatter();
    let record = &located.base.resolved.record;
    let version = located.adapter.as_ref().map_or(0, |(_, version)| *version);
    let (hub_id, revision) = own_place(&located.base.resolved);
    let (temperature, top_p) = sampling(located);
    TargetPlan {
        name: plan
            .ollama_name
            .clone()
            .unwrap_or_else(|| format!("dlm-{}", front.dlm_id.as_str().to_lowercase())),
        document_id: front.dlm_id.as_str().to_owned(),
        source: located
            .document
            .path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned()),
        base: TargetBase {
            reference: record.key.clone(),
            hub_id,
            revision,
            architecture: record.architecture.clone(),
            layers: located.base.facts.shape.n_layers,
            context_length: record.context_usable(),
            license: Some(record.license_spdx.clone()),
        },
        adapters: vec![TargetAdapter {
            name: "default".to_owned(),
            version,
            artifact,
            weight: 1.0,
        }],
        quant: "none".to_owned(),
        is_merged: false,
        context_length: front.training.sequence_len.min(record.context_usable()),
        chat: chat(located, plan),
        system_prompt: front.system().map(str::to_owned),
        temperature: Some(temperature),
        top_p: Some(top_p),
        draft: None,
        platform: around.hardware.platform.replace('-', "/"),
        options: ollama::derive(&located.text)
            .map(|template| (ollama::TEMPLATE_OPTION.to_owned(), template))
            .into_iter()
            .collect(),
        probe: None,
    }
}

/// What samples of the exported model start from: the document's word, else what the base was made for.
///
/// **Source:** `spec/export.md` section 12.
fn sampling(located: &LocatedModel) -> (f32, f32) {
    let export = &located.document.parsed.frontmatter().export;
    let record = &located.base.resolved.record;
    let temperature = if record.reasoning_tuned { 0.6 } else { 0.7 };
    let top_p = match record.template {
        TemplateDialect::Qwen3Thinking | TemplateDialect::SmolLm3 => 0.95,
        _ => 0.9,
    };
    (
        export.default_temperature.map_or(temperature, |value| value as f32),
        export.default_top_p.map_or(top_p, |value| value as f32),
    )
}

/// Where a runtime finds the base by itself: its name and commit on the hub, or the directory of a local one. A local GGUF file
/// has neither, for those runtimes read safetensors.
fn own_place(base: &ResolvedBase) -> (Option<String>, Option<String>) {
    match &base.location {
        BaseLocation::Hub { hf_id, revision } => (Some(hf_id.clone()), Some(revision.clone())),
        BaseLocation::Local(local) => {
            let is_directory = local.format == LocalBaseFormat::Safetensors;
            (is_directory.then(|| local.location.clone()), None)
        }
    }
}

fn chat(located: &LocatedModel, plan: &ExportPlan) -> Option<TargetChat> {
    let template = located.text.template.as_ref()?;
    let token = |id: &u32| located.text.tokenizer.token(*id);
    let mut stop: Vec<String> = located.text.stops.ids.iter().filter_map(token).collect();
    stop.extend(located.text.stops.texts.iter().cloned());
    Some(TargetChat {
        template: template.source().to_owned(),
        family: located.text.dialect().map(|d| d.name().to_owned()),
        default_system: default_system(located),
        preamble: None,
        stop,
        is_written: plan.include_template.value,
    })
}

/// What the template says as system text by itself: what it renders between the system turn's frame and its end.
fn default_system(located: &LocatedModel) -> Option<String> {
    let marker = "\u{1}dlm\u{1}";
    let plain = located
        .text
        .render(
            &question_messages(None, "q"),
            dlm_model::chat::Ending::Complete,
            Thinking::default(),
        )
        .ok()?;
    let framed = located
        .text
        .render(
            &question_messages(Some(marker), "q"),
            dlm_model::chat::Ending::Complete,
            Thinking::default(),
        )
        .ok()?;
    let (head, tail) = framed.split_once(marker)?;
    let inner = plain.strip_prefix(head)?.strip_suffix(tail)?;
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// The document's first question with the model's own greedy answer.
fn probe(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    plan: &ExportPlan,
) -> Result<TargetProbe, Failure> {
    let front = located.document.parsed.frontmatter();
    let first = located
        .document
        .parsed
        .sections()
        .iter()
        .find_map(|s| match dlm_doc::rows(s) {
            Ok(dlm_doc::Rows::Pairs(pairs)) => pairs.into_iter().next().map(|p| p.question),
            _ => None,
        });
    let user = first.unwrap_or_else(|| PROBE_QUESTION.to_owned());
    let messages = question_messages(front.system(), &user);
    let ids = located.text.prompt_ids(&messages, Thinking::default())?;
    let reader = loaded.engine.reader(loaded.adapter.as_ref(), ReaderOptions::default());
    let mut reader = reader.map_err(failed)?;
    let mut sequence = Sequence::open(&mut *reader, ids.len() + PROBE_TOKENS as usize).map_err(failed)?;
    let options = GenerateOptions {
        sampling: Sampling::greedy(),
        tokens_max: PROBE_TOKENS as usize,
        stops: located.text.stops.clone(),
        cancel: around.cancel.clone(),
    };
    let answer = generate(&mut sequence, &located.text.tokenizer, &ids, &options, |_| {})
        .map_err(|e| Failure::new(Subject::Export, e))?;
    Ok(TargetProbe {
        system: front.system().map(str::to_owned),
        user,
        answer: answer.text,
        prompt_tokens: ids,
        new_tokens_max: PROBE_TOKENS,
        is_exact: plan.quant.value == Quant::F16,
    })
}
