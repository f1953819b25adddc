//! The `Http` port with its allow-list: a request reaches a host only when it was named beforehand.
//!
//! Redirects are not followed: a redirect is a response like any other, and its target would have to be allowed too.

use std::io::Read;
use std::time::Duration;

use dlm_core::ports::{Http, HttpError, HttpMethod, HttpRequest, HttpResponse};
use ureq::{Agent, Body};

use crate::client::{ClientError, Origin, agent};

/// A host that may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// `http` or `https`; plain http is allowed for this machine only.
    pub scheme: String,
    pub host: String,
    pub port: u16,
}

impl AllowedHost {
    /// One port of this machine.
    pub fn loopback(port: u16) -> Self {
        AllowedHost {
            scheme: "http".into(),
            host: "127.0.0.1".into(),
            port,
        }
    }

    /// A host by https on the usual port.
    pub fn https(host: &str) -> Self {
        AllowedHost {
            scheme: "https".into(),
            host: host.to_ascii_lowercase(),
            port: 443,
        }
    }

    fn is(&self, origin: &Origin) -> bool {
        let is_same = self.scheme == origin.scheme && self.host == origin.host && self.port == origin.port;
        is_same && (origin.scheme == "https" || origin.is_loopback())
    }
}

impl std::fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// The `Http` port over real sockets.
#[derive(Debug)]
pub struct AllowedHttp {
    agent: Agent,
    allowed: Vec<AllowedHost>,
}

impl AllowedHttp {
    /// A client that reaches the hosts given and no other, directly.
    pub fn new(allowed: Vec<AllowedHost>) -> Self {
        let agent = agent(None, None).expect("a client without a proxy is always valid");
        AllowedHttp { agent, allowed }
    }

    fn check(&self, url: &str) -> Result<(), HttpError> {
        let origin = Origin::parse(url).ok_or_else(|| HttpError::BadUrl {
            url: url.to_owned(),
            reason: "expected http or https, a host, and no user name".into(),
        })?;
        if self.allowed.iter().any(|host| host.is(&origin)) {
            return Ok(());
        }
        let allowed: Vec<String> = self.allowed.iter().map(AllowedHost::to_string).collect();
        let allowed = if allowed.is_empty() {
            "none".into()
        } else {
            allowed.join(", ")
        };
        Err(HttpError::NotAllowed {
            host: format!("{}:{}", origin.host, origin.port),
            allowed,
        })
    }

    fn call(&self, request: &HttpRequest) -> Result<ureq::http::Response<Body>, ClientError> {
        let builder = ureq::http::Request::builder().uri(&request.url);
        let builder = match request.method {
            HttpMethod::Get => builder.method("GET"),
            HttpMethod::Post => builder.method("POST"),
            HttpMethod::Put => builder.method("PUT"),
        };
        let builder = request
            .headers
            .iter()
            .fold(builder, |b, (name, value)| b.header(name, value));
        let fatal = |e: ureq::http::Error| ClientError::Fatal(e.to_string());
        let timeout = Some(request.timeout);
        if request.method == HttpMethod::Get {
            let plain = builder.body(()).map_err(fatal)?;
            return Ok(self
                .agent
                .run(self.agent.configure_request(plain).timeout_global(timeout).build())?);
        }
        let with_body = builder.body(request.body.as_slice()).map_err(fatal)?;
        Ok(self
            .agent
            .run(self.agent.configure_request(with_body).timeout_global(timeout).build())?)
    }
}

impl Http for AllowedHttp {
    fn send(&self, request: &HttpRequest) -> Result<HttpResponse, HttpError> {
        self.check(&request.url)?;
        let failed = |error: ClientError| failure(&request.url, request.timeout, &error);
        let mut response = self.call(request).map_err(failed)?;
        let limit_bytes = request.response_bytes_max;
        let mut body = Vec::new();
        let read = response
            .body_mut()
            .as_reader()
            .take(limit_bytes + 1)
            .read_to_end(&mut body);
        read.map_err(|e| failed(crate::client::read_error(e)))?;
        if body.len() as u64 > limit_bytes {
            return Err(HttpError::TooLarge {
                url: request.url.clone(),
                limit_bytes,
            });
        }
        let headers = response.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        Ok(HttpResponse {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body,
        })
    }
}

fn failure(url: &str, timeout: Duration, error: &ClientError) -> HttpError {
    let url = url.to_owned();
    match error {
        ClientError::Timeout => HttpError::Timeout {
            url,
            seconds: timeout.as_secs(),
        },
        other => HttpError::Unreachable {
            url,
            reason: other.reason(),
        },
    }
}
