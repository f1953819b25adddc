//! The import `model`: requests to the engine, checked against the grants and counted in tokens.

use std::sync::Arc;

use dlm_core::inert::{cut, inert_line};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelError, ModelFinish, ModelMessage, ModelPrompt, ModelRole, ModelSampling, ModelToken,
    ModelWeights, NextRequest, RankRequest, ScoreRequest,
};
use dlm_packages::limits::LimitName;
use wasmtime::component::Resource;

use super::wit::model;
use super::{State, Stop, WitError};
use crate::limits::PassedLimit;

/// Longest selector shown in a refusal.
const SHOWN_BYTES_MAX: usize = 200;
const REQUESTS_MAX: usize = 4096;

/// A model that a guest opened.
pub struct Handle(Arc<dyn Model>);

type Answer<T> = wasmtime::Result<Result<T, WitError>>;

impl State {
    fn model(&self, handle: &Resource<Handle>) -> wasmtime::Result<Arc<dyn Model>> {
        Ok(Arc::clone(&self.table.get(handle)?.0))
    }

    /// Asks a model, counting `requests` of it; `tokens` says what the answer cost.
    fn ask<T>(
        &mut self,
        handle: &Resource<Handle>,
        requests: usize,
        work: impl FnOnce(&dyn Model, &dlm_core::Cancel) -> Result<T, ModelError>,
        tokens: impl FnOnce(&T) -> u64,
    ) -> Answer<T> {
        if requests > REQUESTS_MAX {
            let message = format!("more than {REQUESTS_MAX} requests in one call");
            return Ok(Err(WitError::InvalidInput(message)));
        }
        let allowed = self.new.limits.tokens;
        if self.used.model_tokens >= allowed {
            let text = format!("{allowed} tokens of models");
            return Err(Stop::trap(PassedLimit::raisable(LimitName::Tokens, allowed, text)));
        }
        let model = self.model(handle)?;
        self.used.model_requests += requests as u64;
        let answer = self.in_host(|state| work(&*model, &state.new.ports.cancel));
        match answer {
            Ok(answer) => {
                self.used.model_tokens = self.used.model_tokens.saturating_add(tokens(&answer));
                Ok(Ok(answer))
            }
            Err(ModelError::Cancelled) => Err(wasmtime::Error::new(Stop::Cancelled)),
            Err(error) => Ok(Err(wire_error(error))),
        }
    }

    fn open(
        &mut self,
        selector: Option<&str>,
        find: impl FnOnce(&State) -> Result<Arc<dyn Model>, ModelError>,
    ) -> Answer<Resource<Handle>> {
        if !self.new.grants.allows_model(selector) {
            let shown = inert_line(&cut(selector.unwrap_or("current"), SHOWN_BYTES_MAX));
            return Ok(Err(self.denied(format!("model:{shown}"), "this model is not granted")));
        }
        match self.in_host(|state| find(state)) {
            Ok(model) => Ok(Ok(self.table.push(Handle(model))?)),
            Err(ModelError::Cancelled) => Err(wasmtime::Error::new(Stop::Cancelled)),
            Err(error) => Ok(Err(wire_error(error))),
        }
    }
}

fn wire_error(error: ModelError) -> WitError {
    match error {
        ModelError::InvalidInput(message) => WitError::InvalidInput(message),
        ModelError::Unsupported(message) => WitError::Unsupported(message),
        ModelError::Unavailable(message) => WitError::Unavailable(message),
        ModelError::NotFound(message) => WitError::NotFound(message),
        ModelError::Cancelled => WitError::Cancelled,
        ModelError::Failed(message) => WitError::Failed(message),
    }
}

fn weights(weights: model::Weights) -> ModelWeights {
    match weights {
        model::Weights::Base => ModelWeights::Base,
        model::Weights::Adapter => ModelWeights::Adapter,
    }
}

fn message(message: model::Message) -> ModelMessage {
    ModelMessage {
        role: match message.role {
            model::Role::System => ModelRole::System,
            model::Role::User => ModelRole::User,
            model::Role::Assistant => ModelRole::Assistant,
        },
        content: message.content,
    }
}

fn prompt(prompt: model::Prompt) -> ModelPrompt {
    match prompt {
        model::Prompt::Raw(text) => ModelPrompt::Raw(text),
        model::Prompt::Chat(chat) => ModelPrompt::Chat(chat.into_iter().map(message).collect()),
    }
}

fn sampling(sampling: model::Sampling) -> ModelSampling {
    ModelSampling {
        new_tokens_max: sampling.max_new_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        seed: sampling.seed,
        stop: sampling.stop,
    }
}

fn tokens(tokens: Vec<ModelToken>) -> Vec<model::Token> {
    let token = |token: ModelToken| model::Token {
        id: token.id,
        text: token.text,
        logprob: token.logprob,
    };
    tokens.into_iter().map(token).collect()
}

