//! Properties of parsing, writing and editing over generated documents.

use dlm_doc::write::is_same;
use dlm_doc::{
    AutoMined, AutoSynth, Document, Frontmatter, Limits, Media, ParseErrors, Section, SectionKind, Ulid,
    append_sections, check, migrate_text, parse, parse_bytes, remove_sections, rows, write,
};
use proptest::prelude::*;

/// Lines in which every rule of the body grammar has a chance to fire.
fn line() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "",
        " ",
        "\t",
        "text",
        "::",
        "::prose::",
        "::prose#a::",
        "::instruction::",
        " ::instruction::\t",
        "::preference::",
        "::preference#tone::",
        "::Instruction::",
        "::note::",
        ":: prose ::",
        "::image path=\"a.png\"::",
        "::image path=\"a\" alt=\"b\"::",
        "::audio path=\"a\" transcript=\"t\"::",
        "::image::",
        "```",
        "````",
        "  ```rust",
        "```x```",
        "~~~",
        "### Q",
        "### A",
        "### Q !probe",
        "### Prompt",
        "### Chosen",
        "### Rejected",
        "---",
        "<!-- dlm-auto-harvest: source=\"x\" -->",
        "<!-- dlm-auto-mined: x -->",
        "<!-- dlm-auto-harvest: source=\"\" --> ",
        "\u{feff}",
        "\u{a0}",
        "a\u{2028}b",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => "[ -~é\u{85}\u{0}]{0,12}"]
}

fn yaml_line() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7",
        "base_model: a",
        "dlm_version: 1",
        "dlm_version: 99",
        "training:",
        "  lora_r: 4",
        "  lora_r: 0",
        "  dpo: {beta: 0.3}",
        "  dpo:",
        "    beta: 0.3",
        "    enabled: true",
        "- a",
        "a: [",
        "? b",
        "<<: *x",
        "a: &x {b: c}",
        "# c",
        "",
        "\t",
        "export: null",
        "'",
        "{",
        "|",
        "  adapters: {a: {}}",
        "system_prompt: |",
        "...",
        "%YAML 1.1",
        "a: !!int x",
        "é: 1",
        "*x : 1",
    ]);
    prop_oneof![6 => fixed.prop_map(str::to_owned), 1 => "[ -~é]{0,12}"]
}

fn newline() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\r"])
}

fn joined(lines: impl Strategy<Value = String>, max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec((lines, newline()), 0..max)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

/// A whole file, mostly well-formed at the top.
fn file() -> impl Strategy<Value = String> {
    let good = Just("dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\n".to_owned());
    let front = prop_oneof![3 => good, 1 => joined(yaml_line(), 8)];
    (front, joined(line(), 16)).prop_map(|(front, body)| format!("---\n{front}---\n{body}"))
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z é#:*&!|>'%@`,?\\[\\]{}\\\\\"-]{0,12}",
        "[0-9:._eE+-]{1,6}",
        "(yes|no|on|null|~|true|0x1f|1_000|2024-01-31)"
    ]
}

fn prompt() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::collection::vec(words(), 0..5).prop_map(|lines| lines.join("\n")))
}

fn frontmatter() -> impl Strategy<Value = Frontmatter> {
    (
        any::<[u8; 10]>(),
        words().prop_filter("not empty", |w| !w.is_empty()),
        prompt(),
        any::<(i64, bool)>(),
        1e-9..1.0f64,
    )
        .prop_map(|(random, base, prompt, (seed, is_explicit), rate)| {
            let mut frontmatter = Frontmatter::new(Ulid::mint(1, random), base);
            frontmatter.system_prompt = prompt;
            frontmatter.training.seed = seed;
            frontmatter.training.learning_rate = rate;
            if is_explicit {
                frontmatter.written.insert("training.lora_r");
            }
            frontmatter
        })
}

fn section() -> impl Strategy<Value = Section> {
    let content = prop::collection::vec(prop_oneof![3 => "[a-zé ]{0,8}", 1 => line()], 0..6).prop_map(|l| l.join("\n"));
    let kind = prop::sample::select(SectionKind::ALL.to_vec());
    (
        kind,
        content,
        prop::option::of("[a-z][a-z0-9_]{0,5}"),
        any::<(bool, f64)>(),
    )
        .prop_map(|(kind, content, adapter, (has_marker, score))| {
            let mut section = Section::text(kind, content);
            match kind {
                SectionKind::Image => {
                    section.media = Some(Media {
                        path: "a.png".to_owned(),
                        ..Media::default()
                    })
                }
                SectionKind::Audio => {
                    let transcript = Some("t".to_owned());
                    section.media = Some(Media {
                        path: "a.wav".to_owned(),
                        transcript,
                        ..Media::default()
                    });
                }
                _ => section.adapter = adapter,
            }
            if has_marker && kind == SectionKind::Preference {
                section.mined = Some(AutoMined {
                    judge_name: "j".to_owned(),
                    judge_score_chosen: if score.is_finite() { score } else { 0.5 },
                    judge_score_rejected: -1.5,
                    mined_at: "2026-01-31".to_owned(),
                    mined_run_id: 1,
                });
            }
            if has_marker && kind == SectionKind::Instruction {
                section.harvest_source = Some("h".to_owned());
                section.synth = Some(AutoSynth {
                    synth_teacher: "t".to_owned(),
                    synth_strategy: "s".to_owned(),
                    synth_at: "2026-01-31".to_owned(),
                    source_section_id: section.id(),
                });
            }
            section
        })
}

