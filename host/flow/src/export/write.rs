//! Writes the model files of an export, checks them, and describes them to a target.

use std::path::{Path, PathBuf};

use dlm_core::base::{LocalBaseFormat, TemplateDialect};
use dlm_core::ports::target::{
    Artifact, ArtifactKind, Stage, TargetAdapter, TargetBase, TargetChat, TargetPlan, TargetProbe,
};
use dlm_core::units::size;
use dlm_core::{Quant, Subject};
use dlm_export::{
    AdapterExport, AdapterModule, Identity, ModelExport, ModelPlan, VerifyAgainst, Vocabulary, WriteOptions,
    compare_logits, plan_adapter, plan_model, verify_model, write_adapter, write_model,
};
use dlm_model::base::open_base;
use dlm_model::chat::Thinking;
use dlm_model::generate::{GenerateOptions, Sequence, generate};
use dlm_model::sampling::Sampling;
use dlm_model::weights::WeightSource;
use dlm_model::{Adapter, Batch, CpuEngine, CpuOptions, Engine, EngineError, MergedSource, ReaderOptions};
use dlm_plan::ExportPlan;
use dlm_plan::base::registry::DEFAULT_HUB_ROOT;
use dlm_plan::base::{BaseLocation, ResolvedBase};
use dlm_train::rows::question_messages;

use super::record::MANIFEST_FILE;
use super::{ModelCheck, ollama};
use crate::failure::Failure;
use crate::inference::{LoadedModel, LocatedModel};
use crate::surroundings::Surroundings;

/// Tokens of the text on which written and loaded model are compared.
const CHECK_TEXT: &str = "The quick brown fox jumps over the lazy dog, and in 1969 two people walked on the Moon.";
/// Tokens of the answer that the smoke test compares.
const PROBE_TOKENS: u32 = 24;
/// What the smoke test asks when the document has no question of its own.
const PROBE_QUESTION: &str = "What is the capital of Japan?";

/// The files that were made, and what their check found.
pub(super) struct WrittenArtifacts {
    pub artifacts: Vec<Artifact>,
    pub verified: Vec<ModelCheck>,
    pub notes: Vec<String>,
}

/// Writes base and adapter, or the merged model, into `directory`.
pub(super) fn artifacts(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    plan: &ExportPlan,
    quant: Quant,
    directory: &Path,
) -> Result<WrittenArtifacts, Failure> {
    let adapter = loaded
        .adapter
        .as_ref()
        .ok_or_else(|| Failure::new(Subject::Export, "there is no adapter to export"))?;
    let opened = &located.base.opened;
    let merged = MergedSource::new(opened.weights(), adapter);
    let (name, weights): (String, &dyn WeightSource) = match plan.merged.value {
        true => (format!("merged.{}.gguf", quant.name()), &merged),
        false => (format!("base.{}.gguf", quant.name()), opened.weights()),
    };
    let path = directory.join(&name);
    let in_memory = plan.merged.value.then_some(adapter);
    let (verified, notes) = model_file(around, located, loaded, weights, in_memory, quant, &path)?;
    let mut artifacts = vec![artifact(&name, ArtifactKind::Gguf, &path)?];
    if !plan.merged.value {
        let path = directory.join("adapter.gguf");
        adapter_file(located, adapter, &path)?;
        artifacts.push(artifact("adapter.gguf", ArtifactKind::Adapter, &path)?);
    }
    Ok(WrittenArtifacts {
        artifacts,
        verified: vec![verified],
        notes,
    })
}

/// Writes one model file and checks it; a file that fails its check does not stay.
fn model_file(
    around: &Surroundings,
    located: &LocatedModel,
    loaded: &LoadedModel,
    weights: &dyn WeightSource,
    adapter: Option<&Adapter>,
    quant: Quant,
    path: &Path,
) -> Result<(ModelCheck, Vec<String>), Failure> {
    let config = located.base.opened.config();
    let mut vocabulary = Vocabulary::new(&located.text.tokenizer, config.vocab)?;
    vocabulary.eot = located.text.end_of_turn.filter(|id| Some(*id) != vocabulary.eos);
    let identity = identity(located);
    let plan = plan_model(&ModelExport {
        config,
        weights,
        vocabulary: &vocabulary,
        chat_template: located.text.template.as_ref().map(|t| t.source()),
        identity: &identity,
        quant,
    })?;
    check_space(path, plan.bytes)?;
    let options = WriteOptions {
        importance: None,
        progress: &*around.progress,
        cancel: &around.cancel,
    };
    write_model(loaded.cpu.ctx(), &plan, weights, path, &options)?;
    let checked = check_file(around, located, loaded, &plan, weights, adapter, path);
    Ok((kept_if_sound(path, checked)?, plan.notes))
}

