//! The smoke test: the server's prompt has our token ids, and its greedy answer is our greedy answer.

use dlm_plugin::http::Request;
use dlm_plugin::serde_json::{Value, json};
use dlm_plugin::target::{Plan, Probe, SmokeReport};
use dlm_plugin::{Error, log, openai, text};

/// Reading a prompt of a few hundred tokens on a slow machine.
const ANSWER_TIMEOUT_MS: u32 = 300_000;
/// Longest answer shown.
const SHOWN_CHARS: usize = 200;
/// Asked when the host has no probe.
const GREETING: &str = "Hello.";
const GREETING_NEW_TOKENS: u32 = 32;

/// Asks the server at `url` and judges the answer.
pub fn run(plan: &Plan, url: &str) -> Result<SmokeReport, Error> {
    let Some(probe) = &plan.probe else {
        let answer = ask(
            url,
            &messages(plan.system_prompt.as_deref(), GREETING),
            GREETING_NEW_TOKENS,
        )?;
        return Ok(not_blank(&answer));
    };
    let messages = messages(probe.system.as_deref(), &probe.user);
    if !probe.prompt_tokens.is_empty()
        && let Some(drift) = drift(url, &messages, probe)?
    {
        return Ok(failed(drift));
    }
    let answer = ask(url, &messages, probe.max_new_tokens)?;
    if !probe.exact {
        return Ok(not_blank(&answer));
    }
    if answer.trim() == probe.answer.trim() {
        return Ok(SmokeReport {
            ok: true,
            detail: format!("same greedy answer as dlm: {}", shown(&answer)),
        });
    }
    Ok(failed(format!(
        "the greedy answers differ from character {}: expected `{}`, found `{}`",
        common_chars(answer.trim(), probe.answer.trim()),
        shown(&probe.answer),
        shown(&answer)
    )))
}

fn messages(system: Option<&str>, user: &str) -> Value {
    let mut list = Vec::new();
    if let Some(system) = system.map(str::trim).filter(|text| !text.is_empty()) {
        list.push(json!({"role": "system", "content": system}));
    }
    list.push(json!({"role": "user", "content": user}));
    Value::Array(list)
}

fn not_blank(answer: &str) -> SmokeReport {
    match text::first_line(answer, SHOWN_CHARS) {
        Some(line) => SmokeReport { ok: true, detail: line },
        None => failed("the answer is blank".to_owned()),
    }
}

fn failed(detail: String) -> SmokeReport {
    SmokeReport { ok: false, detail }
}

fn shown(answer: &str) -> String {
    text::first_line(answer, SHOWN_CHARS).unwrap_or_default()
}

fn common_chars(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// Asks one question at temperature 0 and gives the answer's text.
fn ask(url: &str, messages: &Value, new_tokens_max: u32) -> Result<String, Error> {
    let request = json!({
        "messages": messages,
        "temperature": 0,
        "top_k": 1,
        "seed": 0,
        "max_tokens": new_tokens_max,
        "cache_prompt": false,
        "stream": false,
    });
    let (status, answer) = post_json(&format!("{url}/v1/chat/completions"), &request)?;
    if status != 200 {
        return Err(rejected("chat", status, &answer));
    }
    content(&answer).ok_or_else(|| Error::Corrupt("the server's answer has no `choices[0].message.content`".to_owned()))
}

/// The text of an answer.
fn content(answer: &Value) -> Option<String> {
    openai::text_of(answer.pointer("/choices/0/message/content")?)
}

/// Posts JSON; gives the status and the answer, `Null` when it is not JSON.
fn post_json(url: &str, body: &Value) -> Result<(u16, Value), Error> {
    let answer = Request::post(url).json(body).timeout_ms(ANSWER_TIMEOUT_MS).send()?;
    let json = dlm_plugin::serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    Ok((answer.status, json))
}

/// Says where the server's prompt tokens differ from the host's, if they do. A server without these two endpoints is
/// not asked.
fn drift(url: &str, messages: &Value, probe: &Probe) -> Result<Option<String>, Error> {
    let body = json!({"messages": messages});
    let (status, rendered) = post_json(&format!("{url}/apply-template"), &body)?;
    if status == 404 || status == 501 {
        log::warn("this llama-server cannot show its prompt; token ids were not compared");
        return Ok(None);
    }
    let Some(prompt) = rendered.get("prompt").and_then(Value::as_str) else {
        return Err(rejected("template", status, &rendered));
    };
    let body = json!({"content": prompt, "add_special": true, "parse_special": true});
    let (status, tokenized) = post_json(&format!("{url}/tokenize"), &body)?;
    let Some(tokens) = tokenized.get("tokens").and_then(Value::as_array) else {
        return Err(rejected("tokenize", status, &tokenized));
    };
    let tokens: Vec<u64> = tokens.iter().filter_map(Value::as_u64).collect();
    let ours: Vec<u64> = probe.prompt_tokens.iter().map(|id| u64::from(*id)).collect();
    if tokens == ours {
        return Ok(None);
    }
    let at = tokens.iter().zip(&ours).take_while(|(a, b)| a == b).count();
    Ok(Some(format!(
        "template drift: the server's prompt has {} tokens, dlm's has {}; they differ from token {at} ({} against {})",
        tokens.len(),
        ours.len(),
        id_at(&tokens, at),
        id_at(&ours, at)
    )))
}

fn id_at(ids: &[u64], at: usize) -> String {
    ids.get(at).map_or_else(|| "none".to_owned(), u64::to_string)
}

fn rejected(what: &str, status: u16, answer: &Value) -> Error {
    let message = answer
        .get("error")
        .and_then(|error| error.get("message"))
        .and_then(Value::as_str)
        .unwrap_or("no message");
    let message = format!("the server refused the {what} request with status {status}: {message}");
    Error::rejected(i32::from(status), message)
}
