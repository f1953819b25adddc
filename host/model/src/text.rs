//! Everything textual of a base in one place: tokenizer, chat template, stop rules, rows for training.
//!
//! Invariants: text that a template produced is tokenized once and nothing is added to it; the two halves of a row are
//! never tokenized apart and glued; a row whose answer cannot be found is refused, never trained whole.

mod files;
mod rows;

use std::borrow::Cow;
use std::path::Path;

use dlm_core::base::TemplateDialect;
use dlm_core::{Hints, Subject};

use crate::chat::{ChatError, ChatTemplate, Ending, Message, Role, Thinking, TokenTexts, dialect_facts};
use crate::gguf::{GgufFile, Value};
use crate::tokenizer::{Specials, Tokenizer, TokenizerError, read_tokenizer_dir, template_file, tokenizer_from_gguf};

pub use rows::{LossRow, PromptMode};

/// What ends a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Ids, sorted.
    pub ids: Vec<u32>,
    /// Texts that are no single token; they end the generation when they appear in the decoded text and are cut off.
    pub texts: Vec<String>,
}

/// A base as far as text goes.
#[derive(Clone, Debug)]
pub struct TextModel {
    pub tokenizer: Tokenizer,
    /// Absent for bases that were never taught to chat; training on conversations refuses them.
    pub template: Option<ChatTemplate>,
    pub stops: Stops,
    /// The token that ends a turn of the assistant.
    pub end_of_turn: Option<u32>,
    /// Where it was read from; errors say so.
    pub name: String,
    /// Recognizes special tokens in turns and prose, as the reference does, which golden files are compared in; otherwise what
    /// an author wrote is text.
    pub reads_markup: bool,
}

/// A textual part of a base that cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error("render a conversation: `{name}` has no chat template")]
    NoTemplate { name: String },
    #[error("use an answer: it holds `{text}`, at which this base ends an answer")]
    StopInAnswer { text: String },
}

impl Hints for TextError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        match self {
            TextError::Tokenizer(error) => error.hints(),
            TextError::Chat(error) => error.hints(),
            TextError::NoTemplate { .. } => vec!["choose a registry base".to_owned()],
            TextError::StopInAnswer { text } => {
                vec![format!("write `{text}` differently, with a space in it for example")]
            }
        }
    }
}

fn token_texts(tokenizer: &Tokenizer, specials: &Specials) -> TokenTexts {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
    TokenTexts {
        bos: text(specials.bos),
        eos: text(specials.eos),
        pad: text(specials.pad),
        unk: text(specials.unk),
    }
}

fn stops(tokenizer: &Tokenizer, dialect: Option<TemplateDialect>, eos_ids: &[u32]) -> Stops {
    let mut stops = Stops {
        ids: eos_ids.to_vec(),
        texts: Vec::new(),
    };
    for text in dialect.map_or(&[][..], |dialect| dialect_facts(dialect).stops) {
        match tokenizer.id(text) {
            Some(id) => stops.ids.push(id),
            None => stops.texts.push((*text).to_owned()),
        }
    }
    stops.ids.sort_unstable();
    stops.ids.dedup();
    stops
}

impl TextModel {
    fn assemble(
        name: String,
        tokenizer: Tokenizer,
        template: Option<(String, String)>,
        eos_ids: &[u32],
        dialect: Option<TemplateDialect>,
    ) -> Result<Self, TextError> {
        let tokens = token_texts(&tokenizer, &tokenizer.specials);
        let template = match template {
            Some((from, source)) => Some(ChatTemplate::new(from, source, tokens, dialect)?),
            None => None,
        };
        let dialect = template.as_ref().and_then(ChatTemplate::dialect).or(dialect);
        let end_of_turn = dialect.and_then(|dialect| tokenizer.id(dialect_facts(dialect).end_of_turn));
        Ok(Self {
            stops: stops(&tokenizer, dialect, eos_ids),
            end_of_turn: end_of_turn.or(tokenizer.specials.eos),
            tokenizer,
            template,
            name,
            reads_markup: false,
        })
    }

    /// Reads the tokenizer files of a model or adapter directory. `dialect` is the registry's word; without it the
    /// template is looked at.
    ///
    /// **Errors:** no tokenizer, or files that contradict themselves.
    pub fn from_dir(dir: &Path, dialect: Option<TemplateDialect>) -> Result<Self, TextError> {
        let files = read_tokenizer_dir(dir)?;
        let template = files
            .chat_template
            .map(|(source, path)| (path.display().to_string(), source));
        let name = dir.display().to_string();
        Self::assemble(name, files.tokenizer, template, &files.eos_ids, dialect)
    }

