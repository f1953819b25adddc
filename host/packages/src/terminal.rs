//! Makes text from plugins, servers and programs harmless to a terminal.

/// Replaces control, bidirectional and other invisible format characters by their escapes; newlines and tabs stay.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same for a message of several lines: those after the first are marked as its own, so that none can pass for a line
/// of dlm.
pub fn framed(text: &str) -> String {
    inert(text.trim_end()).replace('\n', "\n│ ")
}

/// The same on one line: newlines become spaces.
pub fn inert_line(text: &str) -> String {
    inert(&text.replace(['\n', '\r', '\t'], " "))
}

/// Cuts at a character boundary, marking the cut.
pub fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Says whether a character could redraw a terminal, or show a text as another one.
pub fn is_harmful(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        // Zero-width and direction marks, separators, embeddings and isolates, invisible operators, byte-order mark,
        // soft hyphen, Arabic letter mark, Mongolian vowel separator, interlinear marks, tags.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_direction_marks_are_shown_not_obeyed() {
        assert_eq!(inert("a\u{1b}[31mb\u{202e}c\u{9b}"), "a\\u{1b}[31mb\\u{202e}c\\u{9b}");
        assert_eq!(inert("plain ü\n\tline"), "plain ü\n\tline");
        assert_eq!(inert_line("a\r\nb"), "a  b");
        assert_eq!(framed("a\n  try: x\n"), "a\n│   try: x");
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        assert_eq!(cut("aüb", 2), "a…");
        assert_eq!(cut("ab", 2), "ab");
    }
}
