//! Cuts running text into windows that a row can hold.
//!
//! Invariants: windows keep the text's order and together hold every word of it; each begins with the end of the one
//! before, as context that is read and not learned; no window is longer than the limit, unless a single character is.

use std::ops::Range;

/// One window of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub text: String,
    /// Bytes at its beginning that repeat the window before.
    pub context: usize,
}

/// Cuts `text` into windows of at most `limit` tokens, on paragraph, then sentence, then word, then character borders.
/// Of these, up to `overlap` tokens are the last words of the text before.
///
/// `count` gives the number of tokens of a piece.
pub fn windows(text: &str, limit: usize, overlap: usize, count: &dyn Fn(&str) -> usize) -> Vec<Window> {
    let cutter = Cutter {
        text,
        limit,
        overlap,
        count,
    };
    let mut out = Vec::new();
    let mut own: Option<Range<usize>> = None;
    let mut context = 0;
    for piece in cutter.pieces(limit.saturating_sub(overlap).max(1)) {
        own = Some(match own.take() {
            Some(own) if cutter.fits(context, piece.end) => own.start..piece.end,
            before => {
                out.extend(before.and_then(|own| cutter.window(context, own)));
                context = cutter.context(&piece);
                piece
            }
        });
    }
    out.extend(own.and_then(|own| cutter.window(context, own)));
    out
}

/// Bytes that a token of the context is taken to have at most. Words have fewer than ten a token; only runs of blanks or
/// signs come near this, and they are no words.
const TOKEN_BYTES_MAX: usize = 64;

struct Cutter<'a> {
    text: &'a str,
    limit: usize,
    overlap: usize,
    count: &'a dyn Fn(&str) -> usize,
}

impl Cutter<'_> {
    fn fits(&self, start: usize, end: usize) -> bool {
        (self.count)(self.text[start..end].trim()) <= self.limit
    }

    /// Where the context of a window begins whose own text begins with `piece`: as many whole words before it as the
    /// overlap allows and the limit leaves room for.
    ///
    /// **Cost:** does not grow with the text: it looks no further back than the overlap can reach.
    fn context(&self, piece: &Range<usize>) -> usize {
        let before = &self.text[..piece.start];
        let reach = piece.start.saturating_sub(self.overlap.saturating_mul(TOKEN_BYTES_MAX));
        let mut start = piece.start;
        for (at, character) in before.char_indices().rev().take_while(|(at, _)| *at >= reach) {
            let is_word_start =
                !character.is_whitespace() && before[..at].chars().next_back().is_none_or(char::is_whitespace);
            if !is_word_start {
                continue;
            }
            if (self.count)(before[at..].trim()) > self.overlap || !self.fits(at, piece.end) {
                break;
            }
            start = at;
        }
        start
    }

    /// The window with `own` text after the context from `start` on; none when there is no text.
    fn window(&self, start: usize, own: Range<usize>) -> Option<Window> {
        let text = self.text[own.clone()].trim();
        if text.is_empty() {
            return None;
        }
        let context = self.text[start..own.start].trim_end().len();
        if context == 0 {
            return Some(Window {
                text: text.to_owned(),
                context,
            });
        }
        Some(Window {
            text: self.text[start..own.end].trim_end().to_owned(),
            context,
        })
    }

    /// Places of the paragraphs; of those with more than `most` tokens the sentences; of those the words; of those the
    /// longest parts that fit.
    fn pieces(&self, most: usize) -> Vec<Range<usize>> {
        let mut out = Vec::new();
        for paragraph in places(0, self.text.split_inclusive("\n\n")) {
            if self.is_short(&paragraph, most) {
                out.push(paragraph);
                continue;
            }
            for sentence in places(paragraph.start, sentences(&self.text[paragraph])) {
                if self.is_short(&sentence, most) {
                    out.push(sentence);
                    continue;
                }
                for word in places(sentence.start, self.text[sentence].split_inclusive(char::is_whitespace)) {
                    self.halve(word, most, &mut out);
                }
            }
        }
        out
    }

    fn is_short(&self, place: &Range<usize>, most: usize) -> bool {
        (self.count)(self.text[place.clone()].trim()) <= most
    }

    /// Halves a word without a border (a digest, a long address) until its parts fit.
    fn halve(&self, word: Range<usize>, most: usize, out: &mut Vec<Range<usize>>) {
        let text = &self.text[word.clone()];
        let middle = (text.len() / 2..text.len()).find(|at| text.is_char_boundary(*at));
        match middle.filter(|at| *at > 0 && !self.is_short(&word, most)) {
            Some(middle) => {
                let middle = word.start + middle;
                self.halve(word.start..middle, most, out);
                self.halve(middle..word.end, most, out);
            }
            None => out.push(word),
        }
    }
}

