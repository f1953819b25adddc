//! Decoding ids one by one as they are generated.
//!
//! Invariants: what has been handed out is valid UTF-8 and is never taken back; everything handed out, joined, equals
//! decoding the whole sequence at once.

use super::{Tokenizer, TokenizerError};

/// Decodes a growing sequence of ids, special tokens left out.
#[derive(Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Byte-level tokenizers: bytes that do not form a whole character yet.
    bytes: Vec<u8>,
    /// Other tokenizers: the ids from the last settled one on, decoded again with every new one.
    ids: Vec<u32>,
    /// Bytes of their text that are handed out.
    given: usize,
}

/// Undoes the byte-level alphabet for one token; `None` when a character is not of the alphabet.
fn token_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(alphabet_byte).collect()
}

/// The byte that a character of GPT-2's alphabet stands for: printable bytes stand for themselves, the others were
/// moved to 256 and up in order.
///
/// **Source:** `bytes_to_unicode` of GPT-2.
fn alphabet_byte(character: char) -> Option<u8> {
    let is_printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = character as u32;
    if code < 256 {
        return is_printable(code).then_some(code as u8);
    }
    let index = (code - 256) as usize;
    (0..256u32)
        .filter(|byte| !is_printable(*byte))
        .nth(index)
        .map(|byte| byte as u8)
}

impl<'t> StreamDecoder<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            bytes: Vec::new(),
            ids: Vec::new(),
            given: 0,
        }
    }

    /// Takes one id and returns the text that became certain, possibly none.
    ///
    /// **Errors:** a decoder of the pipeline that fails.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        if self.tokenizer.is_byte_level() {
            Ok(self.push_bytes(id))
        } else {
            self.push_window(id)
        }
    }

    /// Ends the stream and returns the rest; bytes that form no character become U+FFFD.
    ///
    /// **Errors:** a decoder of the pipeline that fails.
    pub fn finish(mut self) -> Result<String, TokenizerError> {
        if self.tokenizer.is_byte_level() {
            return Ok(String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned());
        }
        let text = self.tokenizer.decode(&self.ids)?;
        self.beyond_given(&text)
    }

    fn push_bytes(&mut self, id: u32) -> String {
        if self.tokenizer.is_special(id) {
            return String::new();
        }
        let Some(token) = self.tokenizer.token(id) else {
            return String::new();
        };
        match token_bytes(&token) {
            Some(bytes) => self.bytes.extend(bytes),
            // Added tokens are written as they stand.
            None => self.bytes.extend(token.as_bytes()),
        }
        self.take_characters()
    }

    /// Takes whole characters and hopeless bytes from the front; keeps a character that may still be completed.
    fn take_characters(&mut self) -> String {
        let mut text = String::new();
        let mut done = 0;
        loop {
            match std::str::from_utf8(&self.bytes[done..]) {
                Ok(rest) => {
                    text.push_str(rest);
                    done = self.bytes.len();
                    break;
                }
                Err(error) => {
                    let (valid, rest) = self.bytes[done..].split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).expect("`valid_up_to` ends a valid part"));
                    done += valid.len();
                    match error.error_len() {
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            done += bad;
                        }
                        None => {
                            debug_assert!(rest.len() < 4);
                            break;
                        }
                    }
                }
            }
        }
        self.bytes.drain(..done);
        text
    }

    fn push_window(&mut self, id: u32) -> Result<String, TokenizerError> {
        // What decoding leaves out ends nothing: a run of bytes goes on behind it.
        let Some(token) = self.tokenizer.token(id).filter(|_| !self.tokenizer.is_special(id)) else {
            return Ok(String::new());
        };
        self.ids.push(id);
        // A run of byte tokens is decoded as a whole: one bad byte spoils all of it, so none is certain before its end.
        if is_byte_token(&token) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.ids)?;
        let fresh = self.beyond_given(&text)?;
        self.given = text.len();
        // From here on this token alone gives the next ones their neighbor, if it shows at all.
        let last = self.ids.len() - 1;
        let alone = self.tokenizer.decode(&self.ids[last..])?;
        if !alone.is_empty() {
            self.ids.drain(..last);
            self.given = alone.len();
        }
        Ok(fresh)
    }

    /// The part of the window's text that was not handed out.
    fn beyond_given(&self, text: &str) -> Result<String, TokenizerError> {
        let rest = text.get(self.given..).map(str::to_owned);
        rest.ok_or_else(|| TokenizerError::Decode("a later token changed the text of earlier ones".to_owned()))
    }
}

/// Says whether a token stands for one byte, as SentencePiece writes it: `<0x0A>`.
fn is_byte_token(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::{alphabet_byte, is_byte_token, token_bytes};

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let mut seen = [false; 256];
        for code in 0..0x200u32 {
            if let Some(byte) = char::from_u32(code).and_then(alphabet_byte) {
                assert!(!seen[byte as usize], "byte {byte} twice");
                seen[byte as usize] = true;
            }
        }
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(token_bytes("Ġthe"), Some(b" the".to_vec()));
        assert_eq!(token_bytes("Ċ"), Some(b"\n".to_vec()));
        assert_eq!(token_bytes("日"), None);
    }

    #[test]
    fn byte_tokens_are_recognized() {
        assert!(is_byte_token("<0x0A>") && is_byte_token("<0xff>"));
        assert!(!is_byte_token("<0x0>") && !is_byte_token("<0xGG>") && !is_byte_token("0x0A"));
    }
}
