//! The keys of a manifest and of its author's `plugin.toml`: which there are, what each takes, and what it is for.
//!
//! Invariant: the readers know exactly these; a test holds each table against the type that is read.

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    /// What stands after the `=`.
    pub value: &'static str,
    pub is_required: bool,
    pub meaning: &'static str,
}

const fn key(name: &'static str, value: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        value,
        is_required: false,
        meaning,
    }
}

const fn required(name: &'static str, value: &'static str, meaning: &'static str) -> Key {
    Key {
        is_required: true,
        ..key(name, value, meaning)
    }
}

/// The top level.
pub const MANIFEST: [Key; 12] = [
    required("schema", "1", "the form of this file"),
    required(
        "name",
        "a text",
        "a lower-case letter, then 1 to 39 lower-case letters, digits and `-`; not the name of a plugin inside dlm",
    ),
    required("version", "a text", "a semantic version, such as `1.2.0`"),
    required(
        "kinds",
        "a list",
        "what it is, each a `judge`, `teacher`, `target`, `destination` or `templates`; exactly what the component exports",
    ),
    key("description", "a text", "one line, shown wherever the plugin is"),
    key("authors", "a list of texts", "who wrote it"),
    key("license", "a text", "an SPDX identifier"),
    key("homepage", "a text", "an `https:` or `http:` address"),
    key(
        "deterministic",
        "true or false",
        "the promise that the same input gives the same answer; `dlm plugin test` asks twice",
    ),
    key(
        "needs_registration",
        "true or false",
        "of a target: without its `install` the export is of no use, so that nothing is exported where its program is missing",
    ),
    key(
        "request",
        "a list of tables",
        "`[[request]]`: the capabilities that it asks for",
    ),
    key(
        "config",
        "a table of tables",
        "`[config.NAME]`: the settings that a user can give it",
    ),
];

/// Of one `[[request]]`.
pub const REQUEST: [Key; 3] = [
    required("capability", "a text", "in grant syntax, exactly as dlm shows it"),
    key("reason", "a text", "one line that the user reads before they grant it"),
    key(
        "optional",
        "true or false",
        "the plugin works without it; what is not optional is settled before the plugin starts",
    ),
];

/// Of one `[config.NAME]`.
pub const CONFIG: [Key; 6] = [
    required("type", "a text", "`text`, `integer`, `number`, `boolean` or `json`"),
    key(
        "default",
        "a value of that type",
        "what it is where the user says nothing",
    ),
    key("required", "true or false", "the user has to give it"),
    key("minimum", "a number", "of an integer or a number"),
    key("maximum", "a number", "of an integer or a number"),
    key("description", "a text", "one line"),
];

/// Of `[build]`, which stays with the author and never travels.
pub const BUILD: [Key; 2] = [
    key(
        "command",
        "a text",
        "what builds it, typed into a shell by `dlm plugin test --watch`",
    ),
    key(
        "wasm",
        "a text",
        "where the build leaves the module or component, relative to this file",
    ),
];

/// The names in a table.
pub(crate) fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::manifest::Manifest;

    fn full() -> Value {
        json!({
            "schema": 1, "name": "rubric", "version": "1.0.0", "kinds": ["target"], "description": "d", "authors": ["a"],
            "license": "MIT", "homepage": "https://a.example", "deterministic": true, "needs_registration": true,
            "request": [{ "capability": "clock", "reason": "r", "optional": true }],
            "config": { "size": { "type": "integer", "required": true, "minimum": 1.0, "maximum": 2.0, "description": "d" },
                        "pace": { "type": "integer", "default": 1 } },
        })
    }

    fn read(value: &Value) -> Result<Manifest, String> {
        Manifest::from_json(value.to_string().as_bytes()).map_err(|bad| bad.to_string())
    }

    #[test]
    fn each_table_is_what_the_reader_takes() {
        let read_back: Value = serde_json::from_str(&read(&full()).unwrap().to_json()).unwrap();
        let of = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |keys: &[Key], but: &[&str]| {
            let mut names = names(keys);
            names.retain(|name| !but.contains(name));
            names.sort_unstable();
            names
        };
        assert_eq!(of(&read_back), sorted(&MANIFEST, &[]));
        assert_eq!(of(&read_back["request"][0]), sorted(&REQUEST, &[]));
        assert_eq!(of(&read_back["config"]["size"]), sorted(&CONFIG, &["default"]));
        assert_eq!(of(&read_back["config"]["pace"]), ["default", "type"]);
        assert!(read(&full()).unwrap().unknown_keys.is_empty());
    }

    #[test]
    fn what_is_called_required_is_and_the_rest_is_not() {
        for (place, table) in [("", &MANIFEST[..]), ("/request/0", &REQUEST), ("/config/pace", &CONFIG)] {
            for key in table {
                let mut value = full();
                value
                    .pointer_mut(place)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove(key.name);
                assert_eq!(read(&value).is_err(), key.is_required, "{place} {}", key.name);
            }
        }
    }
}
