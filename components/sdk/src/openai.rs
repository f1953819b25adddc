//! OpenAI's chat protocol, as its own service, vLLM and many local servers speak it.

use serde_json::{Map, Value, json};

use crate::http::Answer;
use crate::teacher::{Completion, Request, Usage};
use crate::{Error, error};

/// The parameters of a request that some models refuse.
pub const PARAMETERS: [&str; 5] = ["max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"];

/// Longest text of a service that is repeated in an error.
const SAID_CHARS_MAX: usize = 300;

/// What a model of this protocol refused, learned from its answers: models made for reasoning take no `max_tokens` and no
/// `temperature`. Kept for the life of the teacher, so that each is refused once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    refused: Vec<String>,
}

impl Habits {
    /// The body of a chat request.
    pub fn body(&self, model: &str, request: &Request) -> Value {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(model));
        body.insert("messages".to_owned(), messages(&request.system, &request.user));
        let tokens_key = if self.refuses("max_tokens") {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        let mut set = |key: &str, value: Value| {
            if !self.refuses(key) {
                body.insert(key.to_owned(), value);
            }
        };
        set(tokens_key, json!(request.max_new_tokens));
        set("temperature", decimal(request.temperature));
        if let Some(top_p) = request.top_p {
            set("top_p", decimal(top_p));
        }
        if let Some(seed) = request.seed {
            // The protocol's seed is a signed 64-bit integer.
            set("seed", json!(seed & (u64::MAX >> 1)));
        }
        Value::Object(body)
    }

    /// True for a parameter that was refused before.
    pub fn refuses(&self, key: &str) -> bool {
        self.refused.iter().any(|refused| refused == key)
    }

    /// Learns from a 400 that names one of the parameters `ours`; true when the request is worth sending again without it.
    pub fn learn(&mut self, answer: &Answer, ours: &[&str]) -> bool {
        if answer.status != 400 {
            return false;
        }
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let error = json.get("error").unwrap_or(&json);
        let param = error.get("param").and_then(Value::as_str).unwrap_or_default();
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        let named = ours.iter().find(|name| **name == param).or_else(|| {
            let quoted =
                |name: &&&str| message.contains(&format!("'{name}'")) || message.contains(&format!("`{name}`"));
            ours.iter().find(quoted)
        });
        match named {
            Some(name) if !self.refuses(name) => {
                self.refused.push((*name).to_owned());
                true
            }
            _ => false,
        }
    }
}

/// System and user turn; a blank system text is left out.
pub fn messages(system: &str, user: &str) -> Value {
    let mut list = Vec::new();
    if !system.trim().is_empty() {
        list.push(json!({"role": "system", "content": system}));
    }
    list.push(json!({"role": "user", "content": user}));
    Value::Array(list)
}

/// A 32-bit number as people write it: `0.7`, not `0.699999988079071`.
pub fn decimal(value: f32) -> Value {
    let short: f64 = value.to_string().parse().unwrap_or(f64::from(value));
    json!(short)
}

/// Reads a chat answer: text, why it ended, and what it cost.
///
/// **Errors**: the missing piece is named.
pub fn completion(who: &str, answer: &Value, requests: u32) -> Result<Completion, Error> {
    let Some(choice) = answer.pointer("/choices/0") else {
        return Err(missing(who, "`choices[0]`", answer));
    };
    let Some(content) = choice.pointer("/message/content") else {
        return Err(error!(
            Corrupt,
            "the answer of {who} has no `choices[0].message.content`"
        ));
    };
    let text = text_of(content).ok_or_else(|| {
        error!(
            Corrupt,
            "`choices[0].message.content` in the answer of {who} is neither text nor a list of parts"
        )
    })?;
    if text.trim().is_empty() {
        let why = choice
            .get("finish_reason")
            .and_then(Value::as_str)
            .unwrap_or("not said");
        return Err(error!(Corrupt, "the answer of {who} is blank (finish reason: {why})"));
    }
    let count = |name: &str| answer.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    Ok(Completion {
        text,
        truncated: choice.get("finish_reason").and_then(Value::as_str) == Some("length"),
        usage: Usage {
            prompt_tokens: count("prompt_tokens").unwrap_or(0),
            completion_tokens: count("completion_tokens").unwrap_or(0),
            requests,
        },
    })
}

