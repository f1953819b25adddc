//! Synthesis that fails, is interrupted or is refused: what is asked again, and what is staged all the same.

use std::time::Duration;

use dlm_core::FailureKind;
use dlm_flow::staging::Outcome;
use dlm_flow::synth::{Filter, SynthOptions};
use dlm_store::PlanKind;

use crate::fakes::{FakeTeachers, failure, far_failure};
use crate::synth::{BODY, good, options, pairs, reasons, run, untrained};
use crate::world::{HEAD, World};

#[test]
fn an_unreadable_answer_is_asked_again_once() {
    let world = World::new("The bell rings.\n");
    let teachers = FakeTeachers::new(|request, number| {
        Ok(match number {
            1 => "I would rather not.".to_owned(),
            _ => pairs(&request.user),
        })
    });
    let report = run(&world, &untrained(), &teachers, &options(world.path.clone()))
        .result
        .unwrap()
        .report;
    assert_eq!((report.additions.len(), report.usage.requests), (2, 2));
    assert!(
        teachers.asked.lock().unwrap()[1]
            .user
            .contains("could not be used: it is not JSON")
    );

    let world = World::new("The bell rings.\n");
    let teachers = FakeTeachers::new(|_, _| Ok("never".to_owned()));
    let done = run(&world, &untrained(), &teachers, &options(world.path.clone()))
        .result
        .unwrap();
    assert_eq!(
        (teachers.requests(), reasons(&done.report)),
        (2, vec!["invalid_output"])
    );
    assert_eq!(done.stopped.unwrap().kind.exit_code(), 2);
}

#[test]
fn without_an_adapter_sway_is_refused_and_the_default_says_what_it_does() {
    let world = World::untrained("The bell rings.\n");
    let teachers = good();
    let typed = SynthOptions {
        filter: Some(Filter::Sway),
        ..options(world.path.clone())
    };
    let failure = run(&world, &untrained(), &teachers, &typed).result.err().unwrap();
    assert!(
        failure.kind.exit_code() == 1 && failure.message().contains("adapter"),
        "{}",
        failure.message()
    );
    assert_eq!(teachers.requests(), 0);
    let default = SynthOptions {
        filter: None,
        ..options(world.path.clone())
    };
    let report = run(&world, &untrained(), &teachers, &default).result.unwrap().report;
    assert_eq!(report.filter.filter, Filter::Sway);
    assert!(world.remarks().iter().any(|remark| remark.contains("bare base")));
}

#[test]
fn flags_are_checked_in_order_before_anything_is_opened() {
    let world = World::new(BODY);
    let plain = options(world.path.clone());
    let closed = FakeTeachers {
        opening: Some(failure("plugin::unavailable", FailureKind::Runtime, "no key")),
        ..good()
    };
    let fails = |options: &SynthOptions| {
        let failure = run(&world, &untrained(), &closed, options).result.err().unwrap();
        (failure.kind.exit_code(), failure.message())
    };
    for (changed, part) in [
        (
            SynthOptions {
                applies: true,
                is_dry_run: true,
                ..plain.clone()
            },
            "--dry-run",
        ),
        (
            SynthOptions {
                threshold: Some(0.2),
                ..plain.clone()
            },
            "--threshold",
        ),
        (
            SynthOptions {
                threshold: Some(-1.0),
                filter: None,
                ..plain.clone()
            },
            "--threshold",
        ),
        (
            SynthOptions {
                per_section: 0,
                ..plain.clone()
            },
            "--per-section",
        ),
        (
            SynthOptions {
                pairs_max: Some(0),
                ..plain.clone()
            },
            "--max-pairs",
        ),
        (
            SynthOptions {
                new_tokens_max: 0,
                ..plain.clone()
            },
            "--max-new-tokens",
        ),
        (
            SynthOptions {
                temperature: f64::NAN,
                ..plain.clone()
            },
            "--temp",
        ),
        (
            SynthOptions {
                top_p: Some(0.0),
                ..plain.clone()
            },
            "--top-p",
        ),
        (
            SynthOptions {
                is_inline: true,
                ..plain.clone()
            },
            "--inline",
        ),
        (
            SynthOptions {
                teacher: "nope".into(),
                filter: Some(Filter::Sway),
                ..plain.clone()
            },
            "invalid teacher",
        ),
    ] {
        let (code, message) = fails(&changed);
        assert!(code == 2 && message.contains(part), "{code} {message}");
    }
    // The judge is looked for before a teacher that is not available is told.
    let (code, message) = fails(&SynthOptions {
        filter: Some(Filter::Sway),
        ..plain.clone()
    });
    assert!(code == 1 && message.contains("adapter"), "{message}");
    assert_eq!(fails(&plain), (1, "no key".to_owned()));
}

