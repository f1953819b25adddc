//! The limits that no grant raises, and what a guest that passed a limit is told.

use std::time::Duration;

use dlm_core::inert::{cut, inert_line};
use dlm_packages::limits::LimitName;

/// Longest log line; the rest is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// Most log lines of a run.
pub(crate) const LOG_LINES_MAX: u64 = 10_000;
/// Longest text of an error, a report or a name that a guest gives; the rest is cut.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Progress bars alive; further ones are silent.
pub(crate) const BARS_MAX: usize = 16;
/// Progress bars of a run; further ones are silent.
pub(crate) const BARS_MADE_MAX: u64 = 1_000;
/// Artefacts open at once: each is a file descriptor of the host.
pub(crate) const INPUTS_MAX: usize = 64;
/// Fresh instances of one plugin in a run, after calls that were stopped.
pub(crate) const RESTARTS_MAX: u32 = 3;
/// Live handles of all kinds.
pub(crate) const HANDLES_MAX: usize = 1_000;
/// Table elements of all tables together.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, memories and tables of one plugin.
pub(crate) const INSTANCES_MAX: usize = 64;
pub(crate) const MEMORIES_MAX: usize = 16;
pub(crate) const TABLES_MAX: usize = 64;
/// Stack of the guest.
pub(crate) const STACK_BYTES_MAX: usize = 1 << 20;
/// Longest text that a model reads at once, a whole chat counted as one: encoding takes some 230 bytes for each byte.
pub(crate) const MODEL_TEXT_BYTES_MAX: usize = 1 << 20;
/// All text that is handed to models in a run.
pub(crate) const MODEL_TEXT_BYTES_RUN_MAX: u64 = 1 << 30;
/// Most ids that are turned into text at once.
pub(crate) const MODEL_IDS_MAX: usize = 1 << 18;
/// Longest single run of a program.
pub(crate) const PROCESS_TIME_MAX: Duration = Duration::from_secs(10 * 60);

/// A short text of a guest, harmless and on one line.
pub(crate) fn short(text: &str) -> String {
    inert_line(&cut(text, TEXT_BYTES_MAX))
}

/// One limit that a guest passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{}` was passed", name)]
pub(crate) struct PassedLimit {
    /// Name as in a grant; `stack` and `handles` cannot be granted.
    pub name: &'static str,
    /// In words, such as `256 MiB of memory`.
    pub allowed: String,
    /// The value that doubles it and its ceiling.
    pub raise: Option<(String, String)>,
}

impl PassedLimit {
    /// Describes a limit that a grant can raise.
    pub fn raisable(name: LimitName, value: u64, allowed: String) -> PassedLimit {
        let raise = name.raise(value);
        PassedLimit {
            name: name.as_str(),
            allowed,
            raise: raise.map(|(doubled, ceiling)| (doubled.to_string(), ceiling.to_string())),
        }
    }

    /// Describes a limit that is fixed.
    pub fn fixed(name: &'static str, allowed: String) -> PassedLimit {
        PassedLimit {
            name,
            allowed,
            raise: None,
        }
    }
}
