//! Templates as pairs of files: `<name>.dlm` with `<name>.meta.yaml` beside it.
//!
//! The meta file is the part of YAML that the keys need: one `key: value` a line, lists in brackets or as dashed lines, one
//! level of mapping; plain or quoted texts; comments. Anything else is refused, never guessed.

use sha2::{Digest, Sha256};

use crate::templates::Meta;
use crate::types::Field;
use crate::{Error, error};

/// End of a document's name.
pub const DOCUMENT_END: &str = ".dlm";
/// End of a meta file's name.
pub const META_END: &str = ".meta.yaml";

/// A value of the meta file.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
}

/// Reads the meta file of the template called `stem`; the revision is the document's SHA-256.
///
/// **Errors**: an unknown, repeated or missing key, a name other than the stem, a value of another shape.
pub fn meta(stem: &str, yaml: &str, document: &[u8]) -> Result<Meta, Error> {
    let bad = |why: String| error!(Corrupt, "template `{stem}`: {why}");
    let mut fields = Fields {
        entries: parse(yaml).map_err(|(line, why)| bad(format!("line {line} of its meta file: {why}")))?,
    };
    let meta = (|| {
        Ok(Meta {
            name: fields.required("name")?,
            title: fields.required("title")?,
            summary: fields.required("summary")?,
            tags: fields.list("domain_tags")?,
            recommended_base: fields.required("recommended_base")?,
            expected_steps: fields.steps()?,
            expected_duration: fields.map("expected_duration")?,
            sample_prompts: fields.list("sample_prompts")?,
            revision: sha256(document),
            license: fields.text("license")?,
        })
    })();
    let meta: Meta = meta.map_err(bad)?;
    if let Some((key, _)) = fields.entries.first() {
        return Err(bad(format!("its meta file has the unknown key `{key}`")));
    }
    if meta.name != stem {
        return Err(bad(format!("its meta file calls it `{}`", meta.name)));
    }
    Ok(meta)
}

/// What a document's frontmatter names as its base, read line by line.
pub fn base_of(document: &str) -> Option<&str> {
    let front = document.strip_prefix("---\n")?.split("\n---\n").next()?;
    let line = front.lines().find_map(|line| line.strip_prefix("base_model:"))?;
    Some(line.trim().trim_matches(['"', '\'']))
}

/// Lower-case hex of the SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The entries that no key took yet.
struct Fields {
    entries: Vec<(String, Value)>,
}

impl Fields {
    fn take(&mut self, key: &str) -> Option<Value> {
        let index = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.remove(index).1)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Text(text)) if text == "null" || text == "~" => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{key}` is not a text")),
        }
    }

    fn required(&mut self, key: &str) -> Result<String, String> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("`{key}` is missing or empty"))
    }

    fn list(&mut self, key: &str) -> Result<Vec<String>, String> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::List(list)) => Ok(list),
            Some(_) => Err(format!("`{key}` is not a list")),
        }
    }

    fn map(&mut self, key: &str) -> Result<Vec<Field>, String> {
        let field = |(name, value)| Field { name, value };
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Map(map)) => Ok(map.into_iter().map(field).collect()),
            Some(Value::Text(text)) if text == "{}" => Ok(Vec::new()),
            Some(_) => Err(format!("`{key}` is not a mapping")),
        }
    }

    fn steps(&mut self) -> Result<Option<u32>, String> {
        let Some(text) = self.text("expected_steps")? else {
            return Ok(None);
        };
        let steps = text.parse::<u32>().ok().filter(|steps| *steps > 0);
        steps
            .map(Some)
            .ok_or_else(|| format!("`expected_steps` is `{text}`, a whole number above 0 was expected"))
    }
}

/// A mistake with its line, counted from 1.
type Mistake = (usize, String);

fn parse(yaml: &str) -> Result<Vec<(String, Value)>, Mistake> {
    let mut entries: Vec<(String, Value)> = Vec::new();
    // True below a key without a value, until the next key.
    let mut is_open = false;
    for (index, line) in yaml.lines().enumerate() {
        let at = |why: String| (index + 1, why);
        let inner = line.trim();
        if inner.is_empty() || inner.starts_with('#') || (index == 0 && inner == "---") {
            continue;
        }
        let is_below = line.starts_with([' ', '\t']) || inner.starts_with("- ");
        if is_below {
            let open = entries.last_mut().filter(|_| is_open);
            let (_, value) = open.ok_or_else(|| at("an indented line belongs to no key".to_owned()))?;
            below(value, inner).map_err(at)?;
            continue;
        }
        let (key, rest) = key_and_rest(inner).map_err(at)?;
        if entries.iter().any(|(known, _)| *known == key) {
            return Err(at(format!("`{key}` is there twice")));
        }
        is_open = rest.is_empty();
        let value = match rest.strip_prefix('[') {
            Some(rest) => Value::List(bracketed(rest).map_err(at)?),
            None => Value::Text(scalar(rest).map_err(at)?),
        };
        entries.push((key, value));
    }
    Ok(entries)
}

/// Adds an indented line to the value of the key above it.
fn below(value: &mut Value, line: &str) -> Result<(), String> {
    if let Some(item) = line.strip_prefix("- ") {
        if *value == Value::Text(String::new()) {
            *value = Value::List(Vec::new());
        }
        let Value::List(list) = value else {
            return Err("a list item among others that are none".to_owned());
        };
        list.push(scalar(item.trim())?);
        return Ok(());
    }
    if *value == Value::Text(String::new()) {
        *value = Value::Map(Vec::new());
    }
    let Value::Map(map) = value else {
        return Err("a mapping among list items".to_owned());
    };
    let (key, rest) = key_and_rest(line)?;
    map.push((key, scalar(rest)?));
    Ok(())
}

fn key_and_rest(line: &str) -> Result<(String, &str), String> {
    let found = line
        .split_once(':')
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with(' '));
    let (key, rest) = found.ok_or_else(|| format!("`{line}` is no `key: value`"))?;
    Ok((scalar(key.trim())?, rest.trim()))
}

/// One text: quoted, or plain up to a comment.
fn scalar(text: &str) -> Result<String, String> {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (inner, rest) = quoted(text, quote)?;
            let rest = rest.trim();
            if rest.is_empty() || rest.starts_with('#') {
                return Ok(inner.trim().to_owned());
            }
            Err(format!("`{rest}` follows a quoted text"))
        }
        Some('|' | '>' | '&' | '*' | '!' | '%' | '@' | '`') => Err(format!("`{text}` is YAML that is not read here")),
        Some('{') if text != "{}" => Err(format!("`{text}` is YAML that is not read here")),
        _ => Ok(text.split(" #").next().unwrap_or_default().trim().to_owned()),
    }
}

