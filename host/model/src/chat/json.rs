//! The filter `tojson`: `json.dumps` of Python with the keywords that templates give it.

use std::io;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde::Serialize;

/// Columns of an indentation; more is a typing error or an attack.
const INDENT_MAX: usize = 16;

/// How a value is laid out.
struct Layout {
    /// Between two values, and between a key and its value.
    item: String,
    key: String,
    indent: Option<String>,
    depth: usize,
    has_value: bool,
}

impl Layout {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.line(writer)?;
        }
        self.has_value = true;
        writer.write_all(bracket)
    }

    fn line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else {
            return Ok(());
        };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent.as_bytes()))
    }

    fn value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }
}

impl serde_json::ser::Formatter for Layout {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.value(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}

fn failed(cause: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("`tojson`: {}", cause.to_string()))
}

/// A number of blanks, or a text that stands for one step.
fn indent(kwargs: &Kwargs) -> Result<Option<String>, Error> {
    let stated: Option<Value> = kwargs.get("indent")?;
    let Some(stated) = stated.filter(|value| !value.is_none() && !value.is_undefined()) else {
        return Ok(None);
    };
    match (stated.as_str(), stated.as_usize()) {
        (Some(text), _) if text.len() <= INDENT_MAX => Ok(Some(text.to_owned())),
        (None, Some(columns)) => Ok(Some(" ".repeat(columns.min(INDENT_MAX)))),
        _ => Err(failed(format_args!(
            "`indent` is {stated}, expected a number up to {INDENT_MAX}"
        ))),
    }
}

/// The two separators; those of Python depend on the indentation.
fn separators(kwargs: &Kwargs, is_indented: bool) -> Result<(String, String), Error> {
    let stated: Option<Vec<String>> = kwargs.get("separators")?;
    match stated.as_deref() {
        None if is_indented => Ok((",".to_owned(), ": ".to_owned())),
        None => Ok((", ".to_owned(), ": ".to_owned())),
        Some([item, key]) => Ok((item.clone(), key.clone())),
        Some(other) => Err(failed(format_args!(
            "`separators` has {} entries, expected 2",
            other.len()
        ))),
    }
}

/// Refuses what nests deeper than a writer should follow.
fn check_depth(value: &Value, left: usize) -> Result<(), Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(());
    }
    let too_deep = || {
        Error::new(
            ErrorKind::InvalidOperation,
            "lists and objects are nested too deeply to be written",
        )
    };
    let left = left.checked_sub(1).ok_or_else(too_deep)?;
    for item in value.try_iter()? {
        check_depth(&item, left)?;
        if value.kind() == ValueKind::Map {
            check_depth(&value.get_item(&item)?, left)?;
        }
    }
    Ok(())
}

/// Orders the keys of every object.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            serde_json::Value::Object(entries.into_iter().collect())
        }
        serde_json::Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Writes every character beyond ASCII as `\uXXXX`, those of the upper planes as two.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// `json.dumps(value, ensure_ascii=False)` with the keywords of the reference's filter: unlike Jinja's own, nothing is escaped for HTML.
///
/// **Source:** `transformers`, `utils/chat_template_utils.py`.
pub(super) fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = indent(&kwargs)?;
    let (item, key) = separators(&kwargs, indent.is_some())?;
    let is_ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let is_sorted = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let layout = Layout {
        item,
        key,
        indent,
        depth: 0,
        has_value: false,
    };
    check_depth(value, super::DEPTH_MAX)?;
    let mut plain = serde_json::to_value(value).map_err(failed)?;
    if is_sorted {
        plain = sorted(plain);
    }
    let mut bytes = Vec::new();
    plain
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, layout))
        .map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(failed)?;
    Ok(Value::from_safe_string(if is_ascii { ascii(&text) } else { text }))
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    /// Every expected text is what Python's `json.dumps` gives for these arguments.
    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::tojson);
        let source = format!("{{{{ {{'b': [1, true, none], 'a': {{'é': '<&', 'c': []}}}} | tojson({arguments}) }}}}");
        assert_eq!(environment.render_str(&source, ()).unwrap(), expected, "{arguments}");
    }

    #[test]
    fn the_keywords_of_json_dumps_are_those_of_the_filter() {
        check("", r#"{"b": [1, true, null], "a": {"é": "<&", "c": []}}"#);
        check("sort_keys=true", r#"{"a": {"c": [], "é": "<&"}, "b": [1, true, null]}"#);
        check("separators=(',', ':')", r#"{"b":[1,true,null],"a":{"é":"<&","c":[]}}"#);
        check(
            "ensure_ascii=true",
            r#"{"b": [1, true, null], "a": {"\u00e9": "<&", "c": []}}"#,
        );
        check(
            "indent=2",
            "{\n  \"b\": [\n    1,\n    true,\n    null\n  ],\n  \"a\": {\n    \"é\": \"<&\",\n    \"c\": []\n  }\n}",
        );
        check(
            "indent='\t', separators=(', ', '=')",
            "{\n\t\"b\"=[\n\t\t1, \n\t\ttrue, \n\t\tnull\n\t], \n\t\"a\"={\n\t\t\"é\"=\"<&\", \n\t\t\"c\"=[]\n\t}\n}",
        );
    }

    #[test]
    fn characters_of_the_upper_planes_become_two_units() {
        assert_eq!(super::ascii("a\u{1f600}"), "a\\ud83d\\ude00");
    }

    #[test]
    fn unknown_keywords_and_shapes_are_refused() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::tojson);
        for bad in ["foo=1", "separators=(',',)", "indent=1.5"] {
            assert!(
                environment
                    .render_str(&format!("{{{{ 1 | tojson({bad}) }}}}"), ())
                    .is_err(),
                "{bad}"
            );
        }
    }
}
