//! YAML text to a tree of nodes with places: the only module that knows the YAML crate.
//!
//! The crate is `saphyr-parser`, not `serde_yaml`: the latter is archived and deprecated by its author, gives no
//! place for a value that is well-formed YAML but wrong for the schema, keeps the last of two equal keys, and follows
//! the 1.2 core schema where documents of the reference follow YAML 1.1 (`yes`, `0x10`, `10_000`). `saphyr-parser`
//! is maintained, safe Rust, and hands out scanner events with line and column, so the meaning of plain scalars
//! (YAML 1.1, as PyYAML resolves them) is decided here.
//!
//! Invariants: nesting depth and alias expansion, in values and in bytes, are bounded; the time is linear in them; a key stands at most once in a mapping; every node
//! knows its line in the file.

mod resolve;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

pub(crate) use resolve::{Meaning, Value, boolean, resolve};

use crate::error::{ErrorClass, ParseError};
use crate::findings::Findings;
use crate::limits::Limits;

/// The YAML text starts on this line of the file.
const FIRST_LINE: usize = 2;

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pos {
    /// 1-based line of the file.
    pub line: usize,
    /// 1-based column in characters.
    pub col: usize,
}

/// One YAML node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub pos: Pos,
    /// Characters of the YAML text that the node spans.
    pub chars: std::ops::Range<usize>,
    pub kind: Kind,
    /// Whether an anchor or alias is involved, so that its text must not be moved about.
    pub is_shared: bool,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar {
        text: String,
        is_plain: bool,
        tag: Option<String>,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Adds a text under a key that a mapping lacks.
    pub fn add_missing(&mut self, key: &str, text: &str) {
        let pos = self.pos;
        let Kind::Map(entries) = &mut self.kind else { return };
        if entries.iter().any(|(known, _)| known.as_key() == Some(key)) {
            return;
        }
        let scalar = |text: &str| Node {
            pos,
            chars: 0..0,
            kind: Kind::Scalar {
                text: text.to_owned(),
                is_plain: false,
                tag: None,
            },
            is_shared: false,
        };
        entries.insert(0, (scalar(key), scalar(text)));
    }

    /// The key text of a scalar that stands as a mapping's key and is a string.
    pub fn as_key(&self) -> Option<&str> {
        match (&self.kind, resolve(self)) {
            (Kind::Scalar { text, .. }, Value::Str(_)) => Some(text),
            _ => None,
        }
    }

    /// What the node is, for messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            Kind::Scalar { text, .. } => match resolve(self) {
                Value::Null => "null".to_owned(),
                Value::Bool(_) => format!("the boolean `{text}`"),
                Value::Int(_) | Value::Float(_) => format!("the number `{text}`"),
                Value::Date => format!("the date `{text}`"),
                Value::Str(_) => format!("the string `{}`", crate::text::quote(text)),
                Value::Composite => "a composite".to_owned(),
            },
        }
    }

    /// A mapping without entries, for an empty frontmatter.
    pub fn empty_map() -> Node {
        Node {
            pos: Pos {
                line: FIRST_LINE,
                col: 1,
            },
            chars: 0..0,
            kind: Kind::Map(Vec::new()),
            is_shared: false,
        }
    }

    fn weight(&self) -> Weight {
        let zero = Weight { values: 0, bytes: 0 };
        let below = match &self.kind {
            Kind::Scalar { text, .. } => Weight {
                values: 0,
                bytes: text.len(),
            },
            Kind::List(items) => items.iter().map(Node::weight).fold(zero, Weight::plus),
            Kind::Map(entries) => {
                let nodes = entries.iter().flat_map(|(key, value)| [key, value]);
                nodes.map(Node::weight).fold(zero, Weight::plus)
            }
        };
        below.plus(Weight { values: 1, bytes: 0 })
    }
}

/// How much a node holds, with all that is below it.
#[derive(Clone, Copy, Debug)]
struct Weight {
    values: usize,
    bytes: usize,
}

