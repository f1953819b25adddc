//! SHA-256 and hexadecimal: of bytes in memory, whole or in pieces.
//!
//! Invariants: the only user of the hashing library; hex is lower case.

use std::io;

use sha2::Digest as _;

/// A SHA-256 over bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Starts without bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }

    /// The digest of everything taken.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// The digest of everything taken, as 64 hex digits.
    pub fn finish_hex(self) -> String {
        hex(&self.finish())
    }
}

/// Writing takes the bytes, so that a writer can be hashed on its way.
impl io::Write for Sha256 {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of bytes.
pub fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// The digest of bytes, as 64 hex digits.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&sha256(bytes))
}

/// The first eight bytes of a digest, for a number that depends on all that was hashed.
pub fn first_eight(digest: &[u8; 32]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    first
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Says whether `text` is `length` lower-case hex digits.
pub fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// **Source:** FIPS 180-2, appendix B.1.
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn pieces_and_the_whole_have_one_digest() {
        assert_eq!(sha256_hex("abc"), OF_ABC);
        let mut pieces = Sha256::new();
        pieces.update("a");
        io::Write::write_all(&mut pieces, b"bc").unwrap();
        assert_eq!(pieces.finish_hex(), OF_ABC);
    }

    #[test]
    fn hex_is_lower_case_and_whole() {
        assert_eq!(hex(&[0, 9, 0x0a, 0xff]), "00090aff");
        assert!(is_hex("00ff", 4));
        for text in ["00fF", "00f", "00fg", "00é"] {
            assert!(!is_hex(text, 4), "{text}");
        }
    }
}
