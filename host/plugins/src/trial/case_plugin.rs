//! An opened plugin of any kind, called with the JSON of a case and answering in JSON.

use std::path::{Path, PathBuf};

use dlm_core::digest::sha256_hex;
use dlm_core::ports::destination::{Destination, DestinationSource, PushOptions, PushPack};
use dlm_core::ports::judge::{Judge, JudgeItem, JudgeSource};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::target::{Artifact, ArtifactKind, ExportTarget, Stage, TargetSource};
use dlm_core::ports::teacher::{Teacher, TeacherRequest, TeacherSource};
use dlm_core::ports::templates::{TemplateBundle, TemplateSource, Templates};
use dlm_files::{Disk, DiskError};
use dlm_packages::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::case::{Case, Input};
use crate::output::check_name;
use crate::source::Plugins;
use crate::wire;
use crate::wire::plan::{DOCUMENT_ID, FieldJson, PlanJson, fields};

/// A plugin that was opened for a case.
pub(crate) enum CasePlugin {
    Judge(Box<dyn Judge>),
    Teacher(Box<dyn Teacher>),
    Target(Box<dyn ExportTarget>),
    Destination(Box<dyn Destination>),
    Templates(Box<dyn Templates>),
}

/// What a call gave.
pub(crate) struct Answer {
    /// In the shape of `expect`.
    pub value: Value,
    /// The template that was fetched.
    pub bundle: Option<TemplateBundle>,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer { value, bundle: None }
    }
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
    pub fn call(&mut self, case: &Case, scratch: &Path) -> Result<Answer, CaseError> {
        let (function, argument) = case.call();
        let value = match (self, function) {
            (CasePlugin::Judge(judge), "score") => score(&mut **judge, argument)?,
            (CasePlugin::Teacher(teacher), "complete") => complete(&mut **teacher, argument)?,
            (CasePlugin::Target(target), "prepare" | "install") => {
                export(&mut **target, function, case, argument, scratch)?
            }
            (CasePlugin::Destination(destination), "preview" | "push") => {
                send(&mut **destination, function, argument, scratch)?
            }
            (CasePlugin::Templates(templates), "list") => {
                let listed = templates.list(argument.as_str())?;
                wire::list_json(&listed)
            }
            (CasePlugin::Templates(templates), "fetch") => return fetch(&mut **templates, argument),
            (_, function) => {
                let cause = format!("a {} has no function `{function}` in cases", case.kind);
                return Err(CaseError::Case(cause));
            }
        };
        Ok(value.into())
    }
}

fn fetch(templates: &mut dyn Templates, argument: &Value) -> Result<Answer, CaseError> {
    let name = argument.as_str().ok_or_else(|| wrong("fetch", "a template's name"))?;
    let bundle = templates.fetch(name)?;
    let value = wire::bundle_json(&bundle);
    Ok(Answer {
        value,
        bundle: Some(bundle),
    })
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
    Ok(wire::verdicts_json(&judge.score(&items)?))
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
    Ok(wire::completion_json(&completion))
}

fn export(
    target: &mut dyn ExportTarget,
    function: &str,
    case: &Case,
    argument: &Value,
    scratch: &Path,
) -> Result<Value, CaseError> {
    let plan = read::<PlanJson>(function, argument)?.plan();
    let stage = stage(&case.host.inputs, scratch)?;
    let prepared = target.prepare(&plan, &stage)?;
    if function == "install" {
        let registration = target.install(&plan, &stage)?;
        return Ok(wire::registration_json(registration.as_ref()));
    }
    wire::prepared_json(&prepared, &stage.directory).map_err(CaseError::Case)
}

/// Makes the directory of an export and writes the inputs of a case: those that are staged into it, the others beside it.
fn stage(inputs: &[Input], scratch: &Path) -> Result<Stage, CaseError> {
    let directory = scratch.join("export");
    Disk::new()
        .create_directories(&directory)
        .map_err(|error| failed(&directory, error))?;
    let beside = scratch.join("inputs");
    let mut artifacts = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let bytes = input.contents.as_bytes();
        let path = match &input.staged_path {
            None => write(&beside, &index.to_string(), bytes)?,
            Some(staged) => {
                if let Err(why) = check_name(staged) {
                    return Err(CaseError::Case(format!("the staged-path `{staged}` {why}")));
                }
                let (parent, name) = staged.rsplit_once('/').unwrap_or(("", staged));
                write(&directory.join(parent), name, bytes)?
            }
        };
        artifacts.push(Artifact {
            name: input.name.clone(),
            kind: kind(input.kind.as_deref().unwrap_or("other"))?,
            path,
            size: input.contents.len() as u64,
            sha256: sha256_hex(bytes),
            staged_path: input.staged_path.clone(),
        });
    }
    Ok(Stage {
        directory,
        artifacts,
        reserved: Vec::new(),
        is_draft: false,
    })
}

fn kind(word: &str) -> Result<ArtifactKind, CaseError> {
    wire::kind_of(word).ok_or_else(|| CaseError::Case(format!("`{word}` is no kind of artefact")))
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
    options: Vec<FieldJson>,
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
        document_id: DOCUMENT_ID.to_owned(),
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
        extra: fields(stated.options),
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
