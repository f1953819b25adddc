//! An opened plugin of any kind, called with the JSON of a case and answering in JSON.

use std::fs;
use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::ports::destination::{Destination, DestinationSource, PushOptions, PushPack};
use dlm_core::ports::judge::{Judge, JudgeItem, JudgeSource};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::target::{Artifact, ArtifactKind, ExportTarget, Stage, TargetBase, TargetPlan, TargetSource};
use dlm_core::ports::teacher::{Teacher, TeacherRequest, TeacherSource};
use dlm_core::ports::templates::{TemplateMeta, TemplateSource, Templates};
use dlm_files::{Disk, DiskError};
use dlm_packages::Kind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::case::{Case, Input};
use crate::source::Plugins;

/// Longest text of a written file in an answer.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A plugin that was opened for a case.
pub(crate) enum CasePlugin {
    Judge(Box<dyn Judge>),
    Teacher(Box<dyn Teacher>),
    Target(Box<dyn ExportTarget>),
    Destination(Box<dyn Destination>),
    Templates(Box<dyn Templates>),
}

/// Why a call did not answer.
pub(crate) enum CaseError {
    /// The plugin or the host refused: something that a case can expect.
    Failure(Box<PluginFailure>),
    /// The case itself is wrong.
    Case(String),
}

impl From<PluginFailure> for CaseError {
    fn from(failure: PluginFailure) -> CaseError {
        CaseError::Failure(Box::new(failure))
    }
}

impl CasePlugin {
    /// Opens `selector`, which has no argument yet.
    pub fn open(plugins: &Plugins, kind: Kind, selector: &str, argument: &str) -> Result<CasePlugin, PluginFailure> {
        let whole = match argument {
            "" => selector.to_owned(),
            argument => format!("{selector}:{argument}"),
        };
        Ok(match kind {
            Kind::Judge => CasePlugin::Judge(plugins.open_judge(&whole)?),
            Kind::Teacher => CasePlugin::Teacher(plugins.open_teacher(&whole)?),
            Kind::Target => CasePlugin::Target(TargetSource::open(plugins, &whole)?),
            Kind::Destination => CasePlugin::Destination(plugins.open_destination(selector, argument)?),
            Kind::Templates => CasePlugin::Templates(plugins.open_templates(selector, argument)?),
        })
    }

    /// Makes the call of a case; `scratch` is an empty directory.
    pub fn call(&mut self, case: &Case, scratch: &Path) -> Result<Value, CaseError> {
        let (function, argument) = case.call();
        match (self, function) {
            (CasePlugin::Judge(judge), "score") => score(&mut **judge, argument),
            (CasePlugin::Teacher(teacher), "complete") => complete(&mut **teacher, argument),
            (CasePlugin::Target(target), "prepare" | "install") => {
                export(&mut **target, function, case, argument, scratch)
            }
            (CasePlugin::Destination(destination), "preview" | "push") => {
                send(&mut **destination, function, argument, scratch)
            }
            (CasePlugin::Templates(templates), "list") => {
                let query = argument.as_str();
                let listed = templates.list(query)?;
                Ok(json!({ "templates": listed.iter().map(meta_json).collect::<Vec<_>>() }))
            }
            (CasePlugin::Templates(templates), "fetch") => {
                let name = argument.as_str().ok_or_else(|| wrong("fetch", "a template's name"))?;
                let bundle = templates.fetch(name)?;
                let files = bundle.files.iter();
                let files: Map<String, Value> = files.map(|(name, bytes)| (name.clone(), shown(bytes))).collect();
                Ok(
                    json!({ "bundle": { "meta": meta_json(&bundle.meta), "document": bundle.document, "files": files } }),
                )
            }
            (_, function) => Err(CaseError::Case(format!(
                "a {} has no function `{function}` in cases",
                case.kind
            ))),
        }
    }
}

fn wrong(function: &str, expected: &str) -> CaseError {
    CaseError::Case(format!("`{function}` takes {expected}"))
}

