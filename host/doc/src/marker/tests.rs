//! Reading and writing of markers, each rule of the table once.

use super::*;

const MINED_LINE: &str = "<!-- dlm-auto-mined: judge_name=\"sway\" judge_score_chosen=\"0.75\" judge_score_rejected=\"1.25\" mined_at=\"2026-01-31T10:00:00Z\" mined_run_id=\"7\" -->";
const SYNTH_LINE: &str = "<!-- dlm-auto-synth: synth_teacher=\"self\" synth_strategy=\"extraction\" synth_at=\"2026-01-31\" source_section_id=\"0123456789abcdef\" -->";

fn read_error(line: &str, kind: SectionKind) -> String {
    match read(line, kind) {
        Some(Err(error)) => error.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

fn rewrite(marker: &Marker, kind: SectionKind) -> String {
    let lines = match marker {
        Marker::Harvest(source) => write(kind, Some(source), None, None),
        Marker::Mined(mined) => write(kind, None, Some(mined), None),
        Marker::Synth(synth) => write(kind, None, None, Some(synth)),
    };
    lines.unwrap().join("\n")
}

#[test]
fn markers_read_and_write_back() {
    let cases = [
        ("<!-- dlm-auto-harvest: source=\"\" -->", SectionKind::Instruction),
        ("<!-- dlm-auto-harvest: source=\"sway/x\" -->", SectionKind::Preference),
        (MINED_LINE, SectionKind::Preference),
        (SYNTH_LINE, SectionKind::Instruction),
    ];
    for (line, kind) in cases {
        let marker = read(line, kind).unwrap().unwrap();
        assert_eq!(rewrite(&marker, kind), line);
    }
}

#[test]
fn the_wrong_type_or_shape_is_content() {
    for (line, kind) in [
        (MINED_LINE, SectionKind::Instruction),
        (SYNTH_LINE, SectionKind::Preference),
        (SYNTH_LINE, SectionKind::Prose),
        ("<!-- dlm-auto-harvest: source=\"x\" -->", SectionKind::Prose),
        ("<!-- dlm-auto-harvest: source=\"x\" --> ", SectionKind::Instruction),
        (" <!-- dlm-auto-harvest: source=\"x\" -->", SectionKind::Instruction),
        ("<!-- dlm-auto-harvest: source=\"x\"y\" -->", SectionKind::Instruction),
        ("<!-- dlm-auto-mined:-->", SectionKind::Preference),
        ("text", SectionKind::Instruction),
    ] {
        assert_eq!(read(line, kind), None, "{line}");
    }
}

#[test]
fn every_rule_has_a_message() {
    let mined = |from: &str, to: &str| read_error(&MINED_LINE.replace(from, to), SectionKind::Preference);
    assert!(mined("judge_name=\"sway\" ", "").contains("lacks `judge_name`"));
    assert!(mined("judge_name=", "judge=").contains("unknown attribute `judge`"));
    assert!(mined("mined_at", "judge_name").contains("`judge_name` is repeated"));
    assert!(mined("0.75", "nan").contains("`judge_score_chosen` of marker `dlm-auto-mined` must be a finite"));
    assert!(mined("1.25", "1e999").contains("judge_score_rejected"));
    assert!(mined("2026-01-31T10:00:00Z", "yesterday").contains("ISO-8601"));
    assert!(mined("\"7\"", "\"0\"").contains("integer >= 1"));
    assert!(mined("\"7\"", "\"+7\"").contains("integer >= 1"));
    assert!(mined("judge_name=\"sway\"", "judge_name='sway'").contains("invalid syntax"));
    let bare = read_error("<!-- dlm-auto-mined: -->", SectionKind::Preference);
    assert!(bare.contains("invalid syntax"), "{bare}");
    let synth = |from: &str, to: &str| read_error(&SYNTH_LINE.replace(from, to), SectionKind::Instruction);
    assert!(synth("\"self\"", "\"\"").contains("`synth_teacher` of marker `dlm-auto-synth` must be not empty"));
    assert!(synth("0123456789abcdef", "0123456789ABCDEF").contains("16 lower-case hex digits"));
}

#[test]
fn times() {
    for good in [
        "2026-01-31",
        "20260131",
        "2024-02-29",
        "2026-01-31T10:00",
        "2026-01-31 10:00:59.123456+02:00",
        "2026-01-31T10Z",
        "20260131T100000-0130",
    ] {
        assert!(is_iso_8601(good), "{good}");
    }
    for bad in [
        "",
        "2026",
        "2026-13-01",
        "2026-02-29",
        "2026-1-1",
        "2026-01-31T",
        "2026-01-31T24:00",
        "2026-01-31T10:60",
        "2026-01-31X10:00",
        "2026-01-31T10:00:00.",
        "2026-01-31T10:00.5",
        "2026-01-31T10:00+",
        "31-01-2026",
        "２026-01-31",
    ] {
        assert!(!is_iso_8601(bad), "{bad}");
    }
}

#[test]
fn floats_print_in_their_shortest_form() {
    for (value, expected) in [
        (0.75, "0.75"),
        (1.25, "1.25"),
        (0.0, "0.0"),
        (-3.0, "-3.0"),
        (1e-7, "1e-07"),
        (1e16, "1e+16"),
        (0.1, "0.1"),
    ] {
        assert_eq!(float(value), expected);
        assert_eq!(decimal(expected), Some(value));
    }
}

#[test]
fn what_would_not_read_back_is_refused() {
    for source in ["a\"b", "a\nb", "a\rb"] {
        let error = write(SectionKind::Instruction, Some(source), None, None).unwrap_err();
        assert!(
            matches!(error, MarkerWriteError::Character { key: "source", .. }),
            "{error}"
        );
    }
    let Some(Ok(Marker::Mined(mut mined))) = read(MINED_LINE, SectionKind::Preference) else {
        panic!()
    };
    let place = write(SectionKind::Instruction, None, Some(&mined), None).unwrap_err();
    assert!(matches!(place, MarkerWriteError::Place { .. }), "{place}");
    mined.judge_score_chosen = f64::INFINITY;
    let rule = write(SectionKind::Preference, None, Some(&mined), None).unwrap_err();
    assert!(matches!(rule, MarkerWriteError::Rule { .. }), "{rule}");
}

#[test]
fn names_of_tools_survive_a_marker() {
    for name in [
        "sway:preference_judge",
        r#"cli:python -c "print(1)""#,
        "cli:judge --strict ---x % %25 100%22",
        "hf:a/\"b\"\r\nc",
    ] {
        let encoded = encode_name(name);
        assert!(
            !encoded.contains(['"', '\n', '\r']) && !encoded.contains("--"),
            "{encoded}"
        );
        assert_eq!(decode_name(&encoded), name);
        let mined = AutoMined {
            judge_name: encoded.clone(),
            judge_score_chosen: 0.5,
            judge_score_rejected: -1.0,
            mined_at: "2026-04-23T18:42:11Z".into(),
            mined_run_id: 7,
        };
        let lines = write(SectionKind::Preference, None, Some(&mined), None).unwrap();
        let Some(Ok(Marker::Mined(found))) = read(&lines[0], SectionKind::Preference) else {
            panic!("{lines:?}")
        };
        assert_eq!(found.judge_name, encoded);
    }
    assert_eq!(decode_name("plain - name"), "plain - name");
}
