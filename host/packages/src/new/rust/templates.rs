//! {{does}}.

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

use dlm::plugin::log::{self, Level};
use dlm::plugin::types::{Error, Identity};
use exports::dlm::plugin::templates::{Bundle, Guest, Info, Meta};

const DOCUMENT: &str = "---\ndlm_version: 15\nbase_model: smollm2-135m\n---\n\n# A first document\n\n::instruction::\n### Q\nWhat is this?\n\n### A\nA template.\n";

struct Plugin;

impl Guest for Plugin {
    /// Called once, before anything else; `location` is where the user's settings say that this source lies.
    fn open(_location: String) -> Result<Info, Error> {
        // A panic explains itself in the log.
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        Ok(Info {
            identity: Identity {
                name: "{{name}}".to_owned(),
                detail: None,
            },
            cache_seconds: 0,
        })
    }

    /// The templates, or those that fit a query.
    fn list(query: Option<String>) -> Result<Vec<Meta>, Error> {
        let fits = |meta: &Meta| query.as_ref().is_none_or(|query| meta.name.contains(query.as_str()));
        Ok(vec![meta()].into_iter().filter(fits).collect())
    }

    /// One template with its files.
    fn fetch(name: String) -> Result<Bundle, Error> {
        if name != "first" {
            return Err(Error::NotFound(format!("`{{name}}` has no template `{name}`")));
        }
        Ok(Bundle {
            meta: meta(),
            document: DOCUMENT.to_owned(),
            files: Vec::new(),
        })
    }
}

fn meta() -> Meta {
    Meta {
        name: "first".to_owned(),
        title: "A first document".to_owned(),
        summary: "One question and its answer".to_owned(),
        tags: Vec::new(),
        recommended_base: "smollm2-135m".to_owned(),
        expected_steps: None,
        expected_duration: Vec::new(),
        sample_prompts: vec!["What is this?".to_owned()],
        revision: "1".to_owned(),
        license: None,
    }
}

export!(Plugin);
