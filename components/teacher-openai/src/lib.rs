//! The teacher `openai:<model>`: OpenAI's chat completions.
//!
//! Invariants: the key is attached by the host and never seen here; a request is repeated only to leave out a parameter
//! that the model refused by name.

use dlm_plugin::http::Request as HttpRequest;
use dlm_plugin::openai::{self, Habits, PARAMETERS};
use dlm_plugin::secrets::Secret;
use dlm_plugin::teacher::{self, Completion, Info, Request, Teacher};
use dlm_plugin::{Error, config, log};

const BASE_URL: &str = "https://api.openai.com/v1";
const KEY: &str = "OPENAI_API_KEY";
const TIMEOUT_MS: u32 = 120_000;
/// Requests side by side that the service takes well.
const CONCURRENCY_MAX: u32 = 8;

struct OpenAi {
    model: String,
    url: String,
    key: Secret,
    habits: Habits,
}

impl Teacher for OpenAi {
    fn open(argument: &str) -> Result<Self, Error> {
        let model = teacher::needed("openai", "a model", "gpt-4o-mini", argument)?;
        let base = config::text("base-url")?.unwrap_or_else(|| BASE_URL.to_owned());
        Ok(OpenAi {
            model: model.to_owned(),
            url: format!("{}/chat/completions", base.trim_end_matches('/')),
            key: teacher::key(&format!("openai:{model}"), KEY)?,
            habits: Habits::default(),
        })
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity(self.name(), &self.url),
            supports_seed: true,
            max_concurrency: CONCURRENCY_MAX,
        }
    }

    fn complete(&mut self, request: &Request) -> Result<Completion, Error> {
        let who = self.name();
        for requests in 1.. {
            let answer = HttpRequest::post(&self.url)
                .secret("authorization", "Bearer ", &self.key)
                .json(&self.habits.body(&self.model, request))
                .timeout_ms(TIMEOUT_MS)
                .send()?;
            if answer.is_success() {
                return openai::completion(&who, &answer.json(&who)?, requests);
            }
            if !self.habits.learn(&answer, &PARAMETERS) {
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

impl OpenAi {
    fn name(&self) -> String {
        format!("openai:{}", self.model)
    }
}

dlm_plugin::export_teacher!(OpenAi);
