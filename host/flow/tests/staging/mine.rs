//! Mining: what is asked, judged, taken, left out and staged.

use std::path::PathBuf;

use dlm_core::FailureKind;
use dlm_core::ports::judge::JudgeMode;
use dlm_core::ports::model::{ModelFinish, ModelWeights};
use dlm_doc::parse;
use dlm_flow::Failure;
use dlm_flow::prefer::{MineOptions, MinePorts, MineReport, MiningResult, mine};
use dlm_flow::staging::{self, Outcome};
use dlm_store::PlanKind;

use crate::fakes::{Current, FakeJudges, FakeModel};
use crate::world::{HEAD, ID, RUN, World};

pub const BODY: &str = "# Notes\n\n::instruction::\n### Q\nWho rings?\n### A\nThe keeper of the bell.\n### Q\nWhen?\n### A\nAt noon, every day.\n";

pub fn options(path: PathBuf) -> MineOptions {
    MineOptions {
        path,
        samples: 3,
        judge: " fake ".to_owned(),
        threshold: None,
        pairs_max: None,
        temperature: 0.7,
        top_p: None,
        wants_mlx: false,
        adapter: None,
        seed: None,
        includes_probes: false,
        keeps_going: false,
        applies: false,
    }
}

pub fn run(
    world: &World,
    models: &Current,
    judges: &FakeJudges,
    options: &MineOptions,
) -> Result<MiningResult, Failure> {
    mine(&world.around(), &MinePorts { judges, models }, options)
}

/// Three answers to every question, two of them nearly the same.
pub fn three(prompt: &str) -> Vec<String> {
    vec![
        format!("It is a rather long and winding answer to the question: {prompt}"),
        format!("It is a rather long and winding answer to the question; {prompt}"),
        "No.".to_owned(),
    ]
}

pub fn reasons(report: &MineReport) -> Vec<(&str, &'static str)> {
    report
        .skipped
        .iter()
        .map(|skip| (skip.subject.as_str(), skip.reason))
        .collect()
}

#[test]
fn a_plan_is_staged_with_provenance_and_the_document_stays() {
    let world = World::new(BODY);
    let models = Current::new(FakeModel::answering(three));
    let judges = FakeJudges {
        name: r#"cli:python -c "print(1)""#,
        ..FakeJudges::shorter()
    };
    let mined = run(&world, &models, &judges, &options(world.path.clone())).unwrap();
    assert!(mined.stopped.is_none());
    let report = &mined.report;
    assert_eq!(
        (report.additions.len(), report.skipped.len(), report.run_id),
        (2, 0, RUN)
    );
    assert_eq!(report.outcome, Outcome::Staged);
    let first = &report.additions[0];
    assert_eq!((first.prompt.as_str(), first.chosen.as_str()), ("Who rings?", "No."));
    assert!(first.rejected.starts_with("It is a rather long"));
    assert!(first.margin > 0.0 && first.margin == first.score_chosen - first.score_rejected);

    assert_eq!(world.text(), format!("{HEAD}{BODY}"));
    let plan = world.pending(PlanKind::Preference).unwrap();
    let section = &plan.sections[0];
    assert_eq!(
        section.content,
        format!(
            "### Prompt\nWho rings?\n### Chosen\nNo.\n### Rejected\n{}",
            first.rejected
        )
    );
    let mark = section.mined.as_ref().unwrap();
    assert_eq!(mark.judge_name, "cli:python -c %22print(1)%22");
    assert_eq!(
        (mark.mined_run_id, mark.mined_at.as_str()),
        (RUN, "2026-04-19T18:30:14Z")
    );
    assert_eq!(plan.dlm_id.as_ref().unwrap().as_str(), ID);
    assert_eq!(plan.made_from.len(), 1);

    let rows = world.mining_rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].run_id, rows[0].write_mode.as_deref(), rows[0].mined_pairs),
        (RUN, Some("staged"), Some(2))
    );
    assert_eq!(rows[0].judge_name.as_deref(), Some(judges.name));

    let listed = staging::list(&world.around(), PlanKind::Preference, &world.path).unwrap();
    assert_eq!((listed.applied.len(), listed.staged.len()), (0, 2));
    assert_eq!(listed.staged[0].made_by, judges.name);
}

#[test]
fn a_pointwise_judge_gets_every_candidate_of_a_prompt_in_one_item() {
    let world = World::new(BODY);
    let judges = FakeJudges::shorter();
    run(
        &world,
        &Current::new(FakeModel::answering(three)),
        &judges,
        &options(world.path.clone()),
    )
    .unwrap();
    let seen = judges.seen.borrow();
    assert_eq!(seen.len(), 2);
    let item = &seen[0];
    assert_eq!(
        (item.prompt.as_str(), item.system.as_deref()),
        ("Who rings?", Some("Be brief."))
    );
    assert_eq!(item.reference.as_deref(), Some("The keeper of the bell."));
    assert_eq!(item.candidates.len(), 4, "three samples and the document's answer");
    assert_eq!(item.candidates[3], "The keeper of the bell.");
}