/// The error of an answer that lacks a piece; services that had begun to answer report failures with status 200.
pub fn missing(who: &str, what: &str, answer: &Value) -> Error {
    match answer.pointer("/error/message").and_then(Value::as_str) {
        Some(said) => {
            let said: String = said.trim().chars().take(SAID_CHARS_MAX).collect();
            error!(Unavailable, "{who} answered with status 200 and an error: {said}")
        }
        None => error!(Corrupt, "the answer of {who} has no {what}"),
    }
}

/// A text, or a list of parts whose texts are trimmed and joined by newlines; null is an empty text.
pub fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            let texts: Vec<&str> = texts.map(str::trim).filter(|text| !text.is_empty()).collect();
            Some(texts.join("\n"))
        }
        Value::Null => Some(String::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            system: "Be brief.".to_owned(),
            user: "2+2?".to_owned(),
            max_new_tokens: 64,
            temperature: 0.7,
            top_p: Some(0.9),
            seed: Some(15),
        }
    }

    fn refusal(body: &str) -> Answer {
        Answer {
            status: 400,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_body_has_each_field_of_the_protocol() {
        let expected = json!({
            "model": "m", "max_tokens": 64, "temperature": 0.7, "top_p": 0.9, "seed": 15,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}],
        });
        assert_eq!(Habits::default().body("m", &request()), expected);
        let mut bare = request();
        (bare.system, bare.top_p, bare.seed) = (" ".to_owned(), None, None);
        let expected = json!({
            "model": "m", "max_tokens": 64, "temperature": 0.7, "messages": [{"role": "user", "content": "2+2?"}],
        });
        assert_eq!(Habits::default().body("m", &bare), expected);
    }

    #[test]
    fn a_refused_parameter_is_renamed_or_dropped_once() {
        let mut habits = Habits::default();
        let tokens =
            refusal(r#"{"error": {"message": "Use 'max_completion_tokens' instead.", "param": "max_tokens"}}"#);
        assert!(habits.learn(&tokens, &PARAMETERS));
        let body = habits.body("m", &request());
        assert_eq!(
            (body.get("max_tokens"), &body["max_completion_tokens"]),
            (None, &json!(64))
        );
        assert!(!habits.learn(&tokens, &PARAMETERS), "the same refusal twice is final");
        let heat = refusal(r#"{"error": {"message": "'temperature' does not support 0.7"}}"#);
        assert!(habits.learn(&heat, &PARAMETERS));
        assert_eq!(habits.body("m", &request()).get("temperature"), None);
        assert!(!habits.learn(
            &refusal(r#"{"error": {"message": "no such model", "param": "model"}}"#),
            &PARAMETERS
        ));
        let mut other = refusal(r#"{"error": {"param": "top_p"}}"#);
        other.status = 404;
        assert!(!habits.learn(&other, &PARAMETERS));
    }

    #[test]
    fn an_answer_is_text_or_parts() {
        let answer = |content: Value| {
            json!({"choices": [{"message": {"content": content}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3}})
        };
        let done = completion("x", &answer(json!(" four ")), 1).unwrap();
        assert_eq!((done.text.as_str(), done.truncated), (" four ", true));
        assert_eq!((done.usage.prompt_tokens, done.usage.completion_tokens), (5, 3));
        let parts = json!([{"type": "text", "text": " a "}, {"type": "image"}, {"text": "b"}]);
        assert_eq!(completion("x", &answer(parts), 1).unwrap().text, "a\nb");
    }

    #[test]
    fn an_error_inside_of_a_success_may_pass() {
        let error = completion("openai:m", &json!({"error": {"message": "overloaded"}}), 1).unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable(text) if text.contains("overloaded")),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (answer, part) in [
            (json!({}), "`choices[0]`"),
            (json!({"choices": []}), "`choices[0]`"),
            (json!({"choices": [{"message": {}}]}), "`choices[0].message.content`"),
            (json!({"choices": [{"message": {"content": 4}}]}), "neither text"),
            (
                json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}),
                "content_filter",
            ),
        ] {
            let error = completion("openai:m", &answer, 1).unwrap_err();
            assert!(
                matches!(&error, Error::Corrupt(text) if text.contains(part) && text.contains("openai:m")),
                "{error}"
            );
        }
    }
}
