//! Splitting a typed command into words by the quoting rules of a POSIX shell; no shell is involved, nothing is expanded.

/// Splits `text` into words; nothing when a quote is left open or a backslash ends the text.
pub fn split_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => {
                let escaped = chars.next()?;
                // A backslash before a line break joins two lines.
                if escaped != '\n' {
                    word.get_or_insert_default().push(escaped);
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// Reads to the closing quote. A backslash escapes only `$`, backquote, quote, backslash and a line break here.
fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                '\n' => {}
                c @ ('$' | '`' | '"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, words) in [
            ("", &[][..]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            ("python -c 'print(1)'", &["python", "-c", "print(1)"]),
            (r#"a "b \" $c" d"#, &["a", "b \" $c", "d"]),
            (r"a\ b '' c", &["a b", "", "c"]),
            (r#""a\nb""#, &[r"a\nb"]),
            ("x'y'\"z\"", &["xyz"]),
        ] {
            assert_eq!(split_words(text).unwrap(), words, "{text}");
        }
        for text in ["a'b", "", "$(id); \\ \"x\n"] {
            assert_eq!(split_words(&dlm_core::shell_quoted(text)).unwrap(), [text]);
        }
        for text in ["'a", "\"a", "a\\"] {
            assert_eq!(split_words(text), None, "{text}");
        }
    }
}