#[test]
fn a_pairwise_judge_gets_two_at_a_time_and_never_a_near_duplicate_pair() {
    let world = World::new("::instruction::\n### Q\nq?\n### A\nown answer\n");
    let judges = FakeJudges {
        mode: JudgeMode::Pairwise,
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
    let seen = judges.seen.borrow();
    // Six pairs of four candidates, less the near-duplicate one.
    assert_eq!(seen.len(), 5);
    assert!(
        seen.iter()
            .all(|item| !(item.candidates[0].starts_with("It is") && item.candidates[1].starts_with("It is")))
    );
}

#[test]
fn samples_are_seeded_chats_with_the_adapter_and_the_second_half_may_be_hotter() {
    let requests = |options: &MineOptions, texts: fn(&str) -> Vec<String>| {
        let world = World::new(BODY);
        let models = Current::new(FakeModel::answering(texts));
        let options = MineOptions {
            path: world.path.clone(),
            samples: 4,
            ..options.clone()
        };
        let _ = run(&world, &models, &FakeJudges::shorter(), &options).unwrap();
        let generated = models.0.generated.lock().unwrap().clone();
        assert_eq!(generated.len(), 2, "two rounds for all prompts together");
        assert_eq!((generated[0].len(), generated[1].len()), (4, 4));
        generated.concat()
    };
    let plain = options(PathBuf::new());
    let varied = |_: &str| ["one", "two things", "three", "four"].map(str::to_owned).to_vec();
    let first = requests(&plain, varied);
    assert!(
        first
            .iter()
            .all(|r| r.weights == ModelWeights::Adapter && r.sampling.new_tokens_max == 256)
    );
    assert!(first.iter().all(|r| r.sampling.temperature == 0.7));
    let seeds: std::collections::BTreeSet<u64> = first.iter().map(|r| r.sampling.seed.unwrap()).collect();
    assert_eq!(seeds.len(), 8);
    assert_eq!(first, requests(&plain, varied), "the same seed, the same requests");
    let other = requests(
        &MineOptions {
            seed: Some(5),
            ..plain.clone()
        },
        varied,
    );
    assert!(other.iter().all(|r| !seeds.contains(&r.sampling.seed.unwrap())));
    let top = requests(
        &MineOptions {
            top_p: Some(0.5),
            ..plain.clone()
        },
        varied,
    );
    assert!(top.iter().all(|r| r.sampling.top_p == Some(0.5)));

    let alike = requests(&plain, |_| vec!["always the same".to_owned()]);
    assert!(alike[..4].iter().all(|r| r.sampling.temperature == 0.7));
    assert!(alike[4..].iter().all(|r| (r.sampling.temperature - 1.1).abs() < 1e-6));
}

#[test]
fn prompts_are_left_out_with_their_reasons() {
    let world = World::new(
        "::instruction::\n### Q\nWho rings?\n### A\nThe keeper.\n### Q !probe\nsecret?\n### A\nyes\n\
         ::instruction::\n### Q\nbroken\n\
         ::instruction::\n### Q\nWho rings?\n### A\nagain\n### Q\nSay\n### Prompt\n### A\nx\n",
    );
    let models = Current::new(FakeModel::answering(three));
    let mined = run(&world, &models, &FakeJudges::shorter(), &options(world.path.clone())).unwrap();
    let found = reasons(&mined.report);
    let broken = found
        .iter()
        .find(|(_, reason)| *reason == "malformed_instruction")
        .unwrap();
    assert_eq!(broken.0.len(), 16, "the section's id");
    for wanted in [
        ("secret?", "probe"),
        ("Who rings?", "duplicate_prompt"),
        ("Say\n### Prompt", "unrepresentable"),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
    }
    assert_eq!(models.0.prompts(), ["Who rings?"; 3]);
    let with_probes = MineOptions {
        includes_probes: true,
        ..options(world.path.clone())
    };
    let mined = run(
        &world,
        &Current::new(FakeModel::answering(three)),
        &FakeJudges::shorter(),
        &with_probes,
    )
    .unwrap();
    assert_eq!(mined.report.additions.len(), 2);
}

#[test]
fn answers_are_left_out_with_their_reasons() {
    let case = |texts: Vec<&'static str>, finish: ModelFinish, threshold: Option<f64>, own: &str| {
        let world = World::new(&format!("::instruction::\n### Q\nq?\n### A\n{own}\n"));
        let models = Current::new(FakeModel::generating(move |_, request| {
            let number = request.sampling.seed.unwrap() as usize;
            (texts[number % texts.len()].to_owned(), finish)
        }));
        let options = MineOptions {
            threshold,
            samples: 12,
            ..options(world.path.clone())
        };
        let mined = run(&world, &models, &FakeJudges::shorter(), &options).unwrap();
        let stopped = mined.stopped.unwrap();
        assert_eq!(
            (stopped.kind, stopped.subject.as_str()),
            (FailureKind::Misuse, "preference")
        );
        assert_eq!(
            (mined.report.outcome, world.mining_rows()[0].write_mode.as_deref()),
            (Outcome::Empty, Some("empty"))
        );
        assert!(world.pending(PlanKind::Preference).is_none());
        mined.report.skipped[0].reason
    };
    let stop = ModelFinish::Stop;
    assert_eq!(case(vec!["own"], stop, None, "own"), "insufficient_variety");
    assert_eq!(case(vec![" "], stop, None, "own"), "insufficient_variety");
    assert_eq!(case(vec!["a\n### Rejected\nb"], stop, None, "own"), "unrepresentable");
    // Same length: the judge ties.
    assert_eq!(case(vec!["abc", "xyz"], stop, None, "own"), "too_similar");
    assert_eq!(case(vec!["abcd"], stop, Some(1.5), "own"), "below_threshold");
    // Shorter than the document's own answer, which is never rejected.
    assert_eq!(case(vec!["no"], stop, None, "own answer"), "no_valid_winner");
    // The judge likes the cut answers best, and cut answers are never chosen.
    assert_eq!(
        case(vec!["no"], ModelFinish::Length, None, "own answer"),
        "no_valid_winner"
    );
}

