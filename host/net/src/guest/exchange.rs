//! One exchange from the first hop to the answer, on a thread that its caller may leave behind.
//!
//! Invariants: every hop is checked from the start before its first packet; a hop connects to checked addresses only; after
//! [`Stop::stop`] no hop begins and the open connection is closed.

use std::fmt::Display;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dlm_core::http_rule::{HttpRule, ParsedUrl, Scheme};
use dlm_core::ports::guest_http::{GuestBody, GuestHttpError, GuestMethod, GuestRequest, GuestResponse};
use ureq::config::Config;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy, SendBody, Timeout};

use super::Inner;
use super::authorize::{ADDRESSES_MAX, addresses, matching};
use super::body::part;
use super::headers::Headers;
use super::secrets::Secrets;
use crate::client::{CONNECT_TIMEOUT, ClientError};

/// Redirects that a request may ask for.
const REDIRECTS_MAX: u8 = 5;

/// How a caller ends an exchange that runs on another thread.
#[derive(Debug)]
pub(super) struct Stop {
    pub deadline: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Idle,
    Connected(Agent),
    Stopped,
}

impl Stop {
    pub fn at(deadline: Instant) -> Stop {
        Stop {
            deadline,
            state: Mutex::new(State::Idle),
        }
    }

    /// Closes the connection, if there is one, and keeps another from being made.
    pub fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Connected(agent) = std::mem::replace(&mut *state, State::Stopped) {
            agent.shutdown();
        }
    }

    /// Takes note of the agent of the next hop.
    fn begin(&self, agent: &Agent) -> Result<(), GuestHttpError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Stopped => Err(GuestHttpError::Cancelled),
            _ => {
                *state = State::Connected(agent.clone());
                Ok(())
            }
        }
    }
}

/// What is asked of one hop.
struct Hop {
    method: GuestMethod,
    url: ParsedUrl,
    headers: Headers,
    has_body: bool,
}

/// Sends the request and follows redirects.
pub(super) fn run(
    inner: &Inner,
    request: &GuestRequest,
    rules: &[HttpRule],
    stop: &Stop,
) -> Result<GuestResponse, GuestHttpError> {
    let mut hop = first(request)?;
    let secrets = Secrets::new(request);
    let mut left = request.follow_redirects;
    let mut from: Option<ParsedUrl> = None;
    loop {
        let body = hop.has_body.then_some(&request.body);
        let agent = agent(inner, &hop, rules, stop)
            .and_then(|agent| {
                secrets.check(&hop.url, &hop.headers.of_guest(), body)?;
                Ok(agent)
            })
            .map_err(|error| named(error, from.as_ref()))?;
        stop.begin(&agent)?;
        let response = call(&agent, request, &hop)?;
        let Some(location) = location(&response, request)? else {
            return answer(response, &hop.url, request);
        };
        if left == 0 {
            let message = format!("{} is sent on more than {} times", hop.url, request.follow_redirects);
            return Err(GuestHttpError::Invalid(message));
        }
        left -= 1;
        let next = next(&hop, &secrets, response.status(), &location)?;
        from = Some(std::mem::replace(&mut hop, next).url);
    }
}

fn first(request: &GuestRequest) -> Result<Hop, GuestHttpError> {
    let url = ParsedUrl::parse(&request.url).map_err(|e| GuestHttpError::Invalid(e.to_string()))?;
    if request.follow_redirects > REDIRECTS_MAX {
        let asked = request.follow_redirects;
        return Err(GuestHttpError::Invalid(format!(
            "{asked} redirects are asked for; at most {REDIRECTS_MAX} are followed"
        )));
    }
    Ok(Hop {
        method: request.method,
        url,
        headers: Headers::new(request)?,
        has_body: true,
    })
}

/// Says which redirect led to a refused hop.
fn named(error: GuestHttpError, from: Option<&ParsedUrl>) -> GuestHttpError {
    match (error, from) {
        (GuestHttpError::Denied { capability, message }, Some(from)) => GuestHttpError::Denied {
            capability,
            message: format!("{from} sends on to an address that is out of bounds: {message}"),
        },
        (error, _) => error,
    }
}

