//! Parsing a whole document: text to frontmatter and sections, or to everything that is wrong with it.
//!
//! Invariants: a pure function of the text and the limits; the frontmatter and the body are checked even when the
//! other one is broken.

use dlm_core::{Section, SectionKind};

use crate::body;
use crate::error::{ErrorClass, ParseError, ParseErrors, Warning};
use crate::findings::Findings;
use crate::frontmatter::{Frontmatter, read};
use crate::limits::Limits;
use crate::migrate;
use crate::text;
use crate::yaml::{self, Kind, Node};

/// A document as values: what is written and what training reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub frontmatter: Frontmatter,
    pub sections: Vec<Section>,
}

/// A parsed file.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub document: Document,
    /// The schema version that the file declares; 1 when it declares none.
    pub declared_version: u32,
    /// Line of the file on which the body starts.
    pub body_line: usize,
    /// Line of every fence, also of those whose blank prose section was dropped.
    pub fence_lines: Vec<usize>,
    pub warnings: Findings<Warning>,
}

impl Parsed {
    /// The frontmatter after migration and with defaults.
    pub fn frontmatter(&self) -> &Frontmatter {
        &self.document.frontmatter
    }

    /// The sections in the order of the file.
    pub fn sections(&self) -> &[Section] {
        &self.document.sections
    }

    /// Whether the preference phase is on: the written value, or else the presence of preference sections.
    pub fn preference_enabled(&self) -> bool {
        self.document.preference_enabled()
    }
}

impl Document {
    /// Whether the preference phase is on: the written value, or else the presence of preference sections.
    pub fn preference_enabled(&self) -> bool {
        if self.frontmatter.wrote("training.preference.enabled") {
            self.frontmatter.training.preference.enabled
        } else {
            self.frontmatter.training.preference.enabled
                || self
                    .sections
                    .iter()
                    .any(|section| section.kind == SectionKind::Preference)
        }
    }
}

/// Parses a text with the default limits.
///
/// **Errors**: all mistakes of the text, each with its line.
pub fn parse(text: &str) -> Result<Parsed, ParseErrors> {
    parse_with(text, &Limits::default())
}

/// Decodes and parses the bytes of a file.
///
/// **Errors**: `EncodingError` alone when the bytes are not UTF-8, else as [`parse`].
pub fn parse_bytes(bytes: &[u8], limits: &Limits) -> Result<Parsed, ParseErrors> {
    check_document_size(bytes.len(), limits)?;
    parse_with(text::decode(bytes)?, limits)
}

/// Parses a text with given limits.
///
/// **Errors**: as [`parse`].
pub fn parse_with(source: &str, limits: &Limits) -> Result<Parsed, ParseErrors> {
    parse_as(source, limits, IdRule::Required)
}

/// Parses a template: a document that may come without `dlm_id`, because whoever starts one from it gives it an id of its own.
/// One without gets [`NO_ID`].
///
/// **Errors**: as [`parse`].
pub fn parse_template(source: &str, limits: &Limits) -> Result<Parsed, ParseErrors> {
    parse_as(source, limits, IdRule::Optional)
}

/// The id of a template that has none.
pub const NO_ID: &str = "00000000000000000000000000";

/// Whether a document must have an id.
#[derive(Clone, Copy, PartialEq)]
enum IdRule {
    Required,
    Optional,
}

fn parse_as(source: &str, limits: &Limits, id: IdRule) -> Result<Parsed, ParseErrors> {
    check_document_size(source.len(), limits)?;
    let mut warnings = Findings::default();
    let text = text::normalize(source, &mut warnings);
    let layout = text::split(&text).map_err(|error| ParseErrors {
        errors: error.into(),
        warnings: warnings.clone(),
    })?;
    let frontmatter = read_frontmatter(layout.yaml, limits, id, &mut warnings);
    let scan = body::scan(layout.body, layout.body_line, limits);
    warnings.append(scan.warnings);
    warnings.sort_by_key(|warning| warning.line);
    match frontmatter {
        Ok((frontmatter, declared_version)) if scan.errors.is_empty() => Ok(Parsed {
            document: Document {
                frontmatter,
                sections: scan.sections,
            },
            declared_version,
            body_line: layout.body_line,
            fence_lines: scan.fence_lines,
            warnings,
        }),
        frontmatter => {
            let mut errors = frontmatter.err().unwrap_or_default();
            errors.append(scan.errors);
            Err(ParseErrors { errors, warnings })
        }
    }
}

fn check_document_size(bytes: usize, limits: &Limits) -> Result<(), ParseError> {
    if bytes <= limits.document_bytes_max {
        return Ok(());
    }
    let message = format!(
        "document has {bytes} bytes, more than the limit of {}",
        limits.document_bytes_max
    );
    Err(ParseError::new(ErrorClass::Limit, 1, 1, message).with_hint("split the document"))
}

fn read_frontmatter(
    yaml: &str,
    limits: &Limits,
    id: IdRule,
    warnings: &mut Findings<Warning>,
) -> Result<(Frontmatter, u32), Findings<ParseError>> {
    let mut root = read_tree(yaml, limits)?;
    if id == IdRule::Optional {
        root.add_missing("dlm_id", NO_ID);
    }
    let version = migrate::declared_version(&root);
    if let Err(error) = &version
        && error.class == ErrorClass::Version
    {
        // The keys of another version's schema cannot be judged.
        return Err(error.clone().into());
    }
    if let Ok(version) = version {
        migrate::migrate(&mut root, version, warnings);
    }
    match (read::read(&root), version) {
        (Ok(frontmatter), Ok(version)) => Ok((frontmatter, version)),
        (Err(mut problems), version) => {
            if let Err(error) = version {
                problems.append(error.problems);
            }
            Err(problems.into_error().into_iter().collect())
        }
        (Ok(_), Err(error)) => Err(error.into()),
    }
}

/// Parses the YAML down to a tree whose top is a mapping.
pub(crate) fn read_tree(yaml: &str, limits: &Limits) -> Result<Node, Findings<ParseError>> {
    if yaml.len() > limits.frontmatter_bytes_max {
        let message = format!(
            "frontmatter has {} bytes, more than the limit of {}",
            yaml.len(),
            limits.frontmatter_bytes_max
        );
        return Err(ParseError::new(ErrorClass::Limit, 2, 1, message).into());
    }
    let not_a_mapping = |line: usize, what: &str| {
        let message = format!("frontmatter must be a mapping, got {what}");
        let error = ParseError::new(ErrorClass::Frontmatter, line, 1, message);
        Findings::from(error.with_hint("write `key: value` lines between the two `---`"))
    };
    match yaml::parse(yaml, limits)? {
        Some(node) if matches!(node.kind, Kind::Map(_)) => Ok(node),
        Some(node) => Err(not_a_mapping(2, &node.describe())),
        None if yaml.is_empty() => Ok(Node::empty_map()),
        None => Err(not_a_mapping(2, "nothing but blank lines and comments")),
    }
}
