//! The canonical writer: exact texts, round trips and refusals.

use dlm_core::training::TargetModules;
use dlm_core::{AutoMined, AutoSynth, Media};

use super::*;
use crate::frontmatter::Frontmatter;

fn document(sections: Vec<Section>) -> Document {
    let id = "01HZ4X7TGZM3J1A2B3C4D5E6F7".parse().unwrap();
    Document {
        frontmatter: Frontmatter::new(id, "smollm2-135m"),
        sections,
    }
}

fn round_trip(document: &Document) -> String {
    let text = write(document).unwrap_or_else(|error| panic!("{error}"));
    let parsed = parse(&text).unwrap();
    assert!(
        document
            .sections
            .iter()
            .zip(parsed.sections())
            .all(|(left, right)| is_same(left, right)),
        "{text}"
    );
    assert_eq!(write(&parsed.document).unwrap(), text);
    text
}

#[test]
fn sections_of_every_kind() {
    let mut preference = Section::text(
        SectionKind::Preference,
        "### Prompt\np\n### Chosen\nc\n### Rejected\nr\n",
    );
    preference.adapter = Some("tone".to_owned());
    preference.harvest_source = Some("logs".to_owned());
    preference.mined = Some(AutoMined {
        judge_name: "sway".to_owned(),
        judge_score_chosen: 0.75,
        judge_score_rejected: 0.0,
        mined_at: "2026-01-31T10:00:00Z".to_owned(),
        mined_run_id: 3,
    });
    let mut synth = Section::text(SectionKind::Instruction, "");
    synth.synth = Some(AutoSynth {
        synth_teacher: "self".to_owned(),
        synth_strategy: "extraction".to_owned(),
        synth_at: "2026-01-31".to_owned(),
        source_section_id: "0123456789abcdef".parse().unwrap(),
    });
    let mut image = Section::text(SectionKind::Image, "A caption.");
    image.media = Some(Media {
        path: "figures/a.png".to_owned(),
        alt: Some("a".to_owned()),
        ..Media::default()
    });
    let mut audio = Section::text(SectionKind::Audio, "");
    audio.media = Some(Media {
        path: "a.wav".to_owned(),
        transcript: Some("hello".to_owned()),
        ..Media::default()
    });
    let prose = Section::text(SectionKind::Prose, "Back to prose.\n\n```\n::instruction::\n```");
    let text = round_trip(&document(vec![
        Section::text(SectionKind::Prose, "\n\nFirst.\n"),
        preference,
        synth,
        image,
        prose,
        audio,
    ]));
    insta::assert_snapshot!(text.replace('"', "'"), @r"
    ---
    dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
    dlm_version: 15
    base_model: smollm2-135m
    ---



    First.

    ::preference#tone::
    <!-- dlm-auto-harvest: source='logs' -->
    <!-- dlm-auto-mined: judge_name='sway' judge_score_chosen='0.75' judge_score_rejected='0.0' mined_at='2026-01-31T10:00:00Z' mined_run_id='3' -->
    ### Prompt
    p
    ### Chosen
    c
    ### Rejected
    r

    ::instruction::
    <!-- dlm-auto-synth: synth_teacher='self' synth_strategy='extraction' synth_at='2026-01-31' source_section_id='0123456789abcdef' -->

    ::image path='figures/a.png' alt='a'::
    A caption.
    ::prose::
    Back to prose.

    ```
    ::instruction::
    ```
    ::audio path='a.wav' transcript='hello'::

    ");
}

#[test]
fn a_first_prose_section_with_adapter_has_its_fence() {
    let mut prose = Section::text(SectionKind::Prose, "a");
    prose.adapter = Some("tone".to_owned());
    assert!(round_trip(&document(vec![prose])).ends_with("---\n\n::prose#tone::\na\n"));
}

#[test]
fn what_would_read_back_differently_is_refused() {
    let refused =
        |section: Section| write(&document(vec![Section::text(SectionKind::Prose, "a"), section])).unwrap_err();
    let text = |kind, content| Section::text(kind, content);
    assert!(matches!(
        refused(text(SectionKind::Prose, "x\n::prose::\ny")),
        WriteError::SectionChanges { index: 1, .. }
    ));
    assert!(matches!(
        refused(text(SectionKind::Prose, "x\n::what::")),
        WriteError::DoesNotParse(_)
    ));
    assert!(matches!(
        refused(text(SectionKind::Prose, "```")),
        WriteError::DoesNotParse(_)
    ));
    assert!(matches!(
        refused(text(SectionKind::Prose, " \n")),
        WriteError::SectionCount { intended: 2, found: 1 }
    ));
    assert!(matches!(
        refused(text(SectionKind::Prose, "a\rb")),
        WriteError::SectionChanges { .. }
    ));
    let marker = text(
        SectionKind::Instruction,
        "<!-- dlm-auto-harvest: source=\"x\" -->\n### Q",
    );
    assert!(matches!(refused(marker), WriteError::SectionChanges { .. }));
    let mut image = text(SectionKind::Image, "");
    image.media = Some(Media {
        path: "a\"b".to_owned(),
        ..Media::default()
    });
    assert!(matches!(
        refused(image.clone()),
        WriteError::Attribute { key: "path", .. }
    ));
    image.media = Some(Media {
        path: "a".to_owned(),
        blob_sha: Some("0".repeat(64)),
        ..Media::default()
    });
    assert!(matches!(refused(image), WriteError::NotFromText { .. }));
}

#[test]
fn every_key_is_written_in_schema_order_and_only_when_needed() {
    let source = "---
system_prompt: |
  Be brief.

  Be kind.
export: {default_top_p: 0.9, default_temperature: null, default_quant: Q8_0}
training:
  holdout: yes
  audio: {auto_resample: on}
  cache: {max_bytes: 10_737_418_240, enabled: off}
  gate: {enabled: true, steps: 300}
  sources_policy: strict
  sources:
    - {include: ['*.md'], path: './a b', max_files: 3}
    - path: ~/notes
  precision: bf16
  adapters:
    'on': {learning_rate: 1e-3}
    tone:
  cpt: {schedule: dapt}
  preference: {hyperparams: {beta: 0.1}, method: orpo}
  seed: -1
  lora_r: 8
base_model: hf:org/name
dlm_version: 15
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
---
";
    let error = parse(source).unwrap_err();
    assert_eq!(
        error.first().message,
        "training.adapters.tone: expected a mapping, found null"
    );
    let parsed = parse(&source.replace("    tone:\n", "    tone: {}\n")).unwrap();
    insta::assert_snapshot!(round_trip(&parsed.document).replace('"', "'"), @r"
    ---
    dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
    dlm_version: 15
    base_model: hf:org/name
    training:
      lora_r: 8
      seed: -1
      preference:
        method: orpo
        hyperparams:
          beta: 0.1
      cpt:
        schedule: dapt
      adapters:
        'on':
          learning_rate: 0.001
        tone: {}
      precision: bf16
      sources:
        - path: ./a b
          include: ['*.md']
          max_files: 3
        - path: ~/notes
      sources_policy: strict
      gate:
        enabled: true
        steps: 300
      cache:
        enabled: false
        max_bytes: 10737418240
      audio:
        auto_resample: true
      holdout: true
    export:
      default_quant: Q8_0
      default_temperature: null
      default_top_p: 0.9
    system_prompt: |2
      Be brief.

      Be kind.
    ---

    ");
}

#[test]
fn strings_that_would_not_read_back_plainly_are_quoted() {
    for (text, expected) in [
        ("plain words", "plain words"),
        ("yes", "\"yes\""),
        ("16", "\"16\""),
        ("1_000", "\"1_000\""),
        ("2024-01-31", "\"2024-01-31\""),
        ("null", "\"null\""),
        ("~", "\"~\""),
        ("", "\"\""),
        (" a", "\" a\""),
        ("a ", "\"a \""),
        ("a: b", "\"a: b\""),
        ("a #b", "\"a #b\""),
        ("#b", "\"#b\""),
        ("- a", "\"- a\""),
        ("---", "\"---\""),
        ("hf:org/name", "hf:org/name"),
        ("a:", "\"a:\""),
        ("tab\tbed", "\"tab\\tbed\""),
        ("\u{1}\u{85}\u{2028}", "\"\\x01\\x85\\u2028\""),
        ("*a", "\"*a\""),
        ("1:30", "\"1:30\""),
    ] {
        assert_eq!(scalar::string(text), expected, "{text:?}");
    }
}

#[test]
fn numbers_keep_their_value() {
    for value in [2e-4, 1e-5, 5e-6, 0.05, 1.0, 1.5e-7, 1e-300, f64::MIN_POSITIVE] {
        let mut document = document(Vec::new());
        document.frontmatter.training.learning_rate = value;
        let text = round_trip(&document);
        assert_eq!(
            parse(&text).unwrap().frontmatter().training.learning_rate,
            value,
            "{text}"
        );
    }
    let mut document = document(Vec::new());
    document.frontmatter.training.target_modules = TargetModules::Named(vec!["q_proj".to_owned(), "a, b".to_owned()]);
    assert!(round_trip(&document).contains("target_modules: [q_proj, \"a, b\"]"));
}
