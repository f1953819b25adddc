//! Making errors.

use crate::bindings::host::dlm::plugin::types::{Error, Rejection, Retry};

/// An error whose case carries a text: `error!(InvalidInput, "`{name}` is too long")`.
#[macro_export]
macro_rules! error {
    ($case:ident, $($text:tt)+) => {
        $crate::Error::$case(::std::format!($($text)+))
    };
}

impl Error {
    /// The far side answered with a refusal; `status` is an HTTP or an exit status.
    pub fn rejected(status: i32, message: impl Into<String>) -> Error {
        Error::Rejected(Rejection {
            message: message.into(),
            status: Some(status),
        })
    }

    /// The far side asked to be left alone for a while.
    pub fn rate_limited(after_ms: Option<u32>, message: impl Into<String>) -> Error {
        Error::RateLimited(Retry {
            message: message.into(),
            after_ms,
        })
    }
}
