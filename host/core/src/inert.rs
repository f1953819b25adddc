//! Text that cannot redraw a terminal, hide itself or pass for another one, whoever wrote it.
//!
//! Invariants: the only ways to an [`Inert`] are those below; what is inert stays as it is when it is made inert again.

/// A text that may be shown. The command line's streams take nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inert(String);

impl Inert {
    /// A text of any number of lines.
    pub fn text(text: &str) -> Self {
        Self(inert(text))
    }

    /// A text on one line.
    pub fn line(text: &str) -> Self {
        Self(inert_line(text))
    }

    /// JSON, which has such characters inside its strings alone, where its own escapes mean the same.
    pub fn json(json: &str) -> Self {
        let mut out = String::with_capacity(json.len());
        for c in json.chars() {
            if is_harmful(c) {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(c);
            }
        }
        Self(out)
    }

    /// The text between the codes of a color.
    pub fn painted(self, color: Color) -> Self {
        Self(format!("\x1b[{}m{}\x1b[0m", color as u8, self.0))
    }

    /// This text and another one behind it.
    pub fn then(mut self, next: &Self) -> Self {
        self.0.push_str(&next.0);
        self
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The colors of the program, by their number on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Red = 31,
    Yellow = 33,
}

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
    fn every_harmful_character_is_gone_and_once_is_enough() {
        let hostile: String = (0..=0x10_ffff_u32)
            .filter_map(char::from_u32)
            .filter(|c| is_harmful(*c))
            .collect();
        assert!(hostile.contains('\u{1b}') && hostile.contains('\r') && hostile.contains('\u{2066}'));
        for shown in [Inert::text(&hostile), Inert::line(&hostile), Inert::json(&hostile)] {
            assert!(!shown.as_str().chars().any(is_harmful));
            assert_eq!(Inert::text(shown.as_str()), shown);
        }
        assert_eq!(
            Inert::text("x\u{1b}[2J").painted(Color::Red).as_str(),
            "\u{1b}[31mx\\u{1b}[2J\u{1b}[0m"
        );
    }

    #[test]
    fn json_means_the_same() {
        let text = "plain ü \u{9b}31m\u{7f}\u{202e}\u{e0041}\n";
        let shown = Inert::json(&format!("\"{}\"", text.replace('\n', "\\n")));
        assert_eq!(shown.as_str(), r#""plain ü \u009b31m\u007f\u202e\udb40\udc41\n""#);
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        assert_eq!(cut("aüb", 2), "a…");
        assert_eq!(cut("ab", 2), "ab");
    }
}
