//! Edits in place: what stays, to the byte.

use dlm_core::{Section, SectionKind};

use super::*;
use crate::{Limits, parse};

const HEAD: &str = "---\n# a comment\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7 # mine\nbase_model: smollm2-135m\ntraining:\n  lora_r: 8   # explicit default\n---\n\n";

fn ids(text: &str) -> Vec<String> {
    parse(text)
        .unwrap()
        .sections()
        .iter()
        .map(|section| section.id().to_string())
        .collect()
}

fn pair() -> Section {
    Section::text(SectionKind::Instruction, "### Q\na\n### A\nb")
}

#[test]
fn appending_keeps_every_byte_and_every_id() {
    for tail in [
        "",
        "Alpha.",
        "Alpha.\n",
        "Alpha.\n\n",
        "A.\n::instruction::\n### Q\nq\n### A\na",
        "\n\nx",
        "::prose::\n",
    ] {
        let source = format!("{HEAD}{tail}");
        let before = ids(&source);
        let text = append_sections(&source, &[pair(), Section::text(SectionKind::Prose, "p")]).unwrap();
        assert!(text.starts_with(&source), "{text}");
        let after = ids(&text);
        assert_eq!(after[..before.len()], before[..], "{tail:?}");
        assert_eq!(after.len(), before.len() + 2, "{tail:?}");
        // Twice is as good as once: the first run's sections keep their ids as well.
        let again = append_sections(&text, &[pair()]).unwrap();
        assert_eq!(ids(&again)[..after.len()], after[..]);
    }
}

#[test]
fn appending_follows_the_line_ends_of_the_file() {
    let source = HEAD.replace('\n', "\r\n") + "Alpha.";
    let text = append_sections(&source, &[pair()]).unwrap();
    assert!(text.starts_with(&source));
    assert_eq!(
        &text[source.len()..],
        "\r\n::instruction::\r\n### Q\r\na\r\n### A\r\nb\r\n"
    );
}

#[test]
fn appending_refuses_what_would_split() {
    let source = format!("{HEAD}Alpha.\n");
    let bad = Section::text(SectionKind::Instruction, "### Q\na\n::prose::\n### A\nb");
    assert!(matches!(
        append_sections(&source, &[bad]),
        Err(EditError::Changes { .. })
    ));
    assert!(matches!(append_sections("no", &[pair()]), Err(EditError::Source(_))));
}

#[test]
fn removing_takes_the_fence_and_its_lines_only() {
    let source = format!(
        "{HEAD}Alpha.\n\n::instruction::\n### Q\na\n### A\nb\n\n::prose::\n \n::prose#x::\nBeta\n::preference::\nz\n"
    );
    let before = ids(&source);
    let check = |indices: &[usize], gone: &[&str]| {
        let text = remove_sections(&source, indices).unwrap();
        let mut expected = source.clone();
        for part in gone {
            assert!(expected.contains(part), "{part:?}");
            expected = expected.replacen(part, "", 1);
        }
        assert_eq!(text, expected);
        let kept: Vec<_> = before
            .iter()
            .enumerate()
            .filter(|(i, _)| !indices.contains(i))
            .map(|(_, id)| id.clone())
            .collect();
        assert_eq!(ids(&text), kept);
    };
    check(&[1], &["::instruction::\n### Q\na\n### A\nb\n\n"]);
    check(&[2], &["::prose#x::\nBeta\n"]);
    check(&[3], &["::preference::\nz\n"]);
    check(&[0, 3], &["Alpha.\n\n", "::preference::\nz\n"]);
    check(
        &[0, 1, 2, 3],
        &[
            "Alpha.\n\n",
            "::instruction::\n### Q\na\n### A\nb\n\n",
            "::prose#x::\nBeta\n",
            "::preference::\nz\n",
        ],
    );
    assert_eq!(
        remove_sections(&source, &[4]),
        Err(EditError::NoSuchSection { index: 4, sections: 4 })
    );
    // Appending and removing again gives the file back.
    let longer = append_sections(&source, &[pair()]).unwrap();
    assert_eq!(remove_sections(&longer, &[4]).unwrap(), source);
}

fn check_migration(from: &str, to: &str) {
    let body = "\n\nProse \u{e9}.\r\n::instruction::\n### Q\nq\n### A\na\n\n";
    let (source, expected) = (format!("---\n{from}---{body}"), format!("---\n{to}---{body}"));
    let found = migrate_text(&source).unwrap_or_else(|error| panic!("{from}\n{error}"));
    assert_eq!(found.text, expected);
    assert_eq!(found.frontmatter, format!("---\n{to}---\n"));
    let before = parse(&source).unwrap();
    assert_eq!(found.from, before.declared_version);
    assert_eq!(ids(&found.text), ids(&source));
    let again = migrate_text(&found.text).unwrap();
    assert_eq!((again.text, again.from), (found.text, crate::SCHEMA_VERSION));
}

#[test]
fn migrating_raises_the_version_and_nothing_else() {
    check_migration(
        "# c\nbase_model: a # b\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7   # id\n\ntraining:\n  lora_r: 8\n",
        "# c\nbase_model: a # b\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7   # id\ndlm_version: 15\n\ntraining:\n  lora_r: 8\n",
    );
    for version in 2..15 {
        check_migration(
            &format!("dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\ndlm_version:  {version} # old\nbase_model: a\n"),
            "dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\ndlm_version:  15 # old\nbase_model: a\n",
        );
    }
    check_migration(
        "{dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7, base_model: a}\n",
        "{dlm_version: 15, dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7, base_model: a}\n",
    );
}

