//! Words as a shell reads them back, for the commands that hints tell a person to type.

use std::path::Path;

/// A word for a hint that is meant to be pasted into a shell: in single quotes, whatever it holds.
pub fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Quotes a word where a shell would take it apart or change it.
pub fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty()
        && !word.starts_with('~')
        && word.chars().all(|c| c.is_alphanumeric() || "-_./:@%+,=~".contains(c));
    match is_plain {
        true => word.to_owned(),
        false => shell_quoted(word),
    }
}

/// Quotes a path; one that begins like a flag gets its directory.
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

    #[test]
    fn a_quoted_word_stays_one_word() {
        for (word, quoted) in [
            ("", "''"),
            ("exec:git status", "'exec:git status'"),
            ("a'; rm -r ~", r"'a'\''; rm -r ~'"),
            ("$(x) `y` \\", r"'$(x) `y` \'"),
        ] {
            assert_eq!(shell_quoted(word), quoted);
        }
    }
}
