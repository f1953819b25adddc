//! The ports of a run with a tape behind them: whatever they answer an instance is kept for its case.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelFinish, ModelGeneration, ModelInfo, ModelMessage,
    ModelScore, ModelToken, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::ports::process::{Command, FinishedProcess, Process, ProcessError, Running};
use dlm_core::ports::secrets::Secrets;
use serde_json::{Map, Value, json};

use super::Tape;
use crate::ports::Ports;
use crate::wire;

/// The same ports, with everything that they answer on the tape.
pub(super) fn taped(ports: &Ports, tape: &Arc<Tape>) -> Ports {
    let tape = || Arc::clone(tape);
    Ports {
        process: Arc::new(TapedProcess(Arc::clone(&ports.process), tape())),
        http: Arc::new(TapedHttp(Arc::clone(&ports.http), tape())),
        models: Arc::new(TapedModels(Arc::clone(&ports.models), tape())),
        secrets: Arc::new(TapedSecrets(Arc::clone(&ports.secrets), tape())),
        ..ports.clone()
    }
}

/// An answer under the key of its request.
fn answer(key: &str, request: Value, answered: Value) -> Value {
    let mut whole = Map::from_iter([(key.to_owned(), request)]);
    if let Value::Object(answered) = answered {
        whole.extend(answered);
    }
    Value::Object(whole)
}

struct TapedModels(Arc<dyn Models>, Arc<Tape>);

impl TapedModels {
    fn taped(&self, model: Result<Arc<dyn Model>, ModelError>) -> Result<Arc<dyn Model>, ModelError> {
        let model = model?;
        self.1.add("model", json!({ "info": wire::info_json(&model.info()) }));
        Ok(Arc::new(TapedModel(model, Arc::clone(&self.1))))
    }
}

impl Models for TapedModels {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        self.taped(self.0.current())
    }

    fn named(&self, selector: &str) -> Result<Arc<dyn Model>, ModelError> {
        self.taped(self.0.named(selector))
    }
}

struct TapedModel(Arc<dyn Model>, Arc<Tape>);

impl TapedModel {
    /// Keeps the answers to several requests, or the one failure of all of them.
    fn keep<R, T>(
        &self,
        key: &str,
        requests: &[R],
        done: &Result<Vec<T>, ModelError>,
        request: impl Fn(&R) -> Value,
        told: impl Fn(&T) -> Value,
    ) {
        match done {
            Ok(answers) => {
                for (asked, answered) in requests.iter().zip(answers) {
                    self.1.add("model", answer(key, request(asked), told(answered)));
                }
            }
            Err(error) => {
                for asked in requests {
                    self.1
                        .add("model", answer(key, request(asked), json!({ "error": word(error) })));
                }
            }
        }
    }

    fn keep_one<T>(&self, key: &str, request: Value, done: &Result<T, ModelError>, told: impl Fn(&T) -> Value) {
        let answered = match done {
            Ok(answered) => told(answered),
            Err(error) => json!({ "error": word(error) }),
        };
        self.1.add("model", answer(key, request, answered));
    }
}

/// The case of the contract that an error of a model is.
fn word(error: &ModelError) -> &'static str {
    match error {
        ModelError::InvalidInput(_) => "invalid-input",
        ModelError::Unsupported(_) => "unsupported",
        ModelError::Unavailable(_) => "unavailable",
        ModelError::NotFound(_) => "not-found",
        _ => "failed",
    }
}

fn tokens_json(tokens: &[ModelToken]) -> Value {
    tokens
        .iter()
        .map(|token| json!({ "id": token.id, "text": token.text, "logprob": token.logprob }))
        .collect()
}

impl Model for TapedModel {
    fn info(&self) -> ModelInfo {
        self.0.info()
    }

    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError> {
        let done = self.0.generate(requests, allowance);
        let told = |made: &ModelGeneration| {
            json!({
                "text": made.text,
                "prompt-tokens": made.prompt_tokens,
                "completion-tokens": made.completion_tokens,
                "finish": match made.finish {
                    ModelFinish::Length => "length",
                    ModelFinish::Stop => "stop",
                },
            })
        };
        self.keep("generate", requests, &done, wire::generate_json, told);
        done
    }

