//! The teacher `vllm-server:<url>`: any server that speaks OpenAI's chat protocol.
//!
//! Invariants: only the typed origin is asked; a key is attached by the host and never seen here.

mod address;

use dlm_plugin::http::{Answer, Request as HttpRequest};
use dlm_plugin::openai::{self, Habits, PARAMETERS};
use dlm_plugin::secrets::{self, Secret};
use dlm_plugin::serde_json::Value;
use dlm_plugin::teacher::{self, Completion, Info, Request, Teacher};
use dlm_plugin::{Error, error, log};

const KEY: &str = "VLLM_API_KEY";
const TIMEOUT_MS: u32 = 120_000;
const LIST_TIMEOUT_MS: u32 = 30_000;
/// Requests side by side; the server batches them.
const CONCURRENCY_MAX: u32 = 8;
/// Named where the server lists no model.
const MODEL_DEFAULT: &str = "dlm-synth";

struct Server {
    /// Without a final `/v1`.
    base: String,
    key: Option<Secret>,
    /// What the server calls its model, from the first request on.
    model: Option<String>,
    habits: Habits,
}

impl Teacher for Server {
    fn open(argument: &str) -> Result<Self, Error> {
        let url = teacher::needed("vllm-server", "an address", "http://127.0.0.1:8000", argument)?;
        let key = match secrets::get(KEY) {
            Ok(key) => Some(key),
            // A server of one's own usually wants no key; one that does says so with 401.
            Err(Error::NotFound(_) | Error::Denied(_)) => None,
            Err(other) => return Err(other),
        };
        Ok(Server {
            base: address::base(url)?,
            key,
            model: None,
            habits: Habits::default(),
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity(self.name(), "a server that speaks OpenAI's chat protocol"),
            supports_seed: true,
            max_concurrency: CONCURRENCY_MAX,
        }
    }

    fn complete(&mut self, request: &Request) -> Result<Completion, Error> {
        let who = self.name();
        let model = self.model()?;
        for requests in 1.. {
            let body = self.habits.body(&model, request);
            let post = HttpRequest::post(&format!("{}/v1/chat/completions", self.base)).json(&body);
            let answer = self.send(post.timeout_ms(TIMEOUT_MS))?;
            if answer.is_success() {
                return openai::completion(&who, &answer.json(&who)?, requests);
            }
            if !self.habits.learn(&answer, &PARAMETERS) {
                return Err(self.refusal(&answer));
            }
            log::info(&format!(
                "asking again without what the model refused: {}",
                answer.excerpt()
            ));
        }
        unreachable!("each of the parameters is refused once")
    }
}

impl Server {
    fn name(&self) -> String {
        format!("vllm-server:{}", self.base)
    }

    /// Sends a request with the key, where there is one.
    fn send<'a>(&'a self, request: HttpRequest<'a>) -> Result<Answer, Error> {
        match &self.key {
            Some(key) => request.secret("authorization", "Bearer ", key).send(),
            None => request.send(),
        }
    }

    /// The first model that the server lists, asked once.
    fn model(&mut self) -> Result<String, Error> {
        if let Some(known) = &self.model {
            return Ok(known.clone());
        }
        let get = HttpRequest::get(&format!("{}/v1/models", self.base)).timeout_ms(LIST_TIMEOUT_MS);
        let answer = self.send(get).map_err(|error| match error {
            Error::Failed(why) | Error::TimedOut(why) => {
                error!(
                    Unavailable,
                    "the model list of {} cannot be reached: {why}",
                    self.name()
                )
            }
            other => other,
        })?;
        let found = match answer.status {
            200..300 => listed(&answer.json(&self.name())?),
            404 => None,
            _ => return Err(self.refusal(&answer)),
        };
        let model = found.unwrap_or_else(|| MODEL_DEFAULT.to_owned());
        self.model = Some(model.clone());
        Ok(model)
    }

    fn refusal(&self, answer: &Answer) -> Error {
        match answer.refusal(&self.name()) {
            Error::Rejected(mut refused) if answer.status == 401 && self.key.is_none() => {
                refused
                    .message
                    .push_str(&format!("; if {} wants a key, set {KEY}", address::host(&self.base)));
                Error::Rejected(refused)
            }
            other => other,
        }
    }
}

fn listed(list: &Value) -> Option<String> {
    Some(list.pointer("/data/0/id")?.as_str()?.to_owned())
}

dlm_plugin::export_teacher!(Server);
