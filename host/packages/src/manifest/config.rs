//! Settings of a plugin: their schema in the manifest, and the values that a run gives them.
//!
//! Invariant: a resolved value has the type and lies within the bounds that the manifest states.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Manifest, one_line, short};

/// Largest text or JSON value.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The types of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigKind {
    Text,
    Integer,
    Number,
    Boolean,
    Json,
}

impl ConfigKind {
    fn article(self) -> &'static str {
        match self {
            ConfigKind::Text => "a text",
            ConfigKind::Integer => "an integer",
            ConfigKind::Number => "a number",
            ConfigKind::Boolean => "true or false",
            ConfigKind::Json => "JSON",
        }
    }
}

/// The schema of one setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigKey {
    #[serde(rename = "type")]
    pub kind: ConfigKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Of an integer or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A setting with its value, as the plugin gets it.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    /// JSON text.
    Json(String),
}

/// A value that a user gave.
#[derive(Clone, Debug, PartialEq)]
pub enum GivenValue {
    /// From a flag: read as the schema's type says.
    Typed(String),
    /// From a settings file, with a type of its own.
    Stated(Value),
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("plugin `{plugin}` has no setting `{key}`{}", known_list(known))]
    Unknown {
        plugin: String,
        key: String,
        known: Vec<String>,
    },
    #[error("the setting `{key}` of plugin `{plugin}` is `{value}`, {rule}")]
    Wrong {
        plugin: String,
        key: String,
        value: String,
        /// Such as `at most 1 was expected`.
        rule: String,
    },
    #[error("plugin `{plugin}` needs the setting `{key}`{}", described(description))]
    Missing {
        plugin: String,
        key: String,
        description: String,
    },
}

fn known_list(known: &[String]) -> String {
    match known {
        [] => "; it has no settings".to_owned(),
        known => format!("; it has {}", known.join(", ")),
    }
}

fn described(description: &str) -> String {
    match description {
        "" => String::new(),
        text => format!(" ({})", short(text)),
    }
}

