//! Small JSON requests to a server on this machine: how an exported model is asked its first question.

use std::time::Duration;

use dlm_core::ports::{Http, HttpError, HttpMethod, HttpRequest};
use serde_json::Value;

use crate::http::{AllowedHost, AllowedHttp};

/// An answer of a local model server is text of at most this size.
const RESPONSE_BYTES_MAX: u64 = 8 << 20;
/// As much of a refusal's body as a message can carry.
const EXCERPT_CHARS: usize = 200;

/// Why there is no JSON answer.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{url} answered {status}: {excerpt}")]
    Status { url: String, status: u16, excerpt: String },
    #[error("{url} answered something that is not JSON: {source}")]
    NotJson { url: String, source: serde_json::Error },
}

/// Speaks JSON to one port of 127.0.0.1 and to nothing else.
#[derive(Debug)]
pub struct JsonClient {
    http: AllowedHttp,
    port: u16,
    timeout: Duration,
}

impl JsonClient {
    /// A client for one port; `timeout` is for each whole exchange.
    pub fn new(port: u16, timeout: Duration) -> Self {
        JsonClient {
            http: AllowedHttp::new(vec![AllowedHost::loopback(port)]),
            port,
            timeout,
        }
    }

    /// GETs a path (with its leading slash).
    pub fn get(&self, path: &str) -> Result<Value, JsonError> {
        self.exchange(HttpMethod::Get, path, Vec::new())
    }

    /// POSTs JSON to a path (with its leading slash).
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, JsonError> {
        self.exchange(HttpMethod::Post, path, body.to_string().into_bytes())
    }

    fn exchange(&self, method: HttpMethod, path: &str, body: Vec<u8>) -> Result<Value, JsonError> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let headers = if body.is_empty() {
            Vec::new()
        } else {
            vec![("Content-Type".to_owned(), "application/json".to_owned())]
        };
        let response = self.http.send(&HttpRequest {
            method,
            url: url.clone(),
            headers,
            body,
            timeout: self.timeout,
            response_bytes_max: RESPONSE_BYTES_MAX,
        })?;
        if !(200..300).contains(&response.status) {
            let text = String::from_utf8_lossy(&response.body);
            let excerpt = text.chars().filter(|c| !c.is_control()).take(EXCERPT_CHARS).collect();
            return Err(JsonError::Status {
                url,
                status: response.status,
                excerpt,
            });
        }
        serde_json::from_slice(&response.body).map_err(|source| JsonError::NotJson { url, source })
    }
}
