//! Text helpers: quoting for shells, scripts and comments, first lines, and dates.

/// The script body of every launch script: a prologue that finds its own folder, then one `exec`.
pub fn launch_script(exports: &[(String, String)], words: &[String]) -> String {
    let mut out = String::from(
        "#!/usr/bin/env bash\nset -euo pipefail\nSCRIPT_DIR=\"$(cd \"$(dirname \"${BASH_SOURCE[0]}\")\" && pwd)\"\n",
    );
    for (name, value) in exports {
        out.push_str(&format!("export {name}={}\n", shell_word(value)));
    }
    out.push_str("exec");
    for word in words {
        out.push(' ');
        out.push_str(&script_word(word));
    }
    out.push_str(" \"$@\"\n");
    out
}

/// Quotes one word of a script; a word that begins with `$SCRIPT_DIR/`, or has it after an `=`, stays expandable.
pub fn script_word(word: &str) -> String {
    if let Some(rest) = word.strip_prefix("$SCRIPT_DIR/") {
        return format!("\"$SCRIPT_DIR/{}\"", in_double_quotes(rest));
    }
    match word.split_once("=$SCRIPT_DIR/") {
        Some((name, rest)) => format!("{}=\"$SCRIPT_DIR/{}\"", shell_word(name), in_double_quotes(rest)),
        None => shell_word(word),
    }
}

/// Quotes one word so that a shell reads it back unchanged.
pub fn shell_word(word: &str) -> String {
    let is_plain = !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte));
    if is_plain {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn in_double_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '"' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Writes control characters as `\u{..}`, so that the text stays on one line of a comment.
pub fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            if escaped {
                c.escape_unicode().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// The first line that is not blank, trimmed and cut to `chars_max` characters.
pub fn first_line(text: &str, chars_max: usize) -> Option<String> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(|line| line.chars().take(chars_max).collect())
}

/// The last `count` lines that are not blank, joined by ` / `.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join(" / ")
}

/// Writes milliseconds since 1970 as `2026-11-22T03:04:05Z`.
pub fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Year, month and day of the day `days` after 1970-01-01 in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut left = days;
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(shell_word("--port"), "--port");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(
            script_word("$SCRIPT_DIR/a $b\".gguf"),
            "\"$SCRIPT_DIR/a \\$b\\\".gguf\""
        );
        assert_eq!(script_word("tone=$SCRIPT_DIR/a b"), "tone=\"$SCRIPT_DIR/a b\"");
        assert_eq!(script_word("t o=$SCRIPT_DIR/a"), "'t o'=\"$SCRIPT_DIR/a\"");
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_312_645_000), "2026-11-22T01:57:25Z");
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        assert_eq!(one_line("a\nFROM b"), "a\\u{a}FROM b");
    }
}
