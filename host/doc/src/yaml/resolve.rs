//! What a plain scalar means: the rules of YAML 1.1 as PyYAML applies them, so that documents read the same here.

use super::{Kind, Node};

/// The meaning of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Out-of-range integers are clamped; every range of the schema excludes the ends.
    Int(i128),
    Float(f64),
    Date,
    Str(String),
    /// A list or a mapping.
    Composite,
}

/// What makes two keys equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i128),
    /// By its bits, so that a number which is none equals itself.
    Float(u64),
    /// A string, or a date as it is written.
    Text(String),
    Composite,
}

impl Meaning {
    /// What a node means where it is a key.
    pub fn of(node: &Node) -> Self {
        match (resolve(node), &node.kind) {
            (Value::Null, _) => Meaning::Null,
            (Value::Bool(is), _) => Meaning::Bool(is),
            (Value::Int(number), _) => Meaning::Int(number),
            // Both zeros are one number.
            (Value::Float(number), _) => Meaning::Float((number + 0.0).to_bits()),
            (Value::Str(text), _) => Meaning::Text(text),
            (Value::Date, Kind::Scalar { text, .. }) => Meaning::Text(text.clone()),
            (Value::Date | Value::Composite, _) => Meaning::Composite,
        }
    }
}

/// Decides what a node means.
pub(crate) fn resolve(node: &Node) -> Value {
    let Kind::Scalar { text, is_plain, tag } = &node.kind else {
        return Value::Composite;
    };
    match tag.as_deref().and_then(core_tag) {
        Some("str") => Value::Str(text.clone()),
        Some("null") => Value::Null,
        Some("bool") => boolean(text).map_or_else(|| Value::Str(text.clone()), Value::Bool),
        Some("int") => integer(text).map_or_else(|| Value::Str(text.clone()), Value::Int),
        Some("float") => real(text)
            .or_else(|| text.parse().ok())
            .map_or_else(|| Value::Str(text.clone()), Value::Float),
        _ if *is_plain => plain(text),
        _ => Value::Str(text.clone()),
    }
}

/// Says what is wrong with a node's tag: only the tags of the core schema carry over.
pub(super) fn bad_tag(node: &Node) -> Option<String> {
    let Kind::Scalar { tag: Some(tag), .. } = &node.kind else {
        return None;
    };
    match core_tag(tag) {
        Some("str" | "null" | "bool" | "int" | "float") => None,
        _ if tag == "!" => None,
        _ => Some(format!("tag `{tag}` is not supported")),
    }
}

fn core_tag(tag: &str) -> Option<&str> {
    tag.strip_prefix("tag:yaml.org,2002:")
        .or_else(|| tag.strip_prefix("!!"))
}

fn plain(text: &str) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(value) = boolean(text) {
        return Value::Bool(value);
    }
    if let Some(value) = integer(text) {
        return Value::Int(value);
    }
    if let Some(value) = real(text) {
        return Value::Float(value);
    }
    if is_date(text) {
        Value::Date
    } else {
        Value::Str(text.to_owned())
    }
}

/// The eleven words of YAML 1.1 that PyYAML takes as booleans, each in lower, upper and title case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let title = || {
        let (head, tail) = text.split_at(1);
        head == head.to_ascii_uppercase() && tail == tail.to_ascii_lowercase()
    };
    let value = match lower.as_str() {
        "yes" | "true" | "on" => true,
        "no" | "false" | "off" => false,
        _ => return None,
    };
    (text == lower || text == text.to_ascii_uppercase() || title()).then_some(value)
}

fn split_sign(text: &str) -> (i128, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    }
}

fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = split_sign(text);
    let first = *digits.as_bytes().first()?;
    if !first.is_ascii_digit() {
        return None;
    }
    let of_radix = |digits: &str, radix: u32| {
        let clean: String = digits.chars().filter(|c| *c != '_').collect();
        let all_digits = !clean.is_empty() && clean.chars().all(|c| c.is_digit(radix));
        all_digits.then(|| i128::from_str_radix(&clean, radix).unwrap_or(i128::MAX))
    };
    let magnitude = if let Some(binary) = digits.strip_prefix("0b") {
        of_radix(binary, 2)
    } else if let Some(hex) = digits.strip_prefix("0x") {
        of_radix(hex, 16)
    } else if digits.contains(':') {
        sexagesimal(digits)
    } else if first == b'0' && digits.len() > 1 {
        of_radix(digits, 8)
    } else {
        of_radix(digits, 10)
    };
    magnitude.map(|value| sign.saturating_mul(value))
}

/// `1:30` is ninety in YAML 1.1.
fn sexagesimal(digits: &str) -> Option<i128> {
    let mut parts = digits.split(':');
    let head: String = parts.next()?.chars().filter(|c| *c != '_').collect();
    if head.starts_with('0') || !head.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let mut total: i128 = head.parse().ok()?;
    for part in parts {
        let good = matches!(part.len(), 1 | 2) && part.chars().all(|c| c.is_ascii_digit());
        let value: i128 = part.parse().ok().filter(|value| good && *value < 60)?;
        total = total.saturating_mul(60).saturating_add(value);
    }
    Some(total)
}

fn real(text: &str) -> Option<f64> {
    let (sign, rest) = split_sign(text);
    let sign = if sign < 0 { -1.0 } else { 1.0 };
    if matches!(rest, ".inf" | ".Inf" | ".INF") {
        return Some(sign * f64::INFINITY);
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(f64::NAN);
    }
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
    let starts_with_digit = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    let good_mantissa = digits(whole)
        && digits(fraction)
        && if whole.is_empty() {
            starts_with_digit(fraction) && sign_is_absent(text)
        } else {
            starts_with_digit(whole)
        };
    // PyYAML wants a sign in the exponent of a plain float; `2e-4` without a dot stays a string, which the schema
    // reads as a number all the same.
    let good_exponent = exponent.is_none_or(|e| {
        let unsigned = e.strip_prefix(['-', '+']).unwrap_or(e);
        unsigned.len() < e.len() && !unsigned.is_empty() && unsigned.chars().all(|c| c.is_ascii_digit())
    });
    if !(good_mantissa && good_exponent) {
        return None;
    }
    let clean: String = rest.chars().filter(|c| *c != '_').collect();
    clean.parse::<f64>().ok().map(|value| sign * value)
}

fn sign_is_absent(text: &str) -> bool {
    text.starts_with('.')
}

/// `2024-01-31`, alone or followed by a time: a date in YAML 1.1, so never a string.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
    let full = (0..4).all(digit)
        && bytes.get(4) == Some(&b'-')
        && digit(5)
        && digit(6)
        && bytes.get(7) == Some(&b'-')
        && digit(8)
        && digit(9);
    full && match bytes.get(10) {
        None => true,
        Some(b't' | b'T' | b' ' | b'\t') => {
            bytes[11..].contains(&b':') && bytes[11..].iter().all(|b| b"0123456789:.+-Zz \t".contains(b))
        }
        Some(_) => false,
    }
}
