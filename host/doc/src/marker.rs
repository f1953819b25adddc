//! Provenance markers: comment lines directly under a fence that say which tool made the section.
//!
//! Invariants: a marker is a whole line; reading what [`write`] made gives the same records; a value that cannot be
//! written is refused, never altered.

use dlm_core::{AutoMined, AutoSynth, SectionKind};

use crate::fence::attributes;

const HARVEST: &str = "<!-- dlm-auto-harvest: source=\"";
const MINED: &str = "<!-- dlm-auto-mined:";
const SYNTH: &str = "<!-- dlm-auto-synth:";
const END: &str = " -->";
/// Lines that start so are reserved for tools.
pub(crate) const RESERVED: &str = "<!-- dlm-";

const MINED_KEYS: &[&str] = &[
    "judge_name",
    "judge_score_chosen",
    "judge_score_rejected",
    "mined_at",
    "mined_run_id",
];
const SYNTH_KEYS: &[&str] = &["synth_teacher", "synth_strategy", "synth_at", "source_section_id"];

/// The rule of a provenance marker.
pub struct MarkerRule {
    pub name: &'static str,
    /// Section types that it is read in.
    pub kinds: &'static [SectionKind],
    /// Attributes, all of them required, in the order in which they are written.
    pub keys: &'static [&'static str],
}

/// Every marker, for the page about the grammar.
pub(crate) fn rules() -> [MarkerRule; 3] {
    use SectionKind::{Instruction, Preference};
    [
        MarkerRule {
            name: "dlm-auto-harvest",
            kinds: &[Instruction, Preference],
            keys: &["source"],
        },
        MarkerRule {
            name: "dlm-auto-mined",
            kinds: &[Preference],
            keys: MINED_KEYS,
        },
        MarkerRule {
            name: "dlm-auto-synth",
            kinds: &[Instruction],
            keys: SYNTH_KEYS,
        },
    ]
}

/// A marker that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Marker {
    Harvest(String),
    Mined(AutoMined),
    Synth(AutoSynth),
}

/// What is wrong with a marker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    #[error(
        "invalid syntax of marker `{marker}`, expected `key=\"value\"` pairs: {}",
        quoted(allowed)
    )]
    Syntax {
        marker: &'static str,
        allowed: &'static [&'static str],
    },
    #[error("attribute `{key}` is repeated in marker `{marker}`")]
    Repeated { marker: &'static str, key: String },
    #[error("unknown attribute `{key}` in marker `{marker}` (required: {})", quoted(allowed))]
    Unknown {
        marker: &'static str,
        key: String,
        allowed: &'static [&'static str],
    },
    #[error("marker `{marker}` lacks {} (required: {})", quoted(keys), quoted(allowed))]
    Missing {
        marker: &'static str,
        keys: Vec<&'static str>,
        allowed: &'static [&'static str],
    },
    #[error("attribute `{key}` of marker `{marker}` must be {rule}, found `{value}`")]
    Value {
        marker: &'static str,
        key: &'static str,
        rule: &'static str,
        value: String,
    },
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads a line as a marker of a section of this type; `None` when it is content.
pub(crate) fn read(line: &str, kind: SectionKind) -> Option<Result<Marker, MarkerError>> {
    if !matches!(kind, SectionKind::Instruction | SectionKind::Preference) {
        return None;
    }
    if let Some(rest) = line.strip_prefix(HARVEST) {
        let source = rest.strip_suffix(END)?.strip_suffix('"')?;
        return (!source.contains('"')).then(|| Ok(Marker::Harvest(source.to_owned())));
    }
    match kind {
        SectionKind::Preference => between(line, MINED).map(|middle| mined(middle).map(Marker::Mined)),
        _ => between(line, SYNTH).map(|middle| synth(middle).map(Marker::Synth)),
    }
}

fn between<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.strip_prefix(prefix)?.strip_suffix(END)
}

