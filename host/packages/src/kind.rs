//! The five kinds of plugin: what each exports, and which interfaces of the contract it may import.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a plugin can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Judge,
    Teacher,
    Target,
    Destination,
    Templates,
}

/// Imports without authority, which every kind has.
const COMMON: [&str; 5] = ["types", "run", "log", "progress", "config"];

impl Kind {
    /// Every kind, in the order in which messages list them.
    pub const ALL: [Kind; 5] = [
        Kind::Judge,
        Kind::Teacher,
        Kind::Target,
        Kind::Destination,
        Kind::Templates,
    ];

    /// The word of manifests, messages and commands; also the name of the exported interface.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Judge => "judge",
            Kind::Teacher => "teacher",
            Kind::Target => "target",
            Kind::Destination => "destination",
            Kind::Templates => "templates",
        }
    }

    /// The kind that a word names.
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == word)
    }

    /// The world of the contract.
    pub fn world(self) -> &'static str {
        match self {
            Kind::Judge => "judge-plugin",
            Kind::Teacher => "teacher-plugin",
            Kind::Target => "target-plugin",
            Kind::Destination => "push-plugin",
            Kind::Templates => "template-plugin",
        }
    }

    /// The interfaces with authority that it may import; each call of them is checked against the grants.
    pub fn powers(self) -> &'static [&'static str] {
        match self {
            Kind::Judge => &["model", "secrets", "http", "process"],
            Kind::Teacher => &["model", "secrets", "http"],
            Kind::Target => &["secrets", "http", "artifacts", "upload", "output", "process"],
            Kind::Destination => &["secrets", "http", "artifacts", "upload"],
            Kind::Templates => &["secrets", "http", "artifacts"],
        }
    }

    /// Says whether a plugin of this kind may import an interface of the contract.
    pub fn may_import(self, interface: &str) -> bool {
        COMMON.contains(&interface) || self.powers().contains(&interface)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
