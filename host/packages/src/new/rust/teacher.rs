//! {{does}}.

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

use dlm::plugin::log::{self, Level};
use dlm::plugin::types::{Error, Identity};
use exports::dlm::plugin::teacher::{Completion, Guest, Info, Request, Usage};

struct Plugin;

impl Guest for Plugin {
    /// Called once for each worker, before anything else.
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
            supports_seed: false,
            max_concurrency: 1,
        })
    }

    /// One answer to one prompt.
    fn complete(request: Request) -> Result<Completion, Error> {
        Ok(Completion {
            text: format!("You asked: {}", request.user),
            truncated: false,
            usage: Usage {
                prompt_tokens: 0,
                completion_tokens: 0,
                requests: 1,
            },
        })
    }
}

export!(Plugin);