/// Turns consecutive parts into their places.
fn places<'a>(start: usize, parts: impl IntoIterator<Item = &'a str>) -> Vec<Range<usize>> {
    let mut at = start;
    let place = |part: &str| {
        let place = at..at + part.len();
        at = place.end;
        place
    };
    parts.into_iter().map(place).collect()
}

fn sentences(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let bytes = text.as_bytes();
    for i in 0..bytes.len() {
        let ends = matches!(bytes[i], b'.' | b'!' | b'?') && bytes.get(i + 1).is_some_and(u8::is_ascii_whitespace);
        if ends {
            out.push(&text[start..i + 2]);
            start = i + 2;
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "One two three. Four five six! Seven eight.\n\nNine ten. Eleven twelve thirteen fourteen fifteen sixteen seventeen.";

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn own(window: &Window) -> &str {
        &window.text[window.context..]
    }

    #[test]
    fn windows_hold_every_word_once_and_respect_the_limit() {
        for limit in 1..25 {
            for overlap in 0..=limit / 3 {
                let got = windows(TEXT, limit, overlap, &words);
                assert!(
                    got.iter().all(|w| words(&w.text) <= limit),
                    "{limit} {overlap}: {got:?}"
                );
                let joined: Vec<&str> = got.iter().flat_map(|w| own(w).split_whitespace()).collect();
                assert_eq!(joined, TEXT.split_whitespace().collect::<Vec<_>>(), "{limit} {overlap}");
            }
        }
    }

    #[test]
    fn a_window_begins_with_the_end_of_the_one_before() {
        let got = windows(TEXT, 10, 2, &words);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].context, 0);
        assert_eq!(got[0].text, "One two three. Four five six! Seven eight.\n\nNine ten.");
        assert_eq!(&got[1].text[..got[1].context], "Nine ten.");
        assert!(own(&got[1]).starts_with(" Eleven twelve"), "{got:?}");
    }

    #[test]
    fn windows_prefer_paragraph_borders() {
        let got = windows("One two.\n\nThree four five.", 4, 0, &words);
        let texts: Vec<&str> = got.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(texts, ["One two.", "Three four five."]);
    }

    #[test]
    fn a_word_without_a_border_is_cut_between_characters() {
        let text = "é".repeat(100);
        let got = windows(&text, 9, 0, &|piece| piece.chars().count());
        assert!(got.iter().all(|w| w.text.chars().count() <= 9), "{got:?}");
        assert_eq!(got.iter().map(own).collect::<String>(), text);
    }

    /// **Source:** marktext/marktext#3711, openai/tiktoken#245: text without blanks took the square of its length.
    #[test]
    fn twice_the_text_is_twice_the_work_whatever_it_looks_like() {
        let work = |text: &str| {
            let bytes = std::cell::Cell::new(0usize);
            let count = |piece: &str| {
                bytes.set(bytes.get() + piece.len());
                piece.len().div_ceil(3)
            };
            let steps = windows(text, 128, 16, &count).len();
            (bytes.get(), steps)
        };
        for unit in ["QmFzZTY0", "^", "base data line ", "é", " ", "a. "] {
            let (small, large) = (unit.repeat(64 << 10), unit.repeat(128 << 10));
            let ((once, _), (twice, _)) = (work(&small), work(&large));
            assert!(
                twice <= 5 * once / 2,
                "{unit:?}: {once} bytes are counted, then {twice}"
            );
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(windows(" \n\n ", 5, 1, &words), []);
        assert_eq!(windows("", 5, 1, &words), []);
    }
}
