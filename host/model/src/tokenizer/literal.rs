//! Text in which the texts of special tokens are words like any other.
//!
//! A conversation is rendered as one text, in which what an author wrote and what the template wrote look the same. So the
//! texts of special tokens that an author wrote are broken by a mark before rendering, and the mark is taken out of the
//! tokens afterwards. Otherwise an answer about `<|im_end|>` would end there, and `<filename>` would vanish from it.
//!
//! Invariants: text without special tokens is encoded exactly as [`Tokenizer::encode`] does; spans count the bytes of the text
//! without marks.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{ByteSpan, Tokenizer, TokenizerError};

/// Stands inside the text of a special token that is meant as text. Unicode reserves it for uses like this one: it is no
/// character, and no text to be exchanged holds it.
const MARK: char = '\u{FDD0}';

/// Returns text without its marks.
pub(crate) fn unmarked(marked: &str) -> Cow<'_, str> {
    if marked.contains(MARK) {
        Cow::Owned(marked.replace(MARK, ""))
    } else {
        Cow::Borrowed(marked)
    }
}

/// The special tokens of a tokenizer, as texts to look for; none where no text can be broken.
pub(super) fn finder(inner: &tokenizers::Tokenizer) -> Option<Arc<AhoCorasick>> {
    let added = inner.get_added_vocabulary().get_added_tokens_decoder();
    let texts: BTreeSet<&str> = added
        .values()
        .filter(|token| token.special && token.content.chars().nth(1).is_some())
        .map(|token| token.content.as_str())
        .collect();
    if texts.is_empty() {
        return None;
    }
    let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(texts);
    finder.ok().map(Arc::new)
}

impl Tokenizer {
    /// Marks the texts of special tokens in what an author wrote, so that [`Tokenizer::encode_literal`] takes them for text.
    ///
    /// **Errors:** a text that holds the mark itself.
    pub fn literal<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, TokenizerError> {
        if text.contains(MARK) {
            return Err(TokenizerError::Noncharacter { found: MARK });
        }
        let Some(finder) = &self.specials_finder else {
            return Ok(Cow::Borrowed(text));
        };
        // Also those that overlap: each is broken after its first character.
        let places: BTreeSet<usize> = finder
            .find_overlapping_iter(text)
            .map(|found| found.start() + text[found.start()..].chars().next().map_or(0, char::len_utf8))
            .collect();
        if places.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        let mut marked = String::with_capacity(text.len() + places.len() * MARK.len_utf8());
        let mut from = 0;
        for place in places {
            marked.push_str(&text[from..place]);
            marked.push(MARK);
            from = place;
        }
        marked.push_str(&text[from..]);
        Ok(Cow::Owned(marked))
    }

    /// Turns text with marks into ids; what is marked is text, what is not may be a special token.
    ///
    /// **Errors:** text that the model cannot express, a vocabulary that joins the mark with what stands beside it.
    pub fn encode_literal(&self, marked: &str) -> Result<Vec<u32>, TokenizerError> {
        if !marked.contains(MARK) {
            return self.encode(marked);
        }
        Ok(self.encode_literal_with_spans(marked)?.0)
    }

    /// [`Tokenizer::encode_literal`], each id with its bytes in the text without marks.
    ///
    /// **Errors:** as there.
    pub fn encode_literal_with_spans(&self, marked: &str) -> Result<(Vec<u32>, Vec<ByteSpan>), TokenizerError> {
        let (ids, spans) = self.encode_with_spans(marked)?;
        let marks: Vec<usize> = marked.match_indices(MARK).map(|(at, _)| at).collect();
        if marks.is_empty() {
            return Ok((ids, spans));
        }
        let width = MARK.len_utf8();
        let mut kept = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        for (id, (start, end)) in ids.into_iter().zip(spans) {
            let first = marks.partition_point(|mark| mark + width <= start);
            if let Some(&mark) = marks.get(first).filter(|mark| **mark < end) {
                if start < mark || mark + width < end {
                    return Err(unbreakable(marked, mark));
                }
                continue;
            }
            let before = first * width;
            kept.0.push(id);
            kept.1.push((start - before, end - before));
        }
        Ok(kept)
    }
}

/// Characters of a text that are shown in an error.
const SHOWN: usize = 24;

/// The error of a mark that a token reaches across, with the text from the character before it.
fn unbreakable(marked: &str, mark: usize) -> TokenizerError {
    let (before, after) = marked.split_at(mark);
    let first = before.chars().next_back();
    let text = first.into_iter().chain(unmarked(after).chars()).take(SHOWN).collect();
    TokenizerError::Unbreakable { text }
}
