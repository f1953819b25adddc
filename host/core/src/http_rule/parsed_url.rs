//! One address, taken apart by the WHATWG rules; the only module that knows the `url` crate.
//!
//! Invariants: scheme `http` or `https`, no user information, no fragment, a port above 0; the host is an address or a
//! name of letters, digits, `-` and `_`, lower-case, after IDNA, without a final dot; an IPv6 form of an IPv4 address is
//! that IPv4 address. [`ParsedUrl::as_str`] spells exactly what the other methods say, so what was checked is what is sent.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::Scheme;

/// Longer addresses are refused; servers refuse them too.
const URL_BYTES_MAX: usize = 16 << 10;
/// The longest host name of the domain name system.
const NAME_BYTES_MAX: usize = 253;
/// As much of an address as a message carries.
const SHOWN_CHARS: usize = 200;
/// Decodings after which a path still changing counts as ambiguous.
const DECODINGS_MAX: usize = 8;

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UrlHost {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for UrlHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlHost::Name(name) => f.write_str(name),
            UrlHost::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            UrlHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Why a text is no address that may be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not an address for a request: {reason}")]
pub struct BadUrl {
    pub url: String,
    pub reason: String,
}

/// A checked address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedUrl {
    url: Url,
    scheme: Scheme,
    host: UrlHost,
    port: u16,
    path: String,
}

impl ParsedUrl {
    /// Takes an absolute address apart.
    ///
    /// **Errors**: another scheme, user information, a fragment, a control character anywhere, a host that no host is named.
    pub fn parse(text: &str) -> Result<ParsedUrl, BadUrl> {
        check_text(text)?;
        let url = Url::parse(text).map_err(|e| bad(text, e.to_string()))?;
        if url.fragment().is_some() {
            return Err(bad(text, "a fragment (`#…`) is not sent"));
        }
        ParsedUrl::check(text, url)
    }

    /// The address that a `Location` header means, seen from this address. A fragment in it is dropped, as it is never sent.
    ///
    /// **Errors**: as [`ParsedUrl::parse`].
    pub fn join(&self, location: &str) -> Result<ParsedUrl, BadUrl> {
        check_text(location)?;
        let mut url = self.url.join(location).map_err(|e| bad(location, e.to_string()))?;
        url.set_fragment(None);
        ParsedUrl::check(location, url)
    }

    fn check(text: &str, mut url: Url) -> Result<ParsedUrl, BadUrl> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(bad(text, format!("the scheme is `{other}`, not http or https"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(text, "a user name in the address"));
        }
        let host = match url.host() {
            None => return Err(bad(text, "no host")),
            Some(Host::Domain(name)) => UrlHost::Name(host_name(name).map_err(|reason| bad(text, reason))?),
            Some(Host::Ipv4(address)) => UrlHost::Address(address.into()),
            Some(Host::Ipv6(address)) => UrlHost::Address(IpAddr::V6(address).to_canonical()),
        };
        let is_set = match &host {
            UrlHost::Name(name) => url.set_host(Some(name)).is_ok(),
            UrlHost::Address(address) => url.set_ip_host(*address).is_ok(),
        };
        let port = url.port().unwrap_or(scheme.default_port());
        if !is_set || port == 0 {
            return Err(bad(text, "no such host or port"));
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(bad(text, format!("longer than {URL_BYTES_MAX} bytes")));
        }
        let path = normalized(url.path());
        Ok(ParsedUrl {
            url,
            scheme,
            host,
            port,
            path,
        })
    }

    /// The whole address as it is sent.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub fn host(&self) -> &UrlHost {
        &self.host
    }

    /// The port, the usual one where the address names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path as rules see it: it begins with `/`, steps resolved, unreserved characters decoded, escapes in upper case.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Scheme, host and port as written in a capability: `https://api.example.com`.
    pub fn origin(&self) -> String {
        let usual = self.port == self.scheme.default_port();
        let port = if usual {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!("{}://{}{port}", self.scheme.name(), self.host)
    }

    /// Whether two addresses share scheme, host and port.
    pub fn is_same_origin(&self, other: &ParsedUrl) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// Whether no further decoding, and no reading of `\` as `/` or of `;` as the end of a step, finds another `.` or `..`.
    pub fn is_path_unambiguous(&self) -> bool {
        let mut path = self.path.clone().into_bytes();
        for _ in 0..DECODINGS_MAX {
            let mut steps = path.split(|byte| b"/\\".contains(byte));
            if steps.any(|step| matches!(step.split(|byte| *byte == b';').next(), Some(b"." | b".."))) {
                return false;
            }
            let next = decoded(&path, |_| true);
            if next == path {
                return true;
            }
            path = next;
        }
        false
    }
}

/// As messages and logs carry it: short, and without the query, which may hold what is nobody else's business.
impl fmt::Display for ParsedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&format!("{}{}", self.origin(), self.url.path())))
    }
}

/// The text as a message carries it: short and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(visible).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn visible(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

fn bad(text: &str, reason: impl Into<String>) -> BadUrl {
    BadUrl {
        url: shown(text),
        reason: reason.into(),
    }
}

/// The parser drops tabs and line breaks and trims blanks; an address that needs that is a mistake or a trick.
fn check_text(text: &str) -> Result<(), BadUrl> {
    if text.len() > URL_BYTES_MAX {
        return Err(bad(text, format!("longer than {URL_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(bad(text, "a control character"));
    }
    if text.trim() != text {
        return Err(bad(text, "a blank at its end or beginning"));
    }
    Ok(())
}

/// The name without its final dot, when it is one that hosts have. The parser has applied IDNA.
fn host_name(name: &str) -> Result<String, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if let Some(odd) = name.chars().find(|c| !is_char(*c) && *c != '.') {
        return Err(format!("`{odd}` in the host"));
    }
    if name.split('.').any(str::is_empty) {
        return Err("an empty part in the host".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("a host longer than {NAME_BYTES_MAX} bytes"));
    }
    Ok(name.to_owned())
}

/// **Source**: RFC 3986 section 6.2.2, on a path whose steps the parser has resolved.
fn normalized(path: &str) -> String {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let bytes = decoded(path.as_bytes(), is_unreserved);
    String::from_utf8(bytes).expect("escapes are decoded to ASCII only")
}

/// Decodes the escapes of the bytes that `wanted` names; the others are written in upper case.
fn decoded(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let digit = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match (path[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                let byte = u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte");
                if wanted(byte) {
                    out.push(byte);
                } else {
                    out.extend(path[at..at + 3].to_ascii_uppercase());
                }
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}
