//! The imports `http` and `upload`: requests that the port checks hop by hop against this plugin's grants.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dlm_core::http_rule::{HostPattern, HttpRule, ParsedUrl, Scheme};
use dlm_core::inert::{cut, inert_line};
use dlm_core::ports::guest_http::{GuestBody, GuestHttpError, GuestMethod, GuestRequest, GuestResponse, SecretHeader};
use dlm_core::units::size;
use dlm_packages::limits::LimitName;
use wasmtime::component::Resource;

use super::files::{Input, changed};
use super::secrets::{HiddenSecret, without, without_text};
use super::wit::types::Field;
use super::wit::{http, upload};
use super::{Phase, State, Stop, WitError};
use crate::limits::PassedLimit;

/// Used when the guest names no time.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// Most bytes of one read.
const READ_BYTES_MAX: u32 = 1 << 20;
/// Longest address shown in a refusal.
const SHOWN_BYTES_MAX: usize = 200;
const HEADERS_MAX: usize = 64;
const REDIRECTS_MAX: u8 = 5;
/// Answers of the largest size that a guest may hold at once.
const ANSWERS_KEPT: u64 = 2;

/// An answer, read by the guest in parts.
pub struct Response {
    status: u16,
    headers: Vec<Field>,
    url: String,
    body: Vec<u8>,
    read: usize,
}

impl Response {
    /// The next part; and how many bytes that frees, which is all of them once the guest has the last one.
    fn take(&mut self, bytes: usize) -> (Vec<u8>, u64) {
        let end = self.read.saturating_add(bytes).min(self.body.len());
        let part = self.body.get(self.read..end).unwrap_or_default().to_vec();
        self.read = end;
        if end < self.body.len() {
            return (part, 0);
        }
        self.read = 0;
        (part, std::mem::take(&mut self.body).len() as u64)
    }
}

/// What a request is counted under: `host`, with the port where it is not the scheme's own.
fn host_of(url: &str) -> String {
    match ParsedUrl::parse(url) {
        Ok(url) if url.port() == url.scheme().default_port() => url.host().to_string(),
        Ok(url) => format!("{}:{}", url.host(), url.port()),
        Err(_) => "an address that cannot be read".to_owned(),
    }
}

/// The rule that reaches a server which the host itself started on this machine.
pub(crate) fn server_rule(port: u16) -> HttpRule {
    HttpRule {
        scheme: Scheme::Http,
        host: HostPattern::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port,
        prefix: String::new(),
        is_typed: true,
        is_own_server: true,
    }
}

impl State {
    /// Where requests may go now.
    fn rules(&self) -> Vec<HttpRule> {
        let mut rules = self.new.grants.http_rules();
        if self.phase == Phase::Smoke {
            rules.extend(self.server_port.map(server_rule));
        }
        rules
    }

    /// Builds the request of a guest; where it may go is the port's to check.
    fn request(&self, request: http::Request, body: GuestBody) -> Result<GuestRequest, WitError> {
        self.check_outside(|| format!("http:{}", inert_line(&cut(&request.url, SHOWN_BYTES_MAX))))?;
        if request.headers.len() + request.secret_headers.len() > HEADERS_MAX {
            return Err(WitError::InvalidInput(format!("more than {HEADERS_MAX} headers")));
        }
        if request.follow_redirects > REDIRECTS_MAX {
            return Err(WitError::InvalidInput(format!("more than {REDIRECTS_MAX} redirects")));
        }
        let secret_headers = request.secret_headers.iter().map(|header| self.secret_header(header));
        let timeout = request
            .timeout_ms
            .map_or(TIMEOUT_DEFAULT, |ms| Duration::from_millis(u64::from(ms)));
        Ok(GuestRequest {
            method: method(request.method),
            secret_headers: secret_headers.collect::<Result<_, _>>()?,
            url: request.url,
            headers: request
                .headers
                .into_iter()
                .map(|field| (field.name, field.value))
                .collect(),
            secrets: self.secrets_in_use(),
            body,
            timeout: timeout.min(self.wall_left()),
            follow_redirects: request.follow_redirects,
            response_bytes_max: self.new.limits.response_bytes,
            user_agent: format!(
                "dlm/{} (plugin {}/{})",
                self.new.facts.host_version, self.new.plugin, self.new.version
            ),
        })
    }