/// Reads the attributes of a marker; every allowed key exactly once.
fn values<'a>(
    marker: &'static str,
    middle: &'a str,
    allowed: &'static [&'static str],
) -> Result<Vec<&'a str>, MarkerError> {
    let (pairs, rest) = attributes(middle);
    if pairs.is_empty() || !rest.is_empty() {
        return Err(MarkerError::Syntax { marker, allowed });
    }
    let mut found: Vec<Option<&str>> = vec![None; allowed.len()];
    for (key, value) in pairs {
        let Some(at) = allowed.iter().position(|known| *known == key) else {
            return Err(MarkerError::Unknown {
                marker,
                key: key.to_owned(),
                allowed,
            });
        };
        if found[at].replace(value).is_some() {
            return Err(MarkerError::Repeated {
                marker,
                key: key.to_owned(),
            });
        }
    }
    let missing: Vec<&'static str> = allowed
        .iter()
        .zip(&found)
        .filter(|(_, value)| value.is_none())
        .map(|(key, _)| *key)
        .collect();
    if !missing.is_empty() {
        return Err(MarkerError::Missing {
            marker,
            keys: missing,
            allowed,
        });
    }
    Ok(found.into_iter().flatten().collect())
}

fn mined(middle: &str) -> Result<AutoMined, MarkerError> {
    const MARKER: &str = "dlm-auto-mined";
    let values = values(MARKER, middle, MINED_KEYS)?;
    let bad = |at: usize, rule| MarkerError::Value {
        marker: MARKER,
        key: MINED_KEYS[at],
        rule,
        value: values[at].to_owned(),
    };
    let score = |at: usize| decimal(values[at]).ok_or_else(|| bad(at, "a finite decimal number"));
    let mined = AutoMined {
        judge_name: values[0].to_owned(),
        judge_score_chosen: score(1)?,
        judge_score_rejected: score(2)?,
        mined_at: values[3].to_owned(),
        mined_run_id: run_id(values[4]).ok_or_else(|| bad(4, "a decimal integer >= 1"))?,
    };
    if !is_iso_8601(&mined.mined_at) {
        return Err(bad(3, ISO_RULE));
    }
    Ok(mined)
}

fn synth(middle: &str) -> Result<AutoSynth, MarkerError> {
    const MARKER: &str = "dlm-auto-synth";
    let values = values(MARKER, middle, SYNTH_KEYS)?;
    let bad = |at: usize, rule| MarkerError::Value {
        marker: MARKER,
        key: SYNTH_KEYS[at],
        rule,
        value: values[at].to_owned(),
    };
    for at in [0, 1] {
        if values[at].is_empty() {
            return Err(bad(at, "not empty"));
        }
    }
    if !is_iso_8601(values[2]) {
        return Err(bad(2, ISO_RULE));
    }
    Ok(AutoSynth {
        synth_teacher: values[0].to_owned(),
        synth_strategy: values[1].to_owned(),
        synth_at: values[2].to_owned(),
        source_section_id: values[3].parse().map_err(|_| bad(3, "16 lower-case hex digits"))?,
    })
}

fn decimal(text: &str) -> Option<f64> {
    let shape = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|value| shape && value.is_finite())
}

fn run_id(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id >= 1)
}

const ISO_RULE: &str = "an ISO-8601 date or date-time";

/// Checks `YYYY-MM-DD` or `YYYYMMDD`, alone or with a time and perhaps `Z` or an offset.
pub(crate) fn is_iso_8601(text: &str) -> bool {
    if !text.is_ascii() {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    is_date(date) && time.is_none_or(is_time)
}

fn is_date(text: &str) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let shaped = (text.len() == 8 && digits.len() == 8)
        || (text.len() == 10 && digits.len() == 8 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-');
    if !shaped || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let number = |from: usize, to: usize| digits[from..to].parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 31,
    };
    year >= 1 && (1..=12).contains(&month) && (1..=days).contains(&day)
}

fn is_time(text: &str) -> bool {
    let (clock, offset) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    let (clock, fraction) = match clock.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let good_fraction = fraction.is_none_or(|f| {
        !f.is_empty() && f.len() <= 9 && f.bytes().all(|b| b.is_ascii_digit()) && two_digit_groups(clock).len() == 3
    });
    let good_offset = match offset {
        None | Some("Z" | "z") => true,
        Some(offset) => is_clock(&offset[1..]),
    };
    is_clock(clock) && good_fraction && good_offset
}

/// `HH`, `HH:MM`, `HHMM`, `HH:MM:SS` or `HHMMSS` within range.
fn is_clock(text: &str) -> bool {
    let groups = two_digit_groups(text);
    let limits = [24, 60, 60];
    !groups.is_empty() && groups.iter().zip(limits).all(|(value, limit)| *value < limit)
}

