//! What can be wrong with a JSON file of the store, told with its place.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use dlm_core::manifest::RecordProblem;

/// The reason why a JSON file was refused.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    #[error("unreadable: {0}")]
    Unreadable(#[source] dlm_files::DiskError),
    #[error("invalid JSON: {0}")]
    Json(#[source] serde_json::Error),
    #[error("the top level is {found}, expected {expected}")]
    TopLevel {
        found: &'static str,
        expected: &'static str,
    },
    #[error("schema violation: {0}")]
    Schema(#[source] serde_json::Error),
    #[error("schema violation: {0}")]
    Rule(#[from] RecordProblem),
}

/// Reads a JSON object without looking at its keys.
pub(crate) fn object(bytes: &[u8]) -> Result<serde_json::Map<String, Value>, Flaw> {
    match serde_json::from_slice(bytes).map_err(Flaw::Json)? {
        Value::Object(map) => Ok(map),
        other => Err(Flaw::TopLevel {
            found: kind_of(&other),
            expected: "an object",
        }),
    }
}

/// Reads a record; the position of a violation is kept in the message.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Flaw> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => Flaw::Schema(error),
        Category::Io | Category::Syntax | Category::Eof => Flaw::Json(error),
    })
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