    fn secret_header(&self, header: &http::SecretHeader) -> Result<SecretHeader, WitError> {
        let secret = self
            .table
            .get(&header.secret)
            .map_err(|error| WitError::InvalidInput(error.to_string()))?;
        Ok(SecretHeader {
            name: header.name.clone(),
            value: format!("{}{}{}", header.prefix, secret.value(), header.suffix),
            secret: secret.name().to_owned(),
            hosts: self.new.grants.secret_hosts(secret.name()),
        })
    }

    fn exchange(
        &mut self,
        request: http::Request,
        body: GuestBody,
    ) -> wasmtime::Result<Result<Resource<Response>, WitError>> {
        let request = match self.request(request, body) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let allowed = self.new.limits.requests;
        if self.earlier.0 + self.used.requests() >= allowed {
            let text = format!("{allowed} requests");
            return Err(Stop::trap(PassedLimit::raisable(LimitName::Requests, allowed, text)));
        }
        let host = host_of(&request.url);
        let of_host = self.used.http.entry(host.clone()).or_default();
        of_host.requests += 1;
        of_host.bytes_sent += match &request.body {
            GuestBody::Bytes(bytes) => bytes.len() as u64,
            GuestBody::File { length, .. } => *length,
        };
        let rules = self.rules();
        let answer = self.in_host(|state| {
            let ports = &state.new.ports;
            ports.http.send(&request, &rules, &ports.cancel)
        });
        match answer {
            Ok(answer) => {
                self.used.http.entry(host).or_default().bytes_received += answer.body.len() as u64;
                let answer = without_secrets(answer, &self.hidden());
                Ok(Ok(self.keep(answer)?))
            }
            Err(error) => self.failed(error),
        }
    }

    /// An exchange that gave no answer, in the guest's terms; limits and Ctrl-C end the call instead.
    fn failed(&self, error: GuestHttpError) -> wasmtime::Result<Result<Resource<Response>, WitError>> {
        match error {
            GuestHttpError::TooLarge { limit_bytes, .. } => {
                let text = format!("{} of answer to one request", size(limit_bytes));
                Err(Stop::trap(PassedLimit::raisable(
                    LimitName::Response,
                    limit_bytes,
                    text,
                )))
            }
            GuestHttpError::Cancelled => Err(wasmtime::Error::new(Stop::Cancelled)),
            GuestHttpError::TimedOut { .. } => Ok(Err(WitError::TimedOut(error.to_string()))),
            GuestHttpError::Denied { capability, message } => Ok(Err(self.denied(capability, message))),
            GuestHttpError::Invalid(message) => Ok(Err(WitError::InvalidInput(message))),
            GuestHttpError::Unreachable { .. } => Ok(Err(WitError::Unavailable(error.to_string()))),
        }
    }

    /// Keeps an answer until the guest read or dropped it. All that are kept have room for [`ANSWERS_KEPT`] of the largest.
    fn keep(&mut self, answer: GuestResponse) -> wasmtime::Result<Resource<Response>> {
        let limit = self.new.limits.response_bytes;
        let kept = self.answer_bytes.saturating_add(answer.body.len() as u64);
        if kept > limit.saturating_mul(ANSWERS_KEPT) {
            let text = format!("{} of answers kept at once", size(limit.saturating_mul(ANSWERS_KEPT)));
            return Err(Stop::trap(PassedLimit::raisable(LimitName::Response, limit, text)));
        }
        self.answer_bytes = kept;
        let field = |(name, value)| Field { name, value };
        Ok(self.table.push(Response {
            status: answer.status,
            headers: answer.headers.into_iter().map(field).collect(),
            url: answer.url,
            body: answer.body,
            read: 0,
        })?)
    }
}

/// An answer with other words in the place of secrets, wherever they stand.
fn without_secrets(answer: GuestResponse, hidden: &[HiddenSecret]) -> GuestResponse {
    let text = |text: String| without_text(text, hidden);
    GuestResponse {
        status: answer.status,
        headers: answer
            .headers
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        url: text(answer.url),
        body: without(answer.body, hidden),
    }
}

fn method(method: http::Method) -> GuestMethod {
    match method {
        http::Method::Get => GuestMethod::Get,
        http::Method::Head => GuestMethod::Head,
        http::Method::Post => GuestMethod::Post,
        http::Method::Put => GuestMethod::Put,
        http::Method::Patch => GuestMethod::Patch,
        http::Method::Delete => GuestMethod::Delete,
    }
}

