//! The JSON of the contract: what a command reads, and what it answers.

use dlm_plugin::serde_json::{self, Value};
use dlm_plugin::{Error, error};

/// A usable answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub score: f64,
    pub reasoning: Option<String>,
}

/// Longest part of a command's output in a message.
const SHOWN_CHARS: usize = 2000;

/// What goes to the command's standard input: one object, letters outside ASCII as they are.
pub fn question(prompt: &str, candidate: &str) -> String {
    let text = |value: &str| Value::String(value.to_owned()).to_string();
    format!("{{\"prompt\": {}, \"candidate\": {}}}", text(prompt), text(candidate))
}

/// Reads the command's standard output.
pub fn read(command: &str, stdout: &[u8]) -> Result<Answer, Error> {
    let text = String::from_utf8(stdout.to_vec())
        .map_err(|_| error!(Corrupt, "`{command}` wrote something that is not UTF-8"))?;
    if text.trim().is_empty() {
        return Err(error!(Corrupt, "`{command}` wrote nothing, a JSON object was expected"));
    }
    let value: Value = match serde_json::from_str(text.trim()) {
        Ok(value) => value,
        Err(_) if names_no_number(&text) => return Err(not_finite(command)),
        Err(error) => {
            return Err(error!(
                Corrupt,
                "`{command}` wrote invalid JSON ({error}): `{}`",
                cut(&text)
            ));
        }
    };
    let Value::Object(fields) = value else {
        return Err(error!(
            Corrupt,
            "`{command}` wrote JSON that is not an object: `{}`",
            cut(&text)
        ));
    };
    let Some(score) = fields.get("score").and_then(Value::as_f64) else {
        return Err(error!(
            Corrupt,
            "the answer of `{command}` has no numeric `score`: `{}`",
            cut(&text)
        ));
    };
    if !score.is_finite() {
        return Err(not_finite(command));
    }
    let reasoning = match fields.get("reasoning") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Some(_) => {
            return Err(error!(
                Corrupt,
                "the `reasoning` of `{command}` is not a text: `{}`",
                cut(&text)
            ));
        }
    };
    Ok(Answer { score, reasoning })
}

/// What a command that ended badly said.
pub fn failure(command: &str, status: i32, stdout: &[u8], stderr: &[u8]) -> Error {
    let (stderr, stdout) = (String::from_utf8_lossy(stderr), String::from_utf8_lossy(stdout));
    let said = [stderr.trim(), stdout.trim()].into_iter().find(|text| !text.is_empty());
    let how = if status < 0 {
        format!("was ended by signal {}", status.unsigned_abs())
    } else {
        format!("ended with exit code {status}")
    };
    Error::rejected(
        status,
        format!("`{command}` {how}: {}", said.map_or("(no output)".to_owned(), cut)),
    )
}

/// The text of an error that this judge makes itself.
pub fn text(error: &Error) -> String {
    match error {
        Error::TimedOut(message) => message.clone(),
        Error::Rejected(refused) => refused.message.clone(),
        other => other.to_string(),
    }
}

/// JSON has no word for these, but writers of several languages put them out all the same, or a number that is too large.
fn names_no_number(text: &str) -> bool {
    let after_score = text.split("\"score\"").nth(1).unwrap_or_default();
    let value = after_score.trim_start_matches([' ', ':', '\t', '\n', '\r', '-', '+']);
    let is_word = ["nan", "inf"].iter().any(|word| {
        let start: String = value.chars().take(3).collect();
        start.eq_ignore_ascii_case(word)
    });
    let number: String = value
        .chars()
        .take_while(|c| c.is_ascii_digit() || "+-.eE".contains(*c))
        .collect();
    is_word || number.parse::<f64>().is_ok_and(f64::is_infinite)
}

fn not_finite(command: &str) -> Error {
    error!(Corrupt, "the `score` of `{command}` is not a finite number")
}

fn cut(text: &str) -> String {
    let text = text.trim();
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().count() > SHOWN_CHARS {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_one_object() {
        let written = question("Wie groß?\n", "\"drei\" 😀");
        assert_eq!(written, r#"{"prompt": "Wie groß?\n", "candidate": "\"drei\" 😀"}"#);
        assert!(serde_json::from_str::<Value>(&written).is_ok());
    }

    #[test]
    fn a_good_answer_is_read() {
        let read = |text: &str| read("judge", text.as_bytes()).unwrap();
        assert_eq!(read(" {\"score\": 1}\n").score, 1.0);
        let full = read(r#"{"score": -0.25, "reasoning": " short ", "extra": [1]}"#);
        assert_eq!((full.score, full.reasoning.as_deref()), (-0.25, Some("short")));
        assert_eq!(read(r#"{"score": 1e3, "reasoning": null}"#).reasoning, None);
    }

    #[test]
    fn each_bad_answer_is_named() {
        for (text, part) in [
            ("", "wrote nothing"),
            (" \n", "wrote nothing"),
            ("not json", "invalid JSON"),
            ("{\"score\": 1} {", "invalid JSON"),
            ("[1]", "not an object"),
            ("0.5", "not an object"),
            ("{}", "numeric `score`"),
            ("{\"score\": \"1\"}", "numeric `score`"),
            ("{\"score\": true}", "numeric `score`"),
            ("{\"score\": null}", "numeric `score`"),
            ("{\"score\": NaN}", "finite"),
            ("{\"score\": -Infinity}", "finite"),
            ("{\"score\": inf}", "finite"),
            ("{\"score\": 1e999}", "finite"),
            ("{\"score\": 1, \"reasoning\": 7}", "`reasoning`"),
        ] {
            let error = read("judge -x", text.as_bytes()).unwrap_err();
            let Error::Corrupt(message) = error else {
                panic!("{text}: {error:?}");
            };
            assert!(
                message.contains(part) && message.contains("`judge -x`"),
                "{text}: {message}"
            );
        }
        assert!(read("judge", b"{\"score\": \"\xff\"}").is_err());
    }

    #[test]
    fn a_bad_end_shows_what_the_command_said() {
        let message = |stdout: &str, stderr: &str| text(&failure("judge", 3, stdout.as_bytes(), stderr.as_bytes()));
        assert_eq!(message("out", " err \n"), "`judge` ended with exit code 3: err");
        assert_eq!(message(" out ", " "), "`judge` ended with exit code 3: out");
        assert_eq!(message("", ""), "`judge` ended with exit code 3: (no output)");
        assert_eq!(
            text(&failure("judge", -9, b"", b"")),
            "`judge` was ended by signal 9: (no output)"
        );
    }
}
