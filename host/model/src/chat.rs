//! Chat templates: a base's own Jinja, rendered as the reference renders it.
//!
//! Invariants: rendering depends on nothing but its arguments (the clock that a template may ask for stands still); a
//! template can neither run for ever nor reach anything outside itself; its refusals (`raise_exception`) are errors
//! with the template's name. Which frame a family uses is `dialect`.

mod dialect;
mod filters;
mod json;
mod methods;
mod percent;

use std::sync::Arc;
use std::time::Duration;

use dlm_core::base::TemplateDialect;
use dlm_core::{Hints, Subject};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};

use crate::foreign::{self, Allowance, ForeignError};

pub use dialect::{DialectFacts, RECOGNIZED, detect_dialect, dialect_facts};
pub use filters::PINNED_DATE;

/// Bytes of a template's source; the longest published ones have about 30,000.
const TEMPLATE_BYTES_MAX: usize = 256 << 10;
/// Steps of the template engine per rendering. A conversation of 1000 turns needs about 100,000. It bounds the depth of what a
/// template can nest, too: a level takes at least five.
const FUEL: u64 = 500_000;
/// Stack of a rendering: a level of what a template nests takes some 600 bytes to drop or to write.
const RENDER_STACK: usize = 64 << 20;
/// Deepest calls of macros and blocks.
const CALLS_MAX: usize = 100;
/// Deepest nesting of lists and objects in what a template writes.
const DEPTH_MAX: usize = 64;
/// Bytes that a rendering may have beside four times those of its conversation.
const RENDERED_BYTES: usize = 1 << 20;
/// Name under which the one template is known to the engine.
const NAME: &str = "chat_template";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// The turn in a sentence.
    fn turn(self) -> &'static str {
        match self {
            Role::System => "the system prompt",
            Role::User => "the question",
            Role::Assistant => "the answer",
        }
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    fn value(&self) -> Value {
        let role = match self.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        Value::from_pairs([("role", role), ("content", self.content.as_str())])
    }

    /// Makes a turn of the system.
    pub fn system(content: impl Into<String>) -> Self {
        Self {
            role: Role::System,
            content: content.into(),
        }
    }

    /// Makes a turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: Role::User,
            content: content.into(),
        }
    }

    /// Makes a turn of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self {
            role: Role::Assistant,
            content: content.into(),
        }
    }
}

/// How a rendering ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the last turn, as it is.
    Complete,
    /// With the opening of the assistant's turn.
    GenerationPrompt,
}

/// Whether a reasoning base thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// Whatever the template does by itself.
    #[default]
    TemplateDefault,
    On,
    Off,
}

/// Texts of the special tokens that templates write.
#[derive(Clone, Debug, Default)]
pub struct TokenTexts {
    pub bos: String,
    pub eos: String,
    pub pad: String,
    pub unk: String,
}

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    /// Where it came from; errors say so.
    name: String,
    source: String,
    tokens: TokenTexts,
    dialect: Option<TemplateDialect>,
}

/// A template that cannot be compiled or refuses a conversation.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error("compile the chat template of `{name}`: {bytes} bytes, the limit is {TEMPLATE_BYTES_MAX}")]
    TooLarge { name: String, bytes: usize },
    #[error("compile the chat template of `{name}`: {cause}")]
    Compile { name: String, cause: String },
    #[error("render a conversation with the chat template of `{name}`: {cause}")]
    Render { name: String, cause: String },
    #[error(
        "find the answer in the conversation rendered by the chat template of `{name}`: the template changes it beyond recognition"
    )]
    AnswerNotFound { name: String },
    #[error("render a conversation with the chat template of `{name}`: it drops or changes {}", role.turn())]
    TurnChanged { name: String, role: Role },
    #[error("use the chat template of `{name}`: {cause}")]
    Foreign { name: String, cause: ForeignError },
    #[error("render a training row: the conversation does not end with an answer of the assistant")]
    NoAnswer,
}

impl Hints for ChatError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ChatError::NoAnswer => Vec::new(),
            ChatError::Foreign {
                cause: ForeignError::Thread(_),
                ..
            } => vec!["free memory, or raise the limits of this shell (`ulimit -v`, `ulimit -u`)".to_owned()],
            ChatError::TurnChanged { role: Role::System, .. } => {
                vec![
                    "take `system_prompt` out of the document, or choose a base whose template has a system turn"
                        .to_owned(),
                ]
            }
            ChatError::TurnChanged { .. } => {
                vec![
                    "look for markup that the template acts on, such as `</think>`, and write it differently"
                        .to_owned(),
                ]
            }
            _ => vec!["choose a registry base: its template is known to work".to_owned()],
        }
    }
}

