//! The document chapter of the specification, table by table.

#[path = "spec/frontmatter.rs"]
mod frontmatter;
#[path = "spec/limits.rs"]
mod limits;

use dlm_doc::{
    ErrorClass, Limits, ParseErrors, Parsed, SectionKind, WarningKind, check, parse, parse_bytes, parse_with,
};

const ID: &str = "dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\n";
const EXAMPLE: &str = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: smollm2-135m\ntraining:\n  lora_r: 8\n---\n\n# Notes\n\nAlpha.\n\n::instruction::\n### Q\nOne?\n\n### A\nUno.\n\n::preference#tone::\n### Prompt\np\n### Chosen\nc\n### Rejected\nr\n";

fn with_body(body: &str) -> String {
    format!("---\n{ID}base_model: a\n---\n\n{body}")
}

fn with_training(yaml: &str) -> String {
    let indented: String = yaml.lines().map(|line| format!("  {line}\n")).collect();
    format!("---\n{ID}dlm_version: 15\nbase_model: a\ntraining:\n{indented}---\n")
}

fn errors(text: &str) -> ParseErrors {
    parse(text).expect_err(text)
}

/// Every error as `class line:col`, and one fragment that the first message must have.
fn check_errors(text: &str, places: &[&str], fragment: &str) {
    let errors = errors(text);
    let found: Vec<String> = errors
        .errors
        .iter()
        .map(|e| format!("{} {}:{}", e.class, e.line, e.col))
        .collect();
    assert_eq!(found, places, "{text}\n{errors}");
    assert!(errors.first().message.contains(fragment), "{text}\n{errors}");
}

