//! JSON over the host's HTTP.

use serde_json::Value;

use crate::bindings::dlm::plugin::http as wire;
use crate::types::{Error, Field};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u32 = 1 << 20;

/// Posts JSON; gives the status and the answer, `Null` when it is not JSON.
pub fn post_json(url: &str, body: &Value, timeout_ms: u32) -> Result<(u16, Value), Error> {
    let response = wire::send(&wire::Request {
        method: wire::Method::Post,
        url: url.to_owned(),
        headers: vec![Field {
            name: "content-type".to_owned(),
            value: "application/json".to_owned(),
        }],
        secret_headers: Vec::new(),
        body: body.to_string().into_bytes(),
        timeout_ms: Some(timeout_ms),
        follow_redirects: 0,
    })?;
    let status = response.status();
    let bytes = response.read_all(ANSWER_BYTES_MAX)?;
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}
