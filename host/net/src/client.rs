//! One HTTP client: the connection settings and error kinds that the rest of the crate shares.
//!
//! Redirects are never followed by the library: who may be sent where, and with which headers, is decided here in
//! [`follow`] so that a token never reaches another host and https never falls back to http.

use std::time::Duration;

use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

/// Time to reach a server; a hub that is out of reach should be known soon.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which a connection counts as dead.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Redirects in one request; the hub needs two.
const REDIRECTS_MAX: u32 = 5;

/// Why a request has no response.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No connection, or a broken one: worth another try.
    Transport(String),
    /// No answer in time: worth another try.
    Timeout,
    /// Somebody else's certificate: will not get better.
    Untrusted(String),
    /// Will not get better.
    Fatal(String),
    /// A redirect from https to http.
    InsecureRedirect(String),
    /// The flag was raised while it was waited for.
    Cancelled,
}

impl ClientError {
    pub(crate) fn reason(&self) -> String {
        match self {
            ClientError::Transport(reason) | ClientError::Untrusted(reason) | ClientError::Fatal(reason) => {
                reason.clone()
            }
            ClientError::Timeout => "no answer in time".into(),
            ClientError::InsecureRedirect(url) => format!("redirected to {url}"),
            ClientError::Cancelled => "interrupted".into(),
        }
    }

    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, ClientError::Transport(_) | ClientError::Timeout)
    }
}

impl From<ureq::Error> for ClientError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => ClientError::Timeout,
            // The TLS library reports a refused certificate as invalid data.
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => ClientError::Untrusted(e.to_string()),
            ureq::Error::Io(e) => ClientError::Transport(e.to_string()),
            ureq::Error::HostNotFound => ClientError::Transport("no such host".into()),
            ureq::Error::ConnectionFailed => ClientError::Transport("the connection failed".into()),
            ureq::Error::Protocol(e) => ClientError::Transport(e.to_string()),
            other => ClientError::Fatal(other.to_string()),
        }
    }
}

/// What a failed read of a body means; the library hides its own error in the reader's.
pub(crate) fn read_error(error: std::io::Error) -> ClientError {
    match error.downcast::<ureq::Error>() {
        Ok(inner) => inner.into(),
        Err(plain) => ClientError::Transport(plain.to_string()),
    }
}

