//! The port for a plugin's HTTP: every hop is checked against the rules that the caller hands over, every address is
//! checked before it is connected to, and redirects are followed by the implementation alone (`plugins.md` section 16).

use std::path::PathBuf;
use std::time::Duration;

use crate::Cancel;
use crate::http_rule::HttpRule;

/// The methods of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// A header whose value the guest never saw.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHeader {
    pub name: String,
    /// The whole value, secret inside. Never shown.
    pub value: String,
    /// The secret's name, for messages.
    pub secret: String,
    /// Hosts that may receive it; `*.` forms allowed.
    pub hosts: Vec<String>,
}

impl std::fmt::Debug for SecretHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretHeader({} with {})", self.name, self.secret)
    }
}

/// A secret that the guest holds, whether this request has it or not.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretInUse {
    pub name: String,
    /// Never shown.
    pub value: String,
    /// Hosts that may receive it; `*.` forms allowed.
    pub hosts: Vec<String>,
}

impl std::fmt::Debug for SecretInUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretInUse({})", self.name)
    }
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestBody {
    /// Empty means no body.
    Bytes(Vec<u8>),
    /// A part of a file, streamed with its length.
    File { path: PathBuf, offset: u64, length: u64 },
}

/// One request of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRequest {
    pub method: GuestMethod,
    /// As the guest wrote it; the implementation parses it.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub secret_headers: Vec<SecretHeader>,
    /// What must not be in anything that goes elsewhere than to its hosts.
    pub secrets: Vec<SecretInUse>,
    pub body: GuestBody,
    /// For the whole exchange, redirects included.
    pub timeout: Duration,
    /// 0 hands a redirect back as it is.
    pub follow_redirects: u8,
    /// A longer response body is refused, not cut.
    pub response_bytes_max: u64,
    /// `dlm/<version> (plugin <name>/<version>)`.
    pub user_agent: String,
}

/// The answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// After redirects.
    pub url: String,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestHttpError {
    /// No rule allows it. `capability` is the grant that would, such as `http:https://api.example.com`, and is empty where
    /// none can.
    #[error("{message}")]
    Denied { capability: String, message: String },
    /// The request itself is wrong: URL, header, secret with a line break.
    #[error("{0}")]
    Invalid(String),
    #[error("{url} did not answer within {seconds} s")]
    TimedOut { url: String, seconds: u64 },
    #[error("{url} answered with more than {limit_bytes} bytes")]
    TooLarge { url: String, limit_bytes: u64 },
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("cancelled")]
    Cancelled,
}

/// Sends requests for guests.
pub trait GuestHttp: Send + Sync {
    /// Sends one request under `rules`; no packet leaves before every check of its hop has passed.
    fn send(
        &self,
        request: &GuestRequest,
        rules: &[HttpRule],
        cancel: &Cancel,
    ) -> Result<GuestResponse, GuestHttpError>;
}
