//! One value of a plan with where it came from and why.

use serde::{Deserialize, Serialize};

/// Who decided a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A key of the document's frontmatter.
    Document,
    /// A flag or environment variable of the command, by its name.
    Flag(String),
    /// The plan, from the document's size, the base and the hardware.
    Chosen,
}

/// A value, its origin and its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knob<T> {
    pub value: T,
    pub origin: Origin,
    /// A fragment that reads well after "because"; empty for a written value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl<T> Knob<T> {
    /// A value that the document writes.
    pub fn written(value: T) -> Self {
        Knob {
            value,
            origin: Origin::Document,
            reason: String::new(),
        }
    }

    /// A value that a flag gave.
    pub fn flag(value: T, name: &str) -> Self {
        Knob {
            value,
            origin: Origin::Flag(name.to_owned()),
            reason: String::new(),
        }
    }

    /// A value that the plan chose.
    pub fn chosen(value: T, reason: impl Into<String>) -> Self {
        Knob {
            value,
            origin: Origin::Chosen,
            reason: reason.into(),
        }
    }

    /// The written value when there is one, else the chosen one.
    pub fn or_chosen(written: Option<T>, choose: impl FnOnce() -> (T, String)) -> Self {
        match written {
            Some(value) => Knob::written(value),
            None => {
                let (value, reason) = choose();
                Knob::chosen(value, reason)
            }
        }
    }

    /// `written in the document`, `given by --seed`, or `chosen because ...`.
    pub fn why(&self) -> String {
        match &self.origin {
            Origin::Document => "written in the document".into(),
            Origin::Flag(name) => format!("given by {name}"),
            Origin::Chosen => format!("chosen because {}", self.reason),
        }
    }
}
