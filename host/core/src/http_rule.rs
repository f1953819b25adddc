//! Where a plugin may send requests: the parsed form of `http:<scheme>://<host>[:<port>][/<prefix>]`.
//!
//! Invariants: matching is on parsed values, never on text; a prefix ends at a `/` or at the end of the path.

use std::fmt;
use std::net::IpAddr;

/// The schemes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
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

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    pub scheme: Scheme,
    pub host: HostPattern,
    pub port: u16,
    /// Normalised path prefix, without a final `/`; empty allows every path.
    pub prefix: String,
    /// True where the user typed the address itself (`http:arg`): it may then be private.
    pub is_typed: bool,
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        write!(f, "{scheme}://")?;
        match &self.host {
            HostPattern::Name(name) => write!(f, "{name}")?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            HostPattern::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "{}", self.prefix)
    }
}
