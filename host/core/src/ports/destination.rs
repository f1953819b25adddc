//! The push-destination port: uploads a pack.

use std::path::PathBuf;

use super::plugin::{PluginFailure, PluginIdentity};

/// What a destination says about itself and the place it was opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationInfo {
    pub identity: PluginIdentity,
    /// Origins it will talk to, in grant syntax.
    pub contacts: Vec<String>,
    /// Largest pack the far side takes, in bytes.
    pub bytes_max: Option<u64>,
}

/// A finished pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPack {
    pub path: PathBuf,
    pub file_name: String,
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    pub document_id: String,
    pub document_name: String,
    pub base_model: String,
    pub adapter_version: Option<u32>,
    pub license: Option<String>,
    /// File holding the minisign signature, if it was signed.
    pub signature: Option<PathBuf>,
    /// A rendered model card.
    pub readme: String,
}

/// How to push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    pub is_private: bool,
    /// Replace what is there.
    pub is_forced: bool,
    pub extra: Vec<(String, String)>,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReceipt {
    pub location: String,
    pub bytes_sent: u64,
    /// The far side already had these bytes.
    pub is_unchanged: bool,
}

/// One opened destination.
pub trait Destination {
    /// What it says about itself.
    fn info(&self) -> &DestinationInfo;

    /// What `push` would do, one line a step, without doing it.
    fn preview(&mut self, pack: &PushPack, options: &PushOptions) -> Result<Vec<String>, PluginFailure>;

    /// Uploads.
    fn push(&mut self, pack: &PushPack, options: &PushOptions) -> Result<PushReceipt, PluginFailure>;
}

/// Finds destinations by `scheme:rest`.
pub trait DestinationSource {
    /// Opens the destination.
    fn open_destination(&self, scheme: &str, rest: &str) -> Result<Box<dyn Destination>, PluginFailure>;
}