/// Splits at colons or every two digits; empty when the text is neither.
fn two_digit_groups(text: &str) -> Vec<u32> {
    let parts: Vec<&str> = if text.contains(':') {
        text.split(':').collect()
    } else if text.len().is_multiple_of(2) {
        (0..text.len() / 2).map(|i| &text[2 * i..2 * i + 2]).collect()
    } else {
        return Vec::new();
    };
    let good = parts.len() <= 3
        && parts
            .iter()
            .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_digit()));
    if good {
        parts.iter().filter_map(|p| p.parse().ok()).collect()
    } else {
        Vec::new()
    }
}

/// Characters of a tool's name that a marker or a comment cannot hold, with their codes.
const NAME_CODES: [(&str, &str); 5] = [
    // First on the way in and last on the way out, or the codes of the others would be read twice.
    ("%", "%25"),
    ("\"", "%22"),
    ("\n", "%0A"),
    ("\r", "%0D"),
    ("--", "%2D%2D"),
];

/// Writes the name of a judge or teacher so that every marker holds it: `"`, `%`, line ends and `--` become `%` codes.
pub fn encode_name(name: &str) -> String {
    NAME_CODES
        .iter()
        .fold(name.to_owned(), |name, (plain, code)| name.replace(plain, code))
}

/// Reads a name back for display; a name that was never encoded stays as it is.
pub fn decode_name(name: &str) -> String {
    NAME_CODES
        .iter()
        .rev()
        .fold(name.to_owned(), |name, (plain, code)| name.replace(code, plain))
}

/// A value that no marker can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerWriteError {
    #[error("`{key}` of marker `{marker}` cannot hold a quotation mark or a line end, found {value:?}")]
    Character {
        marker: &'static str,
        key: &'static str,
        value: String,
    },
    #[error("marker `{marker}` would not read back: {source}")]
    Rule { marker: &'static str, source: MarkerError },
    #[error("marker `{marker}` does not belong in a section of type `{kind}`")]
    Place { marker: &'static str, kind: SectionKind },
}

/// Writes the marker lines of a section, without line ends.
///
/// **Errors**: a value with `"` or a line end, a value that reading would refuse, a marker in the wrong type.
pub(crate) fn write(
    kind: SectionKind,
    harvest: Option<&str>,
    mined_by: Option<&AutoMined>,
    synth_by: Option<&AutoSynth>,
) -> Result<Vec<String>, MarkerWriteError> {
    let mut lines = Vec::new();
    if let Some(source) = harvest {
        let marker = "dlm-auto-harvest";
        let in_place = matches!(kind, SectionKind::Instruction | SectionKind::Preference);
        lines.push(line(marker, kind, in_place, &[("source", source.to_owned())])?);
    }
    if let Some(m) = mined_by {
        let pairs = [
            ("judge_name", m.judge_name.clone()),
            ("judge_score_chosen", float(m.judge_score_chosen)),
            ("judge_score_rejected", float(m.judge_score_rejected)),
            ("mined_at", m.mined_at.clone()),
            ("mined_run_id", m.mined_run_id.to_string()),
        ];
        lines.push(line("dlm-auto-mined", kind, kind == SectionKind::Preference, &pairs)?);
    }
    if let Some(s) = synth_by {
        let pairs = [
            ("synth_teacher", s.synth_teacher.clone()),
            ("synth_strategy", s.synth_strategy.clone()),
            ("synth_at", s.synth_at.clone()),
            ("source_section_id", s.source_section_id.to_string()),
        ];
        lines.push(line("dlm-auto-synth", kind, kind == SectionKind::Instruction, &pairs)?);
    }
    Ok(lines)
}

fn line(
    marker: &'static str,
    kind: SectionKind,
    in_place: bool,
    pairs: &[(&'static str, String)],
) -> Result<String, MarkerWriteError> {
    if !in_place {
        return Err(MarkerWriteError::Place { marker, kind });
    }
    let mut line = format!("<!-- {marker}:");
    for (key, value) in pairs {
        if value.contains(['"', '\n', '\r']) {
            return Err(MarkerWriteError::Character {
                marker,
                key,
                value: value.clone(),
            });
        }
        line.push_str(&format!(" {key}=\"{value}\""));
    }
    line.push_str(END);
    match read(&line, kind) {
        Some(Err(source)) => Err(MarkerWriteError::Rule { marker, source }),
        _ => Ok(line),
    }
}

/// Shortest form that reads back the same, as Python prints it: `0.75`, `0.0`, `1e-07`, `1e+16`.
fn float(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
#[path = "marker/tests.rs"]
mod tests;
