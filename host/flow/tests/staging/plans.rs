//! Staged plans: applying, refusing, reverting, listing, discarding.

use dlm_core::{AutoMined, AutoSynth, Section, SectionKind};
use dlm_flow::staging::{Placement, apply, drop_plan, list, revert};
use dlm_store::{LockWait, PendingPlan, PlanKind};

use crate::world::{HEAD, ID, NOW_MS, World};

const BODY: &str = "Alpha.\n::instruction::\n### Q\nq\n### A\na";

fn mined(prompt: &str) -> Section {
    let content = format!("### Prompt\n{prompt}\n### Chosen\nc\n### Rejected\nr");
    let mut section = Section::text(SectionKind::Preference, content);
    section.mined = Some(AutoMined {
        judge_name: "cli:x %22y%22".into(),
        judge_score_chosen: 1.0,
        judge_score_rejected: 0.5,
        mined_at: "2026-04-19T18:30:14Z".into(),
        mined_run_id: 7,
    });
    section
}

fn synthesized(question: &str, source: &Section) -> Section {
    let mut section = Section::text(SectionKind::Instruction, format!("### Q\n{question}\n### A\nyes"));
    section.synth = Some(AutoSynth {
        synth_teacher: "openai:x".into(),
        synth_strategy: "extraction".into(),
        synth_at: "2026-04-19T18:30:14Z".into(),
        source_section_id: source.id(),
    });
    section
}

fn stage(world: &World, kind: PlanKind, change: impl FnOnce(&mut PendingPlan)) {
    let now = dlm_core::stamp::Stamp::from_unix_ms(NOW_MS as i64);
    let mut plan = PendingPlan {
        source_path: world.path.display().to_string(),
        created_at: now,
        dlm_id: Some(ID.parse().unwrap()),
        made_from: Vec::new(),
        sections: vec![mined("one"), mined("two")],
    };
    change(&mut plan);
    let guard = world
        .store()
        .lock(&LockWait {
            timeout: std::time::Duration::ZERO,
            cancel: dlm_core::Cancel::new(),
            now,
        })
        .unwrap();
    guard.stage(kind, &plan).unwrap();
    guard.release().unwrap();
}

#[test]
fn applying_appends_what_belongs_and_clears_the_plan() {
    let world = World::new(BODY);
    let hand_made = Section::text(SectionKind::Preference, "### Prompt\np\n### Chosen\nc\n### Rejected\nr");
    let prose = Section::text(SectionKind::Prose, "x");
    stage(&world, PlanKind::Preference, |plan| {
        plan.sections.extend([hand_made, prose, mined("one")])
    });
    let (report, empty) = apply(&world.around(), PlanKind::Preference, &world.path, Placement::End).unwrap();
    assert!(empty.is_none() && report.warnings.is_empty());
    assert_eq!(report.added, [mined("one").id(), mined("two").id()]);
    let reasons: Vec<&str> = report.skipped.iter().map(|skip| skip.reason).collect();
    assert_eq!(reasons, ["not_mined", "not_a_preference", "already_present"]);
    assert!(
        world
            .text()
            .starts_with(&format!("{HEAD}{BODY}\n::preference::\n<!-- dlm-auto-mined: "))
    );
    assert!(world.pending(PlanKind::Preference).is_none());

    // The same plan again: everything is there, which is misuse, and the plan goes all the same.
    let text = world.text();
    stage(&world, PlanKind::Preference, |_| {});
    let (report, empty) = apply(&world.around(), PlanKind::Preference, &world.path, Placement::End).unwrap();
    assert_eq!((report.added.len(), empty.unwrap().kind.exit_code()), (0, 2));
    assert_eq!(world.text(), text);
    assert!(world.pending(PlanKind::Preference).is_none());
}

#[test]
fn nothing_staged_a_corrupt_plan_and_a_foreign_plan_are_refused() {
    let world = World::new(BODY);
    let refused = || apply(&world.around(), PlanKind::Preference, &world.path, Placement::End).unwrap_err();
    let failure = refused();
    assert_eq!((failure.kind.exit_code(), failure.subject.as_str()), (1, "preference"));
    assert!(failure.hints[0].starts_with("dlm preference mine "));

    stage(&world, PlanKind::Preference, |plan| {
        plan.dlm_id = Some("01HZ4X7TGZM3J1A2B3C4D5E6F8".parse().unwrap())
    });
    assert!(refused().message().contains("01HZ4X7TGZM3J1A2B3C4D5E6F8"));

    std::fs::write(
        world.store().pending_path(PlanKind::Preference),
        "{\"schema_version\": 9}",
    )
    .unwrap();
    let failure = refused();
    assert!(
        failure.kind.exit_code() == 1 && failure.message().contains("corrupt"),
        "{}",
        failure.message()
    );
    assert_eq!(world.text(), format!("{HEAD}{BODY}"));
    // A corrupt plan can still be thrown away.
    drop_plan(&world.around(), PlanKind::Preference, &world.path).unwrap();
    assert_eq!(
        drop_plan(&world.around(), PlanKind::Preference, &world.path)
            .unwrap_err()
            .kind
            .exit_code(),
        1
    );
}

