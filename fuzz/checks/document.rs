//! Any bytes through the `.dlm` parser, the report, the canonical writer and the edits.
//!
//! What is checked: nothing panics, every error lies inside the text, what parses is written and reads back the same,
//! and edits keep the ids of the rest.

use dlm_doc::{
    Limits, Section, SectionKind, append_sections, check as describe, migrate_text, parse, parse_bytes, write,
};

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    describe(bytes, &Limits::default()).to_json();
    let parsed = match parse_bytes(bytes, &Limits::default()) {
        Ok(parsed) => parsed,
        Err(errors) => {
            let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
            let lines = text.matches(['\n', '\r']).count() + 1;
            let is_inside = |line: usize, col: usize| (1..=lines).contains(&line) && col >= 1;
            assert!(errors.errors.iter().all(|error| is_inside(error.line, error.col)));
            return;
        }
    };
    let ids = |sections: &[Section]| sections.iter().map(Section::id).collect::<Vec<_>>();
    let written = write(&parsed.document).expect("a parsed document can be written");
    let again = parse(&written).expect("a written document parses");
    assert_eq!(ids(again.sections()), ids(parsed.sections()));
    assert_eq!(
        write(&again.document).expect("a canonical document can be written"),
        written
    );

    let text = std::str::from_utf8(bytes).expect("a parsed document is UTF-8");
    let added = Section::text(SectionKind::Instruction, "### Q\na\n### A\nb");
    let longer = append_sections(text, &[added]).expect("a section can be appended to any document");
    let longer = parse(&longer).expect("the longer document parses");
    assert_eq!(
        ids(&longer.sections()[..parsed.sections().len()]),
        ids(parsed.sections())
    );
    if let Ok(migrated) = migrate_text(text) {
        let migrated = parse(&migrated.text).expect("a migrated document parses");
        assert_eq!(ids(migrated.sections()), ids(parsed.sections()));
    }
}
