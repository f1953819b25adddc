//! `dlm preference`, `dlm synth`, `dlm templates`: staged plans through the binary, streams, exit codes, refusals.

use crate::lab::{ID, Lab};

/// Stages one section of either kind for [`Lab::document`].
pub fn stage(lab: &Lab, command: &str, kind: &str, content: &str, provenance: &str) {
    let directory = lab.store().join(command);
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!(
        r#"{{"schema_version": 1, "source_path": "/a.dlm", "created_at": "2026-04-19T18:30:14Z", "dlm_id": "{ID}",
            "sections": [{{"type": "{kind}", "content": "{content}", {provenance}}}]}}"#
    );
    std::fs::write(directory.join("pending.json"), text).unwrap();
}

pub fn stage_preference(lab: &Lab) {
    let provenance = r#""auto_mined": true, "judge_name": "cli:j %2D%2Dx %22y%22", "judge_score_chosen": 0.5,
        "judge_score_rejected": 0.25, "mined_at": "2026-04-19T18:30:14Z", "mined_run_id": 7"#;
    let content = r"### Prompt\nWhat?\n### Chosen\nThat.\n### Rejected\nThis.";
    stage(lab, "preference", "preference", content, provenance);
}

fn stage_pair(lab: &Lab) {
    let provenance = r#""auto_synth": true, "synth_teacher": "openai:x", "synth_strategy": "extraction",
        "synth_at": "2026-04-19T18:30:14Z", "source_section_id": "b6b7d8a2f4b3f9c0""#;
    stage(lab, "synth", "instruction", r"### Q\nWho?\n### A\nMe.", provenance);
}

#[test]
fn preferences_are_listed_applied_and_reverted() {
    let lab = Lab::new();
    lab.document();
    let text = lab.read("a.dlm");
    let ran = lab.run(&["preference", "list", "a.dlm"]).ok();
    assert_eq!(
        ran.out,
        "a.dlm\napplied auto-mined: 0\nstaged pending: 0\nnothing was mined yet: dlm preference mine a.dlm\n"
    );
    lab.run(&["preference", "apply", "a.dlm"])
        .exits(1)
        .says(&["preference: nothing is staged for a.dlm\n", "dlm preference mine a.dlm"]);

    stage_preference(&lab);
    let ran = lab.run(&["preference", "list", "a.dlm"]).ok();
    let id = ran.out.split("- ").nth(1).unwrap()[..16].to_owned();
    assert_eq!(
        ran.out,
        format!(
            "a.dlm\napplied auto-mined: 0\nstaged pending: 1\nPending\n- {id}  judge=cli:j --x \"y\"  run=7  prompt=What?\n"
        )
    );
    let ran = lab
        .run(&["preference", "apply", "a.dlm"])
        .ok()
        .says(&["preference: wrote 1 section(s) into a.dlm, 0 skipped"]);
    assert_eq!(ran.out, format!("preference apply plan: 1 add, 0 skip\n+ {id}\n"));
    assert!(
        lab.read("a.dlm")
            .starts_with(&format!("{text}::preference::\n<!-- dlm-auto-mined: judge_name="))
    );
    assert_eq!(
        lab.json(&["preference", "list", "a.dlm", "--json"])["applied"][0]["section_id"],
        id
    );

    stage_preference(&lab);
    let ran = lab
        .run(&["preference", "apply", "a.dlm"])
        .exits(2)
        .says(&["nothing of the staged plan is left"]);
    assert_eq!(
        ran.out,
        format!("preference apply plan: 0 add, 1 skip\n=== skipped ===\n- {id}: already_present\n")
    );
    let ran = lab.run(&["preference", "revert", "a.dlm"]).ok();
    assert_eq!(ran.out, "preference revert: removed 1 section(s)\n");
    assert_eq!(lab.read("a.dlm"), text);
    assert_eq!(lab.json(&["preference", "revert", "a.dlm", "--json"])["removed"], 0);
}

