//! `dlm templates list`, and the templates that `dlm init --template` starts from.
//!
//! Invariants: a template is foreign text. It is taken only when it parses strictly and reaches nowhere outside the
//! directory it is put in; it can set nothing about plugins or grants, because the schema knows no such keys.

use std::collections::BTreeSet;

use dlm_core::Subject;
use dlm_core::Ulid;
use dlm_core::inert::is_harmful;
use dlm_core::nearest::{did_you_mean, nearest};
use dlm_core::ports::templates::{TemplateBundle, TemplateMeta, TemplateSource, Templates};
use dlm_doc::template::{leaves_directory, template_problems};
use dlm_doc::{Limits, parse_template};
use dlm_plan::base::registry::Registry;
use serde::Serialize;

use crate::failure::Failure;

/// The word in front of messages.
const SUBJECT: Subject = Subject::Templates;
/// The gallery that comes with the program.
pub const BUNDLED: &str = "bundled";
/// Largest document of a template.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Most files of a template, and most bytes of all of them.
const FILES_MAX: usize = 256;
const FILES_BYTES_MAX: usize = 64 << 20;
/// Longest name of a template and of a file.
const NAME_LEN_MAX: usize = 64;
const FILE_NAME_LEN_MAX: usize = 200;
/// What dlm reads beside a document.
const PROJECT_SETTINGS: &str = "dlm.toml";

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TemplateRow {
    pub name: String,
    pub title: String,
    pub domain_tags: Vec<String>,
    pub recommended_base: String,
    pub expected_steps: Option<u32>,
    /// Hardware and time.
    pub expected_duration: serde_json::Map<String, serde_json::Value>,
    pub summary: String,
    pub sample_prompts: Vec<String>,
    pub revision: String,
    pub license: Option<String>,
}

impl From<TemplateMeta> for TemplateRow {
    fn from(meta: TemplateMeta) -> Self {
        Self {
            name: meta.name,
            title: meta.title,
            domain_tags: meta.tags,
            recommended_base: meta.recommended_base,
            expected_steps: meta.expected_steps,
            expected_duration: meta
                .expected_duration
                .into_iter()
                .map(|(key, value)| (key, value.into()))
                .collect(),
            summary: meta.summary,
            sample_prompts: meta.sample_prompts,
            revision: meta.revision,
            license: meta.license,
        }
    }
}

/// A template that was fetched and may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedTemplate {
    /// The source it came from.
    pub source: String,
    pub meta: TemplateMeta,
    /// Text of the document; it parses and stays in its directory.
    pub document: String,
    /// The base that the document names.
    pub base: String,
    /// Names with `/` and bytes.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Splits `source:name`; a bare name means the bundled gallery.
///
/// **Errors**: an empty half.
pub fn selector(text: &str) -> Result<(&str, &str), Failure> {
    let (source, name) = text.trim().split_once(':').unwrap_or((BUNDLED, text.trim()));
    if source.is_empty() || name.is_empty() {
        return Err(Failure::misuse(
            SUBJECT,
            format!("`{text}` names no template, expected NAME or SOURCE:NAME"),
        )
        .hint("dlm templates list"));
    }
    Ok((source, name))
}

/// Lists the templates of a source.
///
/// **Errors**: the source cannot be opened or fails; it lists a bad name or one name twice.
pub fn list(
    templates: &dyn TemplateSource,
    source: &str,
    location: &str,
    query: Option<&str>,
) -> Result<Vec<TemplateRow>, Failure> {
    let mut opened = open(templates, source, location)?;
    let listed = opened.list(query)?;
    check_names(source, &listed)?;
    Ok(listed.into_iter().map(TemplateRow::from).collect())
}

