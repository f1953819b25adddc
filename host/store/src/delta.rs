//! Which sections are new, unchanged or gone since the last run.
//!
//! Invariants: pure. There is no "changed": an edited section is one new and one removed.

use std::collections::{BTreeMap, BTreeSet};

use dlm_core::SectionId;
use serde::Serialize;

/// The difference between a document and the last run over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delta {
    /// Ids that the last run did not see, in the document's order.
    pub new: Vec<SectionId>,
    /// Ids that it saw, in the document's order.
    pub unchanged: Vec<SectionId>,
    /// Ids that it saw and the document has no more, sorted. As recorded, which need not be well-formed.
    pub removed: Vec<String>,
}

/// Compares the current sections, in the document's order, with the manifest's `content_hashes`.
///
/// Of several sections with one id the first counts.
pub fn delta<'a>(current: impl IntoIterator<Item = &'a SectionId>, recorded: &BTreeMap<String, String>) -> Delta {
    let mut seen = BTreeSet::new();
    let mut delta = Delta::default();
    for id in current {
        if !seen.insert(id.as_str()) {
            continue;
        }
        let list = if recorded.contains_key(id.as_str()) {
            &mut delta.unchanged
        } else {
            &mut delta.new
        };
        list.push(id.clone());
    }
    let is_gone = |id: &&String| !seen.contains(id.as_str());
    delta.removed = recorded.keys().filter(is_gone).cloned().collect();
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_core::SectionKind;

    #[test]
    fn new_unchanged_removed() {
        let id = |text: &str| SectionId::of_content(SectionKind::Prose, text);
        let recorded: BTreeMap<_, _> = ["kept", "gone", "also gone"]
            .iter()
            .map(|text| (id(text).as_str().to_owned(), "prose".to_owned()))
            .collect();
        let current = [id("fresh"), id("kept"), id("fresh"), id("kept")];
        let found = delta(&current, &recorded);
        assert_eq!(found.new, [id("fresh")]);
        assert_eq!(found.unchanged, [id("kept")]);
        let mut gone = vec![id("gone").as_str().to_owned(), id("also gone").as_str().to_owned()];
        gone.sort();
        assert_eq!(found.removed, gone);
        assert_eq!(delta([], &BTreeMap::new()), Delta::default());
    }
}