#[test]
fn busy_teachers_are_asked_again_with_growing_waits() {
    let world = World::new("The bell rings.\n");
    let teachers = FakeTeachers::new(|request, number| match number {
        1 => Err(far_failure("plugin::rate-limited", "429", Some(429), Some(9_000))),
        2 | 3 => Err(far_failure("plugin::unavailable", "500", Some(500), None)),
        _ => Ok(pairs(&request.user)),
    });
    let ran = run(&world, &untrained(), &teachers, &options(world.path.clone()));
    assert_eq!(ran.result.unwrap().report.additions.len(), 2);
    let seconds: Vec<f64> = ran.waits.iter().map(Duration::as_secs_f64).collect();
    assert_eq!(seconds[0], 9.0, "the far side's wish");
    assert!(
        (4.0..=5.0).contains(&seconds[1]) && (16.0..=20.0).contains(&seconds[2]),
        "{seconds:?}"
    );

    for (code, requests) in [("plugin::unavailable", 4), ("plugin::rejected", 1)] {
        let world = World::new("The bell rings.\n");
        let teachers = FakeTeachers::new(move |_, _| Err(far_failure(code, "no", Some(503), Some(3_600_000))));
        let ran = run(&world, &untrained(), &teachers, &options(world.path.clone()));
        let done = ran.result.unwrap();
        assert_eq!(
            (teachers.requests(), reasons(&done.report)),
            (requests, vec!["teacher_failed"])
        );
        assert!(
            ran.waits.iter().all(|wait| *wait == Duration::from_secs(60)),
            "no wait beyond the cap"
        );
        let stopped = done.stopped.unwrap();
        assert_eq!((stopped.kind.exit_code(), stopped.subject.as_str()), (1, "synth"));
    }
}

#[test]
fn three_failed_sections_in_a_row_stop_the_run_and_the_rest_is_staged() {
    let body = [
        "The bell.",
        "fails 1",
        "The keeper.",
        "fails 2",
        "fails 3",
        "fails 4",
        "The tower.",
    ]
    .map(|text| format!("::prose::\n{text}\n"))
    .concat();
    let world = World::new(&body);
    let teachers = FakeTeachers::new(|request, _| match request.user.contains("fails") {
        true => Err(failure("plugin::rejected", FailureKind::Runtime, "401")),
        false => Ok(pairs(&request.user)),
    });
    let applying = SynthOptions {
        applies: true,
        ..options(world.path.clone())
    };
    let done = run(&world, &untrained(), &teachers, &applying).result.unwrap();
    let stopped = done.stopped.unwrap();
    assert_eq!(stopped.kind.exit_code(), 1);
    assert_eq!(
        stopped.message(),
        "the teacher failed on 3 sections in a row: 401; 4 pair(s) accepted before are staged"
    );
    assert_eq!(done.report.outcome, Outcome::Staged);
    assert_eq!(world.pending(PlanKind::Synth).unwrap().sections.len(), 4);
    assert_eq!(
        world.text(),
        format!("{HEAD}{body}"),
        "what did not come to its end is not applied"
    );
}

#[test]
fn an_interrupt_stages_what_was_accepted() {
    let world = World::new(BODY);
    let cancel = world.cancel.clone();
    let teachers = FakeTeachers::new(move |request, number| {
        if number == 2 {
            cancel.cancel();
            return Err(failure("plugin::cancelled", FailureKind::Interrupted, "cancelled"));
        }
        Ok(pairs(&request.user))
    });
    let slow = SynthOptions {
        concurrency: 1,
        ..options(world.path.clone())
    };
    let done = run(&world, &untrained(), &teachers, &slow).result.unwrap();
    let stopped = done.stopped.unwrap();
    assert_eq!(stopped.kind.exit_code(), 130);
    assert_eq!(stopped.message(), "2 pair(s) accepted before are staged");
    assert_eq!(world.pending(PlanKind::Synth).unwrap().sections.len(), 2);
    assert!(reasons(&done.report).is_empty(), "an interrupted teacher did not fail");
}
