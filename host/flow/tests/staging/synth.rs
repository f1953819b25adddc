//! Synthesis: what teachers are asked, how answers are taken, filtered, kept and staged.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::ports::model::ModelWeights;
use dlm_flow::Failure;
use dlm_flow::staging::Outcome;
use dlm_flow::synth::{
    Filter, Strategies, Strategy, SynthOptions, SynthPorts, SynthReport, SynthesisResult, instructions,
};
use dlm_store::PlanKind;

use crate::fakes::{Current, FakeModel, FakeTeachers};
use crate::world::{HEAD, World};

pub const BODY: &str = "# Skarrow\n\nThe bell rings at noon.\n::instruction::\n### Q\nWho?\n### A\nNobody.\n::prose::\n## Keeper\nThe keeper is called Ana.\n";

pub fn options(path: PathBuf) -> SynthOptions {
    SynthOptions {
        adapter: None,
        path,
        teacher: "fake".to_owned(),
        per_section: 2,
        strategies: Strategies::Extraction,
        filter: Some(Filter::DedupOnly),
        threshold: None,
        pairs_max: None,
        new_tokens_max: 512,
        temperature: 0.0,
        top_p: None,
        seed: None,
        concurrency: 4,
        uses_kept_answers: true,
        applies: false,
        is_inline: false,
        is_dry_run: false,
    }
}

/// What a synthesis came to, and how long it waited for its teachers.
pub struct Synthesis {
    pub result: Result<SynthesisResult, Failure>,
    pub waits: Vec<Duration>,
}

pub fn run(world: &World, models: &Current, teachers: &FakeTeachers, options: &SynthOptions) -> Synthesis {
    let waits = Mutex::new(Vec::new());
    let pause = |wait: Duration, _: &Cancel| waits.lock().unwrap().push(wait);
    let ports = SynthPorts {
        teachers,
        models,
        pause: &pause,
    };
    let result = instructions(&world.around(), &ports, options);
    Synthesis {
        result,
        waits: waits.into_inner().unwrap(),
    }
}

pub fn untrained() -> Current {
    Current::new(FakeModel {
        has_adapter: false,
        ..FakeModel::scoring(|_, _| -1.0)
    })
}

/// Two distinct pairs for every request, named after what the user message is about.
pub fn pairs(user: &str) -> String {
    let subject = ["bell", "keeper", "tower", "harbour"]
        .into_iter()
        .find(|word| user.contains(word))
        .unwrap();
    let tail = if user.contains("go beyond") { " beyond" } else { "" };
    format!(
        "```json\n[{{\"question\": \"What about the {subject}{tail}?\", \"answer\": \"Much of {subject}{tail}.\"}}, \
         {{\"question\": \"More {subject}{tail} facts, please?\", \"answer\": \"{subject}{tail} again and again.\"}}]\n```"
    )
}

pub fn good() -> FakeTeachers {
    FakeTeachers::new(|request, _| Ok(pairs(&request.user)))
}

pub fn reasons(report: &SynthReport) -> Vec<&'static str> {
    report.skipped.iter().map(|skip| skip.reason).collect()
}

#[test]
fn pairs_are_staged_in_document_order_with_provenance() {
    let world = World::new(BODY);
    let teachers = FakeTeachers {
        concurrency: 9,
        ..good()
    };
    let ran = run(&world, &untrained(), &teachers, &options(world.path.clone()));
    let done = ran.result.unwrap();
    assert!(done.stopped.is_none());
    let report = &done.report;
    assert_eq!(
        (report.outcome, report.additions.len(), report.skipped.len()),
        (Outcome::Staged, 4, 0)
    );
    assert_eq!(
        (report.filter.generated, report.filter.dedup, report.filter.accepted),
        (4, 4, 4)
    );
    assert_eq!(report.filter.judge_passed, None);
    assert_eq!(
        (
            report.usage.requests,
            report.usage.prompt_tokens,
            report.usage.completion_tokens
        ),
        (2, 20, 10)
    );
    let plan = world.pending(PlanKind::Synth).unwrap();
    assert_eq!(
        plan.sections[0].content,
        "### Q\nWhat about the bell?\n### A\nMuch of bell."
    );
    assert!(plan.sections[2].content.contains("keeper"));
    let mark = plan.sections[0].synth.as_ref().unwrap();
    assert_eq!(
        (mark.synth_teacher.as_str(), mark.synth_strategy.as_str()),
        ("self", "extraction")
    );
    let sections = dlm_doc::parse(&world.text()).unwrap().document.sections;
    assert_eq!(mark.source_section_id, sections[0].id());
    assert_eq!(plan.made_from, [sections[0].id(), sections[2].id()]);
    assert_eq!(world.text(), format!("{HEAD}{BODY}"));
    assert!(*teachers.opened.lock().unwrap() <= 2, "no more teachers than sections");
}

