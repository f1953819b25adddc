//! Holds what was found against what a case expects or a script answers to.
//!
//! Invariant: an expected object names the keys that matter; a list must have the same length; nothing else is loose.

use dlm_core::inert::{cut, inert_line};
use serde_json::Value;

/// Says where and how `found` differs from `expected`; nothing where it fits.
///
/// `{ "matches": "some*text" }` in the place of a text asks for a part of it, in which `*` stands for anything.
pub(crate) fn differs(place: &str, expected: &Value, found: &Value, tolerance: f64) -> Option<String> {
    let told = || {
        let short = |value: &Value| inert_line(&cut(&value.to_string(), 200));
        Some(format!("{place} is {}, {} was expected", short(found), short(expected)))
    };
    match (expected, found) {
        (Value::Object(pattern), Value::String(text)) if pattern.len() == 1 && pattern.contains_key("matches") => {
            let part = pattern.get("matches").and_then(Value::as_str);
            match part {
                Some(part) if fits(part, text) => None,
                _ => told(),
            }
        }
        (Value::Object(expected), Value::Object(all)) => expected.iter().find_map(|(key, value)| {
            let place = if place.is_empty() {
                key.clone()
            } else {
                format!("{place}.{key}")
            };
            match all.get(key) {
                Some(found) => differs(&place, value, found, tolerance),
                None if value.is_null() => None,
                None => Some(format!("{place} is missing")),
            }
        }),
        (Value::Array(expected), Value::Array(all)) => {
            if expected.len() != all.len() {
                return Some(format!(
                    "{place} has {} entries, {} were expected",
                    all.len(),
                    expected.len()
                ));
            }
            let pairs = expected.iter().zip(all).enumerate();
            pairs.into_iter().find_map(|(index, (expected, found))| {
                differs(&format!("{place}[{index}]"), expected, found, tolerance)
            })
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            let is_near = a == b || (a - b).abs() <= tolerance * a.abs().max(1.0);
            if is_near { None } else { told() }
        }
        (expected, found) if expected == found => None,
        _ => told(),
    }
}

/// What to expect from now on: `found` in the shape of `expected`. The keys that the author chose stay, and so does all that
/// still fits, such as a `matches`.
pub(crate) fn merged(expected: &Value, found: &Value, tolerance: f64) -> Value {
    if is_stated(expected) && differs("", expected, found, tolerance).is_none() {
        return expected.clone();
    }
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let kept: serde_json::Map<String, Value> = expected
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), merged(value, found.get(key)?, tolerance))))
                .collect();
            // Nothing of what was named is there: another kind of answer altogether.
            Value::Object(if kept.is_empty() { found.clone() } else { kept })
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => expected
            .iter()
            .zip(found)
            .map(|(expected, found)| merged(expected, found, tolerance))
            .collect(),
        _ => found.clone(),
    }
}

/// False for the empty object, which fits every answer and says nothing.
fn is_stated(expected: &Value) -> bool {
    expected.as_object().is_none_or(|keys| !keys.is_empty())
}

/// Says whether `text` holds `part`, in which `*` stands for any text.
fn fits(part: &str, text: &str) -> bool {
    let mut rest = text;
    part.split('*').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = rest.get(at + piece.len()..).unwrap_or_default();
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_update_keeps_what_the_author_chose_and_still_holds() {
        let found = json!({ "completion": { "text": "four", "usage": { "requests": 1 } }, "n": 3 });
        for (expected, after) in [
            (json!({}), found.clone()),
            (json!({ "n": 2 }), json!({ "n": 3 })),
            (
                json!({ "completion": { "text": { "matches": "f*r" } }, "n": 1 }),
                json!({ "completion": { "text": { "matches": "f*r" } }, "n": 3 }),
            ),
            (
                json!({ "completion": { "text": { "matches": "five" } } }),
                json!({ "completion": { "text": "four" } }),
            ),
            (json!({ "error": { "code": "plugin::failed" } }), found.clone()),
        ] {
            assert_eq!(merged(&expected, &found, 1e-9), after, "{expected}");
        }
        let lists = |expected: Value, found: Value| merged(&expected, &found, 1e-9);
        assert_eq!(
            lists(json!([1, { "matches": "b" }]), json!([2, "abc"])),
            json!([2, { "matches": "b" }])
        );
        assert_eq!(lists(json!([1]), json!([2, 3])), json!([2, 3]));
    }

    #[test]
    fn what_fits_and_what_does_not() {
        let found = json!({ "verdicts": [ { "scores": [1.0, 0.5], "reasoning": "by arithmetic alone" } ], "n": 3 });
        for expected in [
            json!({}),
            json!({ "n": 3 }),
            json!({ "n": 3.0000000001 }),
            json!({ "gone": null }),
            json!({ "verdicts": [ { "scores": [1, 0.5] } ] }),
            json!({ "verdicts": [ { "reasoning": { "matches": "by*alone" } } ] }),
        ] {
            assert_eq!(differs("", &expected, &found, 1e-9), None, "{expected}");
        }
        for (expected, part) in [
            (json!({ "n": 4 }), "n is 3, 4 was expected"),
            (json!({ "m": 4 }), "m is missing"),
            (json!({ "verdicts": [] }), "has 1 entries, 0 were expected"),
            (
                json!({ "verdicts": [ { "scores": [1, 0.4] } ] }),
                "verdicts[0].scores[1] is 0.5",
            ),
            (
                json!({ "verdicts": [ { "reasoning": { "matches": "algebra" } } ] }),
                "algebra",
            ),
            (json!({ "verdicts": [ { "reasoning": "by" } ] }), "\"by\" was expected"),
        ] {
            let told = differs("", &expected, &found, 1e-9).unwrap();
            assert!(told.contains(part), "{told}");
        }
    }
}