/// Makes an agent; a proxy is used only when its address is given, and `ca_pem` replaces the bundled root certificates.
pub(crate) fn agent(proxy: Option<&str>, ca_pem: Option<&[u8]>) -> Result<Agent, SettingError> {
    let proxy = proxy.map(Proxy::new).transpose().map_err(|_| SettingError {
        setting: "proxy",
        reason: "its address is not valid".into(),
    })?;
    let tls = tls(ca_pem)?;
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .tls_config(tls)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(IDLE_TIMEOUT))
        .timeout_per_read(Some(IDLE_TIMEOUT))
        .user_agent(concat!("dlm/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.into())
}

/// How servers are known: by the bundled root certificates or by those of `ca_pem`, never by none.
pub(crate) fn tls(ca_pem: Option<&[u8]>) -> Result<TlsConfig, SettingError> {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = ca_pem {
        tls = tls.root_certs(roots(pem)?);
    }
    Ok(tls.build())
}

/// A setting that no client can be made with.
#[derive(Debug, thiserror::Error)]
#[error("the {setting} cannot be used: {reason}")]
pub struct SettingError {
    pub setting: &'static str,
    pub reason: String,
}

fn roots(pem: &[u8]) -> Result<RootCerts, SettingError> {
    let bad = |reason: String| SettingError {
        setting: "file of root certificates",
        reason,
    };
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| bad(e.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(bad("it holds no PEM certificate".into()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// One GET, redirects followed: the token goes to the first host only, https never turns into http.
pub(crate) fn follow(
    agent: &Agent,
    url: &str,
    token: Option<&str>,
    range_from: Option<u64>,
) -> Result<Response<Body>, ClientError> {
    let origin = Origin::parse(url).ok_or_else(|| ClientError::Fatal(format!("`{url}` is not an address")))?;
    let mut current = url.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        let host =
            Origin::parse(&current).ok_or_else(|| ClientError::Fatal(format!("`{current}` is not an address")))?;
        let mut request = agent.get(&current).header("Accept-Encoding", "identity");
        if let Some(token) = token.filter(|_| host == origin) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from) = range_from {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call()?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| ClientError::Fatal("a redirect without an address".into()))?;
        current = join(&current, location);
        let next = Origin::parse(&current).ok_or_else(|| ClientError::Fatal(format!("redirected to `{current}`")))?;
        if !next.is_safe_after(&origin) {
            return Err(ClientError::InsecureRedirect(current));
        }
    }
    Err(ClientError::Fatal(format!("more than {REDIRECTS_MAX} redirects")))
}

/// Scheme, host and port of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub scheme: String,
    pub host: String,
    pub port: u16,
}

impl Origin {
    /// Takes an `http` or `https` address apart; none for anything else, and for one that carries a user name.
    pub(crate) fn parse(url: &str) -> Option<Origin> {
        let uri: ureq::http::Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        Some(Origin {
            scheme,
            host,
            port: uri.port_u16().unwrap_or(default),
        })
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// https may go anywhere by https; plain http stays on this machine.
    fn is_safe_after(&self, first: &Origin) -> bool {
        self.scheme == "https" || (first.scheme == "http" && first.is_loopback() && self.is_loopback())
    }
}

/// The address that a `Location` header means, seen from the address that sent it.
fn join(base: &str, location: &str) -> String {
    if has_scheme(location) {
        return location.to_owned();
    }
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{}{rest}", &base[..scheme_end]);
    }
    let path_start = base[scheme_end..].find('/').map_or(base.len(), |at| scheme_end + at);
    if location.starts_with('/') {
        return format!("{}{location}", &base[..path_start]);
    }
    let path_end = base.find(['?', '#']).unwrap_or(base.len());
    let directory = base[path_start..path_end]
        .rfind('/')
        .map_or(path_end, |at| path_start + at + 1);
    format!("{}{location}", &base[..directory])
}

/// Whether an address begins with a scheme; one in its query (`/file?from=https://…`) is none of its own.
///
/// **Source:** RFC 3986 sections 3.1 and 4.2.
fn has_scheme(location: &str) -> bool {
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base = "https://hub.test/a/b/c?x=1";
        assert_eq!(join(base, "https://cdn.test/f"), "https://cdn.test/f");
        assert_eq!(join(base, "//cdn.test/f"), "https://cdn.test/f");
        assert_eq!(join(base, "/f?y=2"), "https://hub.test/f?y=2");
        assert_eq!(join(base, "f"), "https://hub.test/a/b/f");
        assert_eq!(join("https://hub.test", "/f"), "https://hub.test/f");
        // huggingface/huggingface_hub#4637: a mirror puts the address that was asked for into the query.
        let asked = "?from=https://hub.test/a";
        assert_eq!(join(base, &format!("/f{asked}")), format!("https://hub.test/f{asked}"));
        assert_eq!(
            join(base, &format!("f{asked}")),
            format!("https://hub.test/a/b/f{asked}")
        );
        assert_eq!(join(base, "ftp:x"), "ftp:x");
    }

    #[test]
    fn origins_know_this_machine_and_refuse_user_names() {
        assert!(Origin::parse("http://127.0.0.1:8080/x").unwrap().is_loopback());
        assert!(Origin::parse("http://[::1]/x").unwrap().is_loopback());
        assert!(Origin::parse("http://localhost/x").unwrap().is_loopback());
        assert!(!Origin::parse("http://127.0.0.1.evil.test/").unwrap().is_loopback());
        assert_eq!(Origin::parse("https://Hub.test/").unwrap().port, 443);
        for bad in [
            "ftp://hub.test/",
            "hub.test",
            "https://user:pw@hub.test/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(Origin::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn https_never_falls_back_to_http() {
        let origin = |url| Origin::parse(url).unwrap();
        assert!(origin("https://cdn.test/").is_safe_after(&origin("https://hub.test/")));
        assert!(!origin("http://cdn.test/").is_safe_after(&origin("https://hub.test/")));
        assert!(!origin("http://127.0.0.1/").is_safe_after(&origin("https://hub.test/")));
        assert!(origin("http://127.0.0.1:2/").is_safe_after(&origin("http://127.0.0.1:1/")));
        assert!(!origin("http://cdn.test/").is_safe_after(&origin("http://127.0.0.1:1/")));
    }
}
