//! Any text of a teacher is pairs or none; what is kept of it becomes one section each, whatever fences it holds.

use dlm_doc::{append_sections, parse};
use dlm_flow::synth::sections_of;

const DOCUMENT: &str =
    "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: smollm2-135m\n---\n\nThe mast is 34 m high.\n";

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let sections = sections_of(text, "The mast is 34 m high.");
    let before = parse(DOCUMENT).expect("the document is sound");
    let longer = append_sections(DOCUMENT, &sections).expect("kept pairs can be appended");
    let after = parse(&longer).expect("the longer document parses");
    let ids = |sections: &[dlm_core::Section]| sections.iter().map(dlm_core::Section::id).collect::<Vec<_>>();
    let added = ids(&after.sections()[before.sections().len()..]);
    assert_eq!(
        ids(&after.sections()[..before.sections().len()]),
        ids(before.sections())
    );
    assert_eq!(added, ids(&sections), "a pair broke out of its section");
    assert_eq!(after.frontmatter(), before.frontmatter());
}
