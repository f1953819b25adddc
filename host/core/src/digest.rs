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

/// A SHA-1 over bytes that come in pieces: the names that git gives to contents, which nothing here trusts for more than
/// telling damage.
///
/// **Source:** FIPS 180-4, section 6.1.
#[derive(Clone, Debug)]
pub struct Sha1 {
    state: [u32; 5],
    block: [u8; 64],
    /// Bytes taken.
    length: u64,
}

impl Sha1 {
    /// The digest of a git blob of `bytes` bytes, before they are taken.
    ///
    /// **Source:** Pro Git, section 10.2.
    pub fn of_blob(bytes: u64) -> Self {
        let mut digest = Self {
            state: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0],
            block: [0; 64],
            length: 0,
        };
        digest.update(format!("blob {bytes}\0"));
        digest
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.block[(self.length % 64) as usize] = *byte;
            self.length += 1;
            if self.length.is_multiple_of(64) {
                self.mix();
            }
        }
    }

    /// The digest of everything taken, as 40 hex digits.
    pub fn finish_hex(mut self) -> String {
        let bits = self.length * 8;
        self.update([0x80]);
        while self.length % 64 != 56 {
            self.update([0]);
        }
        self.update(bits.to_be_bytes());
        let bytes: Vec<u8> = self.state.iter().flat_map(|word| word.to_be_bytes()).collect();
        hex(&bytes)
    }

    fn mix(&mut self) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(self.block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = self.state;
        for (at, word) in words.iter().enumerate() {
            let (chosen, constant) = match at {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc_u32),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let sum = a.rotate_left(5).wrapping_add(chosen).wrapping_add(e);
            let next = sum.wrapping_add(constant).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (word, mixed) in self.state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(mixed);
        }
    }
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

    /// `git hash-object` says the same of these contents.
    #[test]
    fn blobs_have_the_names_that_git_gives_them() {
        let of = |bytes: &[u8]| {
            let mut digest = Sha1::of_blob(bytes.len() as u64);
            for piece in bytes.chunks(7) {
                digest.update(piece);
            }
            digest.finish_hex()
        };
        assert_eq!(of(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(of(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(of(&[b'a'; 1000]), "a50be72b20f0e3f078d252e8e56b11b4bec67509");
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