    fn score(&self, requests: &[ScoreRequest], allowance: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        let done = self.0.score(requests, allowance);
        let told = |score: &ModelScore| {
            json!({
                "logprob": score.logprob,
                "token-count": score.token_count,
                "tokens": tokens_json(&score.tokens),
            })
        };
        self.keep("score", requests, &done, wire::score_json, told);
        done
    }

    fn rank(&self, requests: &[RankRequest], allowance: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        let done = self.0.rank(requests, allowance);
        self.keep(
            "rank",
            requests,
            &done,
            wire::rank_json,
            |value| json!({ "value": value }),
        );
        done
    }

    fn next(&self, requests: &[NextRequest], allowance: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        let done = self.0.next(requests, allowance);
        let told = |tokens: &Vec<ModelToken>| json!({ "tokens": tokens_json(tokens) });
        self.keep("next", requests, &done, wire::next_json, told);
        done
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let done = self.0.tokenize(text);
        self.keep_one("tokenize", json!(text), &done, |ids| json!({ "ids": ids }));
        done
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError> {
        let done = self.0.detokenize(ids);
        self.keep_one("detokenize", json!(ids), &done, |text| json!({ "text": text }));
        done
    }

    fn render(&self, chat: &[ModelMessage], with_generation_prompt: bool) -> Result<String, ModelError> {
        let done = self.0.render(chat, with_generation_prompt);
        let asked = wire::render_json(chat, with_generation_prompt);
        self.keep_one("render", asked, &done, |text| json!({ "text": text }));
        done
    }
}

struct TapedHttp(Arc<dyn GuestHttp>, Arc<Tape>);

impl GuestHttp for TapedHttp {
    fn send(
        &self,
        request: &GuestRequest,
        rules: &[HttpRule],
        cancel: &Cancel,
    ) -> Result<GuestResponse, GuestHttpError> {
        let done = self.0.send(request, rules, cancel);
        let answered = match &done {
            Ok(response) => {
                let headers = response.headers.iter();
                let headers: Map<String, Value> = headers.map(|(name, value)| (name.clone(), json!(value))).collect();
                json!({
                    "status": response.status,
                    "headers": headers,
                    "body": String::from_utf8_lossy(&response.body),
                })
            }
            Err(GuestHttpError::TimedOut { .. }) => json!({ "error": "timed-out" }),
            // A grant is missing: the case has the same grants.
            Err(GuestHttpError::Denied { .. }) => return done,
            Err(_) => json!({ "error": "unavailable" }),
        };
        self.1
            .add("http", answer("request", wire::http_json(request), answered));
        done
    }
}

struct TapedProcess(Arc<dyn Process>, Arc<Tape>);

impl Process for TapedProcess {
    fn find(&self, program: &str) -> Option<PathBuf> {
        self.0.find(program)
    }

    fn run(&self, command: &Command, timeout: Duration, cancel: &Cancel) -> Result<FinishedProcess, ProcessError> {
        let done = self.0.run(command, timeout, cancel);
        let answered = match &done {
            Ok(finished) => json!({
                "status": finished.status,
                "stdout": String::from_utf8_lossy(&finished.stdout),
                "stderr": String::from_utf8_lossy(&finished.stderr),
            }),
            Err(ProcessError::TimedOut { .. }) => json!({ "error": "timed-out" }),
            Err(_) => json!({ "status": 127 }),
        };
        self.1.add("process", answer("run", wire::run_json(command), answered));
        done
    }

    fn start(&self, command: &Command) -> Result<Box<dyn Running>, ProcessError> {
        self.0.start(command)
    }
}

struct TapedSecrets(Arc<dyn Secrets>, Arc<Tape>);

impl Secrets for TapedSecrets {
    fn find(&self, name: &str) -> Result<Option<String>, String> {
        let found = self.0.find(name);
        if let Ok(Some(value)) = &found {
            self.1.take_secret(name, value);
        }
        found
    }

    fn variable(&self, name: &str) -> String {
        self.0.variable(name)
    }
}