/// Checks the hop and makes the agent that can reach its addresses and no others.
fn agent(inner: &Inner, hop: &Hop, rules: &[HttpRule], stop: &Stop) -> Result<Agent, GuestHttpError> {
    let rules = matching(&hop.url, rules)?;
    hop.headers.check_hosts(&hop.url)?;
    let proxy = inner.proxies.of(&hop.url);
    let pinned = match proxy {
        None => addresses(&hop.url, &rules, &*inner.resolver)?,
        // The far address is the proxy's business; one that is spelled out has been matched with a rule that names it.
        Some(proxy) => proxy_addresses(inner, proxy, &hop.url)?,
    };
    let is_loopback = proxy.is_none() && pinned.iter().all(|address| address.ip().is_loopback());
    hop.headers.check_channel(&hop.url, is_loopback)?;
    let left = stop.deadline.saturating_duration_since(Instant::now());
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy.cloned())
        .tls_config(inner.tls.clone())
        .timeout_connect(Some(CONNECT_TIMEOUT.min(left)))
        .timeout_global(Some(left))
        .build();
    Ok(Agent::with_parts(
        config,
        DefaultConnector::default(),
        PinnedResolver(pinned),
    ))
}

fn proxy_addresses(inner: &Inner, proxy: &Proxy, url: &ParsedUrl) -> Result<Vec<SocketAddr>, GuestHttpError> {
    let unreachable = |reason: String| GuestHttpError::Unreachable {
        url: url.to_string(),
        reason: format!("the proxy `{}` has no address: {reason}", proxy.host()),
    };
    let host = proxy.host().trim_matches(['[', ']']);
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => inner.resolver.addresses(host).map_err(|e| unreachable(e.to_string()))?,
    };
    if found.is_empty() {
        return Err(unreachable("no such host".into()));
    }
    Ok(found
        .into_iter()
        .map(|address| SocketAddr::new(address, proxy.port()))
        .collect())
}

/// Answers every question of the client with the addresses that were checked.
#[derive(Debug)]
struct PinnedResolver(Vec<SocketAddr>);

impl Resolver for PinnedResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut all = self.empty();
        for address in self.0.iter().take(ADDRESSES_MAX) {
            all.push(*address);
        }
        Ok(all)
    }
}

fn call(agent: &Agent, request: &GuestRequest, hop: &Hop) -> Result<Response<Body>, GuestHttpError> {
    let uri: Uri = hop.url.as_str().parse().map_err(|_| not_sent(&hop.url))?;
    // Two parsers have read the address; a request leaves only where they agree on its host.
    if uri.host() != Some(&hop.url.host().to_string()) || uri.port_u16().is_some_and(|port| port != hop.url.port()) {
        return Err(not_sent(&hop.url));
    }
    let method = match hop.method {
        GuestMethod::Get => Method::GET,
        GuestMethod::Head => Method::HEAD,
        GuestMethod::Post => Method::POST,
        GuestMethod::Put => Method::PUT,
        GuestMethod::Patch => Method::PATCH,
        GuestMethod::Delete => Method::DELETE,
    };
    let takes_body = matches!(hop.method, GuestMethod::Post | GuestMethod::Put | GuestMethod::Patch);
    let (mut reader, length): (Box<dyn Read + '_>, u64) = match &request.body {
        _ if !hop.has_body => (Box::new(io::empty()), 0),
        GuestBody::Bytes(bytes) => (Box::new(bytes.as_slice()), bytes.len() as u64),
        GuestBody::File { path, offset, length } => (Box::new(part(path, *offset, *length)?), *length),
    };
    let mut headers = hop.headers.all();
    let response = if length > 0 || takes_body {
        headers.insert("content-length", length.into());
        agent.run(assembled(method, uri, headers, SendBody::from_reader(&mut *reader)))
    } else {
        agent.run(assembled(method, uri, headers, ()))
    };
    response.map_err(|error| failure(&hop.url, request, error))
}

