//! The second wall around a program or a thread that works for a stranger: what it may still do where the system can hold
//! it back.
//!
//! Invariants: data alone, `dlm_files::wall` raises it; reading is always allowed, since a program that was granted reads its
//! own libraries, models and settings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is allowed behind the wall, beside reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// Absolute paths of directories whose content may be changed.
    pub folders: Vec<PathBuf>,
    pub network: Network,
}

/// Which part of the network is allowed behind the wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// No socket of any kind.
    None,
    /// Connections to these TCP ports, and the questions to name servers that they need.
    Ports(Vec<u16>),
    /// A server that dlm asks: it listens, and its own processes talk to each other.
    Server,
}
