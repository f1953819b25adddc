//! `index.json`: where each remembered section lies in `corpus.zst`.
//!
//! Invariants: sorted by section id, one entry per id; unknown keys are refused.

use std::collections::BTreeSet;

use dlm_core::SectionId;
use dlm_core::manifest::RecordProblem;
use dlm_core::stamp::Stamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;
use crate::record::{self, Flaw};

/// No corpus is this long; the limit keeps sums of a hostile index from overflowing.
const EXTENT_MAX: u64 = 1 << 40;

/// Where one remembered section lies, and how much it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexEntry {
    pub section_id: SectionId,
    /// Offset of the frame in `corpus.zst`.
    pub byte_offset: u64,
    /// Bytes of the frame, at least 1.
    pub length: u64,
    /// When the section was last seen; decides about its age.
    pub added_at: Stamp,
    /// Factor on the sampling weight, 0 or more.
    #[serde(default = "weight_default")]
    pub weight: f64,
}

fn weight_default() -> f64 {
    1.0
}

/// Reads an index; of several entries for one section (the reference can write them) the youngest counts.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<IndexEntry>, Flaw> {
    let value: Value = serde_json::from_slice(bytes).map_err(Flaw::Json)?;
    if !value.is_array() {
        return Err(Flaw::TopLevel {
            found: record::kind_of(&value),
            expected: "a list",
        });
    }
    let mut entries: Vec<IndexEntry> = record::parse(bytes)?;
    for entry in &entries {
        check(entry)?;
    }
    entries.sort_by(|left, right| {
        let age = (right.added_at, right.byte_offset).cmp(&(left.added_at, left.byte_offset));
        left.section_id.cmp(&right.section_id).then(age)
    });
    entries.dedup_by(|later, kept| later.section_id == kept.section_id);
    Ok(entries)
}

fn check(entry: &IndexEntry) -> Result<(), RecordProblem> {
    let place = |field: &str| format!("{}.{field}", entry.section_id);
    if entry.length == 0 {
        return Err(RecordProblem {
            field: place("length"),
            found: "0".to_owned(),
            expected: "1 or more",
        });
    }
    if entry.byte_offset > EXTENT_MAX || entry.length > EXTENT_MAX {
        return Err(RecordProblem {
            field: place("byte_offset"),
            found: format!("{} (length {})", entry.byte_offset, entry.length),
            expected: "a place within the first TiB",
        });
    }
    if !(entry.weight.is_finite() && entry.weight >= 0.0) {
        return Err(RecordProblem {
            field: place("weight"),
            found: entry.weight.to_string(),
            expected: "a finite number, 0 or more",
        });
    }
    Ok(())
}

/// The exact text of an index with these entries, which get sorted.
pub(crate) fn text(entries: &mut [IndexEntry]) -> String {
    entries.sort_by(|left, right| left.section_id.cmp(&right.section_id));
    let value = serde_json::to_value(&*entries).expect("an entry has only text keys");
    json::pretty(&value)
}

/// What eviction keeps and drops.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eviction {
    pub kept: Vec<IndexEntry>,
    /// Oldest first.
    pub dropped: Vec<IndexEntry>,
}

/// Drops the oldest entries (ties by id) until their frames fit `budget_bytes`; ids in `protected` stay whatever the sum.
pub fn evict(entries: Vec<IndexEntry>, budget_bytes: u64, protected: &BTreeSet<SectionId>) -> Eviction {
    let mut total: u64 = entries.iter().map(|entry| entry.length).sum();
    let mut by_age = entries;
    by_age.sort_by(|left, right| (left.added_at, &left.section_id).cmp(&(right.added_at, &right.section_id)));
    let mut result = Eviction::default();
    for entry in by_age {
        if total > budget_bytes && !protected.contains(&entry.section_id) {
            total -= entry.length;
            result.dropped.push(entry);
        } else {
            result.kept.push(entry);
        }
    }
    result
        .kept
        .sort_by(|left, right| left.section_id.cmp(&right.section_id));
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_core::SectionKind;

    fn entry(name: &str, added_at: i64, length: u64) -> IndexEntry {
        IndexEntry {
            section_id: SectionId::of_content(SectionKind::Prose, name),
            byte_offset: 0,
            length,
            added_at: Stamp::from_unix_ms(added_at * 1000),
            weight: 1.0,
        }
    }

    fn dropped(entries: &[IndexEntry], budget: u64, protected: &[&IndexEntry]) -> Vec<SectionId> {
        let protected = protected.iter().map(|entry| entry.section_id.clone()).collect();
        let result = evict(entries.to_vec(), budget, &protected);
        assert_eq!(result.kept.len() + result.dropped.len(), entries.len());
        result.dropped.into_iter().map(|entry| entry.section_id).collect()
    }

    #[test]
    fn oldest_go_first_and_protected_stay() {
        let entries = [entry("old", 1, 10), entry("mid", 2, 10), entry("new", 3, 10)];
        let [old, mid, new] = &entries;
        let id = |entry: &IndexEntry| entry.section_id.clone();
        assert_eq!(dropped(&entries, 30, &[]), []);
        assert_eq!(dropped(&entries, 29, &[]), [id(old)]);
        assert_eq!(dropped(&entries, 10, &[]), [id(old), id(mid)]);
        assert_eq!(dropped(&entries, 29, &[old]), [id(mid)]);
        assert_eq!(dropped(&entries, 0, &[mid]), [id(old), id(new)]);
        assert_eq!(dropped(&entries, 0, &[]).len(), 3);
    }

    #[test]
    fn ties_go_by_id() {
        let entries = [entry("a", 1, 10), entry("b", 1, 10)];
        let mut ids: Vec<_> = entries.iter().map(|entry| entry.section_id.clone()).collect();
        ids.sort();
        assert_eq!(dropped(&entries, 10, &[]), ids[..1]);
    }

    #[test]
    fn text_is_sorted_and_reads_back() {
        let mut entries = vec![entry("b", 2, 5), entry("a", 1, 7), entry("c", 3, 9)];
        let text = text(&mut entries);
        assert!(
            text.starts_with("[\n  {\n    \"added_at\": \"1970-01-01T00:00:0"),
            "{text}"
        );
        assert!(text.contains("\"weight\": 1.0\n"), "{text}");
        assert_eq!(parse(text.as_bytes()).expect("reads"), entries);
    }

    #[test]
    fn several_entries_for_one_section_become_the_youngest() {
        let mut entries = vec![entry("a", 5, 7), entry("a", 9, 8), entry("a", 7, 9)];
        let text = text(&mut entries);
        let read = parse(text.as_bytes()).expect("reads");
        assert_eq!(read, [entry("a", 9, 8)]);
    }

    #[test]
    fn wrong_entries_are_refused() {
        let id = "0123456789abcdef";
        let entry =
            |rest: &str| format!("[{{\"section_id\": \"{id}\", \"added_at\": \"2026-01-01T00:00:00\", {rest}}}]");
        for (text, expected) in [
            ("{}".to_owned(), "the top level is an object"),
            ("[".to_owned(), "invalid JSON"),
            (entry("\"byte_offset\": 0, \"length\": 0"), "1 or more"),
            (entry("\"byte_offset\": -1, \"length\": 1"), "schema violation"),
            (
                entry("\"byte_offset\": 0, \"length\": 1, \"weight\": -1.0"),
                "0 or more",
            ),
            (
                entry("\"byte_offset\": 0, \"length\": 1, \"x\": 1"),
                "unknown field `x`",
            ),
        ] {
            let message = parse(text.as_bytes()).expect_err("refused").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
