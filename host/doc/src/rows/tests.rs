//! The row grammar, each rule and each error of the table.

use super::*;

fn check_pairs(content: &str, expected: &[(&str, &str)]) {
    let found = pairs(content).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|pair| (pair.question.as_str(), pair.answer.as_str()))
        .collect();
    assert_eq!(found, expected, "{content:?}");
}

fn check_error(kind: SectionKind, content: &str, line: usize, words: &str) {
    let error = rows(&Section::text(kind, content)).unwrap_err();
    assert_eq!(error.section_line, line, "{content:?}: {error}");
    assert!(error.to_string().contains(words), "{content:?}: {error}");
}

#[test]
fn pairs_are_trimmed_outside_and_kept_inside() {
    check_pairs("### Q\nOne?\n\n### A\nUno.\n", &[("One?", "Uno.")]);
    check_pairs(
        "\n ### Q \n\n a\n\n b \n### A\n# c\n### d\n\n### Q\nx\n### A\ny",
        &[("a\n\n b", "# c\n### d"), ("x", "y")],
    );
    check_pairs(
        "### Q\na\u{b}b\u{85}c\u{2028}d\n### A\ne",
        &[("a\u{b}b\u{85}c\u{2028}d", "e")],
    );
}

#[test]
fn headers_inside_code_blocks_are_text() {
    check_pairs(
        "### Q\na\n### A\n```\n### Q\nb\n### A\n```\nend",
        &[("a", "```\n### Q\nb\n### A\n```\nend")],
    );
}

#[test]
fn probes_are_marked_with_exactly_one_space() {
    let found = pairs("### Q !probe\na\n### A\nb\n### Q\nc\n### A\n```\n### Q !probe\n```").unwrap();
    assert_eq!((found[0].is_probe, found[1].is_probe), (true, false));
    assert!(found[1].answer.contains("!probe"));
    check_error(
        SectionKind::Instruction,
        "### Q  !probe\na\n### A\nb",
        1,
        "expected `### Q`, found `### Q  !probe`",
    );
    check_error(SectionKind::Preference, "### Q !probe\na", 1, "expected `### Prompt`");
}

#[test]
fn triples_repeat_in_order() {
    let found =
        triples("### Prompt\np\n### Chosen\nc\n### Rejected\nr\n\n### Prompt\nP\n### Chosen\nC\n### Rejected\nR")
            .unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (
            found[1].prompt.as_str(),
            found[1].chosen.as_str(),
            found[1].rejected.as_str()
        ),
        ("P", "C", "R")
    );
    assert_eq!(found[1].section_line, 8);
}

#[test]
fn instruction_errors() {
    let check = |content, line, words| check_error(SectionKind::Instruction, content, line, words);
    check("", 1, "no question and answer pairs");
    check("\n \n\t\n", 1, "no question and answer pairs");
    check("\nhello\n### Q", 2, "expected `### Q`, found `hello`");
    check("### Q why?\na", 1, "found `### Q why?`");
    check("### A\na", 1, "expected `### Q`, found `### A`");
    check("### Q\na\n### Q\nb", 3, "expected `### A`, found `### Q`");
    check("### Q\na\n### A\nb\n### A\nc", 5, "expected `### Q`, found `### A`");
    check("### Q\n\n### A\nb", 3, "empty body under `### Q`");
    check("### Q\na\n### A\n \n### Q\nb\n### A\nc", 5, "empty body under `### A`");
    check("### Q\na\n### A", 4, "empty body under `### A`");
    check("### Q\na", 3, "ends without the `### A`");
    check("### q\na", 1, "found `### q`");
}

#[test]
fn preference_errors() {
    let check = |content, line, words| check_error(SectionKind::Preference, content, line, words);
    check("", 1, "no preference triples");
    check(
        "### Prompt\np\n### Rejected\nr",
        3,
        "expected `### Chosen`, found `### Rejected`",
    );
    check(
        "### Prompt\np\n### Chosen\nc",
        5,
        "ends without the `### Rejected` that belongs to the `### Chosen` on line 3",
    );
    check(
        "### Prompt\np\n### Chosen\n### Rejected\nr",
        4,
        "empty body under `### Chosen`",
    );
}

#[test]
fn the_line_of_the_file_counts_fence_and_markers() {
    let mut section = Section::text(SectionKind::Instruction, "### Q\na\nb");
    section.start_line = 10;
    section.marker_lines = 2;
    let error = rows(&section).unwrap_err();
    assert_eq!((error.section_line, error.line), (4, 16));
}

#[test]
fn every_broken_record_is_told_once_with_lines_of_the_file() {
    let content = "### Q\na\n### Q\nb\n### A\nc\n### Q\n\n### A\nd\n### Q\ne";
    let mut section = Section::text(SectionKind::Instruction, content);
    section.start_line = 10;
    let errors = all_rows(&section).unwrap_err();
    let told: Vec<String> = errors.iter().map(|error| format!("{}: {error}", error.line)).collect();
    assert_eq!(
        told,
        [
            "13: expected `### A`, found `### Q`",
            "19: empty body under `### Q`",
            "23: the section ends without the `### A` that belongs to the `### Q` on line 21",
        ]
    );
    assert_eq!(rows(&section).unwrap_err(), errors[0]);
}