#[test]
fn requests_carry_the_flags_and_the_passage_as_data() {
    let world = World::new(BODY);
    let teachers = good();
    let flags = SynthOptions {
        new_tokens_max: 77,
        temperature: 0.5,
        top_p: Some(0.9),
        seed: Some(11),
        per_section: 3,
        teacher: " fake ".to_owned(),
        ..options(world.path.clone())
    };
    run(&world, &untrained(), &teachers, &flags).result.unwrap();
    let asked = teachers.asked.lock().unwrap();
    let request = asked.iter().find(|r| r.user.contains("keeper")).unwrap();
    assert_eq!(
        (request.new_tokens_max, request.temperature, request.top_p, request.seed),
        (77, 0.5, Some(0.9), Some(11))
    );
    assert!(request.user.contains("exactly 3") && request.user.contains("Skarrow > Keeper"));
    assert!(request.system.contains("data"));
}

#[test]
fn strategies_share_the_budget() {
    let asked = |strategies, per_section| {
        let world = World::new("The bell rings.\n");
        let teachers = good();
        let options = SynthOptions {
            strategies,
            per_section,
            ..options(world.path.clone())
        };
        let report = run(&world, &untrained(), &teachers, &options).result.unwrap().report;
        let asked = teachers.asked.lock().unwrap();
        let counts: Vec<String> = asked
            .iter()
            .map(|r| r.user.split_whitespace().nth(2).unwrap().to_owned())
            .collect();
        let strategies: Vec<Strategy> = report.additions.iter().map(|a| a.strategy).collect();
        (counts, strategies)
    };
    let (extraction, expansion) = (Strategy::Extraction, Strategy::Expansion);
    assert_eq!(
        asked(Strategies::Extraction, 2),
        (vec!["2".to_owned()], vec![extraction; 2])
    );
    assert_eq!(
        asked(Strategies::Expansion, 2),
        (vec!["2".to_owned()], vec![expansion; 2])
    );
    assert_eq!(
        asked(Strategies::Both, 3),
        (
            vec!["2".to_owned(), "1".to_owned()],
            vec![extraction, extraction, expansion]
        )
    );
    assert_eq!(asked(Strategies::Both, 1), (vec!["1".to_owned()], vec![extraction]));
}

#[test]
fn hygiene_duplicates_and_probes_are_told() {
    let world =
        World::new("The bell rings.\n::instruction::\n### Q\nWho?\n### A\nAna.\n### Q !probe\nWhen?\n### A\nNoon.\n");
    let answer = |items: &[(&str, &str)]| {
        let list: Vec<serde_json::Value> = items
            .iter()
            .map(|(q, a)| serde_json::json!({"question": q, "answer": a}))
            .collect();
        serde_json::to_string(&list).unwrap()
    };
    let text = answer(&[
        ("Who?", "Someone else, surely."),
        ("When?", "Never."),
        ("What rings?", "a\n### Q\nb"),
        ("What does the passage say?", "x"),
        ("What rings?", "The bell."),
        ("what  rings?", "It is the bell."),
    ]);
    let teachers = FakeTeachers::new(move |_, _| Ok(text.clone()));
    let many = SynthOptions {
        per_section: 6,
        ..options(world.path.clone())
    };
    let report = run(&world, &untrained(), &teachers, &many).result.unwrap().report;
    assert_eq!(reasons(&report), ["unrepresentable", "refers_to_passage"]);
    let filtered: Vec<&str> = report.filtered.iter().map(|f| f.question.as_str()).collect();
    assert_eq!(filtered, ["Who?", "When?", "what  rings?"]);
    assert!(report.filtered.iter().all(|f| f.reason == "duplicate_pair"));
    assert_eq!(
        (report.filter.generated, report.filter.dedup, report.filter.accepted),
        (4, 1, 1)
    );
    assert_eq!(report.additions.iter().filter(|a| a.is_accepted).count(), 1);
}

