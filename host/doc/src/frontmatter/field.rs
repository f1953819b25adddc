//! Reading one key of a mapping: types, ranges, and the exact words of what was expected.
//!
//! Invariants: a wrong value is reported at its key and replaced by the default, so that every later key is still
//! checked; a key that nobody took is unknown and reported.

use std::ops::RangeInclusive;

use dlm_core::Choice;
use dlm_core::nearest::distance;
use dlm_core::training::Auto;

use super::WrittenKeys;
use super::problems::Problems;
use crate::error::Problem;
use crate::yaml::{Kind, Node, Pos, Value, resolve};

/// What the reading of the whole frontmatter collects.
#[derive(Default)]
pub(crate) struct Report {
    pub problems: Problems,
    pub written: WrittenKeys,
}

/// One mapping while its keys are being taken.
pub(crate) struct Block<'n> {
    /// Dotted path of the mapping, empty at the top.
    path: String,
    /// Where missing keys are reported.
    pub pos: Pos,
    /// False when something else stood where the mapping was expected, which was reported.
    pub is_mapping: bool,
    entries: Vec<(&'n str, &'n Node, &'n Node)>,
    /// Keys asked for so far, for the suggestion on an unknown one.
    known: Vec<&'static str>,
}

/// A key that is present.
pub(crate) struct Entry<'n> {
    pub path: String,
    pub pos: Pos,
    pub value: &'n Node,
}

impl<'n> Block<'n> {
    /// Opens a mapping; a non-mapping is reported and read as empty.
    pub fn open(path: String, pos: Pos, node: &'n Node, report: &mut Report) -> Self {
        let mut entries = Vec::new();
        match &node.kind {
            Kind::Map(pairs) => {
                for (key, value) in pairs {
                    match key.as_key() {
                        Some(name) => entries.push((name, key, value)),
                        None => {
                            let Kind::Scalar { text, .. } = &key.kind else { continue };
                            let found = key.describe();
                            let message = format!("key must be a string, found {found}");
                            let hint = Some(format!("put the key in quotes: \"{text}\""));
                            report
                                .problems
                                .push_with_hint(join(&path, text), key.pos, message, hint);
                        }
                    }
                }
            }
            _ => report.problems.push(
                path.clone(),
                pos,
                format!("expected a mapping, found {}", node.describe()),
            ),
        }
        Block {
            path,
            pos,
            is_mapping: matches!(node.kind, Kind::Map(_)),
            entries,
            known: Vec::new(),
        }
    }

