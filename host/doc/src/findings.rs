//! What was found in a text, as far as a person reads on.
//!
//! Invariants: at most [`FINDINGS_MAX`] are kept, those that were found first; the others are counted.

use std::ops::Deref;

use crate::limits::FINDINGS_MAX;

/// The first hundred of something, and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings<T> {
    kept: Vec<T>,
    more: usize,
}

impl<T> Findings<T> {
    /// Adds one, or counts it.
    pub fn push(&mut self, item: T) {
        self.push_with(|| item);
    }

    /// Adds one, or counts it without making it.
    pub fn push_with(&mut self, make: impl FnOnce() -> T) {
        match self.kept.len() < FINDINGS_MAX {
            true => self.kept.push(make()),
            false => self.more += 1,
        }
    }

    /// Adds all of another collection.
    pub fn append(&mut self, other: Self) {
        let more = other.more;
        other.kept.into_iter().for_each(|item| self.push(item));
        self.more += more;
    }

    /// Those that were not kept.
    pub fn more(&self) -> usize {
        self.more
    }

    /// All that were found.
    pub fn count(&self) -> usize {
        self.kept.len() + self.more
    }

    /// `and 12 more problems`; none where all are shown.
    pub fn rest(&self, what: &str) -> Option<String> {
        match self.more {
            0 => None,
            1 => Some(format!("and 1 more {what}")),
            more => Some(format!("and {more} more {what}s")),
        }
    }

    pub(crate) fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        self.kept.sort_by_key(key);
    }
}

impl<T> Default for Findings<T> {
    fn default() -> Self {
        Findings {
            kept: Vec::new(),
            more: 0,
        }
    }
}

impl<T> Deref for Findings<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.kept
    }
}

impl<T> FromIterator<T> for Findings<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut found = Findings::default();
        items.into_iter().for_each(|item| found.push(item));
        found
    }
}

impl<'a, T> IntoIterator for &'a Findings<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.iter()
    }
}

impl<T> From<T> for Findings<T> {
    fn from(item: T) -> Self {
        std::iter::once(item).collect()
    }
}
