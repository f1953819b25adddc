//! What a template's document must not do: reach outside the directory in which it is put.
//!
//! Invariants: a template is foreign text; it is judged after parsing, which refuses every key that the schema does not
//! know, so a template can set nothing about plugins or grants.

use crate::document::Parsed;

/// Everything in a parsed template that reaches outside its directory, each with its place; empty when it may be used.
pub fn template_problems(parsed: &Parsed) -> Vec<String> {
    let training = &parsed.frontmatter().training;
    let mut problems = Vec::new();
    for source in training.sources.iter().flatten() {
        for path in std::iter::once(&source.path).chain(&source.include) {
            if let Some(reason) = leaves_directory(path) {
                problems.push(format!("`training.sources` names `{path}`, which {reason}"));
            }
        }
    }
    for section in parsed.sections() {
        let path = section.media.as_ref().map(|media| &media.path);
        if let Some((path, reason)) = path.and_then(|path| Some((path, leaves_directory(path)?))) {
            problems.push(format!(
                "line {}: the section names `{path}`, which {reason}",
                section.start_line
            ));
        }
    }
    problems
}

/// Says why a path does not stay in the directory that it is relative to, on any of the systems that dlm runs on.
pub fn leaves_directory(path: &str) -> Option<&'static str> {
    let bytes = path.as_bytes();
    if path.starts_with(['/', '\\', '~']) || (bytes.len() > 1 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':') {
        return Some("is not relative");
    }
    if path.split(['/', '\\']).any(|part| part == "..") {
        return Some("leads out of its directory");
    }
    path.contains('\0').then_some("holds a NUL character")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const HEAD: &str = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: smollm2-135m\n";

    fn check(front: &str, body: &str) -> Vec<String> {
        template_problems(&parse(&format!("{HEAD}{front}---\n\n{body}")).unwrap())
    }

    #[test]
    fn paths_stay_in_the_directory() {
        assert!(
            check(
                "training:\n  sources:\n    - path: ./notes\n",
                "::image path=\"a/b.png\"::\n"
            )
            .is_empty()
        );
        for path in ["/etc", "../x", "a/../../x", "~/x", "C:\\x", "\\\\host\\x"] {
            let found = check(&format!("training:\n  sources:\n    - path: '{path}'\n"), "");
            assert_eq!(found.len(), 1, "{path}");
            let found = check("", &format!("p\n::image path=\"{path}\"::\n"));
            assert_eq!(found.len(), 1, "{path}");
            assert!(found[0].starts_with("line 7"), "{found:?}");
        }
    }

    #[test]
    fn plugin_settings_do_not_parse() {
        for key in ["plugins", "grants", "judge"] {
            assert!(parse(&format!("{HEAD}{key}: x\n---\n\n")).is_err(), "{key}");
        }
    }
}