fn read<T: for<'a> Deserialize<'a>>(function: &str, argument: &Value) -> Result<T, CaseError> {
    serde_json::from_value(argument.clone()).map_err(|error| CaseError::Case(format!("`{function}`: {error}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemJson {
    system: Option<String>,
    prompt: String,
    candidates: Vec<String>,
    reference: Option<String>,
}

fn score(judge: &mut dyn Judge, argument: &Value) -> Result<Value, CaseError> {
    let items: Vec<ItemJson> = read("score", argument)?;
    let items: Vec<JudgeItem> = items
        .into_iter()
        .map(|item| JudgeItem {
            system: item.system,
            prompt: item.prompt,
            candidates: item.candidates,
            reference: item.reference,
        })
        .collect();
    let verdicts = judge.score(&items)?;
    let verdicts: Vec<Value> = verdicts
        .into_iter()
        .map(|verdict| json!({ "scores": verdict.scores, "reasoning": verdict.reasoning }))
        .collect();
    Ok(json!({ "verdicts": verdicts }))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RequestJson {
    #[serde(default)]
    system: String,
    user: String,
    #[serde(default = "usual_tokens")]
    max_new_tokens: u32,
    #[serde(default)]
    temperature: f32,
    top_p: Option<f32>,
    seed: Option<u64>,
}

fn usual_tokens() -> u32 {
    256
}

fn complete(teacher: &mut dyn Teacher, argument: &Value) -> Result<Value, CaseError> {
    let request: RequestJson = read("complete", argument)?;
    let completion = teacher.complete(&TeacherRequest {
        system: request.system,
        user: request.user,
        new_tokens_max: request.max_new_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
    })?;
    let usage = completion.usage;
    Ok(json!({ "completion": {
        "text": completion.text,
        "truncated": completion.is_truncated,
        "usage": {
            "prompt-tokens": usage.prompt_tokens,
            "completion-tokens": usage.completion_tokens,
            "requests": usage.requests,
        },
    }}))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PlanJson {
    #[serde(default = "usual_name")]
    name: String,
    #[serde(default = "usual_quant")]
    quant: String,
    #[serde(default)]
    merged: bool,
    source: Option<String>,
    #[serde(default = "usual_context")]
    context_length: u32,
    system_prompt: Option<String>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    #[serde(default = "usual_platform")]
    platform: String,
    #[serde(default)]
    options: Map<String, Value>,
}

fn usual_name() -> String {
    "model".to_owned()
}

fn usual_quant() -> String {
    "Q4_K_M".to_owned()
}

fn usual_context() -> u32 {
    2048
}

fn usual_platform() -> String {
    "linux/x86_64".to_owned()
}

fn export(
    target: &mut dyn ExportTarget,
    function: &str,
    case: &Case,
    argument: &Value,
    scratch: &Path,
) -> Result<Value, CaseError> {
    let plan = plan(read(function, argument)?);
    let stage = stage(&case.host.inputs, scratch)?;
    let prepared = target.prepare(&plan, &stage)?;
    if function == "install" {
        let registration = target.install(&plan, &stage)?;
        let registration =
            registration.map(|made| json!({ "name": made.name, "runtime-version": made.runtime_version }));
        return Ok(json!({ "registration": registration }));
    }
    let names: Vec<&str> = prepared.files.iter().map(|file| file.name.as_str()).collect();
    let mut output = Map::new();
    for name in &names {
        let path = stage.directory.join(name);
        let bytes = fs::read(&path).map_err(|error| CaseError::Case(format!("{}: {error}", path.display())))?;
        output.insert((*name).to_owned(), shown(&bytes));
    }
    Ok(json!({
        "prepared": {
            "files": names,
            "executable": prepared.files.iter().filter(|file| file.is_executable).map(|file| &file.name).collect::<Vec<_>>(),
            "entry": prepared.entry,
            "install-preview": prepared.install_preview,
            "usage": prepared.usage,
        },
        "output": output,
    }))
}

fn plan(stated: PlanJson) -> TargetPlan {
    TargetPlan {
        name: stated.name,
        document_id: "01HF7YAT0004106R0430MG2000".to_owned(),
        source: stated.source,
        base: TargetBase {
            reference: "smollm2-135m".to_owned(),
            hub_id: None,
            revision: None,
            architecture: "llama".to_owned(),
            layers: 30,
            context_length: 8192,
            license: Some("Apache-2.0".to_owned()),
        },
        adapters: Vec::new(),
        quant: stated.quant,
        is_merged: stated.merged,
        context_length: stated.context_length,
        chat: None,
        system_prompt: stated.system_prompt,
        temperature: stated.temperature,
        top_p: stated.top_p,
        draft: None,
        platform: stated.platform,
        options: stated
            .options
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
        probe: None,
    }
}

/// Writes the inputs of a case and makes the directory of the export.
fn stage(inputs: &[Input], scratch: &Path) -> Result<Stage, CaseError> {
    let directory = scratch.join("export");
    Disk::new()
        .create_directories(&directory)
        .map_err(|error| failed(&directory, error))?;
    let directory = scratch.join("inputs");
    let mut artifacts = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let path = write(&directory, &index.to_string(), input.contents.as_bytes())?;
        artifacts.push(Artifact {
            name: input.name.clone(),
            kind: kind(input.kind.as_deref())?,
            path,
            size: input.contents.len() as u64,
            sha256: sha256_hex(input.contents.as_bytes()),
            staged_path: None,
        });
    }
    Ok(Stage {
        directory,
        artifacts,
        reserved: Vec::new(),
        is_draft: false,
    })
}

fn kind(word: Option<&str>) -> Result<ArtifactKind, CaseError> {
    Ok(match word {
        None | Some("other") => ArtifactKind::Other,
        Some("gguf") => ArtifactKind::Gguf,
        Some("adapter") => ArtifactKind::Adapter,
        Some("tokenizer") => ArtifactKind::Tokenizer,
        Some("chat-template") => ArtifactKind::ChatTemplate,
        Some("manifest") => ArtifactKind::Manifest,
        Some("pack") => ArtifactKind::Pack,
        Some("document") => ArtifactKind::Document,
        Some(other) => return Err(CaseError::Case(format!("`{other}` is no kind of artefact"))),
    })
}

fn failed(path: &Path, error: DiskError) -> CaseError {
    CaseError::Case(format!("cannot write `{}`: {}", path.display(), error.into_io()))
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, CaseError> {
    let disk = Disk::new();
    disk.create_directories(directory)
        .map_err(|error| failed(directory, error))?;
    let path = directory.join(name);
    disk.write(&path, bytes).map_err(|error| failed(&path, error))?;
    Ok(path)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PackJson {
    #[serde(default = "usual_pack")]
    file_name: String,
    #[serde(default)]
    contents: String,
    #[serde(default)]
    readme: String,
    license: Option<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    options: Map<String, Value>,
}

fn usual_pack() -> String {
    "model.dlm.pack".to_owned()
}

fn send(
    destination: &mut dyn Destination,
    function: &str,
    argument: &Value,
    scratch: &Path,
) -> Result<Value, CaseError> {
    let stated: PackJson = read(function, argument)?;
    let bytes = stated.contents.as_bytes();
    let pack = PushPack {
        path: write(scratch, "pack", bytes)?,
        file_name: stated.file_name,
        size: bytes.len() as u64,
        sha256: sha256_hex(bytes),
        document_id: "01HF7YAT0004106R0430MG2000".to_owned(),
        document_name: "model".to_owned(),
        base_model: "smollm2-135m".to_owned(),
        adapter_version: Some(1),
        license: stated.license,
        signature: None,
        readme: stated.readme,
    };
    let options = PushOptions {
        is_private: stated.private,
        is_forced: stated.force,
        extra: stated
            .options
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
    };
    if function == "preview" {
        return Ok(json!({ "steps": destination.preview(&pack, &options)? }));
    }
    let receipt = destination.push(&pack, &options)?;
    Ok(json!({ "receipt": {
        "location": receipt.location,
        "bytes-sent": receipt.bytes_sent,
        "unchanged": receipt.is_unchanged,
    }}))
}

fn meta_json(meta: &TemplateMeta) -> Value {
    json!({
        "name": meta.name,
        "title": meta.title,
        "summary": meta.summary,
        "tags": meta.tags,
        "recommended-base": meta.recommended_base,
        "expected-steps": meta.expected_steps,
        "sample-prompts": meta.sample_prompts,
        "revision": meta.revision,
        "license": meta.license,
    })
}

/// The text of a file, cut; bytes that are no text are shown as such.
fn shown(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(dlm_core::inert::cut(text, FILE_BYTES_MAX)),
        Err(_) => json!({ "bytes": bytes.len(), "sha256": sha256_hex(bytes) }),
    }
}
