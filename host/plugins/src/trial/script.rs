//! The host of a case: model, HTTP, processes and secrets that answer from its script.
//!
//! Invariants: grants are still checked by the real host in front of these ports; a request that the script does not hold
//! is remembered and fails the case, whatever the plugin makes of the error.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::http_rule::{HttpRule, ParsedUrl};
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelFinish, ModelGeneration, ModelInfo, ModelMessage,
    ModelScore, ModelToken, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::ports::process::{Command, FinishedProcess, Process, ProcessError, Running};
use dlm_core::ports::secrets::Secrets;
use serde_json::{Map, Value, json};

use super::case::Host;
use super::compare::differs;
use crate::cache::Compile;
use crate::wire;

/// How the host fails, for the checks that need no script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    InvalidInput,
    Unsupported,
    Unavailable,
    NotFound,
    Failed,
    TimedOut,
    Denied,
    /// The user presses Ctrl-C while the host answers.
    Cancelled,
}

impl Failing {
    pub const ALL: [Failing; 7] = [
        Failing::InvalidInput,
        Failing::Unsupported,
        Failing::Unavailable,
        Failing::NotFound,
        Failing::Failed,
        Failing::TimedOut,
        Failing::Denied,
    ];

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Failing::InvalidInput => "invalid-input",
            Failing::Unsupported => "unsupported",
            Failing::Unavailable => "unavailable",
            Failing::NotFound => "not-found",
            Failing::Failed => "failed",
            Failing::TimedOut => "timed-out",
            Failing::Denied => "denied",
            Failing::Cancelled => "cancelled",
        }
    }

    fn model(self) -> ModelError {
        let text = "as the test wants".to_owned();
        match self {
            Failing::InvalidInput => ModelError::InvalidInput(text),
            Failing::Unsupported => ModelError::Unsupported(text),
            Failing::Unavailable | Failing::TimedOut => ModelError::Unavailable(text),
            Failing::NotFound => ModelError::NotFound(text),
            Failing::Failed | Failing::Denied => ModelError::Failed(text),
            Failing::Cancelled => ModelError::Cancelled,
        }
    }

    fn http(self, url: &str) -> GuestHttpError {
        let (text, url) = ("as the test wants".to_owned(), url.to_owned());
        match self {
            Failing::InvalidInput | Failing::Unsupported => GuestHttpError::Invalid(text),
            Failing::Denied => GuestHttpError::Denied {
                capability: String::new(),
                message: text,
            },
            Failing::TimedOut => GuestHttpError::TimedOut { url, seconds: 1 },
            // No exchange ends so: the far side answers 404 instead, see [`ScriptedHttp`].
            Failing::NotFound | Failing::Unavailable | Failing::Failed => {
                GuestHttpError::Unreachable { url, reason: text }
            }
            Failing::Cancelled => GuestHttpError::Cancelled,
        }
    }
}

/// The script with what it lacked.
#[derive(Debug)]
pub(crate) struct Script {
    host: Host,
    failing: Option<Failing>,
    /// Raised by [`Failing::Cancelled`].
    cancel: Cancel,
    missing: Mutex<Vec<String>>,
    /// Something was asked of the host.
    is_asked: AtomicBool,
}

impl Script {
    pub fn new(host: Host, failing: Option<Failing>, cancel: Cancel) -> Arc<Script> {
        Arc::new(Script {
            host,
            failing,
            cancel,
            missing: Mutex::default(),
            is_asked: AtomicBool::new(false),
        })
    }

    /// Says whether the plugin asked the host for anything that a script answers.
    pub fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// What to add to the case, for each request that was not scripted.
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failing(&self) -> Option<Failing> {
        self.is_asked.store(true, Ordering::Relaxed);
        if self.failing == Some(Failing::Cancelled) {
            self.cancel.cancel();
        }
        self.failing
    }

    /// The first answer whose request, under `key`, fits.
    fn answer<'a>(
        &self,
        answers: &'a [Map<String, Value>],
        list: &str,
        key: &str,
        request: &Value,
    ) -> Option<&'a Map<String, Value>> {
        let fitting = answers.iter().find(|answer| {
            let pattern = answer.get(key);
            pattern.is_some_and(|pattern| differs("", pattern, request, 1e-6).is_none())
        });
        if fitting.is_none() {
            let entry = json!({ key: request });
            let text = dlm_core::inert::inert_line(&dlm_core::inert::cut(&entry.to_string(), 2000));
            let line = format!("add to host.{list}, with its answer: {text}");
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            if !missing.contains(&line) && missing.len() < 20 {
                missing.push(line);
            }
        }
        fitting
    }

    fn model(&self, key: &str, request: &Value) -> Result<&Map<String, Value>, ModelError> {
        if let Some(failing) = self.failing() {
            return Err(failing.model());
        }
        let answer = self.answer(&self.host.model, "model", key, request);
        let answer = answer.ok_or_else(|| ModelError::Failed("the script has no such answer".to_owned()))?;
        match answer.get("error").and_then(Value::as_str) {
            None => Ok(answer),
            Some("invalid-input") => Err(Failing::InvalidInput.model()),
            Some("unsupported") => Err(Failing::Unsupported.model()),
            Some("unavailable") => Err(Failing::Unavailable.model()),
            Some("not-found") => Err(Failing::NotFound.model()),
            Some(_) => Err(Failing::Failed.model()),
        }
    }
}