    /// An absent mapping.
    pub fn empty(path: String, pos: Pos) -> Self {
        Block {
            path,
            pos,
            is_mapping: true,
            entries: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Takes a key out and notes that it was written.
    pub fn take(&mut self, key: &'static str, report: &mut Report) -> Option<Entry<'n>> {
        let entry = self.remove(key)?;
        report.written.insert(entry.path.clone());
        Some(entry)
    }

    fn remove(&mut self, key: &'static str) -> Option<Entry<'n>> {
        self.known.push(key);
        let at = self.entries.iter().position(|(name, ..)| *name == key)?;
        let (name, key, value) = self.entries.remove(at);
        Some(Entry {
            path: join(&self.path, name),
            pos: key.pos,
            value,
        })
    }

    /// Takes a key that is itself a mapping; only the keys inside count as written.
    pub fn block(&mut self, key: &'static str, report: &mut Report) -> Block<'n> {
        match self.remove(key) {
            Some(entry) => Block::open(entry.path, entry.pos, entry.value, report),
            None => Block::empty(join(&self.path, key), self.pos),
        }
    }

    /// Takes every remaining key, for mappings whose keys are names of the author's.
    pub fn take_all(&mut self) -> Vec<(&'n str, Entry<'n>)> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(name, key, value)| {
                (
                    name,
                    Entry {
                        path: join(&self.path, name),
                        pos: key.pos,
                        value,
                    },
                )
            })
            .collect()
    }

    /// Place of a key that was not taken yet.
    pub fn place(&self, key: &str) -> Option<Pos> {
        self.entries
            .iter()
            .find(|(name, ..)| *name == key)
            .map(|(_, key, _)| key.pos)
    }

    /// Reports what was not taken.
    pub fn finish(mut self, report: &mut Report) {
        for (name, key, _) in std::mem::take(&mut self.entries) {
            // A hostile file has more of them than could be compared with the known ones.
            report.problems.push_made(|| {
                let near = nearest(name, self.known.iter().copied());
                Problem {
                    path: join(&self.path, name),
                    line: key.pos.line,
                    col: key.pos.col,
                    message: match near {
                        Some(near) => format!("unknown key, did you mean `{near}`?"),
                        None => "unknown key".to_owned(),
                    },
                    hint: near.map(|near| format!("write `{near}` instead of `{name}`")),
                }
            });
        }
    }

    fn reject(&self, entry: &Entry<'_>, expected: &str, report: &mut Report) {
        let message = format!("expected {expected}, found {}", entry.value.describe());
        report.problems.push(entry.path.clone(), entry.pos, message);
    }

    /// A string. A plain number or date is refused, as it would not read back as the same string.
    pub fn string(&mut self, key: &'static str, report: &mut Report) -> Option<(String, Pos)> {
        let entry = self.take(key, report)?;
        match resolve(entry.value) {
            Value::Str(text) => Some((text, entry.pos)),
            other => {
                let message = format!("expected a string, found {}", entry.value.describe());
                let hint = match (&other, &entry.value.kind) {
                    (Value::Composite | Value::Null, _) | (_, Kind::List(_) | Kind::Map(_)) => None,
                    (_, Kind::Scalar { text, .. }) => Some(format!("put the value in quotes: {key}: \"{text}\"")),
                };
                report.problems.push_with_hint(entry.path, entry.pos, message, hint);
                None
            }
        }
    }

    /// A string or null.
    pub fn string_or_null(&mut self, key: &'static str, report: &mut Report) -> Option<String> {
        if self.is_null(key) {
            self.take(key, report);
            return None;
        }
        self.string(key, report).map(|(text, _)| text)
    }

    fn is_null(&self, key: &str) -> bool {
        self.entries
            .iter()
            .any(|(name, _, value)| *name == key && resolve(value) == Value::Null)
    }

    /// An integer within a range.
    pub fn int(&mut self, key: &'static str, range: RangeInclusive<i128>, default: i128, report: &mut Report) -> i128 {
        let Some(entry) = self.take(key, report) else {
            return default;
        };
        match as_int(entry.value).filter(|value| range.contains(value)) {
            Some(value) => value,
            None => {
                self.reject(&entry, &format!("an integer {}", int_range(&range)), report);
                default
            }
        }
    }

    /// An integer within a range, or null.
    pub fn int_or_null(&mut self, key: &'static str, range: RangeInclusive<i128>, report: &mut Report) -> Option<i128> {
        let entry = self.take(key, report)?;
        if resolve(entry.value) == Value::Null {
            return None;
        }
        let value = as_int(entry.value).filter(|value| range.contains(value));
        if value.is_none() {
            self.reject(&entry, &format!("an integer {} or null", int_range(&range)), report);
        }
        value
    }

    /// `auto` or an integer of at least 1.
    pub fn auto_or_int(&mut self, key: &'static str, report: &mut Report) -> Auto {
        let Some(entry) = self.take(key, report) else {
            return Auto::Auto;
        };
        if resolve(entry.value) == Value::Str("auto".to_owned()) {
            return Auto::Auto;
        }
        match as_int(entry.value)
            .and_then(|value| u32::try_from(value).ok())
            .filter(|value| *value >= 1)
        {
            Some(value) => Auto::Given(value),
            None => {
                self.reject(&entry, "`auto` or an integer >= 1", report);
                Auto::Auto
            }
        }
    }

    /// A finite number for which `range` holds.
    pub fn real(&mut self, key: &'static str, range: &RealRange, default: f64, report: &mut Report) -> f64 {
        let Some(entry) = self.take(key, report) else {
            return default;
        };
        match as_real(entry.value).filter(|value| range.holds(*value)) {
            Some(value) => value,
            None => {
                self.reject(&entry, range.words, report);
                default
            }
        }
    }

    /// As [`Block::real`], or null.
    pub fn real_or_null(&mut self, key: &'static str, range: &RealRange, report: &mut Report) -> Option<f64> {
        if self.is_null(key) {
            self.take(key, report);
            return None;
        }
        let entry = self.take(key, report)?;
        let value = as_real(entry.value).filter(|value| range.holds(*value));
        if value.is_none() {
            self.reject(&entry, &format!("{} or null", range.words), report);
        }
        value
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &'static str, default: bool, report: &mut Report) -> bool {
        let Some(entry) = self.take(key, report) else {
            return default;
        };
        let value = match resolve(entry.value) {
            Value::Bool(value) => Some(value),
            Value::Int(value @ 0..=1) => Some(value == 1),
            Value::Str(text) => crate::yaml::boolean(&text),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.reject(&entry, "`true` or `false`", report);
            default
        })
    }

    /// One word of a closed set.
    pub fn choice<C: Choice>(&mut self, key: &'static str, default: C, report: &mut Report) -> C {
        self.choice_among(key, C::TABLE, default, report)
    }

    /// One word of a part of a closed set.
    pub fn choice_among<C: Choice>(
        &mut self,
        key: &'static str,
        table: &[(&'static str, C)],
        default: C,
        report: &mut Report,
    ) -> C {
        let Some(entry) = self.take(key, report) else {
            return default;
        };
        choice_of(&entry, table, report).unwrap_or(default)
    }

    /// One word of a closed set, or null.
    pub fn choice_or_null<C: Choice>(&mut self, key: &'static str, report: &mut Report) -> Option<C> {
        let entry = self.take(key, report)?;
        if resolve(entry.value) == Value::Null {
            return None;
        }
        choice_of(&entry, C::TABLE, report)
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &'static str, default: &[&str], report: &mut Report) -> Vec<String> {
        match self.take(key, report) {
            None => default.iter().map(|text| (*text).to_owned()).collect(),
            Some(entry) => strings_of(&entry, "a list of strings", report),
        }
    }
}

/// Reads a list of strings out of an entry; anything else is reported as not being `expected`.
pub(crate) fn strings_of(entry: &Entry<'_>, expected: &str, report: &mut Report) -> Vec<String> {
    let Kind::List(items) = &entry.value.kind else {
        let message = format!("expected {expected}, found {}", entry.value.describe());
        report.problems.push(entry.path.clone(), entry.pos, message);
        return Vec::new();
    };
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match resolve(item) {
            Value::Str(text) => texts.push(text),
            _ => {
                let message = format!("expected a string, found {}", item.describe());
                report
                    .problems
                    .push(format!("{}.{index}", entry.path), item.pos, message);
            }
        }
    }
    texts
}

fn choice_of<C: Choice>(entry: &Entry<'_>, table: &[(&'static str, C)], report: &mut Report) -> Option<C> {
    let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
    if let Value::Str(text) = resolve(entry.value) {
        if let Some((_, value)) = table.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let near = nearest(&text, words.iter().copied());
        let suggestion = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
        let message = format!(
            "expected one of {}, found `{}`{suggestion}",
            list(&words),
            crate::text::quote(&text)
        );
        report.problems.push(entry.path.clone(), entry.pos, message);
        return None;
    }
    let message = format!("expected one of {}, found {}", list(&words), entry.value.describe());
    report.problems.push(entry.path.clone(), entry.pos, message);
    None
}

fn list(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Joins a dotted path.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A condition on a real number, with the words that name it.
pub(crate) struct RealRange {
    pub words: &'static str,
    pub holds: fn(f64) -> bool,
}

impl RealRange {
    fn holds(&self, value: f64) -> bool {
        value.is_finite() && (self.holds)(value)
    }
}

fn int_range(range: &RangeInclusive<i128>) -> String {
    match (*range.start(), *range.end()) {
        (low, high) if low <= i128::from(i64::MIN) && high >= i128::from(i64::MAX) => "of 64 bits".to_owned(),
        (low, high) if high >= i128::from(u32::MAX) => format!(">= {low}"),
        (low, high) => format!("from {low} to {high}"),
    }
}

/// An integer, also from a whole float or the string of either, never from a boolean.
pub(crate) fn as_int(node: &Node) -> Option<i128> {
    match resolve(node) {
        Value::Int(value) => Some(value),
        Value::Float(value) => whole(value),
        Value::Str(text) => {
            let clean = number_text(&text)?;
            clean.parse::<i128>().ok().or_else(|| {
                clean
                    .parse::<f64>()
                    .ok()
                    .filter(|_| !clean.contains(['e', 'E']))
                    .and_then(whole)
            })
        }
        _ => None,
    }
}

/// A number from an integer, a float or the string of either, never from a boolean.
fn as_real(node: &Node) -> Option<f64> {
    match resolve(node) {
        Value::Int(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        Value::Str(text) => number_text(&text)?.parse().ok(),
        _ => None,
    }
}

fn whole(value: f64) -> Option<i128> {
    (value.is_finite() && value.fract() == 0.0 && value.abs() < 1e18).then_some(value as i128)
}

/// The digits of a number written as a string; underscores may stand between digits.
fn number_text(text: &str) -> Option<String> {
    let text = text.trim();
    let shape = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E' | '_'));
    let bytes = text.as_bytes();
    let underscores = bytes.iter().enumerate().filter(|(_, b)| **b == b'_').all(|(index, _)| {
        index > 0 && bytes[index - 1].is_ascii_digit() && bytes.get(index + 1).is_some_and(u8::is_ascii_digit)
    });
    let has_digit = bytes.iter().any(u8::is_ascii_digit);
    (shape && underscores && has_digit).then(|| text.replace('_', ""))
}

/// Says whether every part of a word (between underscores or hyphens) is one of the candidate's: `adamw_8bit` of `adamw_bnb_8bit`.
fn has_parts_of(candidate: &str, word: &str) -> bool {
    let parts = |word: &str| word.split(['_', '-']).map(str::to_owned).collect::<Vec<_>>();
    let (known, asked) = (parts(&candidate.to_lowercase()), parts(word));
    asked.len() > 1 && asked.iter().all(|part| known.contains(part))
}

/// The closest of the known words, if it is close enough to be meant.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.chars().count() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.chars().count() / 5 || has_parts_of(candidate, &lower)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