/// Removes a written file whose check failed: what says something else than the model must not be taken for an export.
fn kept_if_sound<T>(path: &Path, checked: Result<T, Failure>) -> Result<T, Failure> {
    checked.map_err(|failure| match dlm_files::Disk::new().remove_file(path) {
        Ok(_) => failure,
        Err(error) => failure.hint(format!(
            "delete {}, which could not be removed: {}",
            path.display(),
            error.into_io()
        )),
    })
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
    around.note(format!("checking {}", path.display()));
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
                "{} does not say what the model in memory says: mean divergence {:.2e}, the bound of {} is {:.0e}",
                path.display(),
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
        file: path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default(),
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

/// Refuses a file that its disk has no room for; an earlier export of the same name stays until the new one is whole.
fn check_space(path: &Path, bytes: u64) -> Result<(), Failure> {
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
    .hint("free some space, export a smaller type (`--quant Q4_K_M`), or keep the stores elsewhere: `DLM_HOME=<dir>`"))
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

fn adapter_file(located: &LocatedModel, adapter: &Adapter, path: &Path) -> Result<(), Failure> {
    let modules = AdapterModule::of(adapter);
    let identity = identity(located);
    let plan = plan_adapter(&AdapterExport {
        config: located.base.opened.config(),
        modules: &modules,
        identity: &identity,
    })
    .map_err(|e| Failure::new(Subject::Export, e).hint("export with `--merged`"))?;
    write_adapter(&plan, path)?;
    Ok(())
}

/// What the file says of its origin in keys of our own.
///
/// **Source:** `spec/export.md` section 6.
fn provenance(located: &LocatedModel) -> Vec<(String, String)> {
    let id = located.document.parsed.frontmatter().dlm_id.as_str().to_owned();
    let version = located.adapter.as_ref().map(|(_, version)| version.to_string());
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

fn identity(located: &LocatedModel) -> Identity {
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
        provenance: provenance(located),
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
        // Targets know artefacts by fixed names; the file on disk says its type too.
        name: match name.split('.').next() {
            Some("base") => "base.gguf".to_owned(),
            Some("merged") => "merged.gguf".to_owned(),
            _ => name.to_owned(),
        },
        kind,
        path: path.clone(),
        size,
        sha256,
        staged_path: Some(name.to_owned()),
    })
}

/// The directory and files that the target works with.
pub(super) fn stage(directory: &Path, made: &WrittenArtifacts) -> Stage {
    Stage {
        directory: directory.to_path_buf(),
        artifacts: made.artifacts.clone(),
        reserved: vec![MANIFEST_FILE.to_owned()],
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
        system_prompt: front.system_prompt.clone(),
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
    let messages = question_messages(front.system_prompt.as_deref(), &user);
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
        system: front.system_prompt.clone(),
        user,
        answer: answer.text,
        prompt_tokens: ids,
        new_tokens_max: PROBE_TOKENS,
        is_exact: plan.quant.value == Quant::F16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_failed_its_check_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, "x").unwrap();
        assert!(kept_if_sound(&path, Ok(())).is_ok() && path.exists());
        let failed = || Err::<(), Failure>(Failure::new(Subject::Export, "it differs"));
        assert!(kept_if_sound(&path, failed()).is_err() && !path.exists());
        // What cannot be removed is told: a directory is no file.
        let failure = kept_if_sound(dir.path(), failed()).unwrap_err();
        assert!(
            failure.hints.iter().any(|hint| hint.starts_with("delete")),
            "{:?}",
            failure.hints
        );
    }
}
