//! Which side of the train and validation split a row is on.
//!
//! Invariants: a property of seed, section id and sub-index alone, so adding a section never moves an old row.

use crate::digest::{first_eight, sha256};
use crate::section::SectionId;

/// Share of rows on the validation side.
pub const VALIDATION_SHARE: f64 = 0.1;

/// The row's place on the circle of 2^64: first 8 bytes, big-endian, of SHA-256 over `seed NUL id NUL sub_index`.
pub fn bucket(seed: i64, section: &SectionId, sub_index: usize) -> u64 {
    u64::from_be_bytes(first_eight(&sha256(format!("{seed}\0{section}\0{sub_index}"))))
}

/// Whether the row is on the validation side.
///
/// **Range**: `share` lies between 0 and 1, both excluded; the bound is computed in f64 and truncated.
pub fn is_validation(seed: i64, section: &SectionId, sub_index: usize, share: f64) -> bool {
    let bound = (share * 2f64.powi(64)) as u64;
    bucket(seed, section, sub_index) < bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        let id = |text: &str| text.parse::<SectionId>().unwrap();
        assert_eq!(bucket(42, &id("285965fb49828d98"), 0), 9_028_896_061_511_865_449);
        assert!(!is_validation(42, &id("285965fb49828d98"), 0, VALIDATION_SHARE));
        assert_eq!((VALIDATION_SHARE * 2f64.powi(64)) as u64, 1_844_674_407_370_955_264);
        for (seed, text, sub, share, expected) in [
            (0, "deadbeefdeadbeef", 0, 0.0023, true),
            (0, "deadbeefdeadbeef", 1, 0.1554, false),
            (0, "0123456789abcdef", 2, 0.0137, true),
            (42, "deadbeefdeadbeef", 1, 0.1842, false),
        ] {
            let found = bucket(seed, &id(text), sub) as f64 / 2f64.powi(64);
            assert!((found - share).abs() < 1e-4, "{seed} {text} {sub}: {found}");
            assert_eq!(is_validation(seed, &id(text), sub, VALIDATION_SHARE), expected);
        }
    }
}
