//! What a failure means to the caller of a command, and what to type next.

/// The kinds of failure, each with its documented exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// License, disk, memory, lock, parse, missing artefact: exit 1.
    Runtime,
    /// Exclusive flags, missing or bad argument, unknown choice: exit 2.
    Misuse,
    /// Ctrl-C: exit 130.
    Interrupted,
}

impl FailureKind {
    /// The process exit code of `spec/cli.md` section 2.
    pub fn exit_code(self) -> u8 {
        match self {
            FailureKind::Runtime => 1,
            FailureKind::Misuse => 2,
            FailureKind::Interrupted => 130,
        }
    }
}

/// An error that knows its subject, its kind and its remedy.
///
/// The command line prints `<subject>: <Display>` and every hint on a line of its own below it.
pub trait Hints: std::error::Error {
    /// The lower-case word in front of the message, from the table of `spec/cli.md` section 3.
    fn subject(&self) -> &str;

    /// The kind, which decides the exit code.
    fn kind(&self) -> FailureKind {
        FailureKind::Runtime
    }

    /// Commands or edits that remedy the failure, most useful first.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}
