//! The import `http`: requests to this machine, granted, or to the server of the smoke test.

use std::time::Duration;

use dlm_core::ports::http::{HttpError, HttpMethod, HttpRequest};
use wasmtime::component::Resource;

use super::wit::http;
use super::wit::types::Field;
use super::{Phase, State, Stop, WitError, denied};
use crate::limits::{LimitName, Passed, size};
use crate::terminal::{cut, inert_line};
use crate::url::Url;

/// Used when the guest names no time.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Most bytes of one read.
const READ_BYTES_MAX: u32 = 1 << 20;
/// Longest address shown in a refusal.
const SHOWN_BYTES_MAX: usize = 200;
const HEADERS_MAX: usize = 64;
/// Headers that a guest may not set, because they decide where or how the request goes.
const HEADERS_REFUSED: [&str; 7] = [
    "host",
    "connection",
    "transfer-encoding",
    "content-length",
    "te",
    "upgrade",
    "user-agent",
];

/// An answer, read by the guest in parts.
pub struct Response {
    status: u16,
    headers: Vec<Field>,
    url: String,
    body: Vec<u8>,
    read: usize,
}

impl Response {
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let end = self.read.saturating_add(bytes).min(self.body.len());
        let part = self.body.get(self.read..end).unwrap_or_default().to_vec();
        self.read = end;
        part
    }
}

impl State {
    /// Builds the request of a guest, refusing what it may not send.
    fn checked(&self, request: http::Request) -> Result<HttpRequest, WitError> {
        let shown = inert_line(&cut(&request.url, SHOWN_BYTES_MAX));
        let url = Url::parse(&request.url).filter(|_| matches!(self.phase, Phase::Install | Phase::Smoke));
        let is_server = |url: &Url| self.phase == Phase::Smoke && self.server_port == Some(url.port);
        let Some(url) = url.filter(|url| is_server(url) || self.grants.allows_http(url)) else {
            let message = match self.phase {
                Phase::Open | Phase::Prepare => "no request is made before `install`",
                Phase::Install | Phase::Smoke => "a target reaches `http://127.0.0.1:<port>` only, where it is granted",
            };
            return Err(denied(format!("http:{shown}"), message.to_owned()));
        };
        if request.follow_redirects != 0 {
            return Err(WitError::Unsupported(
                "redirects are not followed for targets".to_owned(),
            ));
        }
        let method = match request.method {
            http::Method::Get => HttpMethod::Get,
            http::Method::Post => HttpMethod::Post,
            http::Method::Put => HttpMethod::Put,
            http::Method::Head | http::Method::Patch | http::Method::Delete => {
                return Err(WitError::Unsupported(
                    "targets send GET, POST and PUT requests only".to_owned(),
                ));
            }
        };
        let timeout = request
            .timeout_ms
            .map_or(TIMEOUT_DEFAULT, |ms| Duration::from_millis(u64::from(ms)));
        let mut headers = checked_headers(request.headers)?;
        headers.push(("user-agent".to_owned(), self.user_agent()));
        Ok(HttpRequest {
            method,
            url: format!("http://127.0.0.1:{}{}", url.port, url.path),
            headers,
            body: request.body,
            timeout: timeout.min(self.wall_left()),
            response_bytes_max: self.limits.response_bytes,
        })
    }

    fn user_agent(&self) -> String {
        format!(
            "dlm/{} (plugin {}/{})",
            self.facts.host_version, self.plugin, self.version
        )
    }
}

fn checked_headers(headers: Vec<Field>) -> Result<Vec<(String, String)>, WitError> {
    if headers.len() > HEADERS_MAX {
        return Err(WitError::InvalidInput(format!("more than {HEADERS_MAX} headers")));
    }
    let check = |field: Field| {
        let name = field.name.to_ascii_lowercase();
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let is_value = field
            .value
            .bytes()
            .all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic());
        let is_refused = HEADERS_REFUSED.contains(&name.as_str()) || name.starts_with("proxy-");
        if is_name && is_value && !is_refused {
            return Ok((name, field.value));
        }
        Err(WitError::InvalidInput(format!(
            "the header `{}` may not be set",
            inert_line(&name)
        )))
    };
    headers.into_iter().map(check).collect()
}

impl http::Host for State {
    fn send(&mut self, request: http::Request) -> wasmtime::Result<Result<Resource<Response>, WitError>> {
        let request = match self.checked(request) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let allowed = self.limits.requests;
        if self.requests >= allowed {
            let text = format!("{allowed} requests");
            return Err(Stop::trap(Passed::raisable(LimitName::Requests, allowed, text)));
        }
        self.requests += 1;
        let answer = self.in_host(|state| state.ports.http.send(&request));
        match answer {
            Ok(answer) => {
                let field = |(name, value)| Field { name, value };
                Ok(Ok(self.table.push(Response {
                    status: answer.status,
                    headers: answer.headers.into_iter().map(field).collect(),
                    url: request.url,
                    body: answer.body,
                    read: 0,
                })?))
            }
            Err(HttpError::TooLarge { limit_bytes, .. }) => {
                let text = format!("{} of answer to one request", size(limit_bytes));
                Err(Stop::trap(Passed::raisable(LimitName::Response, limit_bytes, text)))
            }
            Err(error @ HttpError::Timeout { .. }) => Ok(Err(WitError::TimedOut(error.to_string()))),
            Err(error @ (HttpError::NotAllowed { .. } | HttpError::BadUrl { .. })) => {
                Ok(Err(denied(format!("http:{}", request.url), error.to_string())))
            }
            Err(error) => Ok(Err(WitError::Unavailable(error.to_string()))),
        }
    }
}

impl http::HostResponse for State {
    fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status)
    }

    fn headers(&mut self, response: Resource<Response>) -> wasmtime::Result<Vec<Field>> {
        Ok(self.table.get(&response)?.headers.clone())
    }

    fn url(&mut self, response: Resource<Response>) -> wasmtime::Result<String> {
        Ok(self.table.get(&response)?.url.clone())
    }

    fn read(&mut self, response: Resource<Response>, max: u32) -> wasmtime::Result<Result<Vec<u8>, WitError>> {
        let max = usize::try_from(max.min(READ_BYTES_MAX))?;
        Ok(Ok(self.table.get_mut(&response)?.take(max)))
    }

    fn read_all(&mut self, response: Resource<Response>, limit: u32) -> wasmtime::Result<Result<Vec<u8>, WitError>> {
        let limit = usize::try_from(limit)?;
        let response = self.table.get_mut(&response)?;
        if response.body.len().saturating_sub(response.read) > limit {
            return Ok(Err(WitError::Failed(format!(
                "the answer is longer than {limit} bytes"
            ))));
        }
        Ok(Ok(response.take(limit)))
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}