    /// Rebuilds the textual part of a GGUF file. One without a chat template may have it beside itself, in the file that model
    /// directories keep it in.
    ///
    /// **Errors:** metadata from which no exact tokenizer follows, or a template that cannot be read or does not compile.
    pub fn from_gguf(file: &GgufFile, dialect: Option<TemplateDialect>) -> Result<Self, TextError> {
        let tokenizer = tokenizer_from_gguf(file)?;
        let name = file.path().display().to_string();
        let template = file.value("tokenizer.chat_template").and_then(Value::as_str);
        let template = match template {
            Some(source) => Some((name.clone(), source.to_owned())),
            None => template_file(file.path().parent().unwrap_or(Path::new(".")))?
                .map(|(source, path)| (path.display().to_string(), source)),
        };
        let mut eos_ids: Vec<u32> = tokenizer.specials.eos.into_iter().collect();
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            let id = file
                .value(key)
                .and_then(Value::as_u64)
                .and_then(|id| u32::try_from(id).ok());
            eos_ids.extend(id.filter(|id| tokenizer.token(*id).is_some()));
        }
        Self::assemble(name, tokenizer, template, &eos_ids, dialect)
    }

    /// Returns the dialect, when one is known.
    pub fn dialect(&self) -> Option<TemplateDialect> {
        self.template.as_ref().and_then(ChatTemplate::dialect)
    }

    /// Renders a conversation as text.
    ///
    /// **Errors:** no template, or the template's refusal.
    pub fn render(&self, messages: &[Message], ending: Ending, thinking: Thinking) -> Result<String, TextError> {
        let template = self.template.as_ref().ok_or_else(|| TextError::NoTemplate {
            name: self.name.clone(),
        })?;
        Ok(template.render(messages, ending, thinking)?)
    }

    /// Turns a conversation into ids; special tokens come from the template alone, the turns are text.
    ///
    /// **Errors:** the template's refusal, a turn that it drops or changes, or text that cannot be encoded.
    pub fn conversation_ids(
        &self,
        messages: &[Message],
        ending: Ending,
        thinking: Thinking,
    ) -> Result<Vec<u32>, TextError> {
        let marked = self.render_marked(&self.marked(messages)?, ending, thinking)?;
        Ok(self.tokenizer.encode_literal(&marked)?)
    }

    /// Turns a conversation into the ids that a generation continues. A base without a template gets the raw text of
    /// the last turn, after its bos if it has one.
    ///
    /// **Errors:** as [`conversation_ids`](Self::conversation_ids).
    pub fn prompt_ids(&self, messages: &[Message], thinking: Thinking) -> Result<Vec<u32>, TextError> {
        if self.template.is_some() {
            return self.conversation_ids(messages, Ending::GenerationPrompt, thinking);
        }
        let mut ids = self.leading_bos();
        ids.extend(self.text_ids(messages.last().map_or("", |message| message.content.as_str()))?);
        Ok(ids)
    }

    /// Turns what an author wrote into ids, none of them special.
    ///
    /// **Errors:** text that cannot be encoded.
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(self.tokenizer.encode_literal(&self.literal(text)?)?)
    }

    /// What an author wrote, with the texts of special tokens marked as text.
    pub(crate) fn literal<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, TextError> {
        match self.reads_markup {
            true => Ok(Cow::Borrowed(text)),
            false => Ok(self.tokenizer.literal(text)?),
        }
    }

    /// The turns with the texts of special tokens marked as text.
    fn marked(&self, messages: &[Message]) -> Result<Vec<Message>, TextError> {
        let marked = |message: &Message| {
            Ok(Message {
                content: self.literal(&message.content)?.into_owned(),
                ..message.clone()
            })
        };
        messages.iter().map(marked).collect()
    }

    /// Renders marked turns, and sees that each is there, whole; from earlier answers a template may cut what was thought.
    fn render_marked(&self, messages: &[Message], ending: Ending, thinking: Thinking) -> Result<String, TextError> {
        let text = self.render(messages, ending, thinking)?;
        let last = messages.len().saturating_sub(1);
        let is_lost = |(place, message): &(usize, &Message)| {
            (message.role != Role::Assistant || *place == last) && !text.contains(message.content.trim())
        };
        if let Some((_, message)) = messages.iter().enumerate().find(is_lost) {
            let name = self.template.as_ref().map_or(self.name.as_str(), ChatTemplate::name);
            return Err(ChatError::TurnChanged {
                name: name.to_owned(),
                role: message.role,
            }
            .into());
        }
        Ok(text)
    }

    /// Turns plain text into ids, after bos where the tokenizer adds one; special tokens in it are recognized.
    ///
    /// **Errors:** text that cannot be encoded.
    pub fn plain_ids(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.leading_bos();
        ids.extend(self.tokenizer.encode(text)?);
        Ok(ids)
    }

    /// The ids in front of plain text: bos where the tokenizer adds one.
    pub(crate) fn leading_bos(&self) -> Vec<u32> {
        let specials = &self.tokenizer.specials;
        specials.bos.filter(|_| specials.add_bos).into_iter().collect()
    }
}
