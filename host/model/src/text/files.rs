//! The textual part of a base as files, for the adapter directory: whoever loads the adapter needs nothing else.

use serde_json::{Map, Value, json};

use super::{TextError, TextModel};
use crate::chat::ChatTemplate;
use crate::tokenizer::TEMPLATE_FILE;

impl TextModel {
    /// Returns name and content of the tokenizer files: `tokenizer.json`, `tokenizer_config.json` and, with a
    /// template, `chat_template.jinja`. Reading them back gives the same ids.
    ///
    /// **Errors:** a pipeline that cannot be written.
    pub fn files(&self) -> Result<Vec<(&'static str, String)>, TextError> {
        let mut files = vec![
            ("tokenizer.json", self.tokenizer.to_json()?),
            (
                "tokenizer_config.json",
                format!("{:#}\n", Value::Object(self.settings())),
            ),
            (
                "generation_config.json",
                format!("{:#}\n", json!({ "eos_token_id": self.stops.ids })),
            ),
        ];
        if let Some(template) = &self.template {
            files.push((TEMPLATE_FILE, ChatTemplate::source(template).to_owned()));
        }
        Ok(files)
    }

    fn settings(&self) -> Map<String, Value> {
        let specials = &self.tokenizer.specials;
        let roles = [
            ("bos_token", specials.bos),
            ("eos_token", specials.eos),
            ("pad_token", specials.pad),
            ("unk_token", specials.unk),
        ];
        let mut settings = Map::new();
        settings.insert("add_bos_token".to_owned(), specials.add_bos.into());
        settings.insert("clean_up_tokenization_spaces".to_owned(), false.into());
        for (role, id) in roles {
            let text = id.and_then(|id| self.tokenizer.token(id));
            settings.insert(role.to_owned(), text.into());
        }
        settings.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        settings
    }
}
