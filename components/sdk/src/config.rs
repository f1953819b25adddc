//! Settings of this plugin, as the user gave them with `--plugin-opt name.key=value` or in a `dlm.toml`.

pub use crate::bindings::host::dlm::plugin::config::{Value, all, get};

use crate::{Error, error};

/// A text, or nothing where the key is not set.
pub fn text(key: &str) -> Result<Option<String>, Error> {
    match get(key) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(key, "a text", &other)),
    }
}

/// A number; an integer is one too.
pub fn number(key: &str) -> Result<Option<f64>, Error> {
    match get(key) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number)),
        Some(Value::Integer(integer)) => Ok(Some(integer as f64)),
        Some(other) => Err(wrong(key, "a number", &other)),
    }
}

/// True or false.
pub fn boolean(key: &str) -> Result<Option<bool>, Error> {
    match get(key) {
        None => Ok(None),
        Some(Value::Boolean(boolean)) => Ok(Some(boolean)),
        Some(other) => Err(wrong(key, "true or false", &other)),
    }
}

fn wrong(key: &str, expected: &str, found: &Value) -> Error {
    error!(
        InvalidInput,
        "the setting `{key}` is {found:?}, {expected} was expected"
    )
}
