//! Calls, requests and answers in the JSON of cases: written by `--record`, held against the script by `dlm plugin test`.

pub(crate) mod plan;

use std::path::Path;

use dlm_core::digest::sha256_hex;
use dlm_core::ports::guest_http::{GuestBody, GuestMethod, GuestRequest};
use dlm_core::ports::judge::{JudgeItem, JudgeVerdict};
use dlm_core::ports::model::{
    GenerateRequest, ModelInfo, ModelMessage, ModelPrompt, ModelRole, ModelWeights, NextRequest, RankRequest,
    ScoreRequest,
};
use dlm_core::ports::process::Command;
use dlm_core::ports::target::{ArtifactKind, PreparedTarget, Stage, TargetPlan, TargetRegistration};
use dlm_core::ports::teacher::{TeacherCompletion, TeacherRequest};
use dlm_core::ports::templates::{TemplateBundle, TemplateMeta};
use serde_json::{Map, Value, json};

use plan::PlanJson;

/// Longest text of a written file in an answer.
const FILE_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn items_json(items: &[JudgeItem]) -> Value {
    let item = |item: &JudgeItem| {
        json!({
            "system": item.system, "prompt": item.prompt, "candidates": item.candidates, "reference": item.reference,
        })
    };
    items.iter().map(item).collect()
}

pub(crate) fn verdicts_json(verdicts: &[JudgeVerdict]) -> Value {
    let one = |verdict: &JudgeVerdict| json!({ "scores": verdict.scores, "reasoning": verdict.reasoning });
    json!({ "verdicts": verdicts.iter().map(one).collect::<Vec<_>>() })
}

pub(crate) fn request_json(request: &TeacherRequest) -> Value {
    json!({
        "system": request.system,
        "user": request.user,
        "max-new-tokens": request.new_tokens_max,
        "temperature": request.temperature,
        "top-p": request.top_p,
        "seed": request.seed,
    })
}

pub(crate) fn completion_json(completion: &TeacherCompletion) -> Value {
    let usage = completion.usage;
    json!({ "completion": {
        "text": completion.text,
        "truncated": completion.is_truncated,
        "usage": {
            "prompt-tokens": usage.prompt_tokens,
            "completion-tokens": usage.completion_tokens,
            "requests": usage.requests,
        },
    }})
}

pub(crate) fn list_json(listed: &[TemplateMeta]) -> Value {
    json!({ "templates": listed.iter().map(meta_json).collect::<Vec<_>>() })
}

pub(crate) fn bundle_json(bundle: &TemplateBundle) -> Value {
    let files = bundle.files.iter();
    let files: Map<String, Value> = files.map(|(name, bytes)| (name.clone(), shown(bytes))).collect();
    json!({ "bundle": { "meta": meta_json(&bundle.meta), "document": bundle.document, "files": files } })
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

pub(crate) fn plan_json(plan: &TargetPlan) -> Value {
    serde_json::to_value(PlanJson::of(plan)).unwrap_or(Value::Null)
}

/// The files of an export by name and place; their contents are gigabytes that no case holds.
pub(crate) fn inputs_json(stage: &Stage) -> Vec<Value> {
    let input = |artifact: &dlm_core::ports::target::Artifact| {
        json!({
            "name": artifact.name,
            "kind": kind_word(artifact.kind),
            "staged-path": artifact.staged_path,
            "contents": "",
        })
    };
    stage.artifacts.iter().map(input).collect()
}

/// The kinds of artefacts and their words in the contract.
const KINDS: [(ArtifactKind, &str); 8] = [
    (ArtifactKind::Gguf, "gguf"),
    (ArtifactKind::Adapter, "adapter"),
    (ArtifactKind::Tokenizer, "tokenizer"),
    (ArtifactKind::ChatTemplate, "chat-template"),
    (ArtifactKind::Manifest, "manifest"),
    (ArtifactKind::Pack, "pack"),
    (ArtifactKind::Document, "document"),
    (ArtifactKind::Other, "other"),
];

fn kind_word(kind: ArtifactKind) -> &'static str {
    let found = KINDS.into_iter().find(|(known, _)| *known == kind);
    found.map_or("other", |(_, word)| word)
}

/// The kind that a word names.
pub(crate) fn kind_of(word: &str) -> Option<ArtifactKind> {
    KINDS
        .into_iter()
        .find(|(_, known)| *known == word)
        .map(|(kind, _)| kind)
}