/// Fetches a template and checks it.
///
/// **Errors**: there is none of this name, the source fails, the template reaches outside its directory.
pub fn fetch(
    templates: &dyn TemplateSource,
    source: &str,
    location: &str,
    name: &str,
) -> Result<CheckedTemplate, Failure> {
    let mut opened = open(templates, source, location)?;
    let known = opened.list(None)?;
    check_names(source, &known)?;
    if !known.iter().any(|meta| meta.name == name) {
        let names: Vec<&str> = known.iter().map(|meta| meta.name.as_str()).collect();
        let near = did_you_mean(&nearest(name, names.iter().copied()));
        return Err(
            Failure::new(SUBJECT, format!("`{source}` has no template `{name}`{near}"))
                .hint(format!("it has: {}", names.join(", "))),
        );
    }
    let bundle = opened.fetch(name)?;
    check(source, name, bundle).map_err(|what| {
        Failure::new(SUBJECT, format!("template `{name}` of `{source}` is refused: {what}"))
            .hint("tell its author; nothing was written")
    })
}

/// Holds a fetched template against everything that a document started from it must be, but for what this machine has.
///
/// **Errors**: what is wrong, in words.
fn check(source: &str, name: &str, bundle: TemplateBundle) -> Result<CheckedTemplate, String> {
    if bundle.meta.name != name {
        return Err(format!("it calls itself `{}`", bundle.meta.name));
    }
    let limits = Limits {
        document_bytes_max: DOCUMENT_BYTES_MAX,
        ..Limits::default()
    };
    let parsed = parse_template(&bundle.document, &limits).map_err(|errors| errors.to_string())?;
    let problems = template_problems(&parsed);
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let id = Ulid::mint(1, [1; 10]);
    dlm_doc::replace_id(&bundle.document, &id).map_err(|error| error.to_string())?;
    check_files(&bundle.files)?;
    Ok(CheckedTemplate {
        source: source.to_owned(),
        base: parsed.frontmatter().base_model.clone(),
        meta: bundle.meta,
        document: bundle.document,
        files: bundle.files,
    })
}

/// What an author must mend in a template before anybody can start a document from it; nothing where all is well.
pub fn problem(source: &str, name: &str, bundle: &TemplateBundle) -> Option<String> {
    if let Err(failure) = check_names(source, std::slice::from_ref(&bundle.meta)) {
        return Some(failure.error.to_string());
    }
    let checked = match check(source, name, bundle.clone()) {
        Ok(checked) => checked,
        Err(what) => return Some(format!("`dlm init` would refuse it: {what}")),
    };
    if checked.meta.recommended_base != checked.base {
        return Some(format!(
            "its listing recommends the base `{}`, its document names `{}`",
            checked.meta.recommended_base, checked.base
        ));
    }
    // A base that somebody added under a name of their own is right; one that nearly has the name of a known one is a slip.
    let registry = Registry::builtin();
    let near = match registry.get(&checked.base) {
        Some(_) => Vec::new(),
        None => registry
            .nearest(&checked.base, &[])
            .into_iter()
            .map(str::to_owned)
            .collect(),
    };
    (!near.is_empty()).then(|| format!("there is no base `{}`{}", checked.base, did_you_mean(&near)))
}

fn open(templates: &dyn TemplateSource, source: &str, location: &str) -> Result<Box<dyn Templates>, Failure> {
    Ok(templates.open_templates(source, location)?)
}

fn check_names(source: &str, listed: &[TemplateMeta]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for meta in listed {
        let name = meta.name.as_str();
        let fits = (1..=NAME_LEN_MAX).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        if !fits {
            let what = format!("`{source}` lists {name:?}: a name is lower-case letters, digits, `-` and `_`");
            return Err(Failure::new(SUBJECT, what));
        }
        if !seen.insert(name) {
            return Err(Failure::new(
                SUBJECT,
                format!("`{source}` lists the template `{name}` twice"),
            ));
        }
    }
    Ok(())
}

