//! Which rows are held out for validation: a property of the row alone.
//!
//! **Source:** `spec/training.md` section 1.5. Hand-written pairs are never held out; the caller says which rows follow
//! the hash.

use sha2::{Digest, Sha256};

/// Share of the rows that the hash holds out.
pub const VALIDATION_SHARE: f64 = 0.1;

/// Returns the bucket of a row: the first 8 bytes of SHA-256 over seed, section id and position, big-endian.
pub fn bucket(seed: u64, section_id: &str, sub_index: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_string());
    hash.update([0]);
    hash.update(section_id);
    hash.update([0]);
    hash.update(sub_index.to_string());
    let mut first = [0u8; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

/// Says whether the hash holds the row out.
pub fn is_held_out(seed: u64, section_id: &str, sub_index: u32) -> bool {
    // 2^64 as f64 is exact, and so is the product's rounding for a share of 0.1 (the specification names the number).
    let threshold = (VALIDATION_SHARE * 18_446_744_073_709_551_616.0) as u64;
    bucket(seed, section_id, sub_index) < threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_specification() {
        let check = |seed, id, sub, share: f64, held: bool| {
            let got = bucket(seed, id, sub) as f64 / 2f64.powi(64);
            assert!((got - share).abs() < 5e-5, "{seed} {id} {sub}: {got}");
            assert_eq!(is_held_out(seed, id, sub), held);
        };
        check(0, "deadbeefdeadbeef", 0, 0.0023, true);
        check(0, "deadbeefdeadbeef", 1, 0.1554, false);
        check(0, "0123456789abcdef", 2, 0.0137, true);
        check(42, "deadbeefdeadbeef", 1, 0.1842, false);
    }
}
