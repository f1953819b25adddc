//! The index: what templates there are, where their files lie, and what their bytes must hash to.
//!
//! ```json
//! {"schema": 1, "templates": [{
//!   "name": "tone", "title": "…", "summary": "…", "recommended_base": "smollm2-135m",
//!   "domain_tags": [], "expected_steps": 300, "expected_duration": {"2 cores": "2 min"}, "sample_prompts": [],
//!   "license": "CC0-1.0",
//!   "document": {"path": "tone.dlm", "sha256": "…"},
//!   "files": [{"name": "data/list.txt", "path": "tone/list.txt", "sha256": "…"}]
//! }]}
//! ```

use dlm_plugin::serde_json::{self, Value};
use dlm_plugin::templates::Meta;
use dlm_plugin::types::Field;
use dlm_plugin::{Error, error};

/// The only form of an index so far.
const SCHEMA: u64 = 1;
const TEMPLATES_MAX: usize = 1_000;
const FILES_MAX: usize = 200;

/// A whole index.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    pub templates: Vec<Template>,
}

/// One listed template.
#[derive(Clone, Debug)]
pub struct Template {
    pub meta: Meta,
    pub document: Listed,
    pub files: Vec<Listed>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name && self.document == other.document && self.files == other.files
    }
}

/// One listed file.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name beside the document.
    pub name: String,
    /// Where it lies, relative to the index.
    pub path: String,
    pub sha256: String,
}

/// Refuses locations that are no address of an index.
pub fn check_location(location: &str) -> Result<(), Error> {
    let refuse = |why: &str| {
        Err(error!(
            InvalidInput,
            "`{location}` is no address of a template index: {why}; the form is `https://example.com/templates/index.json`"
        ))
    };
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let is_local = local.iter().any(|start| {
        location
            .strip_prefix(start)
            .is_some_and(|rest| rest.starts_with([':', '/']))
    });
    if !location.starts_with("https://") && !is_local {
        return refuse("it does not begin with `https://`");
    }
    if location.contains(['?', '#', '@']) || location.contains(char::is_whitespace) {
        return refuse("it holds a query, a fragment, a user name or a blank");
    }
    let after_host = location.splitn(4, '/').nth(3).unwrap_or_default();
    if after_host.is_empty() || after_host.ends_with('/') {
        return refuse("it names no file");
    }
    Ok(())
}

/// The address of a file beside the index; the path was checked.
pub fn beside(location: &str, path: &str) -> String {
    let folder = location.rsplit_once('/').map_or(location, |(folder, _)| folder);
    format!("{folder}/{path}")
}

impl Index {
    /// Reads an index; the first thing that is wrong is named, and nothing of it is used.
    pub fn read(location: &str, bytes: &[u8]) -> Result<Index, Error> {
        let bad = |why: String| error!(Corrupt, "the index {location}: {why}");
        let json: Value = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        match json.get("schema").and_then(Value::as_u64) {
            Some(SCHEMA) => {}
            found => {
                return Err(bad(format!(
                    "its schema is {}, this dlm reads {SCHEMA}",
                    found.map_or("not given".to_owned(), |schema| schema.to_string())
                )));
            }
        }
        let list = json.get("templates").and_then(Value::as_array);
        let list = list.ok_or_else(|| bad("`templates` is not a list".to_owned()))?;
        if list.len() > TEMPLATES_MAX {
            return Err(bad(format!("it lists more than {TEMPLATES_MAX} templates")));
        }
        let template = |(index, value): (usize, &Value)| {
            template(value).map_err(|why| bad(format!("template {}: {why}", index + 1)))
        };
        let templates: Vec<Template> = list.iter().enumerate().map(template).collect::<Result<_, _>>()?;
        let mut names: Vec<&str> = templates.iter().map(|template| template.meta.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(bad(format!("`{}` is listed twice", pair[0])));
        }
        Ok(Index { templates })
    }
}

fn template(value: &Value) -> Result<Template, String> {
    let document = value.get("document").ok_or("`document` is missing")?;
    let document = listed(document, "document.dlm")?;
    let files = match value.get("files") {
        None => Vec::new(),
        Some(Value::Array(files)) if files.len() <= FILES_MAX => files
            .iter()
            .map(|file| {
                let name = text(file, "name")?;
                check_path("name", &name)?;
                listed(file, &name)
            })
            .collect::<Result<_, String>>()?,
        Some(_) => return Err(format!("`files` is not a list of at most {FILES_MAX}")),
    };
    let steps = match value.get("expected_steps") {
        None | Some(Value::Null) => None,
        Some(steps) => {
            let steps = steps.as_u64().and_then(|steps| u32::try_from(steps).ok());
            Some(
                steps
                    .filter(|steps| *steps > 0)
                    .ok_or("`expected_steps` is not a whole number above 0")?,
            )
        }
    };
    Ok(Template {
        meta: Meta {
            name: text(value, "name")?,
            title: text(value, "title")?,
            summary: text(value, "summary")?,
            tags: texts(value, "domain_tags")?,
            recommended_base: text(value, "recommended_base")?,
            expected_steps: steps,
            expected_duration: durations(value)?,
            sample_prompts: texts(value, "sample_prompts")?,
            revision: document.sha256.clone(),
            license: value.get("license").and_then(Value::as_str).map(str::to_owned),
        },
        document,
        files,
    })
}

