//! Shared read-only bytes: owned memory or a range of a mapped file, without knowing which.

use std::ops::Range;
use std::sync::Arc;

/// A range of bytes whose owner stays alive as long as any clone does.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// Shares a range of what `owner` holds (a mapped file, a vector); `None` when the range is not inside it.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Bytes> {
        let len = (*owner).as_ref().len();
        (range.start <= range.end && range.end <= len).then_some(Bytes { owner, range })
    }

    /// Shares a whole vector.
    pub fn from_vec(bytes: Vec<u8>) -> Bytes {
        let range = 0..bytes.len();
        Bytes {
            owner: Arc::new(bytes),
            range,
        }
    }

    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_outside_the_owner_is_refused() {
        let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![1u8, 2, 3]);
        assert_eq!(Bytes::new(Arc::clone(&owner), 1..3).unwrap().as_slice(), [2, 3]);
        assert!(Bytes::new(Arc::clone(&owner), 1..4).is_none());
        #[expect(clippy::reversed_empty_ranges, reason = "the point of the test")]
        let reversed = 2..1;
        assert!(Bytes::new(owner, reversed).is_none());
    }
}
