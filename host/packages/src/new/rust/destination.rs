//! {{does}}.

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

use dlm::plugin::log::{self, Level};
use dlm::plugin::types::{Error, Identity};
use exports::dlm::plugin::destination::{Guest, Info, Options, Pack, Receipt, Step};

struct Plugin;

impl Guest for Plugin {
    /// Called once, before anything else; `rest` is the text after `{{name}}:`.
    fn open(rest: String) -> Result<Info, Error> {
        // A panic explains itself in the log.
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        Ok(Info {
            identity: Identity {
                name: "{{name}}".to_owned(),
                detail: Some(rest),
            },
            // Origins that it will talk to, in grant syntax, such as `http:https://example.com`.
            contacts: Vec::new(),
            max_bytes: None,
        })
    }

    /// What `push` would do, without doing it.
    fn preview(pack: Pack, _options: Options) -> Result<Vec<Step>, Error> {
        let text = format!("send {} ({} bytes)", pack.file_name, pack.size);
        Ok(vec![Step { text }])
    }

    /// Sends the pack: open it with `artifacts.open-input`, send it with `upload.send-file`.
    fn push(_pack: Pack, _options: Options) -> Result<Receipt, Error> {
        Err(Error::Unsupported("`{{name}}` does not push yet".to_owned()))
    }
}

export!(Plugin);