#[test]
fn migrating_moves_the_dpo_block_with_its_comments() {
    check_migration(
        "dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\ntraining:\n  lora_r: 8\n  dpo: # why\n    # strong\n    beta: 0.3 # b\n    enabled: true\n    extra: [1,\n      2]\n\n    # from before\n    reference: pre_dpo_adapter\n    num_epochs: 2\n  # after\n  seed: 7\n",
        "dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\ndlm_version: 15\nbase_model: a\ntraining:\n  lora_r: 8\n  preference: # why\n    method: dpo\n    enabled: true\n\n    # from before\n    reference: pre_adapter\n    hyperparams:\n      # strong\n      beta: 0.3 # b\n      num_epochs: 2\n  # after\n  seed: 7\n",
    );
    check_migration(
        "training:\n  dpo: {loss_type: ipo, beta: 0.3, reference: base} # c\ndlm_version: 1\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\n",
        "training:\n  preference: {method: dpo, loss_type: ipo, reference: base, hyperparams: {beta: 0.3}} # c\ndlm_version: 15\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\n",
    );
    for null in ["dpo: null # n", "dpo: ~ # n", "dpo: # n", "dpo:"] {
        let head = "dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\n";
        let note = if null.contains("# n") { " # n" } else { "" };
        check_migration(
            &format!("{head}training:\n  {null}\n"),
            &format!(
                "{}training:\n  preference: {{}}{note}\n",
                head.replacen('\n', "\ndlm_version: 15\n", 1)
            ),
        );
    }
}

#[test]
fn migrating_refuses_shared_yaml_and_broken_documents() {
    let source = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: a\ntraining:\n  dpo: &x\n    beta: 0.3\n---\n";
    assert_eq!(migrate_text(source), Err(EditError::SharedYaml { line: 5 }));
    assert!(matches!(migrate_text("---\n---\n"), Err(EditError::Source(_))));
    assert!(matches!(
        migrate_text(&source.replace("&x", "").replace("0.3", "7")),
        Err(EditError::Source(_))
    ));
}

#[test]
fn migrating_keeps_a_byte_order_mark_and_line_ends() {
    let source = "\u{feff}---\r\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\r\nbase_model: a\r\n---\r\n\r\nx\ny\r";
    let text = migrate_text(source).unwrap().text;
    assert_eq!(text, source.replacen("base_model", "dlm_version: 15\r\nbase_model", 1));
}

#[test]
fn inserting_puts_sections_after_their_source_and_keeps_the_rest() {
    let source = format!("{HEAD}Alpha.\n::instruction::\n### Q\nq\n### A\na\n\n::prose::\nBeta.");
    let before = ids(&source);
    let text = insert_sections(
        &source,
        &[(0, pair()), (2, pair()), (0, Section::text(SectionKind::Prose, "p"))],
    )
    .unwrap();
    let inserted = "::instruction::\n### Q\na\n### A\nb\n";
    assert_eq!(
        text,
        format!(
            "{HEAD}Alpha.\n{inserted}::prose::\np\n::instruction::\n### Q\nq\n### A\na\n\n::prose::\nBeta.\n{inserted}"
        )
    );
    let after = ids(&text);
    assert_eq!([&after[0], &after[3], &after[4]], [&before[0], &before[1], &before[2]]);
    assert!(matches!(
        insert_sections(&source, &[(3, pair())]),
        Err(EditError::NoSuchSection { index: 3, sections: 3 })
    ));
    assert_eq!(insert_sections(&source, &[]).unwrap(), source);
}

#[test]
fn another_base_changes_its_line_alone() {
    let source = "---\r\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\r\nbase_model: tiny # small\r\n# kept\r\n---\r\nbase_model: prose\r\n";
    let text = replace_base(source, "hf:org/name").unwrap();
    assert_eq!(
        text,
        source.replacen("base_model: tiny # small", "base_model: hf:org/name", 1)
    );
    assert_eq!(parse(&text).unwrap().frontmatter().base_model, "hf:org/name");
    assert!(replace_base("no document", "tiny").is_err());
    let quoted = source.replacen("base_model: tiny", "\"base_model\": tiny", 1);
    assert!(matches!(replace_base(&quoted, "b"), Err(EditError::FrontmatterChanges)));
}

#[test]
fn a_new_id_changes_nothing_else() {
    let id = dlm_core::Ulid::mint(1_700_000_000_000, [9; 10]);
    let source = format!("{HEAD}dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\n");
    let text = replace_id(&source, &id).unwrap();
    assert_eq!(text, source.replacen("01HZ4X7TGZM3J1A2B3C4D5E6F7", id.as_str(), 1));
    assert_eq!(parse(&text).unwrap().frontmatter().dlm_id, id);
}

#[test]
fn a_template_without_an_id_gets_one() {
    let id = dlm_core::Ulid::mint(1_700_000_000_000, [9; 10]);
    for newline in ["\n", "\r\n"] {
        let source = "---\nbase_model: tiny # kept\n---\n\nProse.\n".replace('\n', newline);
        assert!(parse(&source).is_err());
        let text = replace_id(&source, &id).unwrap();
        assert_eq!(text, source.replacen("---", &format!("---{newline}dlm_id: {id}"), 1));
        assert_eq!(parse(&text).unwrap().frontmatter().dlm_id, id);
    }
    // An id that is there must be one, and the lines of mistakes are those of the text as it is.
    let template = |source: &str| parse_template(source, &Limits::default());
    assert!(template("---\ndlm_id: mine\nbase_model: tiny\n---\n").is_err());
    let wrong = template("---\nbase_model: tiny\njudge: x\n---\n").unwrap_err();
    assert_eq!(wrong.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [3]);
}
