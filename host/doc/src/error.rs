//! What can be wrong with a document: errors with their kind and place, and warnings.
//!
//! Invariants: every error that comes from a text has a line inside that text; a document's report holds all its
//! errors, frontmatter first, then the body from top to bottom.

use std::fmt;

use dlm_core::{Hints, Subject};

use crate::findings::Findings;

/// The documented kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    Encoding,
    Frontmatter,
    SchemaValidation,
    Version,
    Fence,
    InstructionGrammar,
    PreferenceGrammar,
    /// Ours: a size limit was passed.
    Limit,
}

impl ErrorClass {
    /// The name shown to users and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::Encoding => "EncodingError",
            ErrorClass::Frontmatter => "FrontmatterError",
            ErrorClass::SchemaValidation => "SchemaValidationError",
            ErrorClass::Version => "VersionError",
            ErrorClass::Fence => "FenceError",
            ErrorClass::InstructionGrammar => "InstructionGrammarError",
            ErrorClass::PreferenceGrammar => "PreferenceGrammarError",
            ErrorClass::Limit => "LimitError",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One violation of the frontmatter schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key, list entries by index.
    pub path: String,
    /// 1-based line of the offending key; of the enclosing block when a key is missing.
    pub line: usize,
    /// 1-based column in characters.
    pub col: usize,
    /// What is wrong, without the path.
    pub message: String,
    /// An edit that remedies it.
    pub hint: Option<String>,
}

/// One error of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub class: ErrorClass,
    /// 1-based line of the file.
    pub line: usize,
    /// 1-based column in characters.
    pub col: usize,
    pub message: String,
    /// An edit that remedies it.
    pub hint: Option<String>,
    /// The single violations behind a `SchemaValidationError`, each with its own place.
    pub problems: Findings<Problem>,
}

impl ParseError {
    pub(crate) fn new(class: ErrorClass, line: usize, col: usize, message: impl Into<String>) -> Self {
        ParseError {
            class,
            line,
            col,
            message: message.into(),
            hint: None,
            problems: Findings::default(),
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.col, self.message)
    }
}

/// The kinds of warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WarningKind {
    Bom,
    NearMissFence,
    NearMissMarker,
    LargeSection,
    DroppedKey,
    MediaPath,
}

impl WarningKind {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            WarningKind::Bom => "bom",
            WarningKind::NearMissFence => "near_miss_fence",
            WarningKind::NearMissMarker => "near_miss_marker",
            WarningKind::LargeSection => "large_section",
            WarningKind::DroppedKey => "dropped_key",
            WarningKind::MediaPath => "media_path",
        }
    }
}

/// Something that is likely not what the author meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub kind: WarningKind,
    /// 1-based line of the file.
    pub line: usize,
    pub message: String,
}

impl Warning {
    pub(crate) fn new(kind: WarningKind, line: usize, message: impl Into<String>) -> Self {
        Warning {
            kind,
            line,
            message: message.into(),
        }
    }
}

/// Everything that is wrong with a document that does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors {
    /// At least one, frontmatter first, then by line.
    pub errors: Findings<ParseError>,
    pub warnings: Findings<Warning>,
}

impl ParseErrors {
    /// The error that a program that stops at the first one would print.
    pub fn first(&self) -> &ParseError {
        self.errors.first().expect("a failed parse has an error")
    }
}

impl From<ParseError> for ParseErrors {
    fn from(error: ParseError) -> Self {
        ParseErrors {
            errors: error.into(),
            warnings: Findings::default(),
        }
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        match self.errors.rest("error") {
            Some(rest) => write!(f, "\n{rest}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseErrors {}

impl Hints for ParseErrors {
    fn subject(&self) -> Subject {
        Subject::Parse
    }

    fn hints(&self) -> Vec<String> {
        let mut hints: Vec<String> = Vec::new();
        for hint in self.errors.iter().filter_map(|error| error.hint.clone()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints
    }
}
