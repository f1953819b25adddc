//! A section of a document as a plain record, and the content-addressed id that names it.
//!
//! Invariants: a record carries no grammar; how text becomes a section is the business of `dlm-doc`. An id depends
//! on the type and the content (for media: on the path and the blob) and on nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{hex, is_hex, sha256};

/// Number of lower-case hex digits of a section id.
pub const SECTION_ID_LEN: usize = 16;

/// The five section types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionKind {
    Prose,
    Instruction,
    Preference,
    Image,
    Audio,
}

impl SectionKind {
    /// Every type, in the order in which messages list them.
    pub const ALL: [SectionKind; 5] = [
        SectionKind::Prose,
        SectionKind::Instruction,
        SectionKind::Preference,
        SectionKind::Image,
        SectionKind::Audio,
    ];

    /// The lower-case name used in fences, ids and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            SectionKind::Prose => "prose",
            SectionKind::Instruction => "instruction",
            SectionKind::Preference => "preference",
            SectionKind::Image => "image",
            SectionKind::Audio => "audio",
        }
    }

    /// Finds the type with exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Says whether sections of this type name a media file.
    pub fn is_media(self) -> bool {
        matches!(self, SectionKind::Image | SectionKind::Audio)
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a section: 16 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SectionId(String);

/// A text that is not a section id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a section id: expected {SECTION_ID_LEN} lower-case hex digits")]
pub struct SectionIdError {
    pub text: String,
}

impl SectionId {
    /// The 16 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names text content of `kind`.
    ///
    /// **Source**: spec, document chapter, section 4.
    pub fn of_content(kind: SectionKind, content: &str) -> Self {
        Self::hash(&[kind.as_str(), &normalize_newlines(content)])
    }

    /// Names a media file of `kind`; `blob_sha` is the 64-digit hex SHA-256 of its bytes once it was ingested.
    pub fn of_media(kind: SectionKind, path: &str, blob_sha: Option<&str>) -> Self {
        match blob_sha {
            Some(sha) => Self::hash(&[kind.as_str(), path, sha]),
            None => Self::hash(&[kind.as_str(), path]),
        }
    }

    fn hash(parts: &[&str]) -> Self {
        let digest = sha256(parts.join("\n"));
        SectionId(hex(&digest[..SECTION_ID_LEN / 2]))
    }
}

impl fmt::Display for SectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SectionId {
    type Err = SectionIdError;

    fn from_str(text: &str) -> Result<Self, SectionIdError> {
        if is_hex(text, SECTION_ID_LEN) {
            Ok(SectionId(text.to_owned()))
        } else {
            Err(SectionIdError { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for SectionId {
    type Error = SectionIdError;

    fn try_from(text: String) -> Result<Self, SectionIdError> {
        text.parse()
    }
}

impl From<SectionId> for String {
    fn from(id: SectionId) -> String {
        id.0
    }
}

/// Drops one leading U+FEFF and folds CRLF and CR to LF.
pub fn normalize_newlines(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text.to_owned()
    }
}

/// Where a mined preference section came from (marker `dlm-auto-mined`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoMined {
    pub judge_name: String,
    pub judge_score_chosen: f64,
    pub judge_score_rejected: f64,
    /// ISO-8601, kept as written.
    pub mined_at: String,
    pub mined_run_id: u64,
}

/// Where a synthesized instruction section came from (marker `dlm-auto-synth`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoSynth {
    pub synth_teacher: String,
    pub synth_strategy: String,
    /// ISO-8601, kept as written.
    pub synth_at: String,
    pub source_section_id: SectionId,
}

/// The file that an image or audio section names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// As written, or relative to the directive's root.
    pub path: String,
    pub alt: Option<String>,
    pub transcript: Option<String>,
    /// 64 lower-case hex digits once the file was ingested.
    pub blob_sha: Option<String>,
}

/// One typed section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Section {
    pub kind: SectionKind,
    /// Lines joined with LF, without fence and lifted markers, without a final LF.
    pub content: String,
    /// 1-based line of the fence, or of the first line of an unfenced prose section; 0 when made by a tool.
    pub start_line: usize,
    pub adapter: Option<String>,
    /// Filled by directives only.
    pub tags: BTreeMap<String, String>,
    /// Source of a harvested section (marker `dlm-auto-harvest`); may be empty.
    pub harvest_source: Option<String>,
    pub mined: Option<AutoMined>,
    pub synth: Option<AutoSynth>,
    /// Present on image and audio sections.
    pub media: Option<Media>,
    /// Marker lines that were lifted out of the content.
    pub marker_lines: usize,
}

impl Section {
    /// Makes a section of text with nothing else set.
    pub fn text(kind: SectionKind, content: impl Into<String>) -> Self {
        Section {
            kind,
            content: content.into(),
            start_line: 0,
            adapter: None,
            tags: BTreeMap::new(),
            harvest_source: None,
            mined: None,
            synth: None,
            media: None,
            marker_lines: 0,
        }
    }

    /// The content-addressed id.
    pub fn id(&self) -> SectionId {
        match &self.media {
            Some(media) => SectionId::of_media(self.kind, &media.path, media.blob_sha.as_deref()),
            None => SectionId::of_content(self.kind, &self.content),
        }
    }

    /// The line of the file that holds `section_line` (1 is the first content line) of a fenced section.
    pub fn file_line(&self, section_line: usize) -> usize {
        self.start_line + self.marker_lines + section_line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: SectionKind, content: &str, expected: &str) {
        assert_eq!(
            Section::text(kind, content).id().as_str(),
            expected,
            "{kind} {content:?}"
        );
    }

    #[test]
    fn ids_of_the_specification() {
        check(SectionKind::Prose, "hello", "0c3a792e443908ce");
        check(SectionKind::Prose, "hello\n", "d9540ebbd713c433");
        check(SectionKind::Instruction, "hello", "d3bd9f9300e9514c");
        check(SectionKind::Instruction, "", "6450ab006a4d2029");
        check(SectionKind::Prose, "caf\u{e9}", "a2141fad87c4f983");
        check(SectionKind::Prose, "cafe\u{301}", "9d066bf36e48d253");
        check(SectionKind::Prose, "# Notes\n\nAlpha.\n", "ba993ae9ec9661d3");
        check(
            SectionKind::Instruction,
            "### Q\nOne?\n\n### A\nUno.\n",
            "5abfa2873d92f8f0",
        );
        check(
            SectionKind::Preference,
            "### Prompt\np\n### Chosen\nc\n### Rejected\nr",
            "92fd3c5ad9c7d43f",
        );
        check(
            SectionKind::Preference,
            "### Prompt\np\n### Chosen\nc\n### Rejected\nr\n",
            "97f0bc66d05714ca",
        );
    }

    #[test]
    fn media_ids_of_the_specification() {
        let sha = "2d4566582844690f8634a8b2534ea5221560038c6c0650c99140759bad603ae2";
        let id = |kind, path, sha| SectionId::of_media(kind, path, sha).to_string();
        assert_eq!(id(SectionKind::Image, "figures/a.png", None), "b5e3f17ac87445a0");
        assert_eq!(id(SectionKind::Image, "figures/a.png", Some(sha)), "bd8a4cc61724d635");
        assert_eq!(id(SectionKind::Audio, "clips/a.wav", None), "01d5d0d01f99dad3");
    }

    #[test]
    fn ids_ignore_line_ends_and_a_leading_bom_but_nothing_else() {
        let plain = SectionId::of_content(SectionKind::Prose, "a\nb\nc");
        assert_eq!(SectionId::of_content(SectionKind::Prose, "\u{feff}a\r\nb\rc"), plain);
        assert_ne!(SectionId::of_content(SectionKind::Prose, " a\nb\nc"), plain);
    }

    #[test]
    fn only_sixteen_lower_case_hex_digits_are_an_id() {
        assert!("0123456789abcdef".parse::<SectionId>().is_ok());
        for bad in [
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
            "0123456789abcdeg",
            "",
            "0123456789abcdé",
        ] {
            assert!(bad.parse::<SectionId>().is_err(), "{bad}");
        }
    }
}
