//! Any text is a chat template or an error.
//!
//! What is checked: nothing panics that is not caught, a rendering depends on nothing but its arguments, and the row of a
//! conversation carries loss inside itself alone.

use std::sync::OnceLock;

use dlm_model::chat::{ChatTemplate, Ending, Message, Thinking, TokenTexts};
use dlm_model::text::TextModel;

/// A small base, whose tokenizer reads what the templates write.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases/lib/tiny");

fn conversations() -> [Vec<Message>; 4] {
    let system = || Message::system("Be brief.");
    let question = || Message::user("Who keeps the lamp?\nÜ {{ x }}");
    let answer = || Message::assistant(" Odd<|im_end|> ");
    [
        vec![question()],
        vec![system(), question(), answer()],
        vec![question(), answer(), question(), answer()],
        vec![system(), Message::user("")],
    ]
}

fn tiny() -> &'static TextModel {
    static TEXT: OnceLock<TextModel> = OnceLock::new();
    TEXT.get_or_init(|| TextModel::from_dir(std::path::Path::new(TINY), None).expect("the tiny base is sound"))
}

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let tokens = TokenTexts {
        bos: "<s>".to_owned(),
        eos: "</s>".to_owned(),
        pad: String::new(),
        unk: "<unk>".to_owned(),
    };
    let Ok(template) = ChatTemplate::new("fuzzed", source, tokens, None) else {
        return;
    };
    let text = TextModel {
        template: Some(template),
        ..tiny().clone()
    };
    for messages in conversations() {
        for (ending, thinking) in [
            (Ending::Complete, Thinking::TemplateDefault),
            (Ending::GenerationPrompt, Thinking::On),
            (Ending::GenerationPrompt, Thinking::Off),
        ] {
            let rendered = text.render(&messages, ending, thinking);
            let Ok(rendered) = rendered else { continue };
            let again = text.render(&messages, ending, thinking);
            assert_eq!(again.ok(), Some(rendered), "the same arguments, another text");
        }
        if let Ok(row) = text.answer_row(&messages, Thinking::Off) {
            assert!(row.loss.start < row.loss.end && row.loss.end <= row.ids.len());
        }
    }
}
