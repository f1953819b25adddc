//! The failure of a use case: the error that stopped it, with the word, the kind and the remedies that a person is told.
//!
//! Invariants: the error is kept whole, so that a caller tells failures apart by kind, subject or type, never by words;
//! whoever rephrases a message or adds to it does so here.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use dlm_core::{FailureKind, Hints, Subject};

/// Why a use case did not come to its end.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: FailureKind,
    /// The word in front of the message.
    pub subject: Subject,
    /// What went wrong; its sources are shown with `--verbose`.
    pub error: Arc<dyn Error + Send + Sync>,
    /// Commands or edits that remedy it, most useful first.
    pub hints: Vec<String>,
}

impl Failure {
    /// Makes a runtime failure (exit 1) of a message or of an error that has no remedy of its own.
    pub fn new(subject: Subject, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: FailureKind::Runtime,
            subject,
            error: Arc::from(error.into()),
            hints: Vec::new(),
        }
    }

    /// Makes a failure of misuse (exit 2).
    pub fn misuse(subject: Subject, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind: FailureKind::Misuse,
            ..Self::new(subject, error)
        }
    }

    /// Makes the failure of an interrupted command (exit 130); an empty message says no more than that.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Interrupted,
            ..Self::new(Subject::Interrupted, message.into())
        }
    }

    /// Adds a remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts the failure under another subject.
    pub fn under(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// Says it in other words, made of those that it had; the error and its causes stay underneath.
    pub fn reworded(mut self, words: impl FnOnce(&str) -> String) -> Self {
        let message = words(&self.message());
        self.error = Arc::new(RewordedError {
            message,
            error: self.error,
        });
        self
    }

    /// Says one thing more, after a semicolon.
    pub fn adding(self, more: &str) -> Self {
        self.reworded(|message| match message {
            "" => more.to_owned(),
            message => format!("{message}; {more}"),
        })
    }

    /// What went wrong, without the subject.
    pub fn message(&self) -> String {
        self.error.to_string()
    }

    /// What went wrong with its remedies, in one line, for where there is no room for more.
    pub fn in_a_line(&self) -> String {
        match self.hints.is_empty() {
            true => self.message(),
            false => format!("{} ({})", self.error, self.hints.join("; ")),
        }
    }

    /// The causes below the error, outermost first.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let outermost: Option<&(dyn Error + 'static)> = self.error.source();
        std::iter::successors(outermost, |error| (*error).source())
    }
}

/// `<subject>: <message>`; an interruption may have no message.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message().as_str() {
            "" => write!(f, "{}", self.subject),
            message => write!(f, "{}: {message}", self.subject),
        }
    }
}

impl<E: Hints + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            kind: error.kind(),
            subject: error.subject(),
            hints: error.hints(),
            error: Arc::new(error),
        }
    }
}

/// An error in other words. Its sources are those of the error: the words that were replaced are not told beside the new ones.
#[derive(Debug)]
struct RewordedError {
    message: String,
    error: Arc<dyn Error + Send + Sync>,
}

impl fmt::Display for RewordedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RewordedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the disk said no")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn other_words_keep_the_causes_and_the_remedies() {
        let cause = std::io::Error::other("it is full");
        let failure = Failure::new(Subject::Disk, Outer(cause)).hint("rm something");
        assert_eq!(failure.to_string(), "disk: the disk said no");
        assert_eq!(failure.in_a_line(), "the disk said no (rm something)");
        let failure = failure
            .reworded(|was| format!("nothing was written: {was}"))
            .adding("try again");
        assert_eq!(failure.message(), "nothing was written: the disk said no; try again");
        let causes: Vec<String> = failure.causes().map(ToString::to_string).collect();
        assert_eq!(
            (causes, failure.hints),
            (vec!["it is full".to_owned()], vec!["rm something".to_owned()])
        );
    }

    #[test]
    fn an_interruption_may_have_nothing_to_say() {
        assert_eq!(Failure::interrupted("").to_string(), "interrupted");
        assert_eq!(
            Failure::interrupted("").adding("2 pairs are staged").to_string(),
            "interrupted: 2 pairs are staged"
        );
        assert_eq!(Failure::interrupted("").kind.exit_code(), 130);
    }

    /// Messages are for people. Whoever tells failures apart by their words breaks when they are rephrased.
    #[test]
    fn nobody_compares_messages() {
        let comparisons = ["==", "!=", ".contains(", ".starts_with(", ".ends_with(", ".is_empty("];
        let mut open = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
        let mut guilty = Vec::new();
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                match path.file_name().and_then(|name| name.to_str()) {
                    // Tests look at messages to see what a person reads.
                    Some("tests" | "tests.rs" | "target") => continue,
                    // The scanner of YAML is not ours, and its errors are words alone.
                    Some("yaml.rs") => continue,
                    _ if path.is_dir() => open.push(path),
                    Some(name) if name.ends_with(".rs") => {
                        let text = std::fs::read_to_string(&path).unwrap();
                        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                        let dense: String = code.split_whitespace().collect();
                        let is_compared = |message: &str| {
                            let after = dense.split(message).skip(1);
                            after
                                .into_iter()
                                .any(|rest| comparisons.iter().any(|word| rest.starts_with(word)))
                        };
                        if is_compared(".message()") || is_compared(".message") {
                            guilty.push(path);
                        }
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(
            guilty,
            Vec::<std::path::PathBuf>::new(),
            "give the error a type, a kind or a subject"
        );
    }
}
