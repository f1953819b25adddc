//! Splitting a command line into words as a POSIX shell does: quotes and backslashes, and nothing else of a shell.

use dlm_plugin::{Error, error};

/// Splits; no variables, no globs, no comments, no operators.
pub fn split(text: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    // Nothing between words; an empty text inside of quotes that held nothing.
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let kept = word.get_or_insert_default();
                quoted(&mut chars, kept, '\'')?;
            }
            '"' => {
                let kept = word.get_or_insert_default();
                quoted(&mut chars, kept, '"')?;
            }
            '\\' => {
                let next = chars.next().ok_or_else(|| open_ended("a backslash"))?;
                // A backslash before a line's end joins the lines.
                if next != '\n' {
                    word.get_or_insert_default().push(next);
                }
            }
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing quote.
fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String, quote: char) -> Result<(), Error> {
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some('\n') => {}
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            plain => word.push(plain),
        }
    }
    Err(open_ended("an open quote"))
}

fn open_ended(what: &str) -> Error {
    error!(InvalidInput, "the command after `cli:` ends in {what}")
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_those_of_a_shell() {
        #[track_caller]
        fn check(text: &str, words: &[&str]) {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        check("", &[]);
        check(" \t ", &[]);
        check("score", &["score"]);
        check("./score.sh  --strict\t-n 3", &["./score.sh", "--strict", "-n", "3"]);
        check(r#"python -c "print(1)""#, &["python", "-c", "print(1)"]);
        check(r"a 'b c' d", &["a", "b c", "d"]);
        check(r#"a'b'"c"d"#, &["abcd"]);
        check(r#""" '' x"#, &["", "", "x"]);
        check(r"a\ b \'", &["a b", "'"]);
        check(r#""a\"b\\c\$d\n""#, &[r#"a"b\c$d\n"#]);
        check(r"'a\b'", &[r"a\b"]);
        check("a\\\nb", &["ab"]);
        check("$HOME *.txt ; rm & # x", &["$HOME", "*.txt", ";", "rm", "&", "#", "x"]);
        check("größe 'zwei wörter'", &["größe", "zwei wörter"]);
    }

    #[test]
    fn what_is_open_is_refused() {
        for text in ["'a", "\"a", "a \\", "\"a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
