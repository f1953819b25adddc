//! A trial of what a stranger wrote about text: tokenizer and chat template are read and used as dlm will use them.
//!
//! Invariants: run in a process of its own, whose end of any kind is the verdict; what is only refused (a template that wants
//! no system turn) is no fault here, and is told when it is met.

use std::path::Path;

use crate::chat::{ChatError, Ending, Message, Thinking};
use crate::gguf::GgufFile;
use crate::text::{TextError, TextModel};
use crate::tokenizer::TokenizerError;

/// Ids that are decoded one by one.
const IDS_TRIED: usize = 4096;
/// Characters of the longest text.
const LONG_CHARS: usize = 64 << 10;

/// Reads the textual part of a base or a reward model and uses all of it.
///
/// What is refused in words is sound as far as a trial goes: whoever reads it again is told the same.
///
/// **Errors**: a library that fails on it.
pub fn try_text(path: &Path) -> Result<(), TextError> {
    let Some(text) = read(path) else { return Ok(()) };
    for sample in samples() {
        try_sample(&text, &sample)?;
    }
    let step = text.tokenizer.vocab().div_ceil(IDS_TRIED).max(1);
    for id in (0..text.tokenizer.vocab()).step_by(step) {
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        judged(text.tokenizer.piece(id))?;
    }
    if text.template.is_some() {
        for messages in conversations() {
            try_conversation(&text, &messages)?;
        }
    }
    Ok(())
}

/// A result, unless it was refused.
fn judged<T>(result: Result<T, impl Into<TextError>>) -> Result<Option<T>, TextError> {
    match result.map_err(Into::into) {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (TextError::Tokenizer(TokenizerError::Foreign { .. }) | TextError::Chat(ChatError::Foreign { .. })),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}

fn read(path: &Path) -> Option<TextModel> {
    match path.is_dir() {
        true => TextModel::from_dir(path, None).ok(),
        false => TextModel::from_gguf(&GgufFile::open(path).ok()?, None).ok(),
    }
}

/// Texts of every kind: nothing, words, one letter many times, all of ASCII, other scripts, blanks, digits.
fn samples() -> Vec<String> {
    let ascii: String = (' '..='~').collect();
    let repeated = (' '..='~')
        .map(|c| c.to_string().repeat(64))
        .collect::<Vec<_>>()
        .join("\n");
    let mixed = "Hello, world! Ünïcode \u{1f469}\u{200d}\u{1f680} 日本語 عربي नमस्ते \u{0}\u{1b}\t\r\n  0123456789 ";
    vec![
        String::new(),
        "a".to_owned(),
        "aaaa b".to_owned(),
        ascii,
        repeated,
        mixed.to_owned(),
        mixed.chars().cycle().take(LONG_CHARS).collect(),
        "a".repeat(LONG_CHARS),
        " ".repeat(LONG_CHARS),
        "1".repeat(LONG_CHARS),
    ]
}

fn try_sample(text: &TextModel, sample: &str) -> Result<(), TextError> {
    let tokenizer = &text.tokenizer;
    if let Some(ids) = judged(tokenizer.encode(sample))? {
        judged(tokenizer.decode_all(&ids))?;
        judged(tokenizer.decode(&ids))?;
    }
    judged(tokenizer.encode_with_spans(sample))?;
    judged(tokenizer.encode_pair(sample, "b"))?;
    Ok(())
}

fn conversations() -> Vec<Vec<Message>> {
    let long = samples().swap_remove(6);
    let turns = |count: usize| {
        (0..count)
            .map(|turn| match turn % 2 {
                0 => Message::user(format!("question {turn}")),
                _ => Message::assistant(format!("answer {turn}")),
            })
            .collect::<Vec<_>>()
    };
    let mut all: Vec<Vec<Message>> = [1, 2, 3, 8, 101].map(turns).to_vec();
    let with_system = all
        .iter()
        .map(|turns| [vec![Message::system("Be brief.")], turns.clone()].concat());
    all.extend(with_system.collect::<Vec<_>>());
    all.push(vec![Message::user("")]);
    all.push(vec![Message::user(long)]);
    all
}

fn try_conversation(text: &TextModel, messages: &[Message]) -> Result<(), TextError> {
    for ending in [Ending::Complete, Ending::GenerationPrompt] {
        for thinking in [Thinking::TemplateDefault, Thinking::On, Thinking::Off] {
            if let Some(rendered) = judged(text.render(messages, ending, thinking))? {
                judged(text.tokenizer.encode(&rendered))?;
            }
        }
    }
    Ok(())
}
