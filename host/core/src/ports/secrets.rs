//! The port for named secrets.

/// What stands before a secret's name in a variable that is meant for dlm alone.
pub const SECRET_PREFIX: &str = "DLM_SECRET_";

/// Finds secrets by name. What it returns is never logged, and reaches a guest only with the grant `reveal:<name>`.
pub trait Secrets: Send + Sync {
    /// The secret's text, when the user has set it.
    ///
    /// **Errors**: a store that cannot be read or is open to others, in words.
    fn find(&self, name: &str) -> Result<Option<String>, String>;

    /// The environment variable to set for this secret.
    fn variable(&self, name: &str) -> String {
        format!("{SECRET_PREFIX}{name}")
    }
}

/// No secrets at all.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn find(&self, _name: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
}