#[test]
fn pairs_are_listed_applied_dropped_and_reverted() {
    let lab = Lab::new();
    lab.document();
    let text = lab.read("a.dlm");
    stage_pair(&lab);
    let ran = lab.run(&["synth", "list", "a.dlm"]).ok();
    for part in [
        "applied auto-synth: 0\nstaged pending: 1\nPending\n",
        "  by teacher: openai:x=1\n  by strategy: extraction=1\n  by source: b6b7d8a2f4b3f9c0=1\n",
        "  teacher=openai:x  strategy=extraction  source=b6b7d8a2f4b3f9c0  prompt=Who?\n",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    lab.run(&["synth", "drop", "a.dlm"]).ok().says(&["was dropped"]);
    lab.run(&["synth", "drop", "a.dlm"])
        .exits(1)
        .says(&["synth: nothing is staged"]);
    stage_pair(&lab);
    lab.run(&["synth", "apply", "a.dlm", "--inline"]).ok();
    assert!(
        lab.read("a.dlm")
            .starts_with(&format!("{text}::instruction::\n<!-- dlm-auto-synth: "))
    );
    lab.run(&["synth", "revert", "a.dlm"]).ok();
    assert_eq!(lab.read("a.dlm"), text);
}

#[test]
fn a_corrupt_plan_is_named_with_its_place() {
    let lab = Lab::new();
    lab.document();
    stage(&lab, "preference", "poem", "x", r#""tags": {}"#);
    for command in ["list", "apply"] {
        lab.run(&["preference", command, "a.dlm"]).exits(1).says(&[
            "preference: [DIR]/home/store/",
            "the staged plan is corrupt: section 0: `type` is `poem`",
            "dlm preference mine",
        ]);
    }
}

#[test]
fn mining_is_refused_before_anything_is_loaded() {
    let lab = Lab::new();
    lab.document();
    let mine = |rest: &[&str]| lab.run(&[&["preference", "mine", "a.dlm"], rest].concat());
    for (flags, part) in [
        (&["--samples", "1"][..], "`--samples` is 1"),
        (&["--temp", "0"], "`--temp 0`"),
        (&["--threshold=-1"], "`--threshold` is -1"),
        (&["--max-pairs", "0"], "`--max-pairs` is 0"),
        (&["--adapter", "tone"], "a.dlm has no `training.adapters`"),
    ] {
        mine(flags).exits(2).says(&["preference: ", part]);
    }
    for flags in [&["--backend", "tpu"][..], &["--top-p", "2"], &["--judge"]] {
        mine(flags).exits(2);
    }
    mine(&[])
        .exits(1)
        .says(&["preference: no training run has ended yet", "dlm train a.dlm"]);
    // The same command under its other name.
    lab.run(&["synth", "preferences", "a.dlm", "--samples", "1"])
        .exits(2)
        .says(&["preference: `--samples` is 1"]);
    assert!(!lab.path("home").exists());
}

#[test]
fn synthesis_is_refused_before_anything_is_loaded() {
    let lab = Lab::new();
    lab.document();
    let synth = |rest: &[&str]| lab.run(&[&["synth", "instructions", "a.dlm"], rest].concat());
    for (flags, part) in [
        (&["--apply", "--dry-run"][..], "`--apply` and `--dry-run`"),
        (
            &["--threshold", "0.1", "--filter", "none"],
            "`--threshold` only means something",
        ),
        (&["--per-section", "0"], "`--per-section` is 0"),
        (&["--inline"], "`--inline`"),
        (&["--teacher", "vllm-server:ftp://x", "--filter", "none"], "synth: "),
        (&["--teacher", ""], "synth: "),
    ] {
        synth(flags).exits(2).says(&[part]);
    }
    for flags in [&["--strategy", "guess"][..], &["--filter", "best"], &["--temp", "x"]] {
        synth(flags).exits(2);
    }
    assert!(!lab.path("home/store").exists());
}

#[test]
fn the_gallery_is_listed_and_every_template_of_it_starts_a_document() {
    let lab = Lab::new();
    let rows = lab.json(&["templates", "list", "--json"]);
    let rows = rows.as_array().unwrap();
    assert!(!rows.is_empty());
    let text = lab.run(&["templates", "list"]).ok().out;
    for row in rows {
        let (name, base) = (row["name"].as_str().unwrap(), row["recommended_base"].as_str().unwrap());
        assert!(
            text.lines().any(|line| line.starts_with(name) && line.ends_with(base)),
            "{name} in {text}"
        );
        for key in [
            "title",
            "domain_tags",
            "expected_steps",
            "expected_duration",
            "summary",
            "sample_prompts",
        ] {
            assert!(row.get(key).is_some(), "{key} of {name}");
        }
        let path = format!("{name}.dlm");
        lab.run(&["init", &path, "--template", name, "--i-accept-license"])
            .ok()
            .says(&[
                &format!("init: wrote {path}"),
                &format!("template `{name}` of `bundled`"),
                base,
            ]);
        let checked = lab.json(&["check", &path, "--json"]);
        assert_eq!(checked["problems"].as_array().unwrap().len(), 0, "{name}");
    }
    let one = rows[0]["name"].as_str().unwrap();
    let found = lab.json(&["templates", "list", one, "--json"]);
    assert!(found.as_array().unwrap().iter().any(|row| row["name"] == one));
    lab.run(&["templates", "list", "--refresh"])
        .ok()
        .says(&["no upstream gallery yet"]);
    lab.run(&["templates", "list", "--accept-unsigned"]).exits(2);
    lab.run(&["templates", "list", "--source", "nowhere"]).exits(2);
    lab.run(&["init", "x.dlm", "--template", "no-such-template"])
        .exits(1)
        .says(&["init: `bundled` has no template `no-such-template`", one]);
    lab.run(&[
        "init",
        "y.dlm",
        "--template",
        one,
        "--base",
        "qwen2.5-1.5b",
        "--i-accept-license",
    ])
    .ok()
    .says(&[
        &format!("template `{one}` was written for the base"),
        "names `qwen2.5-1.5b`",
    ]);
    assert!(lab.read("y.dlm").contains("\nbase_model: qwen2.5-1.5b\n"));
    assert!(!lab.path("x.dlm").exists());
}
