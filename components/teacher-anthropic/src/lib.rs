//! The teacher `anthropic:<model>`: Anthropic's messages.
//!
//! Invariants: the key is attached by the host and never seen here; a request is repeated only to leave out a parameter
//! that the model refused by name.

mod wire;

use dlm_plugin::http::Request as HttpRequest;
use dlm_plugin::openai::Habits;
use dlm_plugin::secrets::Secret;
use dlm_plugin::teacher::{self, Completion, Info, Request, Teacher};
use dlm_plugin::{Error, config, log};

const BASE_URL: &str = "https://api.anthropic.com";
const KEY: &str = "ANTHROPIC_API_KEY";
const TIMEOUT_MS: u32 = 120_000;
/// Requests side by side that the service takes well.
const CONCURRENCY_MAX: u32 = 8;

struct Anthropic {
    model: String,
    url: String,
    key: Secret,
    habits: Habits,
}

impl Teacher for Anthropic {
    fn open(argument: &str) -> Result<Self, Error> {
        let model = teacher::needed("anthropic", "a model", "claude-sonnet-4-5", argument)?;
        let base = config::text("base-url")?.unwrap_or_else(|| BASE_URL.to_owned());
        let base = base.trim_end_matches('/').trim_end_matches("/v1");
        Ok(Anthropic {
            model: model.to_owned(),
            url: format!("{base}/v1/messages"),
            key: teacher::key(&format!("anthropic:{model}"), KEY)?,
            habits: Habits::default(),
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity(self.name(), &self.url),
            supports_seed: false,
            max_concurrency: CONCURRENCY_MAX,
        }
    }

    fn complete(&mut self, request: &Request) -> Result<Completion, Error> {
        let who = self.name();
        for requests in 1.. {
            let answer = HttpRequest::post(&self.url)
                .secret("x-api-key", "", &self.key)
                .header("anthropic-version", wire::VERSION)
                .json(&wire::body(&self.model, request, &self.habits))
                .timeout_ms(TIMEOUT_MS)
                .send()?;
            if answer.is_success() {
                return wire::completion(&who, &answer.json(&who)?, requests);
            }
            if !self.habits.learn(&answer, &wire::PARAMETERS) {
                return Err(answer.refusal(&who));
            }
            log::info(&format!(
                "asking again without what the model refused: {}",
                answer.excerpt()
            ));
        }
        unreachable!("each of the parameters is refused once")
    }
}

impl Anthropic {
    fn name(&self) -> String {
        format!("anthropic:{}", self.model)
    }
}

dlm_plugin::export_teacher!(Anthropic);