fn parsed(text: &str) -> Parsed {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

#[test]
fn the_example_of_section_4() {
    let parsed = parsed(EXAMPLE);
    let found: Vec<_> = parsed
        .sections()
        .iter()
        .map(|s| {
            (
                s.kind.as_str(),
                s.start_line,
                s.content.replace('\n', "|"),
                s.id().to_string(),
                s.adapter.clone(),
            )
        })
        .collect();
    let row = |kind, line, content: &str, id: &str, adapter: Option<&str>| {
        (
            kind,
            line,
            content.to_owned(),
            id.to_owned(),
            adapter.map(str::to_owned),
        )
    };
    assert_eq!(
        found,
        [
            row("prose", 8, "# Notes||Alpha.|", "ba993ae9ec9661d3", None),
            row("instruction", 12, "### Q|One?||### A|Uno.|", "5abfa2873d92f8f0", None),
            row(
                "preference",
                19,
                "### Prompt|p|### Chosen|c|### Rejected|r",
                "92fd3c5ad9c7d43f",
                Some("tone")
            ),
        ]
    );
    assert_eq!((parsed.declared_version, parsed.body_line), (1, 8));
    let id_behind = |tail: &str| {
        parse(&format!("{EXAMPLE}{tail}")).unwrap().sections()[2]
            .id()
            .to_string()
    };
    assert_eq!(id_behind("::prose::\nx"), "92fd3c5ad9c7d43f");
    assert_eq!(id_behind("\n::prose::\nx"), "97f0bc66d05714ca");
    assert!(parsed.preference_enabled());
    assert!(parsed.frontmatter().wrote("training.lora_r") && !parsed.frontmatter().wrote("training.seed"));
    assert_eq!(parsed.frontmatter().written_knobs(None).lora_r, Some(8));
    assert_eq!(parsed.frontmatter().written_knobs(None).learning_rate, None);
}

#[test]
fn reading_bytes() {
    let crlf = parse_bytes(EXAMPLE.replace('\n', "\r\n").as_bytes(), &Limits::default()).unwrap();
    assert_eq!(crlf.document, parsed(EXAMPLE).document);
    let cr = parsed(&EXAMPLE.replace('\n', "\r"));
    assert_eq!(cr.document, parsed(EXAMPLE).document);
    let bom = parsed(&format!("\u{feff}{EXAMPLE}"));
    assert_eq!(
        (bom.warnings.len(), bom.warnings[0].kind, bom.warnings[0].line),
        (1, WarningKind::Bom, 1)
    );
    assert_eq!(bom.document, crlf.document);
    let mut bytes = EXAMPLE.as_bytes().to_vec();
    bytes[130] = 0xff;
    let error = parse_bytes(&bytes, &Limits::default()).unwrap_err();
    let line = EXAMPLE[..130].matches('\n').count() + 1;
    assert_eq!((error.first().class, error.first().line), (ErrorClass::Encoding, line));
    assert!(
        error.first().message.starts_with("invalid UTF-8 at byte 130: "),
        "{error}"
    );
    assert_eq!(parsed(&with_body("a\0b\u{b}c")).sections()[0].content, "a\0b\u{b}c");
}

#[test]
fn layout() {
    let content = |body: &str| {
        parsed(&format!("---\n{ID}base_model: a\n---{body}"))
            .sections()
            .first()
            .map(|s| (s.start_line, s.content.clone()))
    };
    assert_eq!(content(""), None);
    assert_eq!(content("\n"), None);
    assert_eq!(content("\n\n"), None);
    assert_eq!(content("\na"), Some((5, "a".to_owned())));
    assert_eq!(content("\n\na\n"), Some((6, "a".to_owned())));
    assert_eq!(content("\n\n\na\n\n"), Some((6, "\na\n".to_owned())));
    check_errors(
        "",
        &["FrontmatterError 1:1"],
        "expected `---` on line 1, found an empty file",
    );
    check_errors(" ---\n", &["FrontmatterError 1:1"], "found ` ---`");
    check_errors("--- \na: 1\n---\n", &["FrontmatterError 1:1"], "found `--- `");
    check_errors("---\na: 1\n--- \n", &["FrontmatterError 1:1"], "no closing `---`");
    check_errors("---", &["FrontmatterError 1:1"], "no closing `---`");
}

#[test]
fn sections_and_code_blocks() {
    let kinds = |body: &str| {
        parsed(&with_body(body))
            .sections()
            .iter()
            .map(|s| s.kind.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds("a\n::instruction::\n# h\n::\nb\n::prose::\nc"),
        ["prose", "instruction", "prose"]
    );
    assert_eq!(
        kinds(" \u{a0}\n::prose::\n\t\n::prose::\nx\n::instruction::\n::instruction::"),
        ["prose", "instruction", "instruction"]
    );
    assert_eq!(
        kinds("a\n  ```\n::instruction::\n  ```\n````\n```\n::prose::\n````\n```x```\n::preference::"),
        ["prose", "preference"]
    );
    assert_eq!(kinds("~~~\n::instruction::\n~~~"), ["prose", "instruction"]);
    check_errors(
        &with_body("a\n```\n::note::\n"),
        &["FenceError 7:1"],
        "unterminated code block",
    );
    let twins = parsed(&with_body("::instruction::\nx\n::instruction::\nx"));
    assert_eq!(twins.sections()[0].id(), twins.sections()[1].id());
    // Older schema versions admit every fence.
    let image = parsed(&with_body("::image path=\"figures/a.png\" alt=\"b\"::\ncaption\n"));
    assert_eq!(
        (image.declared_version, image.sections()[0].kind),
        (1, SectionKind::Image)
    );
    assert_eq!(image.sections()[0].id().as_str(), "b5e3f17ac87445a0");
}

#[test]
fn all_errors_come_in_one_report() {
    let text = "---\ndlm_version: 15\nbase_model: ''\ntraining:\n  lora_r: 0\n  color: red\nbase: x\n---\na\n::note::\n::prose#A::\n::instruction::\n<!-- dlm-auto-synth: x=\"1\" -->\n```\n::nope::\n";
    check_errors(
        text,
        &[
            "SchemaValidationError 2:1",
            "FenceError 10:1",
            "FenceError 11:1",
            "FenceError 13:1",
            "FenceError 14:1",
        ],
        "dlm_id: required key is missing; base_model: ",
    );
    let all = errors(text);
    let places: Vec<_> = all
        .first()
        .problems
        .iter()
        .map(|p| format!("{}@{}", p.path, p.line))
        .collect();
    assert_eq!(
        places,
        [
            "dlm_id@2",
            "base_model@3",
            "training.lora_r@5",
            "training.color@6",
            "base@7"
        ]
    );
    // A YAML error does not hide the body's.
    check_errors(
        "---\na: [\n---\n::x::\n",
        &["FrontmatterError 3:1", "FenceError 4:1"],
        "invalid YAML",
    );
}

#[test]
fn expansion_of_aliases_is_bounded() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        yaml.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let found = errors(&format!("---\n{yaml}---\n"));
    assert_eq!(found.first().class, ErrorClass::Frontmatter);
    let anchors = parsed(&with_training(
        "cpt: &c {embed_warmup_steps: 3}\nadapters:\n  a: &d {lora_r: 4}\n  b: {<<: *d, lora_alpha: 9}\n  c: {<<: [{lora_r: 5}, *d]}",
    ));
    let adapters = anchors.frontmatter().adapters();
    assert_eq!(
        (adapters["b"].lora_r, adapters["b"].lora_alpha, adapters["c"].lora_r),
        (4, 9, 5)
    );
}

#[test]
fn versions() {
    let front = |version: &str| format!("---\n{ID}dlm_version: {version}\nbase_model: a\n---\n");
    for version in 1..=15 {
        assert_eq!(parsed(&front(&version.to_string())).declared_version, version);
    }
    check_errors(&front("16"), &["VersionError 3:1"], "dlm_version 16 is newer than 15");
    check_errors(
        &front("0"),
        &["VersionError 3:1"],
        "0 is too old: versions run from 1 to 15",
    );
    check_errors(&front("-3"), &["VersionError 3:1"], "-3");
    for bad in ["true", "'15'", "15.0", "null", "[15]", "x"] {
        check_errors(
            &front(bad),
            &["SchemaValidationError 3:1"],
            "dlm_version: expected an integer from 1 to 15",
        );
    }
}

#[test]
fn the_dpo_block_migrates_from_version_1_only() {
    let text =
        |version: u32, dpo: &str| format!("---\n{ID}dlm_version: {version}\nbase_model: a\ntraining:\n{dpo}---\n");
    let dpo = "  preference: {method: orpo}\n  dpo:\n    enabled: true\n    loss_type: ipo\n    reference: pre_dpo_adapter\n    beta: 0.3\n    learning_rate: 1e-6\n    num_epochs: 2\n    other: 1\n";
    let migrated = parsed(&text(1, dpo));
    let json = serde_json::to_value(&migrated.frontmatter().training.preference).unwrap();
    let expected = serde_json::json!({"enabled": true, "method": "dpo", "loss_type": "ipo", "reference": "pre_adapter",
        "hyperparams": {"beta": 0.3, "alpha": 0.1, "learning_rate": 1e-6, "num_epochs": 2}});
    assert_eq!(json, expected);
    let warned: Vec<_> = migrated.warnings.iter().map(|w| (w.kind, w.line)).collect();
    assert_eq!(warned, [(WarningKind::DroppedKey, 6), (WarningKind::DroppedKey, 14)]);
    check_errors(
        &text(2, dpo),
        &["SchemaValidationError 7:3"],
        "training.dpo: unknown key",
    );
    check_errors(
        &text(1, "  dpo: 5\n"),
        &["SchemaValidationError 6:3"],
        "training.preference: expected a mapping",
    );
    check_errors(
        &text(1, "  dpo: {beta: 5}\n"),
        &["SchemaValidationError 6:9"],
        "training.preference.hyperparams.beta: ",
    );
    assert!(
        !parsed(&text(1, "  dpo: null\n  seed: 1\n"))
            .frontmatter()
            .wrote("training.preference")
    );
}

#[test]
fn authoring_warnings() {
    let warned = |body: &str| {
        parsed(&with_body(body))
            .warnings
            .iter()
            .map(|w| (w.kind, w.line))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        warned("a\n ::instruction ::\n```\n:: prose ::\n```"),
        [(WarningKind::NearMissFence, 7)]
    );
    let marker = "<!-- dlm-auto-harvest: source=\"x\" -->";
    assert_eq!(
        warned(&format!("::instruction::\n{marker}\n\n{marker}")),
        [(WarningKind::NearMissMarker, 9)]
    );
    assert_eq!(warned(&format!("::prose::\n{marker}")), []);
    assert_eq!(
        warned("::image path=\"/a\"::\n::image path=\"a/../../b\"::\n::image path=\"a/../b\"::"),
        [(WarningKind::MediaPath, 6), (WarningKind::MediaPath, 7)]
    );
    assert_eq!(
        warned(&format!("x\n::prose::\n{}", "a".repeat(200_001))),
        [(WarningKind::LargeSection, 7)]
    );
}

#[test]
fn limits() {
    let small = Limits {
        document_bytes_max: 200,
        frontmatter_bytes_max: 80,
        section_bytes_max: 20,
        section_bytes_warn: 10,
        ..Limits::default()
    };
    let class = |text: &str| {
        parse_with(text, &small)
            .err()
            .map(|e| (e.first().class, e.first().line))
    };
    assert_eq!(class(&with_body("abc")), None);
    assert_eq!(class(&with_body(&"a".repeat(200))), Some((ErrorClass::Limit, 1)));
    assert_eq!(class(&with_body(&"a".repeat(21))), Some((ErrorClass::Limit, 6)));
    assert_eq!(
        class(&format!("---\n{ID}base_model: {}\n---\n", "a".repeat(50))),
        Some((ErrorClass::Limit, 2))
    );
    assert_eq!(
        parse_with(&with_body(&"a".repeat(11)), &small).unwrap().warnings[0].kind,
        WarningKind::LargeSection
    );
}

#[test]
fn markers_are_lifted_and_broken_ones_reported_at_their_line() {
    let harvest = "<!-- dlm-auto-harvest: source=\"a\" -->";
    let synth = "<!-- dlm-auto-synth: synth_teacher=\"t\" synth_strategy=\"s\" synth_at=\"2026-01-31\" source_section_id=\"0123456789abcdef\" -->";
    let text = with_body(&format!(
        "::instruction::\n{harvest}\n{synth}\n{}\n### Q\nq\n### A\n",
        harvest.replace("\"a\"", "\"b\"")
    ));
    let found = parsed(&text);
    let section = &found.sections()[0];
    assert_eq!(
        (section.harvest_source.as_deref(), section.marker_lines),
        (Some("b"), 3)
    );
    assert_eq!(section.content, "### Q\nq\n### A");
    let plain = parsed(&with_body("::instruction::\n### Q\nq\n### A\n"));
    assert_eq!(section.id(), plain.sections()[0].id());
    let report = check(text.as_bytes(), &Limits::default());
    assert_eq!(
        (report.problems[0].line, report.problems[0].class.as_str()),
        (13, "InstructionGrammarError")
    );
    let broken = with_body(&format!(
        "::instruction::\n{harvest}\n{}\n",
        synth.replace("0123", "012")
    ));
    check_errors(
        &broken,
        &["FenceError 8:1"],
        "`source_section_id` of marker `dlm-auto-synth`",
    );
}

#[test]
fn the_check_report_as_json() {
    let text = with_body(
        "P\n::instruction#x::\n<!-- dlm-auto-harvest: source=\"s\" -->\n### Q !probe\nq\n### A\na\n::preference::\n### Prompt\np\n::image path=\"a.png\"::",
    );
    let json = check(text.as_bytes(), &Limits::default()).to_json();
    let section = |i: usize, key: &str| json["sections"][i][key].clone();
    assert_eq!(json["frontmatter"]["training"]["learning_rate"], 2e-4);
    assert_eq!(json["frontmatter"]["training"]["micro_batch_size"], "auto");
    assert_eq!(json["frontmatter"]["dlm_version"], 15);
    assert_eq!(
        section(1, "rows"),
        serde_json::json!({"pairs": [{"question": "q", "answer": "a"}]})
    );
    assert_eq!(
        (section(1, "auto_harvest"), section(1, "auto_synth")),
        (true.into(), false.into())
    );
    assert_eq!(section(1, "adapter"), "x");
    assert_eq!(section(2, "rows")["error"]["section_line"], 3);
    assert_eq!(section(2, "rows")["error"]["line"], 16);
    assert_eq!(section(3, "attributes"), serde_json::json!({"path": "a.png"}));
    assert_eq!(json["explicit_probes"], serde_json::json!(["q"]));
    let classes: Vec<_> = json["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["class"].clone())
        .collect();
    assert_eq!(classes, ["RoutingError", "PreferenceGrammarError"]);
    let failed = check(b"---\n---\n::x::\n", &Limits::default()).to_json();
    assert_eq!(failed["errors"][1]["class"], "FenceError");
    assert_eq!(
        (failed["errors"][1]["line"].clone(), failed["errors"][1]["col"].clone()),
        (3.into(), 1.into())
    );
}
