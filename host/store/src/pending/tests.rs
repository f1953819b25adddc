//! Staged plans: exact bytes, round trips, and every refusal with its place.

use dlm_core::{AutoMined, AutoSynth, SectionKind};

use super::*;

fn plan() -> PendingPlan {
    let mut mined = Section::text(SectionKind::Preference, "### Prompt\np\n### Chosen\nc\n### Rejected\nr");
    mined.mined = Some(AutoMined {
        judge_name: "sway:preference_judge".into(),
        judge_score_chosen: 1.0,
        judge_score_rejected: -0.25,
        mined_at: "2026-04-19T18:30:14Z".into(),
        mined_run_id: 7,
    });
    let mut synth = Section::text(SectionKind::Instruction, "### Q\nq\n### A\nä");
    synth.synth = Some(AutoSynth {
        synth_teacher: "self".into(),
        synth_strategy: "extraction".into(),
        synth_at: "2026-04-19T18:30:14Z".into(),
        source_section_id: "b6b7d8a2f4b3f9c0".parse().unwrap(),
    });
    PendingPlan {
        source_path: "/notes/a.dlm".into(),
        created_at: Stamp::from_unix_ms(1_776_623_414_000),
        dlm_id: Some("01HZ4X7TGZM3J1A2B3C4D5E6F7".parse().unwrap()),
        made_from: vec!["0123456789abcdef".parse().unwrap()],
        sections: vec![mined, synth],
    }
}

#[test]
fn a_plan_reads_back_and_its_bytes_are_fixed() {
    let text = write(&plan());
    assert_eq!(read(text.as_bytes()).unwrap(), plan());
    assert!(text.starts_with("{\n  \"created_at\": \"2026-04-19T18:30:14Z\",\n  \"dlm_id\": "));
    assert!(
        text.contains("\"judge_score_chosen\": 1.0,") && text.contains("A\\nä"),
        "{text}"
    );
    let keys: Value = serde_json::from_str(&text).unwrap();
    let mut names: Vec<&String> = keys["sections"][0].as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names.len(), 22);
    assert!(text.ends_with("}\n"));
}

#[test]
fn a_file_of_the_reference_without_optional_keys_is_read() {
    let text = r#"{"schema_version": 1, "source_path": "/a", "created_at": "2026-04-19T18:30:14Z",
        "sections": [{"type": "instruction", "content": "x"}]}"#;
    let read = read(text.as_bytes()).unwrap();
    assert_eq!(read.sections, [Section::text(SectionKind::Instruction, "x")]);
    assert_eq!((read.dlm_id, read.made_from.len()), (None, 0));
}

#[test]
fn every_flaw_is_told_with_its_place() {
    let head = r#""source_path": "/a", "created_at": "2026-04-19T18:30:14Z""#;
    let section = |fields: &str| {
        format!(r#"{{"schema_version": 1, {head}, "sections": [{{"type": "prose", "content": ""}}, {fields}]}}"#)
    };
    let cases = [
        ("[]".to_owned(), "a list, expected an object"),
        ("{".to_owned(), "invalid JSON"),
        (format!("{{{head}, \"sections\": []}}"), "`schema_version` is missing"),
        (
            format!("{{\"schema_version\": 2, {head}, \"sections\": []}}"),
            "`schema_version` is 2",
        ),
        (format!("{{\"schema_version\": 1, {head}}}"), "`sections` is missing"),
        (
            format!("{{\"schema_version\": 1, {head}, \"sections\": {{}}}}"),
            "`sections` is an object",
        ),
        (
            r#"{"schema_version": 1, "source_path": "/a", "created_at": "yesterday", "sections": []}"#.to_owned(),
            "`created_at` is `yesterday`",
        ),
        (section("7"), "section 1: it is a number"),
        (section(r#"{"content": ""}"#), "section 1: `type` is missing"),
        (
            section(r#"{"type": "poem", "content": ""}"#),
            "section 1: `type` is `poem`",
        ),
        (
            section(r#"{"type": "prose", "content": 5}"#),
            "section 1: `content` is 5",
        ),
        (
            section(r#"{"type": "preference", "content": "", "auto_mined": true}"#),
            "section 1: `judge_name` is missing",
        ),
        (
            section(r#"{"type": "prose", "content": "", "tags": {"a": 1}}"#),
            "section 1: `tags` is 1, expected an object of texts",
        ),
    ];
    for (text, expected) in cases {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} should contain {expected}");
    }
}
