//! Words as a shell reads them back, for the commands that hints tell a person to type.

use std::path::Path;

/// Quotes a word where a shell would take it apart or change it.
pub fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty()
        && !word.starts_with('~')
        && word.chars().all(|c| c.is_alphanumeric() || "-_./:@%+,=~".contains(c));
    match is_plain {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Quotes a path; one that begins like a flag gets its folder.
pub fn quoted_path(path: &Path) -> String {
    let text = path.display().to_string();
    match text.starts_with('-') {
        true => quoted(&format!("./{text}")),
        false => quoted(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_change_is_quoted() {
        let cases = [
            ("notes.dlm", "notes.dlm"),
            ("a/日本.dlm", "a/日本.dlm"),
            ("with blank.dlm", "'with blank.dlm'"),
            ("it's.dlm", r"'it'\''s.dlm'"),
            ("$HOME", "'$HOME'"),
            ("~/a", "'~/a'"),
            ("", "''"),
        ];
        for (word, expected) in cases {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted_path(Path::new("-x.dlm")), "./-x.dlm");
    }
}
