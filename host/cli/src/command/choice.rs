//! Words of a closed set as values of flags.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use dlm_core::Choice;

/// Parses `on` or `off`.
pub fn on_or_off() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|word| word == "on")
}

/// Parses one word of a closed set: the words of documents and records, from the same table.
pub fn choice<C: Choice + Send + Sync>() -> impl TypedValueParser<Value = C> {
    PossibleValuesParser::new(C::words()).map(|word| {
        // With `ignore_case` clap lets a word through as it was typed.
        let is_meant = |(known, _): &&(&'static str, C)| known.eq_ignore_ascii_case(&word);
        let (_, value) = C::TABLE
            .iter()
            .find(is_meant)
            .expect("clap lets only known words through");
        *value
    })
}
