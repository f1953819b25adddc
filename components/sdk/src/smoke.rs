//! The greeting of a started server that speaks OpenAI's chat protocol.

use serde_json::{Value, json};

use crate::http::Request;
use crate::target::SmokeReport;
use crate::{Error, error, openai, text};

/// Reading a prompt and writing an answer on a slow machine.
const ANSWER_TIMEOUT_MS: u32 = 300_000;
const LIST_TIMEOUT_MS: u32 = 30_000;
const ANSWER_TOKENS_MAX: u32 = 32;
const SHOWN_CHARS: usize = 200;
const GREETING: &str = "Hello.";

/// Which model the greeting asks.
pub enum Asked<'a> {
    /// The first of these that the server lists, else the first listed, else `dlm-smoke`.
    Listed(&'a [String]),
    /// This one, whatever is listed.
    Named(&'a str),
}

/// Asks `Hello.` and reports the first line of the answer.
pub fn greet(url: &str, asked: &Asked<'_>) -> Result<SmokeReport, Error> {
    let model = match asked {
        Asked::Named(name) => (*name).to_owned(),
        Asked::Listed(wanted) => {
            let answer = Request::get(&format!("{url}/v1/models"))
                .timeout_ms(LIST_TIMEOUT_MS)
                .send()?;
            if !answer.is_success() {
                return Ok(failed(format!(
                    "the model list has status {}: {}",
                    answer.status,
                    answer.excerpt()
                )));
            }
            choose(&answer.json("the server")?, wanted)
        }
    };
    let question = json!({
        "model": model,
        "messages": openai::messages("", GREETING),
        "max_tokens": ANSWER_TOKENS_MAX,
        "temperature": 0,
    });
    let answer = Request::post(&format!("{url}/v1/chat/completions"))
        .json(&question)
        .timeout_ms(ANSWER_TIMEOUT_MS)
        .send()?;
    if !answer.is_success() {
        return Ok(failed(format!(
            "the question to `{model}` has status {}: {}",
            answer.status,
            answer.excerpt()
        )));
    }
    let json = answer.json("the server")?;
    let content = json.pointer("/choices/0/message/content").and_then(openai::text_of);
    let content = content.ok_or_else(|| error!(Corrupt, "the server's answer has no `choices[0].message.content`"))?;
    Ok(match text::first_line(&content, SHOWN_CHARS) {
        Some(line) => SmokeReport { ok: true, detail: line },
        None => failed("the answer is blank".to_owned()),
    })
}

fn failed(detail: String) -> SmokeReport {
    SmokeReport { ok: false, detail }
}

fn choose(list: &Value, wanted: &[String]) -> String {
    let listed = list.get("data").and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<&str> = listed.filter_map(|model| model.get("id")?.as_str()).collect();
    let found = wanted.iter().map(String::as_str).find(|name| ids.contains(name));
    found.or_else(|| ids.first().copied()).unwrap_or("dlm-smoke").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adapter_is_asked_and_not_its_base() {
        let list = json!({"data": [{"id": "base"}, {"id": "tone"}, {"id": "facts"}]});
        assert_eq!(choose(&list, &["facts".to_owned(), "tone".to_owned()]), "facts");
        assert_eq!(choose(&list, &["other".to_owned()]), "base");
        assert_eq!(choose(&json!({}), &["other".to_owned()]), "dlm-smoke");
    }
}
