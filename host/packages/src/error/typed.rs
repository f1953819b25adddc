//! What was typed cannot be what it was typed as.

use crate::capability::CapabilityError;
use crate::manifest::ConfigError;

use super::{Diagnose, Diagnosis};

/// A selector, a name or an option that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the selector `{text}` {cause}")]
pub struct SelectorError {
    pub text: String,
    pub cause: String,
    pub hint: Option<String>,
}

impl Diagnose for SelectorError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::misuse("plugin::invalid-input").hints(self.hint.clone())
    }
}

/// A source that plugins are not installed from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source `{text}` {cause}")]
pub struct SourceError {
    pub text: String,
    pub cause: String,
    pub hint: String,
}

impl Diagnose for SourceError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::misuse("plugin::unsupported").hint(self.hint.clone())
    }
}

impl Diagnose for CapabilityError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::misuse("plugin::invalid-input").hint("such as: model:current, or http:https://api.example.com")
    }
}

impl Diagnose for ConfigError {
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::misuse("plugin::invalid-input").hint(match self {
            ConfigError::Unknown { plugin, .. } => format!("see its settings: dlm plugin inspect {plugin}"),
            ConfigError::Wrong { plugin, key, .. } => format!("give another: --plugin-opt {plugin}.{key}=VALUE"),
            ConfigError::Missing { plugin, key, .. } => format!("give it: --plugin-opt {plugin}.{key}=VALUE"),
        })
    }
}
