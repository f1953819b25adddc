//! Fuzz target: any bytes through the `.dlm` parser, the report, the canonical writer and the edits.
//!
//! Run with `cargo +nightly fuzz run document` from the repository's root. What is checked: nothing panics, every
//! error lies inside the text, what parses is written and reads back the same, and edits keep the ids of the rest.
#![no_main]

use dlm_doc::{Limits, Section, SectionKind, append_sections, check, migrate_text, parse, parse_bytes, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let report = check(bytes, &Limits::default());
    report.to_json();
    let parsed = match parse_bytes(bytes, &Limits::default()) {
        Ok(parsed) => parsed,
        Err(errors) => {
            let lines = String::from_utf8_lossy(bytes).replace("\r\n", "\n").matches(['\n', '\r']).count() + 1;
            assert!(errors.errors.iter().all(|error| (1..=lines).contains(&error.line) && error.col >= 1));
            return;
        }
    };
    let written = write(&parsed.document).expect("a parsed document can be written");
    let again = parse(&written).expect("a written document parses");
    let ids = |sections: &[Section]| sections.iter().map(Section::id).collect::<Vec<_>>();
    assert_eq!(ids(again.sections()), ids(parsed.sections()));
    assert_eq!(write(&again.document).expect("a canonical document can be written"), written);

    let text = std::str::from_utf8(bytes).expect("a parsed document is UTF-8");
    let added = Section::text(SectionKind::Instruction, "### Q\na\n### A\nb");
    let longer = append_sections(text, &[added]).expect("a section can be appended to any document");
    let longer = parse(&longer).expect("the longer document parses");
    assert_eq!(ids(&longer.sections()[..parsed.sections().len()]), ids(parsed.sections()));
    if let Ok(migrated) = migrate_text(text) {
        let migrated = parse(&migrated.text).expect("a migrated document parses");
        assert_eq!(ids(migrated.sections()), ids(parsed.sections()));
    }
});
