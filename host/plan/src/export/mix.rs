//! `--adapter-mix`: adapters and the weight of each, as they are typed.
//!
//! **Source**: `spec/export.md` section 10.

use dlm_core::{FailureKind, Hints, Subject};

/// Longest name of an adapter.
const NAME_LEN_MAX: usize = 32;

/// What is wrong with a mix; each quotes what was typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    #[error("--adapter-mix: `{spec}` has an empty entry")]
    Empty { spec: String },
    #[error("--adapter-mix: `{entry}` has no weight")]
    NoWeight { entry: String },
    #[error("--adapter-mix: `{name}` is no name of an adapter: a letter, then at most 31 of a-z, 0-9 and `_`")]
    Name { name: String },
    #[error("--adapter-mix: the weight of `{entry}` is no number from 0")]
    Weight { entry: String },
    #[error("--adapter-mix: `{name}` is there twice")]
    Twice { name: String },
    #[error("--adapter-mix: `{name}` is not declared; `training.adapters` has {}", quoted(.declared))]
    Undeclared { name: String, declared: Vec<String> },
}

impl Hints for MixError {
    fn subject(&self) -> Subject {
        Subject::Export
    }

    fn kind(&self) -> FailureKind {
        FailureKind::Misuse
    }

    fn hints(&self) -> Vec<String> {
        let names = match self {
            MixError::Undeclared { declared, .. } => declared.as_slice(),
            _ => &[],
        };
        let name = |at: usize, other: &str| names.get(at).cloned().unwrap_or_else(|| other.to_owned());
        vec![format!(
            "for example: `--adapter-mix {}:1,{}:0.5`",
            name(0, "facts"),
            name(1, "tone")
        )]
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_LEN_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Reads `name:weight[,name:weight]…` for a document that declares these adapters.
///
/// **Errors** quote the entry that is wrong.
pub fn parse_mix(spec: &str, declared: &[&str]) -> Result<Vec<(String, f64)>, MixError> {
    let mut mix: Vec<(String, f64)> = Vec::new();
    for entry in spec.split(',').map(str::trim) {
        if entry.is_empty() {
            return Err(MixError::Empty { spec: spec.to_owned() });
        }
        let entry_of = || entry.to_owned();
        let (name, weight) = entry
            .rsplit_once(':')
            .ok_or_else(|| MixError::NoWeight { entry: entry_of() })?;
        let (name, weight) = (name.trim(), weight.trim());
        if weight.is_empty() {
            return Err(MixError::NoWeight { entry: entry_of() });
        }
        if !is_name(name) {
            return Err(MixError::Name { name: name.to_owned() });
        }
        // What no `f32` holds would be infinite in the mix.
        let weight = weight
            .parse()
            .ok()
            .filter(|w: &f64| *w >= 0.0 && (*w as f32).is_finite());
        let weight = weight.ok_or_else(|| MixError::Weight { entry: entry_of() })?;
        if mix.iter().any(|(known, _)| known == name) {
            return Err(MixError::Twice { name: name.to_owned() });
        }
        if !declared.contains(&name) {
            return Err(MixError::Undeclared {
                name: name.to_owned(),
                declared: declared.iter().map(|name| (*name).to_owned()).collect(),
            });
        }
        mix.push((name.to_owned(), weight));
    }
    Ok(mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_names_with_weights_and_every_mistake_is_quoted() {
        let read = |spec: &str| parse_mix(spec, &["facts", "tone", "t2"]);
        let pair = |name: &str, weight: f64| (name.to_owned(), weight);
        assert_eq!(
            read("facts:1.0, tone : 0.5 ,t2:0").unwrap(),
            [pair("facts", 1.0), pair("tone", 0.5), pair("t2", 0.0)]
        );
        assert_eq!(read("tone:2e-1").unwrap(), [pair("tone", 0.2)]);
        for (spec, quoted) in [
            ("", "`` has an empty entry"),
            ("facts:1,,tone:1", "`facts:1,,tone:1` has an empty entry"),
            ("facts:1,", "has an empty entry"),
            ("facts", "`facts` has no weight"),
            ("facts:", "`facts:` has no weight"),
            ("facts:-1", "`facts:-1` is no number"),
            ("facts:NaN", "`facts:NaN` is no number"),
            ("facts:inf", "`facts:inf` is no number"),
            ("facts:1e300", "`facts:1e300` is no number"),
            ("facts:one", "`facts:one` is no number"),
            ("facts:1:1", "`facts:1` is no name"),
            ("Facts:1", "`Facts` is no name"),
            ("2:1", "`2` is no name"),
            ("facts:1,facts:2", "`facts` is there twice"),
            (
                "voice:1",
                "`voice` is not declared; `training.adapters` has `facts`, `tone`, `t2`",
            ),
        ] {
            let error = read(spec).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("--adapter-mix: ") && text.contains(quoted),
                "{spec}: {text}"
            );
            assert_eq!(error.kind().exit_code(), 2);
        }
        assert!(
            read(&format!("{}:1", "a".repeat(33)))
                .unwrap_err()
                .to_string()
                .contains("no name")
        );
    }
}
