//! JSON exactly as the reference implementation writes it: sorted keys, two-space indent or one line, non-ASCII as it
//! is, numbers in Python's shortest form. Byte identity of a load and save depends on it.

use serde_json::Value;

/// Renders with sorted keys, 2-space indent and one final LF.
pub(crate) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Some(0));
    out.push('\n');
    out
}

/// Renders on one line with sorted keys, `": "` and `", "`, and one final LF.
pub(crate) fn line(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, None);
    out.push('\n');
    out
}

fn write_value(out: &mut String, value: &Value, depth: Option<usize>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => out.push_str(&python_float(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            let each = items.iter().map(|item| (None, item));
            write_items(out, ['[', ']'], each, depth);
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by(|left, right| left.0.cmp(right.0));
            let each = pairs.into_iter().map(|(key, item)| (Some(key), item));
            write_items(out, ['{', '}'], each, depth);
        }
    }
}

fn write_items<'a>(
    out: &mut String,
    brackets: [char; 2],
    items: impl ExactSizeIterator<Item = (Option<&'a String>, &'a Value)>,
    depth: Option<usize>,
) {
    out.push(brackets[0]);
    let is_empty = items.len() == 0;
    let inner = depth.map(|depth| depth + 1);
    for (index, (key, item)) in items.enumerate() {
        if index > 0 {
            out.push_str(if inner.is_some() { "," } else { ", " });
        }
        new_line(out, inner);
        if let Some(key) = key {
            write_text(out, key);
            out.push_str(": ");
        }
        write_value(out, item, inner);
    }
    if !is_empty {
        new_line(out, depth);
    }
    out.push(brackets[1]);
}

fn new_line(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The shortest digits that read back to the same number, laid out as Python's `repr` does.
pub(crate) fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') {
            plain
        } else {
            format!("{plain}.0")
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (2e-10, "2e-10"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e22, "1.25e+22"),
            (1e-300, "1e-300"),
            (123456.789, "123456.789"),
        ];
        for (value, expected) in cases {
            assert_eq!(python_float(value), expected);
        }
    }

    #[test]
    fn layout_of_nested_and_empty_values() {
        let value = json!({"b": [], "a": {"z": 1, "y": [1.0, null]}, "c": {}, "ü": "é\u{1}\"\\\n"});
        let expected = "{\n  \"a\": {\n    \"y\": [\n      1.0,\n      null\n    ],\n    \"z\": 1\n  },\n  \"b\": [],\n  \
                        \"c\": {},\n  \"ü\": \"é\\u0001\\\"\\\\\\n\"\n}\n";
        assert_eq!(pretty(&value), expected);
        assert_eq!(
            line(&json!({"b": [1, true], "a": {}})),
            "{\"a\": {}, \"b\": [1, true]}\n"
        );
    }
}
