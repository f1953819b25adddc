//! `dlm check`: every kind of error has its place and excerpt; no store is touched.

use crate::lab::{ID, Lab};

#[test]
fn a_good_document_is_described_and_no_home_is_made() {
    let lab = Lab::new();
    lab.document();
    let ran = lab.run(&["check", "a.dlm"]).ok();
    insta::assert_snapshot!(ran.out, @r#"
    a.dlm
      id        01HF7YAT0004106R0430MG2000
      base      smollm2-135m (not on this machine, so its files were not judged)
      version   15 (current)
      sections  2
        line  type         id                adapter  holds
        7     prose        dd2f4e53501d4a34  -        12 characters
        9     instruction  e2fec986a6b78873  -        1 pair(s)
      no problems
    "#);
    assert_eq!(ran.err, "");
    assert!(!lab.path("home").exists());
}

#[test]
fn json_holds_everything_that_was_parsed() {
    let lab = Lab::new();
    lab.document();
    let report = lab.json(&["check", "a.dlm", "--json"]);
    assert_eq!(report["frontmatter"]["dlm_id"], ID);
    assert_eq!(report["frontmatter"]["training"]["lora_r"], 8);
    assert_eq!(report["sections"][1]["rows"]["pairs"][0]["answer"], "That.");
    assert_eq!(report["sections"][1]["type"], "instruction");
    assert_eq!(report["warnings"], serde_json::json!([]));
}

/// One broken text per kind of error: the text, the class, the place.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let head = format!("---\ndlm_id: {ID}\ndlm_version: 15\nbase_model: smollm2-135m\n");
    let with = |tail: &str| format!("{head}{tail}").into_bytes();
    vec![
        ("no frontmatter", b"just text\n".to_vec(), "FrontmatterError", "1:1"),
        ("not closed", with("\ntext\n"), "FrontmatterError", "1:1"),
        ("not yaml", with("training: [\n---\n"), "FrontmatterError", "6:"),
        (
            "unknown key",
            with("trainnig: {}\n---\n"),
            "SchemaValidationError",
            "5:1",
        ),
        (
            "bad value",
            with("training:\n  lora_r: none\n---\n"),
            "SchemaValidationError",
            "6:",
        ),
        (
            "newer version",
            (head.replace("version: 15", "version: 16") + "---\n").into_bytes(),
            "VersionError",
            "3:1",
        ),
        ("fence", with("---\n\n::teach::\n"), "FenceError", "7:1"),
        (
            "encoding",
            [&with("---\n\nab")[..], b"\xff\n"].concat(),
            "EncodingError",
            "7:3",
        ),
    ]
}

#[test]
fn every_kind_of_error_shows_file_line_column_and_excerpt() {
    for (name, text, class, place) in broken() {
        let lab = Lab::new();
        lab.write("a.dlm", &text);
        let ran = lab.run(&["check", "a.dlm"]).exits(1);
        let start = format!("parse: a.dlm:{place}");
        assert!(ran.err.starts_with(&start), "{name}: expected {start} in\n{}", ran.err);
        assert!(
            ran.err.contains(class) && ran.err.contains(" | "),
            "{name}:\n{}",
            ran.err
        );
        assert_eq!(ran.out, "", "{name}");
        let json = lab.run(&["check", "a.dlm", "--json"]).exits(1);
        let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(report["errors"][0]["class"], class, "{name}");
        assert!(report["errors"][0]["line"].as_u64().unwrap() >= 1, "{name}");
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let lab = Lab::new();
    lab.write(
        "a.dlm",
        "---\ndlm_id: short\nbase_modle: x\n---\n\n::teach::\n\n::also::\n",
    );
    let ran = lab.run(&["check", "a.dlm"]).exits(1);
    insta::assert_snapshot!(ran.err, @r#"
    parse: a.dlm:2:1: SchemaValidationError: dlm_id: expected a ULID (26 characters): `short` has `s` at position 1, expected upper-case Crockford base 32 (no I, L, O, U)
      2 | dlm_id: short
        | ^
    a.dlm:2:1: SchemaValidationError: base_model: required key is missing
      2 | dlm_id: short
        | ^
      hint: add `base_model: smollm2-135m`
    a.dlm:3:1: SchemaValidationError: base_modle: unknown key, did you mean `base_model`?
      3 | base_modle: x
        | ^
      hint: write `base_model` instead of `base_modle`
    a.dlm:6:1: FenceError: unknown section type in `::teach::`, expected one of `prose`, `instruction`, `preference`, `image`, `audio`
      6 | ::teach::
        | ^
      hint: put the line inside a code block if it is text
    a.dlm:8:1: FenceError: unknown section type in `::also::`, expected one of `prose`, `instruction`, `preference`, `image`, `audio`
      8 | ::also::
        | ^
      hint: put the line inside a code block if it is text
    "#);
}

#[test]
fn rows_that_training_would_refuse_are_told_with_their_line() {
    let lab = Lab::new();
    let path = lab.document();
    let text = std::fs::read_to_string(&path).unwrap();
    lab.write("a.dlm", text.replace("### A\n", ""));
    let ran = lab
        .run(&["check", "a.dlm"])
        .exits(1)
        .says(&["parse: a.dlm:14:1: InstructionGrammarError"]);
    assert!(ran.out.contains("1 problem(s)"), "{}", ran.out);
    // The JSON lists them, and its exit code says whether the file parsed.
    lab.run(&["check", "a.dlm", "--json"]).ok();
}

#[test]
fn a_document_that_parses_and_cannot_be_trained_is_told() {
    let lab = Lab::new();
    let path = lab.document();
    let text = std::fs::read_to_string(&path).unwrap();
    lab.write("base.dlm", text.replace("smollm2-135m", "smollm2-135n"));
    lab.run(&["check", "base.dlm"])
        .ok()
        .says(&["`dlm train` refuses it", "smollm2-135n"]);
    lab.write("prose.dlm", text.replace("::instruction::\n", ""));
    lab.run(&["check", "prose.dlm"]).ok().says(&["put `::instruction::`"]);
}

#[test]
fn a_missing_file_and_a_directory_are_refused() {
    let lab = Lab::new();
    lab.run(&["check", "none.dlm"])
        .exits(1)
        .says(&["doc: none.dlm does not exist", "  make a document: `dlm init none.dlm`"]);
    std::fs::create_dir(lab.path("b.dlm")).unwrap();
    lab.run(&["check", "b.dlm"]).exits(1).says(&["b.dlm is a directory"]);
}