fn number(answer: &Map<String, Value>, key: &str) -> Result<f64, ModelError> {
    let value = answer.get(key).and_then(Value::as_f64);
    value.ok_or_else(|| ModelError::Failed(format!("the script's answer has no number `{key}`")))
}

fn count(answer: &Map<String, Value>, key: &str) -> u32 {
    let value = answer.get(key).and_then(Value::as_u64).unwrap_or_default();
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn text(answer: &Map<String, Value>, key: &str) -> String {
    answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn tokens(answer: &Map<String, Value>) -> Vec<ModelToken> {
    let listed = answer.get("tokens").and_then(Value::as_array).into_iter().flatten();
    let read = |token: &Value| {
        let token = token.as_object()?;
        Some(ModelToken {
            id: count(token, "id"),
            text: text(token, "text"),
            logprob: number(token, "logprob").ok()? as f32,
        })
    };
    listed.filter_map(read).collect()
}

/// The script as models; a named one answers like the current one.
pub(crate) struct ScriptedModels(pub Arc<Script>);

struct ScriptedModel {
    script: Arc<Script>,
    name: String,
}

impl Models for ScriptedModels {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        Ok(Arc::new(ScriptedModel {
            script: Arc::clone(&self.0),
            name: "scripted".to_owned(),
        }))
    }

    fn named(&self, selector: &str) -> Result<Arc<dyn Model>, ModelError> {
        Ok(Arc::new(ScriptedModel {
            script: Arc::clone(&self.0),
            name: selector.to_owned(),
        }))
    }
}

impl Model for ScriptedModel {
    fn info(&self) -> ModelInfo {
        let none = Map::new();
        let stated = self
            .script
            .host
            .model
            .iter()
            .find_map(|answer| answer.get("info")?.as_object());
        let stated = stated.unwrap_or(&none);
        let flag = |key: &str| stated.get(key).and_then(Value::as_bool).unwrap_or(true);
        let size = |key: &str, usual: u32| match count(stated, key) {
            0 => usual,
            stated => stated,
        };
        ModelInfo {
            name: self.name.clone(),
            revision: stated.get("revision").and_then(Value::as_str).map(str::to_owned),
            architecture: match text(stated, "architecture").as_str() {
                "" => "scripted".to_owned(),
                stated => stated.to_owned(),
            },
            context_length: size("context-length", 8192),
            vocabulary_size: size("vocabulary-size", 32_000),
            has_adapter: flag("has-adapter"),
            adapter_version: flag("has-adapter").then(|| size("adapter-version", 1)),
            has_chat_template: flag("has-chat-template"),
        }
    }

    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError> {
        let one = |request: &GenerateRequest| {
            let answer = self.script.model("generate", &wire::generate_json(request))?;
            allowance
                .take(u64::from(count(answer, "prompt-tokens")) + u64::from(count(answer, "completion-tokens")))?;
            Ok(ModelGeneration {
                text: text(answer, "text"),
                prompt_tokens: count(answer, "prompt-tokens"),
                completion_tokens: count(answer, "completion-tokens"),
                finish: match text(answer, "finish").as_str() {
                    "length" => ModelFinish::Length,
                    _ => ModelFinish::Stop,
                },
            })
        };
        requests.iter().map(one).collect()
    }

    fn score(&self, requests: &[ScoreRequest], allowance: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        let one = |request: &ScoreRequest| {
            let answer = self.script.model("score", &wire::score_json(request))?;
            allowance.take(u64::from(count(answer, "token-count")))?;
            Ok(ModelScore {
                logprob: number(answer, "logprob")?,
                token_count: count(answer, "token-count"),
                tokens: tokens(answer),
            })
        };
        requests.iter().map(one).collect()
    }

    fn rank(&self, requests: &[RankRequest], _: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        let one = |request: &RankRequest| number(self.script.model("rank", &wire::rank_json(request))?, "value");
        requests.iter().map(one).collect()
    }

    fn next(&self, requests: &[NextRequest], _: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        let one = |request: &NextRequest| Ok(tokens(self.script.model("next", &wire::next_json(request))?));
        requests.iter().map(one).collect()
    }

    fn tokenize(&self, typed: &str) -> Result<Vec<u32>, ModelError> {
        let answer = self.script.model("tokenize", &json!(typed))?;
        let ids = answer.get("ids").and_then(Value::as_array).into_iter().flatten();
        Ok(ids.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect())
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError> {
        Ok(text(self.script.model("detokenize", &json!(ids))?, "text"))
    }

    fn render(&self, chat: &[ModelMessage], with_generation_prompt: bool) -> Result<String, ModelError> {
        let asked = wire::render_json(chat, with_generation_prompt);
        Ok(text(self.script.model("render", &asked)?, "text"))
    }
}

/// The script as the network. The rules of the grants are held as the real one holds them.
pub(crate) struct ScriptedHttp(pub Arc<Script>);

impl GuestHttp for ScriptedHttp {
    fn send(
        &self,
        request: &GuestRequest,
        rules: &[HttpRule],
        _cancel: &Cancel,
    ) -> Result<GuestResponse, GuestHttpError> {
        let url = ParsedUrl::parse(&request.url).map_err(|bad| GuestHttpError::Invalid(bad.to_string()))?;
        if !rules.iter().any(|rule| rule.covers(&url)) {
            return Err(GuestHttpError::Denied {
                capability: format!("http:{}", url.origin()),
                message: format!("no grant covers {}", url.as_str()),
            });
        }
        match self.0.failing() {
            None => {}
            Some(Failing::NotFound) => {
                return Ok(GuestResponse {
                    status: 404,
                    headers: Vec::new(),
                    url: request.url.clone(),
                    body: Vec::new(),
                });
            }
            Some(failing) => return Err(failing.http(&request.url)),
        }
        let asked = wire::http_json(request);
        let answer = self.0.answer(&self.0.host.http, "http", "request", &asked);
        let Some(answer) = answer else {
            return Err(GuestHttpError::Unreachable {
                url: request.url.clone(),
                reason: "the script has no such answer".to_owned(),
            });
        };
        match answer.get("error").and_then(Value::as_str) {
            None => {}
            Some("timed-out") => return Err(Failing::TimedOut.http(&request.url)),
            Some("denied") => return Err(Failing::Denied.http(&request.url)),
            Some(_) => return Err(Failing::Unavailable.http(&request.url)),
        }
        let body = match answer.get("body") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(other) => other.to_string().into_bytes(),
        };
        if body.len() as u64 > request.response_bytes_max {
            return Err(GuestHttpError::TooLarge {
                url: request.url.clone(),
                limit_bytes: request.response_bytes_max,
            });
        }
        let headers = answer.get("headers").and_then(Value::as_object).into_iter().flatten();
        Ok(GuestResponse {
            status: u16::try_from(count(answer, "status")).unwrap_or(200).max(100),
            headers: headers
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            url: request.url.clone(),
            body,
        })
    }
}

/// The script as other programs; dlm's own compiler, which no guest can name, is a real one.
pub(crate) struct ScriptedProcess {
    pub script: Arc<Script>,
    pub compile: Compile,
    pub compiler: Arc<dyn Process>,
}

impl Process for ScriptedProcess {
    fn find(&self, program: &str) -> Option<PathBuf> {
        let is_scripted = self.script.host.process.iter().any(|answer| {
            let name = answer.get("run").and_then(|run| run.get("program"));
            name.and_then(Value::as_str) == Some(program)
        });
        is_scripted.then(|| Path::new("/scripted").join(program))
    }

    fn run(&self, command: &Command, timeout: Duration, cancel: &Cancel) -> Result<FinishedProcess, ProcessError> {
        if let Compile::Cached { program, .. } | Compile::Apart { program } = &self.compile
            && *program == command.program
        {
            return self.compiler.run(command, timeout, cancel);
        }
        let program = command.program.clone();
        let asked = wire::run_json(command);
        let refused = |text: &str| ProcessError::Start {
            program: program.clone(),
            source: std::io::Error::other(text.to_owned()),
        };
        match self.script.failing() {
            None => {}
            Some(Failing::TimedOut) => return Err(ProcessError::TimedOut { program, timeout }),
            Some(Failing::Cancelled) => return Err(ProcessError::Cancelled { program }),
            Some(_) => return Err(refused("as the test wants")),
        }
        let answer = self.script.answer(&self.script.host.process, "process", "run", &asked);
        let answer = answer.ok_or_else(|| refused("the script has no such answer"))?;
        if answer.get("error").and_then(Value::as_str) == Some("timed-out") {
            return Err(ProcessError::TimedOut { program, timeout });
        }
        Ok(FinishedProcess {
            status: answer
                .get("status")
                .and_then(Value::as_i64)
                .and_then(|status| i32::try_from(status).ok())
                .unwrap_or_default(),
            stdout: text(answer, "stdout").into_bytes(),
            stderr: text(answer, "stderr").into_bytes(),
        })
    }

    fn start(&self, command: &Command) -> Result<Box<dyn Running>, ProcessError> {
        Err(ProcessError::Start {
            program: command.program.clone(),
            source: std::io::Error::other("a case starts no server"),
        })
    }
}

/// The script as the key store.
pub(crate) struct ScriptedSecrets(pub Arc<Script>);

impl Secrets for ScriptedSecrets {
    fn find(&self, name: &str) -> Result<Option<String>, String> {
        Ok(self.0.host.secrets.get(name).cloned())
    }
}
