//! The port for plain HTTP: one request in, one whole response out, under a limit of time and size.
//!
//! Who may be spoken to is decided by the implementation's allow-list, never by the caller of `send`.

use std::time::Duration;

/// The methods that the port knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    Get,
    Post,
    Put,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: HttpMethod,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// For the whole exchange.
    pub timeout: Duration,
    /// A longer response body is refused, not cut.
    pub response_bytes_max: u64,
}

/// One whole response, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{host}` is not among the hosts that this run may reach ({allowed})")]
    NotAllowed { host: String, allowed: String },
    #[error("`{url}` is not an http or https address: {reason}")]
    BadUrl { url: String, reason: String },
    #[error("{url} did not answer within {seconds} s")]
    Timeout { url: String, seconds: u64 },
    #[error("{url} answered with more than the {limit_bytes} bytes that are allowed")]
    TooLarge { url: String, limit_bytes: u64 },
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
}

/// Sends requests to hosts that were allowed beforehand. A status of 400 and above is a response, not an error.
pub trait Http: Send + Sync {
    /// Sends one request and reads the whole response.
    fn send(&self, request: &HttpRequest) -> Result<HttpResponse, HttpError>;
}
