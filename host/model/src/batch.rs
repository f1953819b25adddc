//! Packed rows of tokens, and what a loss is taken against.
//!
//! Invariants: no padding; every row belongs to the query range of exactly one segment; a prefix is the query range of
//! an earlier segment.

use std::ops::Range;

pub use dlm_kernels::Segment;

/// Sequences packed one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub tokens: Vec<u32>,
    /// Position of every row in its own sequence; continues after the prefix.
    pub positions: Vec<u32>,
    pub segments: Vec<Segment>,
}

impl Batch {
    /// Packs sequences that share nothing.
    pub fn packed<T: AsRef<[u32]>>(sequences: &[T]) -> Batch {
        let mut batch = Batch::default();
        for sequence in sequences {
            batch.push(sequence.as_ref(), 0..0);
        }
        batch
    }

    /// Appends a sequence that continues after the rows of `prefix` (empty: after nothing) and returns its rows.
    ///
    /// On a model with LongRope, sequences that share a prefix take the long factors together, as soon as one of them is
    /// long; copies of the prefix would each decide on their own.
    ///
    /// **Panics:** when `prefix` is no range of rows of this batch.
    pub fn push(&mut self, tokens: &[u32], prefix: Range<usize>) -> Range<usize> {
        let start = self.tokens.len();
        let first = match prefix.is_empty() {
            true => 0,
            false => self.positions[prefix.end - 1] + 1,
        };
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len() as u32).map(|i| first + i));
        let rows = start..self.tokens.len();
        self.segments.push(Segment {
            q: rows.clone(),
            prefix,
        });
        rows
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Says whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Checks the invariants against a vocabulary; the passes through the model call it.
    ///
    /// **Errors:** the first row or segment that breaks one.
    pub fn check(&self, vocab: usize) -> Result<(), BatchError> {
        let rows = self.tokens.len();
        if rows == 0 {
            return Err(BatchError::Empty);
        }
        if self.positions.len() != rows {
            return Err(BatchError::Positions {
                rows,
                positions: self.positions.len(),
            });
        }
        if let Some(row) = self.tokens.iter().position(|token| *token as usize >= vocab) {
            return Err(BatchError::Token {
                row,
                token: self.tokens[row],
                vocab,
            });
        }
        let mut next = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let known = segment.prefix.is_empty()
                || self.segments[..index]
                    .iter()
                    .any(|earlier| earlier.q == segment.prefix && earlier.prefix.is_empty());
            if segment.q.start != next || segment.q.is_empty() || !known {
                return Err(BatchError::Segment { index });
            }
            next = segment.q.end;
        }
        if next != rows {
            return Err(BatchError::Segment {
                index: self.segments.len(),
            });
        }
        Ok(())
    }
}

/// A batch that does not describe sequences.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch has no rows")]
    Empty,
    #[error("the batch has {rows} tokens and {positions} positions")]
    Positions { rows: usize, positions: usize },
    #[error("row {row} holds token {token}, and the vocabulary ends at {vocab}")]
    Token { row: usize, token: u32, vocab: usize },
    #[error("segment {index} does not follow the one before it, or its prefix is no earlier sequence")]
    Segment { index: usize },
}

/// What a row of logits is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetKind {
    /// The token that follows: cross-entropy.
    Token(u32),
    /// A stored distribution: `KL(stored || model)` over the stored ids, the remaining mass as one lumped bucket.
    TopK { ids: Vec<u32>, probs: Vec<f32> },
}

/// One term of a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Row of the batch whose logits are meant.
    pub row: usize,
    pub kind: TargetKind,
    /// Factor of this term's gradient.
    pub weight: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_batch_restarts_positions_and_continues_after_a_prefix() {
        let mut batch = Batch::default();
        let system = batch.push(&[7, 8], 0..0);
        batch.push(&[1, 2, 3], system.clone());
        batch.push(&[4], system);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 2]);
        assert_eq!(batch.check(9), Ok(()));
        assert_eq!(
            batch.check(8),
            Err(BatchError::Token {
                row: 1,
                token: 8,
                vocab: 8
            })
        );
    }

    #[test]
    fn a_gap_between_segments_and_an_unknown_prefix_are_refused() {
        let mut batch = Batch::packed(&[[1, 2], [3, 4]]);
        batch.segments[1].prefix = 0..1;
        assert_eq!(batch.check(9), Err(BatchError::Segment { index: 1 }));
        batch.segments.pop();
        assert_eq!(batch.check(9), Err(BatchError::Segment { index: 1 }));
        assert_eq!(Batch::default().check(9), Err(BatchError::Empty));
    }
}
