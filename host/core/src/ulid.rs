//! ULIDs: the identity of a document, written in its frontmatter.
//!
//! Invariants: minting is a pure function of the time and the random bytes that the caller supplies; this module
//! reads no clock and no random source.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of characters of a ULID.
pub const ULID_LEN: usize = 26;
/// Number of random bytes in a ULID.
pub const ULID_RANDOM_BYTES: usize = 10;

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A document identity: 26 upper-case Crockford characters.
///
/// The first character is not limited to `7` (the largest that 128 bits can give), because the schema's pattern is
/// not, and documents of the reference with hand-made ids must open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ulid(String);

/// A text that is not a ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UlidError {
    /// Too short or too long.
    #[error("`{text}` has {found} characters, expected {ULID_LEN}")]
    Length { text: String, found: usize },
    /// A character outside the alphabet.
    #[error("`{text}` has `{character}` at position {position}, expected upper-case Crockford base 32 (no I, L, O, U)")]
    Character {
        text: String,
        character: char,
        /// 1-based.
        position: usize,
    },
}

impl Ulid {
    /// Makes a ULID from milliseconds since 1970 UTC and random bytes.
    ///
    /// **Range**: the upper 16 bits of `unix_ms` are dropped (they are zero until the year 10889).
    pub fn mint(unix_ms: u64, random: [u8; ULID_RANDOM_BYTES]) -> Self {
        let tail = random.iter().fold(0u128, |acc, byte| (acc << 8) | u128::from(*byte));
        let value = (u128::from(unix_ms & 0xffff_ffff_ffff) << 80) | tail;
        let text = (0..ULID_LEN)
            .rev()
            .map(|place| char::from(ALPHABET[((value >> (5 * place)) & 31) as usize]))
            .collect();
        Ulid(text)
    }

    /// The 26 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Ulid {
    type Err = UlidError;

    fn from_str(text: &str) -> Result<Self, UlidError> {
        for (index, character) in text.chars().enumerate() {
            if !(character.is_ascii() && ALPHABET.contains(&(character as u8))) {
                return Err(UlidError::Character {
                    text: text.to_owned(),
                    character,
                    position: index + 1,
                });
            }
        }
        if text.len() != ULID_LEN {
            return Err(UlidError::Length {
                text: text.to_owned(),
                found: text.len(),
            });
        }
        Ok(Ulid(text.to_owned()))
    }
}

impl TryFrom<String> for Ulid {
    type Error = UlidError;

    fn try_from(text: String) -> Result<Self, UlidError> {
        text.parse()
    }
}

impl From<Ulid> for String {
    fn from(id: Ulid) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minting_is_a_pure_function() {
        assert_eq!(Ulid::mint(0, [0; 10]).as_str(), "00000000000000000000000000");
        assert_eq!(
            Ulid::mint(0xffff_ffff_ffff, [0xff; 10]).as_str(),
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
        );
        // The time of the ULID specification's own example, 01ARZ3NDEK...
        assert_eq!(&Ulid::mint(1_469_922_850_259, [1; 10]).as_str()[..10], "01ARZ3NDEK");
        assert_eq!(Ulid::mint(5, [7; 10]), Ulid::mint(5, [7; 10]));
        assert_ne!(Ulid::mint(5, [7; 10]), Ulid::mint(5, [8; 10]));
    }

    #[test]
    fn later_time_sorts_later() {
        assert!(Ulid::mint(1, [0xff; 10]) < Ulid::mint(2, [0; 10]));
    }

    #[test]
    fn validation_names_what_is_wrong() {
        assert!("01HZ4X7TGZM3J1A2B3C4D5E6F7".parse::<Ulid>().is_ok());
        let check = |text: &str, expected: &str| {
            let found = text.parse::<Ulid>().expect_err(text).to_string();
            assert!(found.contains(expected), "{text}: {found}");
        };
        check("01HZ4X7TGZM3J1A2B3C4D5E6F", "25 characters");
        check("01HZ4X7TGZM3J1A2B3C4D5E6F70", "27 characters");
        check("01HZ4X7TGZM3J1A2B3C4D5E6FI", "`I` at position 26");
        check("01hz4x7tgzm3j1a2b3c4d5e6f7", "`h` at position 3");
        check("01HZ4X7TGZM3J1A2B3C4D5E6F\u{e9}", "`\u{e9}` at position 26");
        check("", "0 characters");
    }
}
