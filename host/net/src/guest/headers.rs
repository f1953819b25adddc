//! The headers of a guest's request: which it may set, and where its secret ones may go.

use dlm_core::http_rule::{HostPattern, ParsedUrl, Scheme};
use dlm_core::ports::guest_http::{GuestHttpError, GuestRequest, SecretHeader};
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

/// More headers, or more bytes in them, are refused: servers refuse them too.
const HEADERS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Set by the client alone: they decide where a message ends, who is asked and how the connection lives.
const RESERVED: [&str; 10] = [
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "user-agent",
];
/// What a hop to another origin does not see.
const PERSONAL: [&str; 3] = ["authorization", "cookie", "cookie2"];
/// The headers of one hop.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    plain: HeaderMap,
    secret: Vec<SecretHeader>,
}

impl Headers {
    /// Checks what the guest and the host wrote.
    ///
    /// **Errors**: `Invalid` on a reserved name, a name or value that is no header, a secret with anything but visible ASCII.
    pub fn new(request: &GuestRequest) -> Result<Headers, GuestHttpError> {
        let invalid = |message: String| Err(GuestHttpError::Invalid(message));
        let bytes: usize = request
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if request.headers.len() + request.secret_headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            return invalid(format!(
                "more than {HEADERS_MAX} headers or {HEADER_BYTES_MAX} bytes of headers"
            ));
        }
        let mut plain = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = header_name(name)?;
            let value = HeaderValue::from_bytes(value.as_bytes());
            match value {
                Ok(value) if value.to_str().is_ok() => plain.append(name, value),
                _ => {
                    return invalid(format!(
                        "the value of header `{name}` has characters that no header has"
                    ));
                }
            };
        }
        for header in &request.secret_headers {
            let name = header_name(&header.name)?;
            if plain.contains_key(&name) {
                return invalid(format!(
                    "header `{name}` is set twice, once with secret `{}`",
                    header.secret
                ));
            }
            let is_visible = header.value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if header.value.is_empty() || !is_visible || header.value.trim() != header.value {
                return invalid(format!(
                    "secret `{}` is empty or has characters other than visible ASCII",
                    header.secret
                ));
            }
        }
        let Ok(agent) = HeaderValue::from_str(&request.user_agent) else {
            return invalid("the user agent has characters that no header has".into());
        };
        plain.insert("user-agent", agent);
        Ok(Headers {
            plain,
            secret: request.secret_headers.clone(),
        })
    }

    /// Whether every secret may go to the host, by its own grant.
    ///
    /// **Errors**: `Denied` with the capability that is missing.
    pub fn check_hosts(&self, url: &ParsedUrl) -> Result<(), GuestHttpError> {
        for header in &self.secret {
            let is_granted = |host: &String| HostPattern::parse(host).is_ok_and(|host| host.covers(url.host()));
            if !header.hosts.iter().any(is_granted) {
                return Err(GuestHttpError::Denied {
                    capability: format!("secret:{}@{}", header.secret, url.host()),
                    message: format!("secret `{}` may not be sent to {}", header.secret, url.host()),
                });
            }
        }
        Ok(())
    }

    /// Whether secrets may travel: by https, or on this machine.
    pub fn check_channel(&self, url: &ParsedUrl, is_loopback: bool) -> Result<(), GuestHttpError> {
        match self.secret.first() {
            Some(header) if url.scheme() == Scheme::Http && !is_loopback => Err(GuestHttpError::Denied {
                capability: String::new(),
                message: format!(
                    "secret `{}` is sent by https or to this machine only, not to {url}",
                    header.secret
                ),
            }),
            _ => Ok(()),
        }
    }

    /// What remains for a hop to another origin.
    pub fn for_another_origin(&mut self) {
        self.secret.clear();
        for name in PERSONAL {
            self.plain.remove(name);
        }
    }

    /// What remains where the body does not go along.
    pub fn without_body(&mut self) {
        for name in [
            "content-type",
            "content-encoding",
            "content-language",
            "content-location",
        ] {
            self.plain.remove(name);
        }
    }

    /// Those that the guest wrote, as text.
    pub fn of_guest(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let all = self.plain.iter();
        all.map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    /// All of them, as sent.
    pub fn all(&self) -> HeaderMap {
        let mut all = self.plain.clone();
        for header in &self.secret {
            let mut value = HeaderValue::from_str(&header.value).expect("checked when the headers were made");
            value.set_sensitive(true);
            let name = HeaderName::from_bytes(header.name.as_bytes()).expect("checked when the headers were made");
            all.append(name, value);
        }
        all
    }
}

fn header_name(name: &str) -> Result<HeaderName, GuestHttpError> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
        GuestHttpError::Invalid(format!("`{shown}` is not the name of a header"))
    })?;
    if RESERVED.contains(&parsed.as_str()) || parsed.as_str().starts_with("proxy-") {
        return Err(GuestHttpError::Invalid(format!(
            "header `{parsed}` is set by dlm alone"
        )));
    }
    Ok(parsed)
}