fn environment(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(methods::unknown);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(CALLS_MAX);
    filters::install(&mut environment);
    let source = filters::without_generation_tags(&filters::with_line_feeds(source));
    environment.add_template_owned(NAME, percent::as_filter(&source))?;
    Ok(environment)
}

/// The message of an engine error with its line and its cause.
fn describe(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl ChatTemplate {
    /// Compiles a template. `name` says where it came from.
    ///
    /// **Errors:** a template that is too long or does not compile.
    pub fn new(
        name: impl Into<String>,
        source: impl Into<String>,
        tokens: TokenTexts,
        dialect: Option<TemplateDialect>,
    ) -> Result<Self, ChatError> {
        let (name, source) = (name.into(), source.into());
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(ChatError::TooLarge {
                name,
                bytes: source.len(),
            });
        }
        let failed = |cause: String| ChatError::Compile {
            name: name.clone(),
            cause,
        };
        let compiled = foreign::deeply(compiler_stack(&source), working(0), || environment(&source));
        let compiled = compiled.map_err(|cause| ChatError::Foreign {
            name: name.clone(),
            cause,
        })?;
        let environment = compiled.map_err(|error| failed(describe(&error)))?;
        Ok(Self {
            environment: Arc::new(environment),
            dialect: dialect.or_else(|| detect_dialect(&source)),
            name,
            source,
            tokens,
        })
    }

    /// Returns the template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns where the template came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the dialect that was given or recognized.
    pub fn dialect(&self) -> Option<TemplateDialect> {
        self.dialect
    }

    /// Renders a conversation.
    ///
    /// Gemma-2 has no system turn: its text goes in front of the first user turn, with a blank line between.
    ///
    /// **Errors:** the template's own refusal, or one that runs too long.
    pub fn render(&self, messages: &[Message], ending: Ending, thinking: Thinking) -> Result<String, ChatError> {
        let folded;
        let messages = if self.dialect == Some(TemplateDialect::Gemma2) {
            folded = fold_system(messages);
            &folded
        } else {
            messages
        };
        let settings = context! {
            messages => messages.iter().map(Message::value).collect::<Value>(),
            add_generation_prompt => ending == Ending::GenerationPrompt,
            tools => (),
            documents => (),
            bos_token => &self.tokens.bos,
            eos_token => &self.tokens.eos,
            pad_token => &self.tokens.pad,
            unk_token => &self.tokens.unk,
        };
        let settings = match thinking {
            Thinking::TemplateDefault => settings,
            Thinking::On => context! { enable_thinking => true, ..settings },
            Thinking::Off => context! { enable_thinking => false, ..settings },
        };
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        let failed = |cause: String| ChatError::Render {
            name: self.name.clone(),
            cause,
        };
        let rendered = foreign::deeply(RENDER_STACK, working(bytes), || {
            let template = self.environment.get_template(NAME);
            template.and_then(|template| template.render(settings))
        });
        let rendered = rendered.map_err(|cause| ChatError::Foreign {
            name: self.name.clone(),
            cause,
        })?;
        let rendered = rendered.map_err(|error| failed(describe(&error)))?;
        if rendered.len() > bytes.saturating_mul(4).saturating_add(RENDERED_BYTES) {
            let written = rendered.len();
            return Err(failed(format!(
                "it writes {written} bytes for a conversation of {bytes}"
            )));
        }
        Ok(rendered)
    }
}

/// Stack for compiling a source: two of its bytes nest once more, with less than 2 KiB a level.
fn compiler_stack(source: &str) -> usize {
    (2 << 20) + source.len() * 1024
}

/// What a template may use for a conversation of some bytes.
fn working(bytes: usize) -> Allowance {
    Allowance {
        what: "the chat template",
        bytes: bytes.saturating_mul(64).saturating_add(256 << 20),
        time: Duration::from_secs(20),
    }
}

/// Puts the text of all system turns in front of the first user turn.
fn fold_system(messages: &[Message]) -> Vec<Message> {
    let system: Vec<&str> = messages
        .iter()
        .filter(|m| m.role == Role::System)
        .map(|m| m.content.as_str())
        .collect();
    let mut rest: Vec<Message> = messages.iter().filter(|m| m.role != Role::System).cloned().collect();
    let preamble = system.join("\n\n");
    if preamble.is_empty() {
        return rest;
    }
    match rest.iter_mut().find(|message| message.role == Role::User) {
        Some(first) => first.content = format!("{preamble}\n\n{}", first.content),
        None => rest.insert(0, Message::user(preamble)),
    }
    rest
}
