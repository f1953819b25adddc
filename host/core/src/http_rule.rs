//! Where a plugin may send requests: the parsed form of `http:<scheme>://<host>[:<port>][/<prefix>]`.
//!
//! Invariants: matching is on parsed values, never on text; a prefix ends at a `/` or at the end of the path; rules only
//! add, so a shorter list of rules never allows more. Names are compared, not resolved: whether the address behind a name
//! may be connected to is asked of [`HttpRule::names_address`] by the one that resolves it.

mod parsed_url;

use std::fmt;
use std::net::IpAddr;

pub use parsed_url::{BadUrl, ParsedUrl, UrlHost};

/// The schemes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// As written before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port where an address names none.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Which hosts a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Exactly this name, lower-case, after IDNA, without a final dot.
    Name(String),
    /// Names that end in `.<this>`: written `*.example.com`.
    Below(String),
    /// Exactly this address.
    Address(IpAddr),
}

impl HostPattern {
    /// Reads `<name>`, `*.<name>` or an address literal, as secret grants name their hosts.
    ///
    /// **Errors**: anything that is more or less than a host.
    pub fn parse(text: &str) -> Result<HostPattern, BadHttpRule> {
        let is_plain = !text.contains('/') && (!text.contains(':') || (text.starts_with('[') && text.ends_with(']')));
        if !is_plain {
            return Err(BadHttpRule::new(text, "expected a host alone"));
        }
        let rule = HttpRule::parse(&format!("https://{text}")).map_err(|e| BadHttpRule::new(text, e.reason))?;
        Ok(rule.host)
    }

    /// Whether the pattern names the host.
    pub fn covers(&self, host: &UrlHost) -> bool {
        match (self, host) {
            (HostPattern::Name(name), UrlHost::Name(host)) => name == host,
            (HostPattern::Below(name), UrlHost::Name(host)) => host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
            (HostPattern::Address(address), UrlHost::Address(host)) => address == host,
            _ => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Name(name) => f.write_str(name),
            HostPattern::Below(name) => write!(f, "*.{name}"),
            HostPattern::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            HostPattern::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    pub scheme: Scheme,
    pub host: HostPattern,
    pub port: u16,
    /// Normalized path prefix, without a final `/`; empty allows every path.
    pub prefix: String,
    /// True where the user typed the address itself (`http:arg`): it may then be private.
    pub is_typed: bool,
    /// True for the server that dlm itself started on this machine: it is asked offline too.
    pub is_own_server: bool,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` is not `<scheme>://<host>[:<port>][/<prefix>]`: {reason}")]
pub struct BadHttpRule {
    pub rule: String,
    pub reason: String,
}

impl BadHttpRule {
    fn new(rule: &str, reason: impl Into<String>) -> Self {
        BadHttpRule {
            rule: parsed_url::shown(rule),
            reason: reason.into(),
        }
    }
}

impl HttpRule {
    /// Reads the text after `http:` of a capability. What comes back is not [`HttpRule::is_typed`].
    ///
    /// **Errors**: a scheme other than `http` and `https`, no host, a user name, a query, a fragment, a `*` anywhere but in a
    /// leading `*.`, a path that servers could read in two ways.
    pub fn parse(text: &str) -> Result<HttpRule, BadHttpRule> {
        let bad = |reason: &str| BadHttpRule::new(text, reason);
        if let Some(odd) = text
            .chars()
            .find(|c| c.is_control() || c.is_whitespace() || "\\?#".contains(*c))
        {
            return Err(bad(&format!("`{}` has no place in a rule", odd.escape_default())));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("`://` is missing"))?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(bad("a user name has no place in a rule"));
        }
        let below = authority.strip_prefix("*.");
        let authority = below.unwrap_or(authority);
        if authority.is_empty() {
            return Err(bad("empty host"));
        }
        let url = ParsedUrl::parse(&format!("{scheme}://{authority}{path}")).map_err(|e| bad(&e.reason))?;
        let host = match (url.host(), below) {
            (UrlHost::Name(name), None) => HostPattern::Name(name.clone()),
            (UrlHost::Name(name), Some(_)) => HostPattern::Below(name.clone()),
            (UrlHost::Address(address), None) => HostPattern::Address(*address),
            (UrlHost::Address(_), Some(_)) => return Err(bad("`*.` stands before a name, not before an address")),
        };
        let prefix = url.path().strip_suffix('/').unwrap_or(url.path());
        if prefix.contains("//") || prefix.ends_with('/') {
            return Err(bad("a prefix has no empty step"));
        }
        if !url.is_path_unambiguous() {
            return Err(bad("the prefix hides a `.` or `..` step"));
        }
        Ok(HttpRule {
            scheme: url.scheme(),
            host,
            port: url.port(),
            prefix: prefix.to_owned(),
            is_typed: false,
            is_own_server: false,
        })
    }

    /// Whether a request to the address is allowed, as far as scheme, host, port and path go.
    pub fn covers(&self, url: &ParsedUrl) -> bool {
        self.covers_origin(url) && self.covers_path(url)
    }

    /// Whether the rule names the address's scheme, host and port, whatever the path.
    pub fn covers_origin(&self, url: &ParsedUrl) -> bool {
        self.scheme == url.scheme() && self.port == url.port() && self.host.covers(url.host())
    }

    fn covers_path(&self, url: &ParsedUrl) -> bool {
        if self.prefix.is_empty() {
            return true;
        }
        // A path whose `..` appears only after a second decoding is read differently by different servers.
        let rest = url.path().strip_prefix(self.prefix.as_str());
        url.is_path_unambiguous() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the rule allows an address that is not public: it is that literal address, it is `localhost` and the address
    /// is this machine's, or the user typed it.
    pub fn names_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_named = match &self.host {
            HostPattern::Name(name) => name == "localhost" && address.is_loopback(),
            HostPattern::Below(_) => false,
            HostPattern::Address(named) => *named == address,
        };
        is_named || self.is_typed
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "{}", self.prefix)
    }
}

#[cfg(test)]
mod tests;