/// Every place of a report lies inside the text.
fn check_spans(text: &str, errors: &ParseErrors) {
    let normal = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let lines: Vec<&str> = normal.split('\n').collect();
    assert!(!errors.errors.is_empty());
    let problems = errors
        .errors
        .iter()
        .flat_map(|e| e.problems.iter().map(|p| (p.line, p.col, p.message.as_str())));
    let places = errors
        .errors
        .iter()
        .map(|e| (e.line, e.col, e.message.as_str()))
        .chain(problems);
    for (line, col, message) in places {
        let inside = line >= 1 && line <= lines.len() && col >= 1 && col <= lines[line - 1].chars().count() + 1;
        assert!(inside, "{line}:{col} {message} is outside of {text:?}");
    }
    for warning in &errors.warnings {
        assert!(warning.line >= 1 && warning.line <= lines.len());
    }
}

fn ids(sections: &[Section]) -> Vec<String> {
    sections.iter().map(|section| section.id().to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics_and_every_error_has_a_place(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        if let Err(errors) = parse(&text) {
            check_spans(&text, &errors);
        }
        let framed = format!("---\n{text}\n---\n{text}");
        if let Err(errors) = parse(&framed) {
            check_spans(&framed, &errors);
        }
        check(&bytes, &Limits::default()).to_json();
        prop_assert_eq!(parse_bytes(text.as_bytes(), &Limits::default()), parse(&text));
    }

    #[test]
    fn likely_text_never_panics_and_every_error_has_a_place(text in file()) {
        match parse(&text) {
            Err(errors) => check_spans(&text, &errors),
            Ok(parsed) => {
                for section in parsed.sections() {
                    let lines = section.content.split('\n').count();
                    if let Err(error) = rows(section) {
                        prop_assert!(error.section_line >= 1 && error.section_line <= lines + 1);
                    }
                }
                check(text.as_bytes(), &Limits::default()).to_json();
            }
        }
    }

    #[test]
    fn parse_write_parse_is_identity(text in file()) {
        if let Ok(parsed) = parse(&text) {
            let written = write(&parsed.document).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            let again = parse(&written).unwrap();
            prop_assert_eq!(again.frontmatter(), parsed.frontmatter());
            prop_assert_eq!(again.sections().len(), parsed.sections().len());
            prop_assert!(again.sections().iter().zip(parsed.sections()).all(|(l, r)| is_same(l, r)));
            prop_assert_eq!(write(&again.document).unwrap(), written);
        }
    }

    #[test]
    fn what_is_written_reads_back(frontmatter in frontmatter(), sections in prop::collection::vec(section(), 0..5)) {
        let document = Document { frontmatter, sections };
        let empty = Document { sections: Vec::new(), ..document.clone() };
        let head = write(&empty).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let parsed = parse(&head).unwrap();
        prop_assert_eq!(&parsed.frontmatter().system_prompt, &document.frontmatter.system_prompt);
        // The sections may hold fences of their own; then the writer must refuse, never write something else.
        if let Ok(text) = write(&document) {
            let parsed = parse(&text).unwrap();
            prop_assert_eq!(ids(parsed.sections()), ids(&document.sections));
            prop_assert_eq!(write(&parsed.document).unwrap(), text);
        }
    }

    #[test]
    fn ids_survive_edits_elsewhere(text in file(), section in section(), pick in any::<prop::sample::Index>()) {
        let Ok(before) = parse(&text) else { return Ok(()) };
        if let Ok(longer) = append_sections(&text, std::slice::from_ref(&section)) {
            prop_assert!(longer.starts_with(&text));
            let after = parse(&longer).unwrap();
            let mut expected = ids(before.sections());
            expected.push(section.id().to_string());
            prop_assert_eq!(ids(after.sections()), expected);
        }
        if !before.sections().is_empty() {
            let index = pick.index(before.sections().len());
            let shorter = remove_sections(&text, &[index]).map_err(|error| TestCaseError::fail(format!("{error}\n{text:?}")))?;
            let mut expected = ids(before.sections());
            expected.remove(index);
            prop_assert_eq!(ids(parse(&shorter).unwrap().sections()), expected);
        }
        if let Ok(migrated) = migrate_text(&text) {
            prop_assert_eq!(ids(parse(&migrated.text).unwrap().sections()), ids(before.sections()));
        }
    }
}

/// Forty thousand sections in one file: anything quadratic in lines or sections would show as a test that hangs.
#[test]
fn large_documents_parse() {
    let head = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\n---\n\n";
    let body = "A line of prose.\n::instruction::\n### Q\nq\n### A\na\n```\n::x::\n```\n::prose::\n".repeat(20_000);
    let parsed = parse(&format!("{head}{body}")).unwrap();
    assert_eq!(parsed.sections().len(), 40_000);
}