fn check_files(files: &[(String, Vec<u8>)]) -> Result<(), String> {
    if files.len() > FILES_MAX {
        return Err(format!("it has {} files, at most {FILES_MAX} are taken", files.len()));
    }
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    if bytes > FILES_BYTES_MAX {
        return Err(format!(
            "its files have {bytes} bytes, at most {FILES_BYTES_MAX} are taken"
        ));
    }
    let mut seen = BTreeSet::new();
    for (name, _) in files {
        if let Some(reason) = file_problem(name) {
            return Err(format!("its file {name:?} {reason}"));
        }
        // Two names that differ in case are one file on some systems.
        if !seen.insert(name.to_lowercase()) {
            return Err(format!("it has the file {name:?} twice"));
        }
    }
    let is_directory_too = |name: &str| seen.iter().any(|other| other.starts_with(&format!("{name}/")));
    match seen.iter().find(|name| is_directory_too(name)) {
        Some(name) => Err(format!("its file {name:?} is a directory too")),
        None => Ok(()),
    }
}

/// Says why a file name is not taken: it must mean one file below the directory, on every system.
fn file_problem(name: &str) -> Option<&'static str> {
    if let Some(reason) = leaves_directory(name) {
        return Some(reason);
    }
    if name.len() > FILE_NAME_LEN_MAX {
        return Some("has too long a name");
    }
    let folded = name.to_ascii_lowercase();
    if folded.rsplit('/').next() == Some(PROJECT_SETTINGS) {
        return Some("would set plugins for the directory");
    }
    if folded.ends_with(".dlm") {
        return Some("is another document; a template brings one");
    }
    let is_plain = |c: char| !c.is_control() && !is_harmful(c) && !"<>:\"|?*\\".contains(c);
    if !name.chars().all(is_plain) {
        return Some("has characters that file names cannot hold everywhere");
    }
    for part in name.split('/') {
        if part.is_empty() || part.starts_with('.') || part.ends_with(['.', ' ']) {
            return Some("is hidden, empty or ends with a dot or blank");
        }
        let stem = part.split('.').next().unwrap_or_default().to_ascii_uppercase();
        let is_device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
            || (stem.len() == 4
                && (stem.starts_with("COM") || stem.starts_with("LPT"))
                && stem.as_bytes()[3].is_ascii_digit());
        if is_device {
            return Some("is the name of a device on Windows");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        assert_eq!(selector(" coding-tutor ").unwrap(), (BUNDLED, "coding-tutor"));
        assert_eq!(selector("acme:x:y").unwrap(), ("acme", "x:y"));
        for text in ["", ":x", "acme:"] {
            assert_eq!(selector(text).unwrap_err().kind.exit_code(), 2);
        }
    }

    #[test]
    fn file_names_mean_one_file_below_the_directory_everywhere() {
        for good in [
            "a.txt",
            "figures/a b.png",
            "ä/日本.md",
            "console.txt",
            "dlm.toml.md",
            "dlm",
        ] {
            assert_eq!(file_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "../x",
            "/x",
            "a/../../x",
            "C:\\x",
            "a\\b",
            "CON",
            "con.txt",
            "lpt1",
            "x.",
            "a/ ",
            "a//b",
            ".git/config",
            ".dlm/plugins/x.wasm",
            "dlm.toml",
            "DLM.toml",
            "a\0b",
            "a\u{202e}b",
            "a\u{200f}b",
            "a\u{2060}b",
            "a\nb",
            "a\tb",
            "a/DLM.TOML",
            "other.dlm",
            "a/B.Dlm",
            &"x".repeat(201),
        ] {
            assert!(file_problem(bad).is_some(), "{bad:?}");
        }
        let file = |name: &str| (name.to_owned(), Vec::new());
        assert!(check_files(&[file("a"), file("b/c")]).is_ok());
        assert!(check_files(&[file("A"), file("a")]).is_err());
        assert!(check_files(&[file("a"), file("a/b")]).is_err());
        assert!(check_files(&vec![file("a"); FILES_MAX + 1]).is_err());
    }
}
