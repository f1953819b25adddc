//! A value that remembers who gave it.

use std::fmt;

/// Who decided a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, with its dashes.
    Flag(&'static str),
    /// A variable.
    Environment(&'static str),
    /// The user's settings in the home directory.
    Config,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Environment(name) => f.write_str(name),
            Origin::Config => f.write_str("config.toml"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// What a flag gave, where it was typed.
    pub fn flag(name: &'static str, value: Option<T>) -> Option<Self> {
        let origin = Origin::Flag(name);
        value.map(|value| Setting { value, origin })
    }

    /// What holds where nobody said anything.
    pub fn default(value: T) -> Self {
        let origin = Origin::Default;
        Setting { value, origin }
    }

    /// The same choice in another form.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Setting<U> {
        Setting {
            value: change(self.value),
            origin: self.origin,
        }
    }
}