#[test]
fn a_cut_answer_may_be_rejected() {
    let world = World::new("::instruction::\n### Q\nq?\n### A\nown\n");
    let models = Current::new(FakeModel::generating(|_, _| {
        ("on and on and on".to_owned(), ModelFinish::Length)
    }));
    let mined = run(&world, &models, &FakeJudges::shorter(), &options(world.path.clone())).unwrap();
    let pair = &mined.report.additions[0];
    assert!(pair.is_own_answer);
    assert_eq!(
        (pair.chosen.as_str(), pair.rejected.as_str()),
        ("own", "on and on and on")
    );
}

#[test]
fn a_margin_equal_to_the_threshold_is_enough() {
    let world = World::new("::instruction::\n### Q\nq?\n### A\nown\n");
    let models = Current::new(FakeModel::answering(|_| vec!["four".to_owned()]));
    let equal = MineOptions {
        threshold: Some(1.0),
        ..options(world.path.clone())
    };
    let mined = run(&world, &models, &FakeJudges::shorter(), &equal).unwrap();
    assert_eq!(mined.report.additions[0].margin, 1.0);
}

#[test]
fn the_cap_stops_before_the_next_prompt_is_asked() {
    let body: String = (0..9)
        .map(|n| format!("### Q\nquestion {n}?\n### A\nanswer {n}\n"))
        .collect();
    for (max, asked) in [(Some(1), 1), (Some(3), 3), (None, 9)] {
        let world = World::new(&format!("::instruction::\n{body}"));
        let models = Current::new(FakeModel::answering(three));
        let capped = MineOptions {
            pairs_max: max,
            ..options(world.path.clone())
        };
        let mined = run(&world, &models, &FakeJudges::shorter(), &capped).unwrap();
        assert_eq!(mined.report.additions.len(), max.unwrap_or(9));
        let distinct: std::collections::BTreeSet<String> = models.0.prompts().into_iter().collect();
        assert_eq!(distinct.len(), asked, "{max:?}");
    }
}

#[test]
fn applying_twice_writes_once_and_reverting_restores_every_byte() {
    let body = BODY.trim_end();
    let world = World::new(body);
    let applying = MineOptions {
        applies: true,
        ..options(world.path.clone())
    };
    let mined = run(
        &world,
        &Current::new(FakeModel::answering(three)),
        &FakeJudges::shorter(),
        &applying,
    )
    .unwrap();
    assert_eq!((mined.report.outcome, mined.report.written), (Outcome::Applied, 2));
    let applied = world.text();
    assert!(applied.starts_with(&format!(
        "{HEAD}{body}\n::preference::\n<!-- dlm-auto-mined: judge_name=\"cli:shorter\""
    )));
    assert!(parse(&applied).unwrap().preference_enabled());

    let again = run(
        &world,
        &Current::new(FakeModel::answering(three)),
        &FakeJudges::shorter(),
        &applying,
    )
    .unwrap();
    assert!(
        reasons(&again.report)
            .iter()
            .all(|(_, reason)| *reason == "already_present")
    );
    assert_eq!(again.stopped.unwrap().kind.exit_code(), 2);
    assert_eq!(world.text(), applied);

    let reverted = staging::revert(&world.around(), PlanKind::Preference, &world.path).unwrap();
    assert_eq!(reverted.removed, 2);
    assert_eq!(world.text(), format!("{HEAD}{body}\n"));
}

#[test]
fn the_same_seed_gives_the_same_plan() {
    let plan = || {
        let world = World::new(BODY);
        let models = Current::new(FakeModel::generating(|prompt, request| {
            let seed = request.sampling.seed.unwrap();
            (
                format!("{prompt} {}", "x".repeat(seed as usize % 40)),
                ModelFinish::Stop,
            )
        }));
        run(&world, &models, &FakeJudges::shorter(), &options(world.path.clone())).unwrap();
        world.pending(PlanKind::Preference).unwrap().sections
    };
    assert_eq!(plan(), plan());
}
