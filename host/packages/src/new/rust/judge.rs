//! {{does}}.

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

use dlm::plugin::log::{self, Level};
use dlm::plugin::types::{Error, Identity};
use exports::dlm::plugin::judge::{Guest, Info, Item, Mode, Verdict};

struct Plugin;

impl Guest for Plugin {
    /// Called once, before anything else.
    fn open(argument: String) -> Result<Info, Error> {
        // A panic explains itself in the log.
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        if !argument.is_empty() {
            return Err(Error::InvalidInput(format!("`{{name}}` takes no argument, found `{argument}`")));
        }
        Ok(Info {
            identity: Identity {
                name: "{{name}}".to_owned(),
                detail: None,
            },
            mode: Mode::Pointwise,
            suggested_threshold: 1.0,
            deterministic: true,
            max_batch: 64,
        })
    }

    /// One verdict per item, one score per candidate; higher is better.
    fn score(items: Vec<Item>) -> Result<Vec<Verdict>, Error> {
        let verdict = |item: Item| Verdict {
            scores: item.candidates.iter().map(|text| -(text.split_whitespace().count() as f64)).collect(),
            reasoning: None,
        };
        Ok(items.into_iter().map(verdict).collect())
    }
}

export!(Plugin);