fn assembled<B>(method: Method, uri: Uri, headers: HeaderMap, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

fn not_sent(url: &ParsedUrl) -> GuestHttpError {
    GuestHttpError::Invalid(format!("`{url}` is not an address that can be sent"))
}

/// Where a redirect that is to be followed leads.
fn location(response: &Response<Body>, request: &GuestRequest) -> Result<Option<String>, GuestHttpError> {
    let is_followed = request.follow_redirects > 0 && matches!(response.status().as_u16(), 301..=303 | 307 | 308);
    let Some(value) = response.headers().get("location").filter(|_| is_followed) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes());
    let text = text.map_err(|_| GuestHttpError::Invalid("a redirect to an address that is not text".into()))?;
    Ok(Some(text.to_owned()))
}

/// The hop that a redirect asks for.
fn next(hop: &Hop, secrets: &Secrets, status: StatusCode, location: &str) -> Result<Hop, GuestHttpError> {
    let url = hop.url.join(location);
    let url = url.map_err(|e| GuestHttpError::Invalid(format!("{} sends on: {e}", hop.url)))?;
    let denied = |message: String| GuestHttpError::Denied {
        capability: String::new(),
        message,
    };
    if hop.url.scheme() == Scheme::Https && url.scheme() == Scheme::Http {
        return Err(denied(format!(
            "{} sends on from https to {url}, which is plain http",
            hop.url
        )));
    }
    let mut headers = hop.headers.clone();
    if !hop.url.is_same_origin(&url) {
        secrets.check_redirect(&hop.url, &url)?;
        headers.for_another_origin();
    }
    let is_read = matches!(hop.method, GuestMethod::Get | GuestMethod::Head);
    let becomes_get = match status.as_u16() {
        303 => !is_read,
        301 | 302 => hop.method == GuestMethod::Post,
        _ => false,
    };
    if becomes_get {
        headers.without_body();
    }
    Ok(Hop {
        method: if becomes_get { GuestMethod::Get } else { hop.method },
        url,
        headers,
        has_body: hop.has_body && !becomes_get,
    })
}

/// Reads the body, no further than its limit.
fn answer(
    mut response: Response<Body>,
    url: &ParsedUrl,
    request: &GuestRequest,
) -> Result<GuestResponse, GuestHttpError> {
    let limit_bytes = request.response_bytes_max;
    let too_large = || GuestHttpError::TooLarge {
        url: url.to_string(),
        limit_bytes,
    };
    let is_head = request.method == GuestMethod::Head;
    if !is_head
        && response
            .body()
            .content_length()
            .is_some_and(|length| length > limit_bytes)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let reader = response.body_mut().as_reader();
    let read = reader.take(limit_bytes.saturating_add(1)).read_to_end(&mut body);
    read.map_err(|error| match error.downcast::<ureq::Error>() {
        Ok(inner) => failure(url, request, inner),
        Err(plain) => failure(url, request, ureq::Error::Io(plain)),
    })?;
    if body.len() as u64 > limit_bytes {
        return Err(too_large());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = response.headers().iter();
    Ok(GuestResponse {
        status: response.status().as_u16(),
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
        url: url.as_str().to_owned(),
        body,
    })
}

fn failure(url: &ParsedUrl, request: &GuestRequest, error: ureq::Error) -> GuestHttpError {
    let unreachable = |reason: String| GuestHttpError::Unreachable {
        url: url.to_string(),
        reason,
    };
    match error {
        ureq::Error::Timeout(Timeout::Connect) if request.timeout > CONNECT_TIMEOUT => {
            unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))
        }
        other => match ClientError::from(other) {
            ClientError::Timeout => timed_out(url, request),
            error => unreachable(error.reason()),
        },
    }
}

/// The error of an exchange that took all of its time.
pub(super) fn timed_out(url: &impl Display, request: &GuestRequest) -> GuestHttpError {
    GuestHttpError::TimedOut {
        url: url.to_string(),
        seconds: request.timeout.as_secs().max(1),
    }
}
