//! The host's own question to a server that speaks OpenAI's chat protocol.

use std::time::Duration;

use dlm_core::ports::guest_http::{GuestBody, GuestMethod, GuestRequest};
use dlm_core::ports::target::TargetSmoke;
use serde_json::{Value, json};

use super::own_request;
use crate::error::{CallFailure, PluginError};
use crate::host::server_rule;
use crate::limits::short;
use crate::target::PluginTarget;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const SHOWN_CHARS: usize = 200;
/// Model name where the server lists none.
const MODEL_DEFAULT: &str = "dlm-smoke";

/// Asks `Hello.` and takes the first line of the answer.
pub(crate) fn ask(target: &PluginTarget, port: u16) -> Result<TargetSmoke, PluginError> {
    let failed = |message: String| CallFailure::Smoke { message }.of(target.running.store.data().who());
    let (_, models) = exchange(target, port, GuestMethod::Get, "/v1/models", None).map_err(failed)?;
    let model = models["data"][0]["id"].as_str().unwrap_or(MODEL_DEFAULT);
    let question = json!({"model": model, "messages": [{"role": "user", "content": "Hello."}]});
    let path = "/v1/chat/completions";
    let (status, answer) = exchange(target, port, GuestMethod::Post, path, Some(&question)).map_err(failed)?;
    if status != 200 {
        return Err(failed(format!("the server answered with status {status}")));
    }
    let text = content(&answer["choices"][0]["message"]["content"]);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    match line {
        Some(line) => Ok(TargetSmoke::Passed {
            detail: short(&line.chars().take(SHOWN_CHARS).collect::<String>()),
        }),
        None => Err(failed("the answer is blank".to_owned())),
    }
}

/// A text, or a list whose `text` parts are joined by newlines.
fn content(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

fn exchange(
    target: &PluginTarget,
    port: u16,
    method: GuestMethod,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), String> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = GuestRequest {
        method,
        url: format!("http://127.0.0.1:{port}{path}"),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: GuestBody::Bytes(body),
        timeout: ANSWER_TIMEOUT,
        response_bytes_max: ANSWER_BYTES_MAX,
        ..own_request(target)
    };
    let ports = &target.running.store.data().new.ports;
    let answer = ports.http.send(&request, &[server_rule(port)], &ports.cancel);
    let answer = answer.map_err(|error| error.to_string())?;
    let json = serde_json::from_slice(&answer.body).map_err(|error| format!("the answer is not JSON: {error}"))?;
    Ok((answer.status, json))
}