/// What `prepare` said, with the files that it wrote.
///
/// **Errors**: a file that cannot be read, in words.
pub(crate) fn prepared_json(prepared: &PreparedTarget, directory: &Path) -> Result<Value, String> {
    let names: Vec<&str> = prepared.files.iter().map(|file| file.name.as_str()).collect();
    let mut output = Map::new();
    for name in &names {
        let path = directory.join(name);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        output.insert((*name).to_owned(), shown(&bytes));
    }
    let executable = prepared.files.iter().filter(|file| file.is_executable);
    Ok(json!({
        "prepared": {
            "files": names,
            "executable": executable.map(|file| &file.name).collect::<Vec<_>>(),
            "entry": prepared.entry,
            "install-preview": prepared.install_preview,
            "usage": prepared.usage,
        },
        "output": output,
    }))
}

pub(crate) fn registration_json(made: Option<&TargetRegistration>) -> Value {
    let registration = made.map(|made| json!({ "name": made.name, "runtime-version": made.runtime_version }));
    json!({ "registration": registration })
}

/// The text of a file, cut; bytes that are no text are shown as such.
fn shown(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(dlm_core::inert::cut(text, FILE_BYTES_MAX)),
        Err(_) => json!({ "bytes": bytes.len(), "sha256": sha256_hex(bytes) }),
    }
}

pub(crate) fn info_json(info: &ModelInfo) -> Value {
    json!({
        "revision": info.revision,
        "architecture": info.architecture,
        "context-length": info.context_length,
        "vocabulary-size": info.vocabulary_size,
        "has-adapter": info.has_adapter,
        "adapter-version": info.adapter_version,
        "has-chat-template": info.has_chat_template,
    })
}

pub(crate) fn generate_json(request: &GenerateRequest) -> Value {
    let sampling = &request.sampling;
    json!({
        "prompt": prompt_json(&request.prompt),
        "weights": weights_json(request.weights),
        "max-new-tokens": sampling.new_tokens_max,
        "temperature": sampling.temperature,
    })
}

pub(crate) fn score_json(request: &ScoreRequest) -> Value {
    json!({
        "prompt": prompt_json(&request.prompt),
        "completion": request.completion,
        "weights": weights_json(request.weights),
    })
}

pub(crate) fn rank_json(request: &RankRequest) -> Value {
    json!({ "prompt": prompt_json(&request.prompt), "completion": request.completion })
}

pub(crate) fn next_json(request: &NextRequest) -> Value {
    json!({
        "prompt": prompt_json(&request.prompt),
        "weights": weights_json(request.weights),
        "top": request.top,
    })
}

pub(crate) fn render_json(chat: &[ModelMessage], with_generation_prompt: bool) -> Value {
    let messages: Vec<Value> = chat.iter().map(message_json).collect();
    json!({ "chat": messages, "add-generation-prompt": with_generation_prompt })
}

fn prompt_json(prompt: &ModelPrompt) -> Value {
    match prompt {
        ModelPrompt::Raw(text) => json!(text),
        ModelPrompt::Chat(messages) => Value::Array(messages.iter().map(message_json).collect()),
    }
}

fn message_json(message: &ModelMessage) -> Value {
    let role = match message.role {
        ModelRole::System => "system",
        ModelRole::User => "user",
        ModelRole::Assistant => "assistant",
    };
    json!({ "role": role, "content": message.content })
}

fn weights_json(weights: ModelWeights) -> &'static str {
    match weights {
        ModelWeights::Base => "base",
        ModelWeights::Adapter => "adapter",
    }
}

pub(crate) fn http_json(request: &GuestRequest) -> Value {
    let method = match request.method {
        GuestMethod::Get => "get",
        GuestMethod::Head => "head",
        GuestMethod::Post => "post",
        GuestMethod::Put => "put",
        GuestMethod::Patch => "patch",
        GuestMethod::Delete => "delete",
    };
    let headers = request.headers.iter();
    let headers: Map<String, Value> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), json!(value)))
        .collect();
    let secrets = request.secret_headers.iter();
    let secrets: Map<String, Value> = secrets
        .map(|header| (header.name.to_ascii_lowercase(), json!(header.secret)))
        .collect();
    let body = match &request.body {
        GuestBody::Bytes(bytes) => match serde_json::from_slice::<Value>(bytes) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
            _ => json!(String::from_utf8_lossy(bytes)),
        },
        GuestBody::File { offset, length, .. } => json!({ "file": { "offset": offset, "length": length } }),
    };
    json!({ "method": method, "url": request.url, "headers": headers, "secret-headers": secrets, "body": body })
}

pub(crate) fn run_json(command: &Command) -> Value {
    let program = command.program.file_name().unwrap_or_default().to_string_lossy();
    json!({
        "program": program,
        "arguments": command.arguments,
        "stdin": String::from_utf8_lossy(&command.stdin),
    })
}