fn listed(value: &Value, name: &str) -> Result<Listed, String> {
    let path = text(value, "path")?;
    check_path("path", &path)?;
    let sha256 = text(value, "sha256")?;
    if sha256.len() != 64 || !sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("the `sha256` of `{path}` is not 64 lower-case hex digits"));
    }
    Ok(Listed {
        name: name.to_owned(),
        path,
        sha256,
    })
}

/// A path stays below its folder, and needs no quoting in an address.
fn check_path(what: &str, path: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let is_good = path.bytes().all(is_plain) && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    if is_good {
        return Ok(());
    }
    Err(format!(
        "the {what} `{path}` is refused; letters, digits, `-`, `_`, `.` and `/` are taken, and no part begins with a dot"
    ))
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    let text = value.get(key).and_then(Value::as_str).map(str::trim);
    let text = text.filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| format!("`{key}` is missing or empty"))
}

fn texts(value: &Value, key: &str) -> Result<Vec<String>, String> {
    match value.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| format!("`{key}` holds something that is not a text"))
            })
            .collect(),
        Some(_) => Err(format!("`{key}` is not a list")),
    }
}

fn durations(value: &Value) -> Result<Vec<Field>, String> {
    match value.get("expected_duration") {
        None => Ok(Vec::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, time)| {
                let value = time
                    .as_str()
                    .ok_or("`expected_duration` holds something that is not a text")?;
                Ok(Field {
                    name: name.clone(),
                    value: value.to_owned(),
                })
            })
            .collect(),
        Some(_) => Err("`expected_duration` is not a mapping".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_plugin::serde_json::json;

    fn index() -> Value {
        json!({"schema": 1, "templates": [{
            "name": "tone", "title": "Tone", "summary": "s", "recommended_base": "smollm2-135m",
            "domain_tags": ["a"], "expected_steps": 300, "expected_duration": {"2 cores": "2 min"},
            "document": {"path": "v2/tone.dlm", "sha256": "a".repeat(64)},
            "files": [{"name": "data/list.txt", "path": "v2/list.txt", "sha256": "b".repeat(64)}],
        }]})
    }

    fn read(value: &Value) -> Result<Index, Error> {
        Index::read("https://example.com/i.json", value.to_string().as_bytes())
    }

    #[test]
    fn an_index_is_read_whole() {
        let index = read(&index()).unwrap();
        let template = &index.templates[0];
        assert_eq!(template.meta.revision, "a".repeat(64));
        assert_eq!(template.meta.expected_steps, Some(300));
        assert_eq!(template.document.path, "v2/tone.dlm");
        assert_eq!(
            (template.files[0].name.as_str(), template.files[0].path.as_str()),
            ("data/list.txt", "v2/list.txt")
        );
        assert_eq!(
            beside("https://example.com/t/i.json", "v2/tone.dlm"),
            "https://example.com/t/v2/tone.dlm"
        );
    }

    #[test]
    fn the_first_mistake_is_named() {
        for (pointer, value, part) in [
            ("/schema", json!(2), "schema is 2"),
            ("/templates", json!({}), "`templates`"),
            ("/templates/0/name", json!(""), "`name`"),
            ("/templates/0/expected_steps", json!(0), "`expected_steps`"),
            ("/templates/0/document/sha256", json!("A".repeat(64)), "hex"),
            ("/templates/0/document/path", json!("../tone.dlm"), "refused"),
            ("/templates/0/document/path", json!("/tone.dlm"), "refused"),
            ("/templates/0/document/path", json!("https://evil.example/x"), "refused"),
            ("/templates/0/document/path", json!("a//b"), "refused"),
            ("/templates/0/document/path", json!("a%2e%2e/b"), "refused"),
            ("/templates/0/files/0/name", json!("../../x"), "refused"),
            ("/templates/0/domain_tags", json!("a"), "`domain_tags`"),
        ] {
            let mut index = index();
            *index.pointer_mut(pointer).unwrap() = value;
            let error = read(&index).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("example.com"),
                "{pointer}: {error}"
            );
        }
        let mut twice = index();
        let first = twice["templates"][0].clone();
        twice["templates"].as_array_mut().unwrap().push(first);
        assert!(read(&twice).unwrap_err().to_string().contains("twice"));
        assert!(Index::read("x", b"{").is_err());
    }

    #[test]
    fn a_location_is_an_https_file() {
        for good in [
            "https://example.com/i.json",
            "http://127.0.0.1:8000/i.json",
            "http://[::1]:8000/i.json",
        ] {
            assert!(check_location(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://example.com/i.json",
            "http://127.0.0.1.evil.example/i.json",
            "https://example.com",
            "https://example.com/",
            "https://example.com/t/",
            "https://me:pw@example.com/i.json",
            "https://example.com/i.json?x",
        ] {
            assert!(check_location(bad).is_err(), "{bad}");
        }
    }
}