impl ConfigKey {
    /// Holds one schema against the rules; `name` is its key.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let is_key = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && name.len() <= 64
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        if !is_key {
            return Err(format!(
                "`config.{}` is not a key: a lower-case letter, then up to 63 lower-case letters, digits, `-` and `_`",
                short(name)
            ));
        }
        one_line(&format!("the description of `config.{name}`"), &self.description)?;
        if (self.minimum.is_some() || self.maximum.is_some())
            && !matches!(self.kind, ConfigKind::Integer | ConfigKind::Number)
        {
            return Err(format!("`config.{name}` is {} and has bounds", self.kind.article()));
        }
        if let (Some(minimum), Some(maximum)) = (self.minimum, self.maximum)
            && minimum > maximum
        {
            return Err(format!(
                "`config.{name}`: the minimum {minimum} is above the maximum {maximum}"
            ));
        }
        let Some(default) = &self.default else { return Ok(()) };
        if self.required {
            return Err(format!("`config.{name}` is required and has a default"));
        }
        match self.value(&GivenValue::Stated(default.clone())) {
            Ok(_) => Ok(()),
            Err(rule) => Err(format!(
                "the default of `config.{name}` is `{}`, {rule}",
                shown(default)
            )),
        }
    }

    /// Reads a value by the schema; the error says what was expected.
    fn value(&self, given: &GivenValue) -> Result<ConfigValue, String> {
        let wrong = || format!("{} was expected", self.kind.article());
        let value = match (self.kind, given) {
            (ConfigKind::Text, GivenValue::Typed(text) | GivenValue::Stated(Value::String(text))) => {
                ConfigValue::Text(text.clone())
            }
            (ConfigKind::Integer, GivenValue::Typed(text)) => ConfigValue::Integer(text.parse().map_err(|_| wrong())?),
            (ConfigKind::Integer, GivenValue::Stated(value)) => ConfigValue::Integer(value.as_i64().ok_or_else(wrong)?),
            (ConfigKind::Number, GivenValue::Typed(text)) => ConfigValue::Number(text.parse().map_err(|_| wrong())?),
            (ConfigKind::Number, GivenValue::Stated(value)) => ConfigValue::Number(value.as_f64().ok_or_else(wrong)?),
            (ConfigKind::Boolean, GivenValue::Typed(text)) => match text.as_str() {
                "true" => ConfigValue::Boolean(true),
                "false" => ConfigValue::Boolean(false),
                _ => return Err(wrong()),
            },
            (ConfigKind::Boolean, GivenValue::Stated(Value::Bool(value))) => ConfigValue::Boolean(*value),
            (ConfigKind::Json, GivenValue::Typed(text)) => {
                let value: Value =
                    serde_json::from_str(text).map_err(|error| format!("{} was expected: {error}", "JSON"))?;
                ConfigValue::Json(value.to_string())
            }
            (ConfigKind::Json, GivenValue::Stated(value)) => ConfigValue::Json(value.to_string()),
            _ => return Err(wrong()),
        };
        match &value {
            ConfigValue::Text(text) | ConfigValue::Json(text) if text.len() > VALUE_BYTES_MAX => {
                Err("at most 64 KiB were expected".to_owned())
            }
            ConfigValue::Number(number) if !number.is_finite() => Err("a finite number was expected".to_owned()),
            ConfigValue::Number(number) => self.bounded(*number).map(|()| value),
            // Bounds of integers are compared as integers would be shown; beyond 2^53 a bound is a rounded one.
            ConfigValue::Integer(number) => self.bounded(*number as f64).map(|()| value),
            _ => Ok(value),
        }
    }

    fn bounded(&self, number: f64) -> Result<(), String> {
        match (self.minimum, self.maximum) {
            (Some(minimum), _) if number < minimum => Err(format!("at least {minimum} was expected")),
            (_, Some(maximum)) if number > maximum => Err(format!("at most {maximum} was expected")),
            _ => Ok(()),
        }
    }
}

impl Manifest {
    /// Checks the values that a run gives, least important first, and fills in defaults; sorted by key.
    ///
    /// **Errors**: a key that the plugin has not, a value of another type or out of bounds, a required one that is missing.
    pub fn resolve_config(&self, given: &[(String, GivenValue)]) -> Result<Vec<(String, ConfigValue)>, ConfigError> {
        for (key, _) in given {
            if !self.config.contains_key(key) {
                return Err(ConfigError::Unknown {
                    plugin: self.name.clone(),
                    key: short(key),
                    known: self.config.keys().cloned().collect(),
                });
            }
        }
        let mut resolved = Vec::new();
        for (name, key) in &self.config {
            let own = given
                .iter()
                .rev()
                .find(|(given, _)| given == name)
                .map(|(_, value)| value.clone());
            let value = own.or_else(|| key.default.clone().map(GivenValue::Stated));
            match value {
                Some(value) => {
                    let read = key.value(&value).map_err(|rule| ConfigError::Wrong {
                        plugin: self.name.clone(),
                        key: name.clone(),
                        value: match &value {
                            GivenValue::Typed(text) => short(text),
                            GivenValue::Stated(value) => shown(value),
                        },
                        rule,
                    })?;
                    resolved.push((name.clone(), read));
                }
                None if key.required => {
                    return Err(ConfigError::Missing {
                        plugin: self.name.clone(),
                        key: name.clone(),
                        description: key.description.clone(),
                    });
                }
                None => {}
            }
        }
        Ok(resolved)
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => short(text),
        other => short(&other.to_string()),
    }
}

impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigValue::Text(text) | ConfigValue::Json(text) => f.write_str(text),
            ConfigValue::Integer(value) => write!(f, "{value}"),
            ConfigValue::Number(value) => write!(f, "{value}"),
            ConfigValue::Boolean(value) => write!(f, "{value}"),
        }
    }
}
