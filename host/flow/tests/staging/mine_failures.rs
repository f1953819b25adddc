//! Mining that fails, is interrupted or is refused: what is staged all the same, and in which order it is checked.

use dlm_core::FailureKind;
use dlm_flow::prefer::MineOptions;
use dlm_store::PlanKind;

use crate::fakes::{Current, FakeJudges, FakeModel, failure, far_failure};
use crate::mine::{BODY, options, reasons, run, three};
use crate::world::World;

#[test]
fn a_failing_judge_stages_what_was_accepted_and_says_so() {
    let world = World::new(BODY);
    // Both prompts are judged together; where that fails, one by one, so the first one is not lost.
    let judges = FakeJudges {
        fails_on: Some("When?"),
        ..FakeJudges::shorter()
    };
    let mined = run(
        &world,
        &Current::new(FakeModel::answering(three)),
        &judges,
        &options(world.path.clone()),
    )
    .unwrap();
    assert_eq!(mined.report.additions.len(), 1);
    let stopped = mined.stopped.unwrap();
    assert_eq!((stopped.kind.exit_code(), stopped.subject.as_str()), (1, "preference"));
    assert_eq!(
        stopped.message(),
        "`score` is missing; 1 pair(s) accepted before are staged"
    );
    assert!(stopped.hints.iter().any(|hint| hint.contains("--keep-going")));
    assert_eq!(world.pending(PlanKind::Preference).unwrap().sections.len(), 1);
    assert_eq!(world.mining_rows()[0].write_mode.as_deref(), Some("staged"));
}

#[test]
fn a_timeout_and_an_error_status_are_tried_once_more() {
    let body = "::instruction::\n### Q\nq?\n### A\nown answer\n";
    let timeout = || far_failure("plugin::timed-out", "30 s", None, None);
    let status = || far_failure("plugin::failed", "exit status 3", Some(3), None);
    for (script, is_fine) in [
        (vec![timeout()], true),
        (vec![status()], true),
        (vec![timeout(), status()], false),
        (vec![failure("plugin::bad-result", FailureKind::Runtime, "NaN")], false),
    ] {
        let world = World::new(body);
        let judges = FakeJudges::shorter().failing(script);
        let mined = run(
            &world,
            &Current::new(FakeModel::answering(three)),
            &judges,
            &options(world.path.clone()),
        )
        .unwrap();
        assert_eq!(mined.stopped.is_none(), is_fine);
    }
}

#[test]
fn keep_going_leaves_out_the_prompt() {
    let world = World::new(BODY);
    let judges = FakeJudges {
        fails_on: Some("Who rings?"),
        ..FakeJudges::shorter()
    };
    let going = MineOptions {
        keeps_going: true,
        ..options(world.path.clone())
    };
    let mined = run(&world, &Current::new(FakeModel::answering(three)), &judges, &going).unwrap();
    assert!(mined.stopped.is_none());
    assert_eq!(reasons(&mined.report), [("Who rings?", "judge_failed")]);
    assert_eq!(mined.report.additions.len(), 1);
}

#[test]
fn an_interrupt_stages_what_was_accepted_even_with_apply() {
    let body: String = (0..9)
        .map(|n| format!("### Q\nquestion {n}?\n### A\nanswer {n}\n"))
        .collect();
    let world = World::new(&format!("::instruction::\n{body}"));
    let cancel = world.cancel.clone();
    let models = Current::new(FakeModel::answering(move |prompt| {
        if prompt.starts_with("question 5") {
            cancel.cancel();
        }
        three(prompt)
    }));
    let applying = MineOptions {
        applies: true,
        ..options(world.path.clone())
    };
    let before = world.text();
    let mined = run(&world, &models, &FakeJudges::shorter(), &applying).unwrap();
    let stopped = mined.stopped.unwrap();
    assert_eq!(stopped.kind.exit_code(), 130);
    assert!(stopped.message().contains("4 pair(s)"), "{}", stopped.message());
    assert_eq!(world.pending(PlanKind::Preference).unwrap().sections.len(), 4);
    assert_eq!(world.text(), before);
}

#[test]
fn checks_come_in_the_documented_order() {
    let fails = |world: &World, options: &MineOptions, has_adapter: bool| {
        let model = FakeModel {
            has_adapter,
            ..FakeModel::answering(three)
        };
        let failure = run(world, &Current::new(model), &FakeJudges::shorter(), options)
            .err()
            .unwrap();
        (failure.kind.exit_code(), failure.message())
    };
    let world = World::new(BODY);
    let plain = options(world.path.clone());
    for (changed, part) in [
        (
            MineOptions {
                samples: 1,
                ..plain.clone()
            },
            "--samples",
        ),
        (
            MineOptions {
                threshold: Some(-0.1),
                ..plain.clone()
            },
            "--threshold",
        ),
        (
            MineOptions {
                pairs_max: Some(0),
                ..plain.clone()
            },
            "--max-pairs",
        ),
        (
            MineOptions {
                temperature: 0.0,
                ..plain.clone()
            },
            "--temp 0",
        ),
        (
            MineOptions {
                temperature: -1.0,
                ..plain.clone()
            },
            "--temp",
        ),
        (
            MineOptions {
                top_p: Some(1.5),
                ..plain.clone()
            },
            "--top-p",
        ),
        (
            MineOptions {
                adapter: Some("a".into()),
                ..plain.clone()
            },
            "--adapter",
        ),
        (
            MineOptions {
                wants_mlx: true,
                ..plain.clone()
            },
            "MLX",
        ),
        (
            MineOptions {
                judge: " ".into(),
                ..plain.clone()
            },
            "invalid judge",
        ),
        (
            MineOptions {
                judge: "nope".into(),
                ..plain.clone()
            },
            "invalid judge",
        ),
    ] {
        let (code, message) = fails(&world, &changed, true);
        assert!(code == 2 && message.contains(part), "{code} {message}");
    }
    let (code, message) = fails(&world, &plain, false);
    assert!(code == 1 && message.contains("no adapter"), "{message}");

    let untrained = World::untrained(BODY);
    let (code, message) = fails(&untrained, &options(untrained.path.clone()), true);
    assert!(code == 1 && message.contains("no training run"), "{message}");

    let several = World::new(BODY);
    several.write(&several.text().replace(
        "system_prompt",
        "training:\n  adapters:\n    tone: {}\n    facts: {}\nsystem_prompt",
    ));
    let named = |adapter: Option<&str>, judge: &str| MineOptions {
        adapter: adapter.map(str::to_owned),
        judge: judge.to_owned(),
        ..options(several.path.clone())
    };
    for (options, part) in [
        (named(None, "fake"), "has several adapters"),
        (named(Some("nope"), "fake"), "not declared"),
        (named(Some("tone"), "sway"), "scores with the document's only adapter"),
    ] {
        let (code, message) = fails(&several, &options, true);
        assert!(code == 2 && message.contains(part), "{code} {message}");
    }
    world.write("no frontmatter");
    assert_eq!(fails(&world, &plain, true).0, 1);
}