impl Weight {
    fn plus(self, other: Self) -> Self {
        Weight {
            values: self.values.saturating_add(other.values),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// Parses the frontmatter's YAML; `None` when it holds no node at all.
///
/// **Errors**: every error is a `FrontmatterError`; duplicate keys are all reported, a syntax error ends the reading.
pub(crate) fn parse(yaml: &str, limits: &Limits) -> Result<Option<Node>, Findings<ParseError>> {
    if let Some(error) = first_forbidden_char(yaml) {
        return Err(error.into());
    }
    let mut builder = Builder {
        parser: Parser::new_from_str(yaml),
        anchors: HashMap::new(),
        weight: Weight { values: 0, bytes: 0 },
        limits,
        errors: Findings::default(),
    };
    match builder.document() {
        Ok(node) if builder.errors.is_empty() => Ok(node),
        Ok(_) => Err(builder.errors),
        Err(error) => {
            builder.errors.push(at_the_tab(error, yaml));
            Err(builder.errors)
        }
    }
}

fn syntax_error(pos: Pos, reason: &str) -> ParseError {
    ParseError::new(
        ErrorClass::Frontmatter,
        pos.line,
        pos.col,
        format!("invalid YAML: {reason}"),
    )
}

/// YAML allows no control characters but tab and line ends.
fn first_forbidden_char(yaml: &str) -> Option<ParseError> {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    for (index, line) in yaml.split('\n').enumerate() {
        if let Some(column) = line.chars().position(|c| !allowed(c)) {
            let code = line.chars().nth(column).map(u32::from).unwrap_or_default();
            let pos = Pos {
                line: index + FIRST_LINE,
                col: column + 1,
            };
            return Some(syntax_error(pos, &format!("character U+{code:04X} is not allowed")));
        }
    }
    None
}

/// The scanner reports a tab that indents at the start of the text before it; this finds the tab.
fn at_the_tab(error: ParseError, yaml: &str) -> ParseError {
    if !error.message.contains("tab") {
        return error;
    }
    let indenting_tab = |line: &str| {
        line.chars()
            .take_while(|c| matches!(c, ' ' | '\t'))
            .position(|c| c == '\t')
    };
    let lines = yaml.split('\n').enumerate().skip(error.line - FIRST_LINE);
    match lines
        .filter_map(|(index, line)| indenting_tab(line).map(|column| (index, column)))
        .next()
    {
        Some((index, column)) => {
            let pos = Pos {
                line: index + FIRST_LINE,
                col: column + 1,
            };
            syntax_error(pos, "a tab cannot indent").with_hint("indent with spaces")
        }
        None => error,
    }
}

fn place(span: Span) -> Pos {
    Pos {
        line: span.start.line() + FIRST_LINE - 1,
        col: span.start.col() + 1,
    }
}

fn scan_error(error: &ScanError) -> ParseError {
    let mark = error.marker();
    syntax_error(
        Pos {
            line: mark.line() + FIRST_LINE - 1,
            col: mark.col() + 1,
        },
        error.info(),
    )
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    weight: Weight,
    limits: &'a Limits,
    errors: Findings<ParseError>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), ParseError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, ParseError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::Nothing | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(syntax_error(
                        place(span),
                        "expected a single document, found the start of another",
                    ));
                }
                Event::DocumentStart(_) => {
                    let first = self.next()?;
                    root = Some(self.node(first, 0)?);
                }
                _ => return Err(syntax_error(place(span), "content outside a document")),
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, ParseError> {
        let pos = place(span);
        self.count(Weight { values: 1, bytes: 0 }, pos)?;
        let deepest = self.limits.yaml_depth_max;
        if depth > deepest {
            return Err(syntax_error(pos, &format!("nested deeper than {deepest} levels")));
        }
        let (kind, anchor, end) = match event {
            Event::Alias(id) => {
                let incomplete = || syntax_error(pos, "an alias refers to an anchor that is not complete");
                let weight = self.anchors.get(&id).ok_or_else(incomplete)?.weight();
                // Counted before it is copied.
                self.count(weight, pos)?;
                let mut node = self.anchors.get(&id).cloned().ok_or_else(incomplete)?;
                node.is_shared = true;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let bytes = text.len();
                self.count(Weight { values: 0, bytes }, pos)?;
                let tag = tag.map(|tag| tag.to_string());
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    is_plain: style == ScalarStyle::Plain,
                    tag,
                };
                (kind, anchor, span.end.index())
            }
            Event::SequenceStart(anchor, _) => {
                let (items, end) = self.list(depth)?;
                (Kind::List(items), anchor, end)
            }
            Event::MappingStart(anchor, _) => {
                let (entries, end) = self.map(depth)?;
                (Kind::Map(entries), anchor, end)
            }
            _ => return Err(syntax_error(pos, "expected a value")),
        };
        let node = Node {
            pos,
            chars: span.start.index()..end,
            kind,
            is_shared: anchor > 0,
        };
        if let Some(error) = resolve::bad_tag(&node) {
            return Err(syntax_error(pos, &error));
        }
        if anchor > 0 {
            self.count(node.weight(), pos)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, weight: Weight, pos: Pos) -> Result<(), ParseError> {
        self.weight = self.weight.plus(weight);
        let (values, bytes) = (self.limits.yaml_values_max, self.limits.yaml_bytes_max);
        let passed = match self.weight {
            weight if weight.values > values => format!("{values} values"),
            weight if weight.bytes > bytes => format!("{bytes} bytes of text"),
            _ => return Ok(()),
        };
        let reason = format!("more than {passed} after aliases were expanded");
        Err(syntax_error(pos, &reason).with_hint("write out what is needed instead of repeating it with `*`"))
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, usize), ParseError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, span.end.index())),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<(Node, Node)>, usize), ParseError> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut lines = HashMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                self.merge(&mut entries, &mut lines, merges)?;
                return Ok((entries, span.end.index()));
            }
            let key = self.node((event, span), depth + 1)?;
            let first = self.next()?;
            let value = self.node(first, depth + 1)?;
            match &key.kind {
                Kind::Scalar {
                    text, is_plain: true, ..
                } if text == "<<" => merges.push((key, value)),
                Kind::Scalar { text, .. } => {
                    let line = *lines.entry(Meaning::of(&key)).or_insert(key.pos);
                    if line != key.pos {
                        let first = line.line;
                        let message = format!("key `{text}` is written twice, first on line {first}");
                        let error = ParseError::new(ErrorClass::Frontmatter, key.pos.line, key.pos.col, message);
                        self.errors
                            .push(error.with_hint(format!("keep one of the two `{text}` lines")));
                    }
                    entries.push((key, value));
                }
                _ => return Err(syntax_error(key.pos, "a list or mapping cannot be a key")),
            }
        }
    }

    /// Adds the entries of merge keys: the mapping's own keys win, then earlier merged mappings.
    fn merge(
        &mut self,
        entries: &mut Vec<(Node, Node)>,
        lines: &mut HashMap<Meaning, Pos>,
        merges: Vec<(Node, Node)>,
    ) -> Result<(), ParseError> {
        for (key, value) in merges {
            let sources = match value.kind {
                Kind::List(items) => items,
                _ => vec![value],
            };
            for source in sources {
                let Kind::Map(merged) = source.kind else {
                    return Err(syntax_error(
                        key.pos,
                        "expected a mapping or a list of mappings to merge",
                    ));
                };
                for (key, value) in merged {
                    if let Slot::Vacant(slot) = lines.entry(Meaning::of(&key)) {
                        slot.insert(key.pos);
                        entries.push((key, value));
                    }
                }
            }
        }
        Ok(())
    }
}
