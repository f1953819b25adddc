//! What one example is: where it comes from, what it teaches, on which side of the split it stands.

use std::fmt;

use dlm_core::split::{VALIDATION_SHARE, is_validation};
use dlm_core::stamp::Stamp;
use dlm_core::{Hints, SectionId, Subject};
use dlm_model::text::TextError;

use crate::rows::RowKind;

/// Pairs from which the hash may hold some of them out, when the author asks for it.
pub const SPLIT_PAIRS_MIN: usize = 64;

/// Where an example comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A section of the document.
    Section {
        id: SectionId,
        /// 1-based line of the section in its file, for reports.
        line: usize,
    },
    /// A section of an earlier version of the document.
    Replay {
        id: SectionId,
        /// When the document last had it.
        last_seen: Stamp,
    },
}

impl Origin {
    /// Returns the id of the section.
    pub fn section(&self) -> &SectionId {
        match self {
            Origin::Section { id, .. } | Origin::Replay { id, .. } => id,
        }
    }

    /// Returns the line of the section, 0 where it is in no file any more.
    pub fn line(&self) -> usize {
        match self {
            Origin::Section { line, .. } => *line,
            Origin::Replay { .. } => 0,
        }
    }

    /// Says whether the section is of an earlier version.
    pub fn is_replay(&self) -> bool {
        matches!(self, Origin::Replay { .. })
    }
}

/// The id under which rows are recorded: 16 hex digits, of an earlier version `replay:<id>:<last seen>`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Section { id, .. } => write!(f, "{id}"),
            Origin::Replay { id, last_seen } => write!(f, "replay:{id}:{last_seen}"),
        }
    }
}

/// A section that gives examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub origin: Origin,
    pub content: SourceContent,
    /// Written by a model: its pairs may be held out.
    pub is_synthesized: bool,
}

/// What a section teaches, its prose whole.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceContent {
    /// Questions with their answers.
    Pairs(Vec<(String, String)>),
    Prose(String),
}

/// What an example teaches.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Learned as an answer to a question.
    Pair { question: String, answer: String },
    /// Learned as running text (continued pretraining).
    Prose {
        text: String,
        /// Bytes at the beginning that repeat the window before: read, not learned.
        context: usize,
    },
}

/// The side of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    /// Never trained on, judged by its loss.
    Validation,
}

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub origin: Origin,
    /// Position inside its section.
    pub index: u32,
    pub body: Body,
    pub split: Split,
}

/// An example that cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error(
        "section {section_id} (line {line}), pair {pair}: {tokens} tokens, but {} {allowed}",
        if tokens > readable { "the base reads" } else { "`sequence_len` allows" }
    )]
    TooLong {
        section_id: String,
        line: usize,
        pair: u32,
        tokens: usize,
        /// Tokens of a row under the plan.
        allowed: usize,
        /// Tokens of a row that the base could read, whatever the document says.
        readable: usize,
    },
    #[error("section {section_id} (line {line}), pair {pair}: the answer has no token to learn from")]
    EmptyAnswer { section_id: String, line: usize, pair: u32 },
    #[error("section {section_id} (line {line}), row {row}: {cause}")]
    Text {
        section_id: String,
        line: usize,
        row: u32,
        cause: Box<TextError>,
    },
}

impl Hints for RowError {
    fn subject(&self) -> Subject {
        Subject::Training
    }

    fn hints(&self) -> Vec<String> {
        match self {
            RowError::TooLong { tokens, readable, .. } if tokens > readable => {
                vec!["split the pair: no setting makes the base read more".to_owned()]
            }
            RowError::TooLong { tokens, .. } => {
                vec![format!(
                    "raise `training.sequence_len` to at least {tokens}, or split the pair"
                )]
            }
            RowError::EmptyAnswer { .. } => vec!["write an answer under its `### A`".to_owned()],
            RowError::Text { cause, .. } => cause.hints(),
        }
    }
}

/// Where a row stands, for errors: its section and its position there.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub origin: &'a Origin,
    /// From 0.
    pub index: u32,
}

impl Place<'_> {
    pub fn empty_answer(self) -> RowError {
        RowError::EmptyAnswer {
            section_id: self.origin.to_string(),
            line: self.origin.line(),
            pair: self.index + 1,
        }
    }

    pub fn text_error(self, cause: TextError) -> RowError {
        RowError::Text {
            section_id: self.origin.to_string(),
            line: self.origin.line(),
            row: self.index + 1,
            cause: Box::new(cause),
        }
    }

    /// Refuses a row of more than `allowed` tokens.
    pub fn check_length(self, tokens: usize, allowed: usize, readable: usize) -> Result<(), RowError> {
        if tokens <= allowed {
            return Ok(());
        }
        Err(RowError::TooLong {
            section_id: self.origin.to_string(),
            line: self.origin.line(),
            pair: self.index + 1,
            tokens,
            allowed,
            readable,
        })
    }
}

impl Example {
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            origin: &self.origin,
            index: self.index,
        }
    }

    /// Says whether the example is judged by, never trained on.
    pub fn is_validation(&self) -> bool {
        self.split == Split::Validation
    }

    /// Returns the mode in which the example is trained.
    pub fn kind(&self) -> RowKind {
        match self.body {
            Body::Pair { .. } => RowKind::Sft,
            Body::Prose { .. } => RowKind::Cpt,
        }
    }

    /// The example in the digest of a run, in the words of the first version, so that states kept by it can be resumed.
    pub(crate) fn digest_text(&self) -> String {
        format!(
            "SourceRow {{ section_id: {:?}, sub_index: {}, line: {}, body: {:?}, is_validation: {} }}",
            self.origin.to_string(),
            self.index,
            self.origin.line(),
            self.body,
            self.is_validation()
        )
    }
}

/// Which examples are for validation: prose, synthesized pairs, and all pairs of an author who asked for it follow the
/// hash of their section; pairs by hand always train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitRule {
    seed: i64,
    splits_pairs: bool,
}

impl SplitRule {
    /// The rule of a document with these sections; `wants_pairs` is `training.holdout`.
    pub fn new(seed: i64, wants_pairs: bool, sources: &[Source]) -> Self {
        let pairs = |source: &Source| match &source.content {
            SourceContent::Pairs(pairs) => pairs.len(),
            SourceContent::Prose(_) => 0,
        };
        Self {
            seed,
            splits_pairs: wants_pairs && sources.iter().map(pairs).sum::<usize>() >= SPLIT_PAIRS_MIN,
        }
    }

    /// The side of an example; one of an earlier version goes by the id of the section that it was in.
    pub(super) fn side(&self, source: &Source, index: usize, body: &Body) -> Split {
        let follows_hash = match body {
            Body::Prose { .. } => true,
            Body::Pair { .. } => source.is_synthesized || self.splits_pairs,
        };
        match follows_hash && is_validation(self.seed, source.origin.section(), index, VALIDATION_SHARE) {
            true => Split::Validation,
            false => Split::Train,
        }
    }
}