impl http::Host for State {
    fn send(&mut self, mut request: http::Request) -> wasmtime::Result<Result<Resource<Response>, WitError>> {
        let body = GuestBody::Bytes(std::mem::take(&mut request.body));
        self.exchange(request, body)
    }
}

impl upload::Host for State {
    fn send_file(
        &mut self,
        request: http::Request,
        source: Resource<Input>,
        offset: u64,
        length: u64,
    ) -> wasmtime::Result<Result<Resource<Response>, WitError>> {
        if !request.body.is_empty() {
            let message = "a request that sends a file has no body of its own";
            return Ok(Err(WitError::InvalidInput(message.to_owned())));
        }
        let artifact = &self.table.get(&source)?.artifact;
        if offset.checked_add(length).is_none_or(|end| end > artifact.size) {
            return Ok(Err(WitError::InvalidInput(format!(
                "bytes {offset} to {offset} + {length} are not all in `{}`, which has {}",
                artifact.name, artifact.size
            ))));
        }
        if !dlm_files::open_ordinary(&artifact.path).is_ok_and(|file| self.is_checked(artifact, &file)) {
            return Ok(Err(changed(artifact)));
        }
        let body = GuestBody::File {
            path: artifact.path.clone(),
            offset,
            length,
        };
        self.exchange(request, body)
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
        let (part, freed) = self.table.get_mut(&response)?.take(max);
        self.answer_bytes = self.answer_bytes.saturating_sub(freed);
        Ok(Ok(part))
    }

    fn read_all(&mut self, response: Resource<Response>, limit: u32) -> wasmtime::Result<Result<Vec<u8>, WitError>> {
        let limit = usize::try_from(limit)?;
        let response = self.table.get_mut(&response)?;
        if response.body.len().saturating_sub(response.read) > limit {
            return Ok(Err(WitError::Failed(format!(
                "the answer is longer than {limit} bytes"
            ))));
        }
        let (part, freed) = response.take(limit);
        self.answer_bytes = self.answer_bytes.saturating_sub(freed);
        Ok(Ok(part))
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        let response = self.table.delete(response)?;
        self.answer_bytes = self.answer_bytes.saturating_sub(response.body.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::state;
    use super::*;
    use http::HostResponse;

    const MIB: usize = 1 << 20;

    fn answer(bytes: usize) -> GuestResponse {
        GuestResponse {
            status: 200,
            headers: Vec::new(),
            url: "https://a.example/".to_owned(),
            body: vec![b'x'; bytes],
        }
    }

    #[test]
    fn answers_that_a_guest_keeps_are_counted_together() {
        let mut state = state(&Arc::default());
        let first = state.keep(answer(16 * MIB)).unwrap();
        let second = state.keep(answer(16 * MIB)).unwrap();
        let error = state.keep(answer(1)).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Stop::Passed(passed)) if passed.name == "response"),
            "{error}"
        );
        HostResponse::drop(&mut state, first).unwrap();
        let third = state.keep(answer(16 * MIB)).unwrap();
        // What was read to its end takes no room any more, and is at its end.
        let again = Resource::new_borrow(second.rep());
        let read = state.read_all(again, 64 << 20).unwrap().unwrap();
        assert_eq!(read.len(), 16 * MIB);
        assert!(
            state
                .read(Resource::new_borrow(second.rep()), 1)
                .unwrap()
                .unwrap()
                .is_empty()
        );
        let fourth = state.keep(answer(16 * MIB)).unwrap();
        for response in [second, third, fourth] {
            HostResponse::drop(&mut state, response).unwrap();
        }
        assert_eq!(state.answer_bytes, 0);
    }

    #[test]
    fn an_answer_is_read_in_parts() {
        let mut state = state(&Arc::default());
        let response = state.keep(answer(5)).unwrap();
        let mut part = |max| {
            state
                .read(Resource::new_borrow(response.rep()), max)
                .unwrap()
                .unwrap()
                .len()
        };
        assert_eq!([part(2), part(2), part(2), part(2)], [2, 2, 1, 0]);
        assert_eq!(state.answer_bytes, 0);
    }
}