/// A quoted text and what follows it.
fn quoted(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
                out.push('\'');
            }
            '\\' if quote == '"' => out.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, same @ ('"' | '\\' | '/'))) => same,
                _ => return Err(format!("`{text}` holds an unknown escape")),
            }),
            _ if c == quote => return Ok((out, &text[at + 1..])),
            _ => out.push(c),
        }
    }
    Err(format!("the quotes of `{text}` do not end"))
}

/// The items of a list in brackets, after its opening one.
fn bracketed(rest: &str) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    let mut rest = rest.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            let after = after.trim();
            if after.is_empty() || after.starts_with('#') {
                return Ok(items);
            }
            return Err(format!("`{after}` follows a list"));
        }
        let item = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (item, after) = quoted(rest, quote)?;
                rest = after.trim_start();
                item.trim().to_owned()
            }
            _ => {
                let end = rest.find([',', ']']).ok_or("a list in brackets does not end")?;
                let item = scalar(rest[..end].trim())?;
                rest = &rest[end..];
                item
            }
        };
        if item.is_empty() {
            return Err("a list has an empty item".to_owned());
        }
        items.push(item);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
        } else if !rest.starts_with(']') {
            return Err("a list in brackets does not end".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "---\n# a comment\nname: tone\ntitle: 'It''s tone'\nsummary: \"a \\\"b\\\"\" # why\n\
        domain_tags: [a, 'b, c', d]\nrecommended_base: smollm2-135m\nexpected_steps: 300\n\
        expected_duration:\n  cpu: 2 h\n  gpu: 5 min\nsample_prompts:\n  - What: is it?\n  - \"two\"\n";

    #[test]
    fn a_meta_file_is_read_whole() {
        let meta = meta("tone", GOOD, b"abc").unwrap();
        assert_eq!((meta.title.as_str(), meta.summary.as_str()), ("It's tone", "a \"b\""));
        assert_eq!(meta.tags, ["a", "b, c", "d"]);
        assert_eq!(meta.expected_steps, Some(300));
        let durations: Vec<(&str, &str)> = meta
            .expected_duration
            .iter()
            .map(|field| (field.name.as_str(), field.value.as_str()))
            .collect();
        assert_eq!(durations, [("cpu", "2 h"), ("gpu", "5 min")]);
        assert_eq!(meta.sample_prompts, ["What: is it?", "two"]);
        assert!(meta.revision.starts_with("ba7816bf8f01cfea"), "{}", meta.revision);
        assert_eq!(meta.license, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let minimal = "name: x\ntitle: t\nsummary: s\nrecommended_base: b\n";
        assert!(meta("x", minimal, b"").is_ok());
        for (change, part) in [
            (("name: x", "name: y"), "calls it `y`"),
            (("title: t", "title: ''"), "`title` is missing or empty"),
            (("summary: s\n", ""), "`summary`"),
            (("title: t", "title: t\ncolour: red"), "unknown key `colour`"),
            (("title: t", "title: t\ntitle: u"), "twice"),
            (("title: t", "title: [a"), "does not end"),
            (("title: t", "title: [a]"), "`title` is not a text"),
            (("title: t", "title: |"), "not read here"),
            (("title: t", "title: \"t"), "do not end"),
            (("title: t", "title t"), "line 2"),
            (("title: t", "  title: t"), "belongs to no key"),
            (("title: t", "title: t\nexpected_steps: 0"), "`expected_steps`"),
            (("title: t", "title: t\ndomain_tags: a"), "`domain_tags` is not a list"),
        ] {
            let yaml = minimal.replace(change.0, change.1);
            let error = meta("x", &yaml, b"").unwrap_err().to_string();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }

    #[test]
    fn the_base_of_a_document_is_found() {
        assert_eq!(
            base_of("---\ndlm_id: x\nbase_model: \"a-b\"\n---\nbase_model: no\n"),
            Some("a-b")
        );
        assert_eq!(base_of("base_model: a\n"), None);
    }
}