#[test]
fn an_edit_since_staging_is_told() {
    let world = World::new(BODY);
    let source = Section::text(SectionKind::Prose, "Alpha.").id();
    stage(&world, PlanKind::Preference, |plan| plan.made_from = vec![source]);
    world.write(&format!("{HEAD}{}", BODY.replace("Alpha.", "Beta.")));
    let (report, _) = apply(&world.around(), PlanKind::Preference, &world.path, Placement::End).unwrap();
    assert!(
        report.warnings[0].contains("1 of the 1 sections"),
        "{:?}",
        report.warnings
    );
    assert_eq!(report.added.len(), 2);
}

#[test]
fn pairs_go_to_the_end_or_right_behind_their_source() {
    let alpha = Section::text(SectionKind::Prose, "Alpha.");
    let gone = Section::text(SectionKind::Prose, "gone");
    for (placement, expected) in [
        (Placement::End, ["Alpha.", "### Q\nq\n", "### Q\none", "### Q\ntwo"]),
        (Placement::Inline, ["Alpha.", "### Q\none", "### Q\nq\n", "### Q\ntwo"]),
    ] {
        let world = World::new(BODY);
        stage(&world, PlanKind::Synth, |plan| {
            plan.sections = vec![synthesized("one", &alpha), synthesized("two", &gone)];
        });
        apply(&world.around(), PlanKind::Synth, &world.path, placement).unwrap();
        let parsed = dlm_doc::parse(&world.text()).unwrap();
        let found: Vec<&str> = parsed.sections().iter().map(|s| s.content.as_str()).collect();
        assert_eq!(found.len(), 4);
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} {expected}");
        }
        let reverted = revert(&world.around(), PlanKind::Synth, &world.path).unwrap();
        assert_eq!(reverted.removed, 2);
        assert_eq!(world.text(), format!("{HEAD}{BODY}\n"));
    }
}

#[test]
fn reverting_nothing_is_fine_and_touches_nothing() {
    let world = World::untrained(BODY);
    let reverted = revert(&world.around(), PlanKind::Preference, &world.path).unwrap();
    assert_eq!(reverted.removed, 0);
    assert_eq!(world.text(), format!("{HEAD}{BODY}"));
    assert!(!world.store().paths().root().exists());
}

#[test]
fn lists_show_both_and_name_what_cannot_be_read() {
    let world = World::new(BODY);
    let content = |text: &str| Section {
        content: text.to_owned(),
        ..mined("x")
    };
    stage(&world, PlanKind::Preference, |plan| {
        plan.sections = vec![
            mined("first line\nsecond"),
            content(""),
            content(" \n"),
            content("### Chosen\nx"),
        ];
    });
    let report = list(&world.around(), PlanKind::Preference, &world.path).unwrap();
    let prompts: Vec<&str> = report.staged.iter().map(|listed| listed.prompt.as_str()).collect();
    assert_eq!(prompts, ["first line", "<empty>", "<blank>", "<unparseable>"]);
    assert_eq!(
        (report.staged[0].made_by.as_str(), report.staged[0].run_id),
        ("cli:x \"y\"", Some(7))
    );
    assert!(report.applied.is_empty());

    let alpha = Section::text(SectionKind::Prose, "Alpha.");
    stage(&world, PlanKind::Synth, |plan| {
        plan.sections = vec![synthesized("one", &alpha)]
    });
    apply(&world.around(), PlanKind::Synth, &world.path, Placement::End).unwrap();
    let report = list(&world.around(), PlanKind::Synth, &world.path).unwrap();
    let listed = &report.applied[0];
    assert_eq!(
        (listed.made_by.as_str(), listed.strategy.as_deref()),
        ("openai:x", Some("extraction"))
    );
    assert_eq!(listed.source, Some(alpha.id()));
}
