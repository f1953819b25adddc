//! Takes out of an output what differs between two runs of the same program: times, rates, memory, places.

use serde_json::Value;

/// Keys of JSON whose values are measured, not computed.
const MEASURED: &[&str] = &[
    "seconds",
    "tokens_per_s",
    "memory_budget",
    "replay_size",
    "total_size",
    "peak_memory",
    "available",
    "elapsed",
    "_ms",
    "_at",
    "timestamp",
    "free_bytes",
    "time",
    "hostname",
    "pid",
    "created",
];

/// Masks a text: JSON by its keys, anything else by its words; `home` becomes `[HOME]`.
pub fn mask(text: &str, home: &str) -> String {
    let text = without_stamps(&text.replace(home, "[HOME]"));
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '[']) {
        let lines: Option<Vec<String>> = match serde_json::from_str::<Value>(&text) {
            Ok(value) => serde_json::to_string_pretty(&masked(value)).ok().map(|one| vec![one]),
            // One object a line.
            Err(_) => text
                .lines()
                .map(|line| serde_json::from_str(line).ok().map(|value| masked(value).to_string()))
                .collect(),
        };
        if let Some(lines) = lines {
            return lines.join("\n") + "\n";
        }
    }
    let steady = text.lines().filter(|line| !is_progress(line));
    steady.map(|line| masked_line(line) + "\n").collect()
}

/// Says whether a line tells how far something is, `phase: 3 rows of 96 rows`: how many of them there are depends on the time.
fn is_progress(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    matches!(words.as_slice(), [.., done, _, "of", all, _] if done.parse::<u64>().is_ok() && all.parse::<u64>().is_ok())
}

/// The text without the moments that names of logs carry (`20260131T235959`).
pub fn without_stamps(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(place) = rest.find("20") {
        let (before, from) = rest.split_at(place);
        kept.push_str(before);
        let digits = |range: std::ops::Range<usize>| {
            from.get(range)
                .is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let is_stamp = digits(0..8) && from.as_bytes().get(8) == Some(&b'T') && digits(9..15);
        let length = if is_stamp { 15 } else { 2 };
        kept.push_str(if is_stamp { "[MOMENT]" } else { "20" });
        rest = &from[length..];
    }
    kept + rest
}

fn masked(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            // A Modelfile says when it was written, so its digest is another each time; its text is kept masked.
            let is_dated = fields
                .values()
                .any(|value| value.as_str().is_some_and(|text| text.ends_with("Modelfile")));
            let is_measured =
                |key: &str| MEASURED.iter().any(|word| key.contains(word)) || (is_dated && key == "sha256");
            fields
                .into_iter()
                .map(|(key, value)| {
                    let value = match is_measured(&key) {
                        true if !value.is_null() => Value::from("[MEASURED]"),
                        _ => masked(value),
                    };
                    (key, value)
                })
                .collect()
        }
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::String(text) => Value::String(masked_line(&text)),
        other => other,
    }
}

/// Words with a unit of time, memory or rate behind them, and dates. A duration counts as one word in seconds, whether it
/// is written `65 s` or `1 min 5 s`.
fn masked_line(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let is_number = |word: &str| word.trim_start_matches('(').starts_with(|c: char| c.is_ascii_digit());
    let is_date = |word: &str| word.get(..2) == Some("20") && word.contains('-') && word.contains(':');
    let mut masked: Vec<String> = Vec::new();
    let mut is_duration = false;
    let mut i = 0;
    while i < words.len() {
        let (word, next) = (words[i], words.get(i + 1).copied().unwrap_or_default());
        let unit = next.trim_matches(|c: char| "(),;.".contains(c));
        let is_left = word.contains(':') && next == "left";
        if is_number(word) && matches!(unit, "µs" | "ms" | "s" | "min" | "h") {
            if is_duration {
                masked.pop();
            } else {
                masked.push("[MEASURED]".to_owned());
            }
            masked.push(next.replace(unit, "s"));
            // Punctuation behind the unit ends the duration.
            is_duration = next == unit;
            i += 2;
            continue;
        }
        is_duration = false;
        let is_amount = matches!(unit, "seconds" | "tokens/s" | "tok/s" | "GiB" | "MiB" | "GB" | "MB");
        masked.push(match is_date(word) || is_left || (is_number(word) && is_amount) {
            true => "[MEASURED]".to_owned(),
            false => word.to_owned(),
        });
        i += 1;
    }
    masked.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_masked_and_the_rest_stays() {
        let one = r#"{"loss": 1.25, "tokens_per_s": 12.5, "started_at": "2026-01-01T00:00:00", "note": "took 12 s in /x/home"}"#;
        let text = mask(one, "/x/home");
        assert!(text.contains("1.25") && !text.contains("12.5") && !text.contains("2026"));
        assert!(text.contains("took [MEASURED] s in [HOME]"));
        assert_eq!(
            without_stamps("train-20260131T235959.jsonl of 2026"),
            "train-[MOMENT].jsonl of 2026"
        );
        assert_eq!(mask("holding the base: 7 rows of 96 rows\nsaved\n", "/x"), "saved\n");
        assert_eq!(mask("3 of 4 right in 12 s", "/x"), "3 of 4 right in [MEASURED] s\n");
        for time in ["35 ms", "63.5 s", "1 min 5 s", "2 h 1 min"] {
            let line = format!("time: {time} in all, {time}, 350 tokens/s");
            let text = "time: [MEASURED] s in all, [MEASURED] s, [MEASURED] tokens/s";
            assert_eq!(masked_line(&line), text);
        }
    }
}
