//! Bodies and answers of Anthropic's messages.

use dlm_plugin::openai::{Habits, decimal, missing};
use dlm_plugin::serde_json::{Map, Value, json};
use dlm_plugin::teacher::{Completion, Request, Usage};
use dlm_plugin::{Error, error};

/// The version of the protocol.
pub const VERSION: &str = "2023-06-01";

/// What some models refuse; of two that exclude each other the first goes.
pub const PARAMETERS: [&str; 2] = ["top_p", "temperature"];

/// The body of a request. The protocol has no seed.
pub fn body(model: &str, request: &Request, habits: &Habits) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    if !request.system.trim().is_empty() {
        body.insert("system".to_owned(), json!(request.system));
    }
    body.insert(
        "messages".to_owned(),
        json!([{"role": "user", "content": request.user}]),
    );
    body.insert("max_tokens".to_owned(), json!(request.max_new_tokens));
    if !habits.refuses("temperature") {
        body.insert("temperature".to_owned(), decimal(request.temperature));
    }
    if let Some(top_p) = request.top_p.filter(|_| !habits.refuses("top_p")) {
        body.insert("top_p".to_owned(), decimal(top_p));
    }
    Value::Object(body)
}

/// Reads an answer: its blocks of text, why it ended, and what it cost.
pub fn completion(who: &str, answer: &Value, requests: u32) -> Result<Completion, Error> {
    let Some(blocks) = answer.get("content").and_then(Value::as_array) else {
        return Err(missing(who, "`content` list", answer));
    };
    let is_text = |block: &&Value| block.get("type").and_then(Value::as_str) == Some("text");
    let texts = blocks
        .iter()
        .filter(is_text)
        .filter_map(|block| block.get("text")?.as_str());
    let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
    let ended = answer.get("stop_reason").and_then(Value::as_str);
    if texts.is_empty() {
        return Err(error!(
            Corrupt,
            "the answer of {who} has no block of text in `content` (stop reason: {})",
            ended.unwrap_or("not said")
        ));
    }
    let count = |name: &str| answer.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    Ok(Completion {
        text: texts.join("\n"),
        truncated: ended == Some("max_tokens"),
        usage: Usage {
            prompt_tokens: count("input_tokens").unwrap_or(0),
            completion_tokens: count("output_tokens").unwrap_or(0),
            requests,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_plugin::http::Answer;

    fn request() -> Request {
        Request {
            system: "Be brief.".to_owned(),
            user: "2+2?".to_owned(),
            max_new_tokens: 64,
            temperature: 0.3,
            top_p: Some(0.9),
            seed: Some(7),
        }
    }

    #[test]
    fn the_system_text_is_at_the_top_and_no_seed_is_sent() {
        let expected = json!({
            "model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "2+2?"}],
            "max_tokens": 64, "temperature": 0.3, "top_p": 0.9,
        });
        assert_eq!(body("m", &request(), &Habits::default()), expected);
        let mut bare = request();
        (bare.system, bare.top_p) = (String::new(), None);
        let expected = json!({
            "model": "m", "messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 64, "temperature": 0.3,
        });
        assert_eq!(body("m", &bare, &Habits::default()), expected);
    }

    #[test]
    fn of_two_that_exclude_each_other_one_goes() {
        let message = "`temperature` and `top_p` cannot both be specified for this model.";
        let answer = Answer {
            status: 400,
            headers: Vec::new(),
            body: json!({"type": "error", "error": {"message": message}})
                .to_string()
                .into_bytes(),
        };
        let mut habits = Habits::default();
        assert!(habits.learn(&answer, &PARAMETERS));
        let body = body("m", &request(), &habits);
        assert!(body.get("top_p").is_none() && body.get("temperature").is_some());
    }

    #[test]
    fn blocks_of_text_are_joined() {
        let answer = json!({
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": " a "}, {"type": "text", "text": "b"}],
            "stop_reason": "max_tokens", "usage": {"input_tokens": 9, "output_tokens": 4},
        });
        let done = completion("x", &answer, 2).unwrap();
        assert_eq!((done.text.as_str(), done.truncated), ("a\nb", true));
        assert_eq!(
            (
                done.usage.prompt_tokens,
                done.usage.completion_tokens,
                done.usage.requests
            ),
            (9, 4, 2)
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (answer, part) in [
            (json!({}), "`content`"),
            (json!({"content": "text"}), "`content`"),
            (json!({"content": [], "stop_reason": "refusal"}), "refusal"),
            (json!({"content": [{"type": "text", "text": "  "}]}), "no block of text"),
        ] {
            let error = completion("anthropic:m", &answer, 1).unwrap_err();
            assert!(matches!(&error, Error::Corrupt(text) if text.contains(part)), "{error}");
        }
    }
}