impl model::Host for State {
    fn current(&mut self) -> Answer<Resource<Handle>> {
        self.open(None, |state| state.new.ports.models.current())
    }

    fn named(&mut self, selector: String) -> Answer<Resource<Handle>> {
        self.open(Some(&selector), |state| state.new.ports.models.named(&selector))
    }
}

impl model::HostHandle for State {
    fn info(&mut self, handle: Resource<Handle>) -> wasmtime::Result<model::Info> {
        let info = self.model(&handle)?.info();
        Ok(model::Info {
            name: info.name,
            revision: info.revision,
            architecture: info.architecture,
            context_length: info.context_length,
            vocabulary_size: info.vocabulary_size,
            has_adapter: info.has_adapter,
            adapter_version: info.adapter_version,
            has_chat_template: info.has_chat_template,
        })
    }

    fn generate(
        &mut self,
        handle: Resource<Handle>,
        requests: Vec<model::GenerateRequest>,
    ) -> Answer<Vec<model::Generation>> {
        let asked: Vec<GenerateRequest> = requests
            .into_iter()
            .map(|request| GenerateRequest {
                prompt: prompt(request.prompt),
                weights: weights(request.weights),
                sampling: sampling(request.sampling),
            })
            .collect();
        let made = self.ask(
            &handle,
            asked.len(),
            |model, cancel| model.generate(&asked, cancel),
            |made| {
                let cost = made
                    .iter()
                    .map(|one| u64::from(one.prompt_tokens) + u64::from(one.completion_tokens));
                cost.sum()
            },
        )?;
        Ok(made.map(|made| {
            let one = made.into_iter().map(|one| model::Generation {
                text: one.text,
                prompt_tokens: one.prompt_tokens,
                completion_tokens: one.completion_tokens,
                finish: match one.finish {
                    ModelFinish::Stop => model::Finish::Stop,
                    ModelFinish::Length => model::Finish::Length,
                },
            });
            one.collect()
        }))
    }

    fn score(&mut self, handle: Resource<Handle>, requests: Vec<model::ScoreRequest>) -> Answer<Vec<model::Score>> {
        let asked: Vec<ScoreRequest> = requests
            .into_iter()
            .map(|request| ScoreRequest {
                prompt: prompt(request.prompt),
                completion: request.completion,
                weights: weights(request.weights),
                is_per_token: request.per_token,
            })
            .collect();
        let scored = self.ask(
            &handle,
            asked.len(),
            |model, cancel| model.score(&asked, cancel),
            |scored| scored.iter().map(|one| u64::from(one.token_count)).sum(),
        )?;
        Ok(scored.map(|scored| {
            let one = scored.into_iter().map(|one| model::Score {
                logprob: one.logprob,
                token_count: one.token_count,
                tokens: tokens(one.tokens),
            });
            one.collect()
        }))
    }

    fn rank(&mut self, handle: Resource<Handle>, requests: Vec<model::RankRequest>) -> Answer<Vec<f64>> {
        let asked: Vec<RankRequest> = requests
            .into_iter()
            .map(|request| RankRequest {
                prompt: prompt(request.prompt),
                completion: request.completion,
            })
            .collect();
        let count = asked.len();
        self.ask(
            &handle,
            count,
            |model, cancel| model.rank(&asked, cancel),
            |ranks| ranks.len() as u64,
        )
    }

    fn next(&mut self, handle: Resource<Handle>, requests: Vec<model::NextRequest>) -> Answer<Vec<Vec<model::Token>>> {
        let asked: Vec<NextRequest> = requests
            .into_iter()
            .map(|request| NextRequest {
                prompt: prompt(request.prompt),
                weights: weights(request.weights),
                top: request.top,
            })
            .collect();
        let count = asked.len();
        let lists = self.ask(
            &handle,
            count,
            |model, cancel| model.next(&asked, cancel),
            |lists| lists.len() as u64,
        )?;
        Ok(lists.map(|lists| lists.into_iter().map(tokens).collect()))
    }

    fn tokenize(&mut self, handle: Resource<Handle>, text: String) -> Answer<Vec<u32>> {
        self.ask(&handle, 1, |model, _| model.tokenize(&text), |_| 0)
    }

    fn detokenize(&mut self, handle: Resource<Handle>, ids: Vec<u32>) -> Answer<String> {
        self.ask(&handle, 1, |model, _| model.detokenize(&ids), |_| 0)
    }

    fn render(
        &mut self,
        handle: Resource<Handle>,
        chat: Vec<model::Message>,
        add_generation_prompt: bool,
    ) -> Answer<String> {
        let chat: Vec<ModelMessage> = chat.into_iter().map(message).collect();
        self.ask(&handle, 1, |model, _| model.render(&chat, add_generation_prompt), |_| 0)
    }

    fn drop(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
