//! Between the records of the port and those of the engine.

use dlm_core::Cancel;
use dlm_core::ports::model::{
    GenerateRequest, ModelError, ModelFinish, ModelGeneration, ModelMessage, ModelPrompt, ModelRole, ModelToken,
};
use dlm_model::chat::{Message, Role, Thinking};
use dlm_model::generate::{GenerateError, GenerateOptions};
use dlm_model::sampling::Sampling;
use dlm_model::text::{Stops, TextError, TextModel};
use dlm_model::{GenerateJob, Generation, ScoreError, StopReason};

use super::open::said;

/// Texts that may end an answer; more are a mistake.
const STOPS_MAX: usize = 64;

pub(super) fn messages(chat: &[ModelMessage]) -> Vec<Message> {
    let message = |message: &ModelMessage| Message {
        role: match message.role {
            ModelRole::System => Role::System,
            ModelRole::User => Role::User,
            ModelRole::Assistant => Role::Assistant,
        },
        content: message.content.clone(),
    };
    chat.iter().map(message).collect()
}

/// The ids of a prompt.
///
/// **Errors:** a chat for a model without template, or one that the template refuses.
pub(super) fn prompt_ids(text: &TextModel, prompt: &ModelPrompt) -> Result<Vec<u32>, ModelError> {
    match prompt {
        ModelPrompt::Raw(raw) => text.plain_ids(raw).map_err(text_error),
        ModelPrompt::Chat(_) if text.template.is_none() => Err(no_template(text)),
        ModelPrompt::Chat(chat) => text
            .prompt_ids(&messages(chat), Thinking::default())
            .map_err(text_error),
    }
}

fn no_template(text: &TextModel) -> ModelError {
    text_error(TextError::NoTemplate {
        name: text.name.clone(),
    })
}

/// The ids of a completion: after a chat with the token that ends the turn.
pub(super) fn completion_ids(text: &TextModel, prompt: &ModelPrompt, completion: &str) -> Result<Vec<u32>, ModelError> {
    let is_chat = matches!(prompt, ModelPrompt::Chat(_));
    let encoded = match is_chat {
        true => text.text_ids(completion),
        false => text.tokenizer.encode(completion).map_err(TextError::from),
    };
    let mut ids = encoded.map_err(text_error)?;
    if is_chat {
        let end = text.end_of_turn.ok_or_else(|| {
            ModelError::Unsupported(format!(
                "`{}` has no token that ends a turn, so a chat has no score",
                text.name
            ))
        })?;
        ids.push(end);
    }
    Ok(ids)
}

pub(super) fn text_error(error: TextError) -> ModelError {
    match error {
        TextError::NoTemplate { .. } => ModelError::Unsupported(said(error.into())),
        error => ModelError::InvalidInput(said(error.into())),
    }
}

/// Makes the engine's job of a request; `seed` serves where the request has none.
pub(super) fn job(
    text: &TextModel,
    request: &GenerateRequest,
    seed: u64,
    cancel: &Cancel,
) -> Result<GenerateJob, ModelError> {
    let asked = &request.sampling;
    if asked.new_tokens_max == 0 {
        return Err(ModelError::InvalidInput(
            "`max-new-tokens` is 0, expected 1 or more".to_owned(),
        ));
    }
    if asked.stop.len() > STOPS_MAX {
        let found = asked.stop.len();
        return Err(ModelError::InvalidInput(format!(
            "{found} stop texts were given, at most {STOPS_MAX} are allowed"
        )));
    }
    let mut texts = text.stops.texts.clone();
    texts.extend(asked.stop.iter().filter(|stop| !stop.is_empty()).cloned());
    Ok(GenerateJob {
        prompt: prompt_ids(text, &request.prompt)?,
        options: GenerateOptions {
            sampling: Sampling {
                temperature: asked.temperature,
                top_k: asked.top_k.map(|k| k as usize),
                top_p: asked.top_p,
                repetition_penalty: None,
                seed: asked.seed.unwrap_or(seed),
            },
            tokens_max: asked.new_tokens_max as usize,
            stops: Stops {
                ids: text.stops.ids.clone(),
                texts,
            },
            cancel: cancel.clone(),
        },
    })
}

/// Makes the port's record of an answer.
pub(super) fn generation(answer: Generation) -> Result<ModelGeneration, ModelError> {
    let finish = match answer.reason {
        StopReason::Eos | StopReason::Stop => ModelFinish::Stop,
        StopReason::Length => ModelFinish::Length,
        StopReason::Cancelled => return Err(ModelError::Cancelled),
    };
    Ok(ModelGeneration {
        prompt_tokens: count(answer.prompt_tokens),
        completion_tokens: count(answer.tokens.len()),
        text: answer.text,
        finish,
    })
}

pub(super) fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

pub(super) fn generate_error(error: GenerateError) -> ModelError {
    match error {
        GenerateError::Refused => ModelError::Tokens,
        GenerateError::EmptyPrompt | GenerateError::TooLong { .. } | GenerateError::Sampling(_) => {
            ModelError::InvalidInput(error.to_string())
        }
        error => ModelError::Failed(error.to_string()),
    }
}

pub(super) fn score_error(error: ScoreError) -> ModelError {
    match error {
        ScoreError::EmptyPrompt | ScoreError::EmptyCompletion | ScoreError::TooLong { .. } => {
            ModelError::InvalidInput(error.to_string())
        }
        ScoreError::Cancelled => ModelError::Cancelled,
        ScoreError::Engine(error) if error.is_cancelled() => ModelError::Cancelled,
        error => ModelError::Failed(error.to_string()),
    }
}

pub(super) fn token(text: &TextModel, id: u32, logprob: f32) -> Result<ModelToken, ModelError> {
    let piece = text.tokenizer.piece(id);
    Ok(ModelToken {
        id,
        text: piece.map_err(|error| text_error(error.into()))?,
        logprob,
    })
}