#[test]
fn sway_keeps_what_the_passage_explains_to_the_base() {
    let world = World::new("The bell of Skarrow rings at 12 o'clock.\n");
    let text = r#"[{"question": "When does the bell of Skarrow ring?", "answer": "At 12 o'clock."},
        {"question": "Who likes the bell?", "answer": "Elephants adore every ringing thing."},
        {"question": "What is common knowledge?", "answer": "The bell rings."},
        {"question": "When else does it ring?", "answer": "At 13 o'clock."}]"#;
    let teachers = FakeTeachers::new(move |_, _| Ok(text.to_owned()));
    let models = Current::new(FakeModel::scoring(|prompt, request| {
        assert_eq!(request.weights, ModelWeights::Base);
        let has_passage = prompt.contains("Skarrow rings at");
        match (has_passage, request.completion.as_str()) {
            (true, "The bell rings.") => -1.95,
            (true, _) => -1.0,
            (false, _) => -2.0,
        }
    }));
    let many = SynthOptions {
        per_section: 4,
        filter: None,
        ..options(world.path.clone())
    };
    let report = run(&world, &models, &teachers, &many).result.unwrap().report;
    let filtered: Vec<&str> = report.filtered.iter().map(|f| f.reason).collect();
    assert_eq!(filtered, ["unsupported", "below_threshold", "unsupported"]);
    let filter = report.filter;
    assert_eq!(
        (filter.generated, filter.dedup, filter.judge_passed, filter.accepted),
        (4, 4, Some(2), 1)
    );
    assert_eq!(filter.threshold, Some(0.1));
    assert_eq!(report.additions[0].grounding, Some(1.0));
    assert!(world.remarks().iter().all(|remark| !remark.contains("bare base")));

    let lower = SynthOptions {
        threshold: Some(0.04),
        ..many
    };
    let report = run(&world, &models, &teachers, &lower).result.unwrap().report;
    assert_eq!(report.filter.accepted, 2);
}

#[test]
fn the_cap_counts_accepted_pairs_and_asks_no_section_in_vain() {
    let body = ["bell", "keeper", "tower", "harbour"]
        .map(|word| format!("::prose::\nThe {word} is here.\n"))
        .concat();
    for (max, accepted, sections) in [(1, 1, 1), (3, 3, 2), (4, 4, 2), (100, 8, 4)] {
        let world = World::new(&body);
        let teachers = FakeTeachers {
            concurrency: 4,
            ..good()
        };
        let capped = SynthOptions {
            pairs_max: Some(max),
            ..options(world.path.clone())
        };
        let report = run(&world, &untrained(), &teachers, &capped).result.unwrap().report;
        assert_eq!(
            (report.filter.accepted, teachers.requests()),
            (accepted, sections),
            "{max}"
        );
        assert_eq!(world.pending(PlanKind::Synth).unwrap().sections.len(), accepted);
    }
}

#[test]
fn any_number_of_teachers_gives_the_same_plan() {
    let body = ["bell", "keeper", "tower", "harbour"]
        .map(|word| format!("::prose::\nThe {word} is here.\n"))
        .concat();
    let plan = |concurrency| {
        let world = World::new(&body);
        let teachers = FakeTeachers {
            concurrency: 16,
            ..FakeTeachers::new(|request, _| {
                // Later sections answer sooner.
                let is_first = request.user.contains("bell");
                (0..if is_first { 200_000 } else { 0 }).for_each(|_| std::hint::spin_loop());
                Ok(pairs(&request.user))
            })
        };
        let options = SynthOptions {
            concurrency,
            ..options(world.path.clone())
        };
        run(&world, &untrained(), &teachers, &options).result.unwrap();
        assert!(*teachers.opened.lock().unwrap() <= concurrency);
        world.pending(PlanKind::Synth).unwrap().sections
    };
    assert_eq!(plan(1), plan(4));
}

