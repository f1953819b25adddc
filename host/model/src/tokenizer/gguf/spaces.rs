//! What a SentencePiece vocabulary does to characters and spaces before it looks for pieces, and undoes afterwards.
//!
//! Inside pieces a space is written as U+2581. Invariant: a character map that is taken over cannot lead the library
//! outside its tables, whatever text comes.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Precompiled, Prepend, Replace, Sequence};
use tokenizers::{DecoderWrapper, NormalizerWrapper};

/// Stands for a space inside pieces.
const MARK: &str = "\u{2581}";

/// The treatment of one file.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    /// SentencePiece's compiled map of characters; empty for none.
    pub charsmap: Vec<u8>,
    /// Runs of spaces become one, those at the ends go.
    pub merges_runs: bool,
    /// Text begins with a space that it does not have.
    pub adds_prefix: bool,
    /// Bytes without a piece are tokens.
    pub has_bytes: bool,
}

impl Spaces {
    /// Returns the steps from text to what pieces are looked for in.
    ///
    /// **Errors:** a character map that contradicts itself.
    pub(super) fn normalizer(&self) -> Result<NormalizerWrapper, tokenizers::Error> {
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        if !self.charsmap.is_empty() {
            check_charsmap(&self.charsmap)?;
            steps.push(Precompiled::from(&self.charsmap)?.into());
        }
        if self.merges_runs {
            steps.push(Replace::new(ReplacePattern::Regex("^ +| +$".to_owned()), "")?.into());
            steps.push(Replace::new(ReplacePattern::Regex(" {2,}".to_owned()), " ")?.into());
        }
        if self.adds_prefix {
            steps.push(Prepend::new(MARK.to_owned()).into());
        }
        steps.push(Replace::new(" ", MARK)?.into());
        Ok(match steps.len() {
            1 => steps.remove(0),
            _ => Sequence::new(steps).into(),
        })
    }

    /// Returns the steps from pieces to text.
    pub(super) fn decoder(&self) -> Result<DecoderWrapper, tokenizers::Error> {
        let mut steps: Vec<DecoderWrapper> = vec![Replace::new(MARK, " ")?.into()];
        if self.has_bytes {
            steps.push(ByteFallback::new().into());
        }
        steps.push(Fuse::new().into());
        if self.adds_prefix {
            steps.push(Strip::new(' ', 1, 0).into());
        }
        Ok(Decoders::new(steps).into())
    }
}

/// Checks that no text leads out of a compiled character map.
///
/// The map is the length of a double array in bytes, the array, and replacements that end with a zero. A node's children
/// lie in one block of 256 entries; the library indexes array and replacements without looking.
/// **Source:** SentencePiece's `Normalizer::DecodePrecompiledCharsMap`, Darts-clone's `DoubleArrayUnit`.
fn check_charsmap(bytes: &[u8]) -> Result<(), tokenizers::Error> {
    let damaged = || tokenizers::Error::from("`tokenizer.ggml.precompiled_charsmap` is damaged");
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (array, replacements) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let units: Vec<u32> = array
        .chunks_exact(4)
        .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
        .collect();
    let replacements = std::str::from_utf8(replacements).map_err(|_| damaged())?;
    let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let mut seen = vec![false; units.len()];
    let mut open = vec![offset(*units.first().ok_or_else(damaged)?)];
    while let Some(block) = open.pop() {
        if block | 0xFF >= units.len() {
            return Err(damaged());
        }
        if std::mem::replace(&mut seen[block], true) {
            continue;
        }
        for byte in 1..=0xFF_usize {
            let unit = units[block ^ byte];
            // The label of another byte's entry, or of a value, ends the walk here.
            if unit & ((1 << 31) | 0xFF) != byte as u32 {
                continue;
            }
            let child = (block ^ byte) ^ offset(unit);
            if (unit >> 8) & 1 == 1 {
                let value = units.get(child).ok_or_else(damaged)? & ((1 << 31) - 1);
                if !replacements.is_char_boundary(value as usize) {
                    return Err(damaged());
                }
            }
            open.push(child);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map with one rule: the byte `a` becomes `replacement`.
    fn map(offset_of_child: u32, value: u32, replacement: &str) -> Vec<u8> {
        let mut units = vec![0u32; 512];
        // The root's children lie in the first block, at 0 ^ byte.
        units[usize::from(b'a')] = u32::from(b'a') | 1 << 8 | offset_of_child << 10;
        units[usize::from(b'a') ^ offset_of_child as usize] = 1 << 31 | value;
        let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(replacement.as_bytes());
        bytes.push(0);
        bytes
    }

    fn normalized(spaces: &Spaces, text: &str) -> String {
        use tokenizers::{NormalizedString, Normalizer};
        let mut normalized = NormalizedString::from(text);
        spaces.normalizer().unwrap().normalize(&mut normalized).unwrap();
        normalized.get().to_owned()
    }

    #[test]
    fn characters_are_replaced_and_spaces_merged() {
        let spaces = Spaces {
            charsmap: map(256, 0, "zz"),
            merges_runs: true,
            adds_prefix: true,
            has_bytes: false,
        };
        assert_eq!(normalized(&spaces, "  b  a\n "), "▁b▁zz\n");
        assert_eq!(normalized(&spaces, "   "), "");
        let plain = Spaces::default();
        assert_eq!(normalized(&plain, "  b  a "), "▁▁b▁▁a▁");
    }

    #[test]
    fn maps_that_lead_outside_are_refused() {
        assert!(check_charsmap(&map(256, 2, "zz")).is_ok());
        assert!(check_charsmap(&map(256, 4, "zz")).is_err(), "past the replacements");
        assert!(check_charsmap(&map(256, 1, "é")).is_err(), "inside a character");
        assert!(check_charsmap(&[]).is_err());
        assert!(check_charsmap(&[0; 8]).is_err(), "no root");
        let mut far = map(256, 0, "zz");
        let at = 4 + 4 * usize::from(b'a');
        far[at..at + 4].copy_from_slice(&(u32::from(b'a') | 4096 << 10).to_le_bytes());
        assert!(check_charsmap(&far).is_err(), "a block past the array");
        let short = &map(256, 0, "zz")[..100];
        assert!(check_charsmap(short).is_err());
    }
}