#[test]
fn outcomes_apply_inline_dry_run_and_no_prose() {
    let world = World::new(BODY);
    let dry = SynthOptions {
        is_dry_run: true,
        ..options(world.path.clone())
    };
    let done = run(&world, &untrained(), &good(), &dry).result.unwrap();
    assert_eq!(done.report.outcome, Outcome::Shown);
    assert!(world.pending(PlanKind::Synth).is_none() && done.stopped.is_none());

    let inline = SynthOptions {
        applies: true,
        is_inline: true,
        ..options(world.path.clone())
    };
    let done = run(&world, &untrained(), &good(), &inline).result.unwrap();
    assert_eq!((done.report.outcome, done.report.written), (Outcome::Applied, 4));
    let sections = dlm_doc::parse(&world.text()).unwrap().document.sections;
    assert!(
        sections[1].content.contains("bell") && sections[1].synth.is_some(),
        "right behind its source"
    );
    let again = run(&world, &untrained(), &good(), &inline).result.unwrap();
    assert_eq!(reasons(&again.report), ["already_present"; 4]);
    assert_eq!(again.stopped.unwrap().kind.exit_code(), 2);

    let world = World::new("::instruction::\n### Q\nq\n### A\na\n");
    let done = run(&world, &untrained(), &good(), &options(world.path.clone()))
        .result
        .unwrap();
    assert_eq!(
        (reasons(&done.report), done.report.skipped[0].section.as_str()),
        (vec!["no_prose"], "-")
    );
    assert_eq!(done.stopped.unwrap().kind.exit_code(), 2);
}

#[test]
fn remote_teachers_are_named_once_and_never_paid_twice() {
    let world = World::new(BODY);
    let remote = || FakeTeachers {
        name: "openai:x",
        granted: vec!["http:https://api.openai.com", "secret:OPENAI_API_KEY"],
        ..good()
    };
    let plain = options(world.path.clone());
    let teachers = remote();
    run(&world, &untrained(), &teachers, &plain).result.unwrap();
    let told = world
        .remarks()
        .iter()
        .filter(|remark| remark.contains("https://api.openai.com"))
        .count();
    assert_eq!((told, teachers.requests()), (1, 2));

    let local = FakeTeachers {
        granted: vec!["http:arg"],
        ..good()
    };
    let other = World::new(BODY);
    let typed = SynthOptions {
        teacher: "vllm-server:http://127.0.0.1:1".to_owned(),
        ..options(other.path.clone())
    };
    run(&other, &untrained(), &local, &typed).result.unwrap();
    assert!(
        other
            .remarks()
            .iter()
            .any(|remark| remark.ends_with("is sent to http://127.0.0.1:1"))
    );

    let teachers = remote();
    let report = run(&world, &untrained(), &teachers, &plain).result.unwrap().report;
    assert_eq!(
        (teachers.requests(), report.usage.kept_answers, report.usage.requests),
        (0, 2, 0)
    );
    assert_eq!(report.additions.len(), 4);
    for changed in [
        SynthOptions {
            uses_kept_answers: false,
            ..plain.clone()
        },
        SynthOptions {
            temperature: 0.7,
            ..plain.clone()
        },
        SynthOptions {
            new_tokens_max: 100,
            ..plain.clone()
        },
    ] {
        let teachers = remote();
        run(&world, &untrained(), &teachers, &changed).result.unwrap();
        assert_eq!(teachers.requests(), 2);
    }
    // A local teacher's answers follow its weights, so they are never kept.
    for _ in 0..2 {
        let teachers = good();
        run(&world, &untrained(), &teachers, &plain).result.unwrap();
        assert_eq!(teachers.requests(), 2);
    }
}

#[test]
fn a_seed_that_a_teacher_does_not_take_is_told() {
    let world = World::new(BODY);
    let seeded = SynthOptions {
        seed: Some(1),
        ..options(world.path.clone())
    };
    let teachers = FakeTeachers {
        supports_seed: false,
        ..good()
    };
    run(&world, &untrained(), &teachers, &seeded).result.unwrap();
    assert!(world.remarks().iter().any(|remark| remark.contains("--seed")));
}
