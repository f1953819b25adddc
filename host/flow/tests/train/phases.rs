//! The phase of preferences and the adapters of a document with several, from the document to the store.

use std::sync::atomic::{AtomicU64, Ordering};

use dlm_core::training::{Ending, GateChoice, PhaseSelection, TrainPhase};
use dlm_core::{Cancel, Event, FailureKind, Progress, Subject};
use dlm_flow::gate::GateReport;
use dlm_flow::inference::locate;
use dlm_flow::prompt::{PromptCommand, answer, ask};
use dlm_flow::train::{TrainCommand, TrainReport, prepare, run};
use dlm_flow::{Failure, Surroundings};
use dlm_plan::prompt::PromptOptions;
use dlm_store::AdapterSlot;

use super::*;

fn triple(prompt: &str, chosen: &str, rejected: &str) -> String {
    format!("### Prompt\n{prompt}\n### Chosen\n{chosen}\n### Rejected\n{rejected}")
}

fn preferences(fence: &str, content: &str) -> String {
    format!("{fence}\n{content}\n\n")
}

fn body() -> String {
    let facts = pair("Who is it?", "It is Ann.") + "\n\n" + &pair("Where is the boat?", "At sea.");
    let kept = triple("Is it at sea?", "It is.", "It is not known where it is at all.")
        + "\n"
        + &triple("Is Ann at sea?", "No.", "It is hard to say.");
    fenced(&facts) + "\n" + &preferences("::preference::", &kept)
}

fn lines(report: &TrainReport, kind: &str) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(&report.log).unwrap();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["type"] == kind).collect()
}

fn of_phase(lab: &Lab, phases: PhaseSelection) -> TrainCommand {
    TrainCommand {
        phases,
        ..lab.command()
    }
}

#[test]
fn preferences_are_a_phase_and_a_version_of_their_own() {
    let lab = Lab::new();
    lab.write(&body());
    let reports = lab.try_train(&lab.command()).unwrap();
    let [sft, dpo] = reports.as_slice() else {
        panic!("{} phases", reports.len());
    };
    assert_eq!(
        (sft.phase, sft.version, sft.preference.as_ref()),
        (TrainPhase::Sft, 1, None)
    );
    assert_eq!((dpo.phase, dpo.version, dpo.run_id), (TrainPhase::Dpo, 2, 2));
    assert_eq!(dpo.ending, Ending::MaxSteps);
    let preference = dpo.preference.as_ref().unwrap();
    assert_eq!(preference.pairs, 2);
    // The reference is the adapter before: no reward yet, then the chosen answers have the higher one.
    assert_eq!(preference.before.rewards.margin, 0.0);
    assert!(preference.after.rewards.margin > 0.0, "{preference:?}");
    assert!(preference.after.logprob_margin > preference.before.logprob_margin);
    assert_eq!(dpo.recall.len(), 2, "the questions are asked again");
    assert_ne!(lab.adapter_bytes(sft), lab.adapter_bytes(dpo));

    let start = &lines(dpo, "dpo_phase_start")[0];
    assert_eq!(start["reference_adapter_version"], 1);
    assert_eq!(start["dpo_reference_mode"], "pre_adapter");
    assert_eq!(lines(dpo, "rewards").len(), 2);
    assert!(lines(sft, "rewards").is_empty() && lines(sft, "dpo_phase_start").is_empty());
    assert_eq!(lab.details(dpo)["preference"]["pairs"], 2);
    let manifest = lab.store().manifest().unwrap().unwrap();
    assert_eq!((manifest.adapter_version, manifest.content_hashes.len()), (2, 2));
    let runs = lab.store().metrics_reader().unwrap().unwrap();
    let phases = runs.runs(&dlm_store::metrics::RunFilter::default()).unwrap();
    let phases: Vec<_> = phases.iter().map(|run| run.phase.clone().unwrap()).collect();
    assert_eq!(phases, ["dpo", "sft"]);
    assert_eq!(lab.store().verify().unwrap(), Vec::<String>::new());
    // Both phases saw the same two sections, and each was taken up once.
    assert_eq!(lab.store().replay().unwrap().entries().len(), 2);

    // One after the other gives the same bytes as both at once.
    let apart = Lab::new();
    apart.write(&body());
    apart.try_train(&of_phase(&apart, PhaseSelection::Sft)).unwrap();
    let alone = apart.try_train(&of_phase(&apart, PhaseSelection::Preference)).unwrap();
    assert_eq!(alone.len(), 1);
    assert_eq!(apart.adapter_bytes(&alone[0]), lab.adapter_bytes(dpo));
}

#[test]
fn a_phase_of_preferences_alone_needs_an_adapter_and_preferences() {
    let lab = Lab::new();
    lab.write(&body());
    let alone = of_phase(&lab, PhaseSelection::Preference);
    let failure = lab.prepare(&alone).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Runtime);
    assert!(failure.message().contains("none was trained yet"), "{failure:?}");

    lab.write(&fenced(&pair("Who is it?", "It is Ann.")));
    let failure = lab.prepare(&alone).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Runtime);
    assert!(failure.message().contains("no preference"), "{failure:?}");

    lab.write_with("training:\n  preference: {enabled: false}\n", &body());
    let failure = lab.prepare(&alone).err().unwrap();
    assert!(
        failure.message().contains("`training.preference.enabled` is false"),
        "{failure:?}"
    );
    assert_eq!(lab.try_train(&lab.command()).unwrap().len(), 1, "written off is off");

    // Preferences alone begin with the base where everything is asked for.
    let fresh = Lab::new();
    fresh.write(&preferences(
        "::preference::",
        &triple("Is it?", "It is.", "It is not known."),
    ));
    let reports = fresh.try_train(&fresh.command()).unwrap();
    assert_eq!(
        (reports.len(), reports[0].phase, reports[0].version),
        (1, TrainPhase::Dpo, 1)
    );
    assert!(lines(&reports[0], "dpo_phase_start")[0]["reference_adapter_version"] == 0);
}

#[test]
fn mined_preferences_and_those_of_earlier_versions_take_part_as_asked() {
    let lab = Lab::new();
    let mined = |n: usize| {
        format!(
            "<!-- dlm-auto-mined: judge_name=\"sway\" judge_score_chosen=\"1.0\" judge_score_rejected=\"0.0\" \
             mined_at=\"2026-04-19T18:30:14Z\" mined_run_id=\"{n}\" -->\n"
        )
    };
    let own = triple("Is it at sea?", "It is.", "It is not known where it is at all.");
    let found = triple("Is Ann at sea?", "No.", "It is hard to say.");
    let head = fenced(&pair("Who is it?", "It is Ann.")) + "\n";
    let both =
        head.clone() + &preferences("::preference::", &own) + &preferences("::preference::", &(mined(1) + &found));
    lab.write(&both);
    let all = lab.prepare(&lab.command()).unwrap();
    assert_eq!((all.pairs.len(), all.plan.phases.len()), (2, 2));
    let without = TrainCommand {
        skips_mined: true,
        ..lab.command()
    };
    assert_eq!(lab.prepare(&without).unwrap().pairs.len(), 1);
    lab.try_train(&lab.command()).unwrap();
    lab.time.pass(DAY_MS);

    // The mined one is deleted: it is rehearsed beside the other, unless mined ones are left out.
    lab.write(&(head + &preferences("::preference::", &own)));
    let prepared = lab.prepare(&lab.command()).unwrap();
    assert_eq!(prepared.pairs.len(), 2);
    let rehearsed = &prepared.pairs[1];
    assert_eq!(rehearsed.preference.prompt, "Is Ann at sea?");
    assert_eq!(prepared.replay().preferences, [rehearsed.origin.to_string()]);
    assert_eq!(lab.prepare(&without).unwrap().pairs.len(), 1);
}

/// Raises the flag at one step of all.
struct StopAt {
    step: u64,
    seen: AtomicU64,
    cancel: Cancel,
}

impl Progress for StopAt {
    fn event(&self, event: Event) {
        if matches!(event, Event::Step(_)) && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.step {
            self.cancel.cancel();
        }
    }
}

type Trained = (Result<Option<GateReport>, Failure>, Vec<TrainReport>);

/// Trains until `step` steps were taken in all phases together.
fn train_until(lab: &Lab, command: &TrainCommand, step: u64) -> Trained {
    let mut reports = Vec::new();
    let outcome = lab.within(|around| {
        let cancel = Cancel::new();
        let around = Surroundings {
            progress: Arc::new(StopAt {
                step,
                seen: AtomicU64::new(0),
                cancel: cancel.clone(),
            }),
            cancel,
            ..around.clone()
        };
        let prepared = prepare(&around, command)?;
        run(&around, command, &prepared, &mut |report| reports.push(report.clone()))
    });
    (outcome, reports)
}

fn resuming(command: &TrainCommand) -> TrainCommand {
    TrainCommand {
        is_resume: true,
        ..command.clone()
    }
}

#[test]
fn a_run_goes_on_in_the_phase_in_which_it_was_stopped() {
    let steps = 4;
    let whole = Lab::new();
    whole.write(&body());
    let command = |lab: &Lab| TrainCommand {
        max_steps: Some(steps),
        ..lab.command()
    };
    let expected = whole.try_train(&command(&whole)).unwrap();
    for stop in 1..2 * steps {
        let lab = Lab::new();
        lab.write(&body());
        let (outcome, before) = train_until(&lab, &command(&lab), stop);
        let failure = outcome.err().unwrap();
        assert_eq!(failure.kind, FailureKind::Interrupted, "{stop}: {failure:?}");
        assert_eq!(before.len(), usize::from(stop > steps), "{stop}");
        lab.time.pass(DAY_MS);
        let after = lab.try_train(&resuming(&command(&lab))).unwrap();
        assert_eq!(before.len() + after.len(), 2, "{stop}");
        assert_eq!(
            lab.adapter_bytes(after.last().unwrap()),
            whole.adapter_bytes(&expected[1]),
            "{stop}"
        );
    }
}

// ---- several adapters ----

const TWO: &str = "training:\n  adapters:\n    facts: {lora_r: 4}\n    tone: {lora_r: 8, adapter: dora}\n";

fn two() -> String {
    let section = |fence: &str, content: &str| format!("{fence}\n{content}\n\n");
    format!("{}\n\n", "The boat is at sea. ".repeat(8).trim())
        + &section("::instruction::", &pair("Who is it?", "It is Ann."))
        + &section("::instruction#tone::", &pair("Where is the boat?", "At sea."))
        + &section(
            "::preference#tone::",
            &triple("Is it at sea?", "It is.", "It is not known."),
        )
}

fn named(name: &str) -> AdapterSlot {
    AdapterSlot::named(name).unwrap()
}

#[test]
fn each_adapter_learns_its_own_sections_on_one_base() {
    let lab = Lab::new();
    let path = lab.write_with(TWO, &two());
    let prepared = lab.within(|around| prepare(around, &lab.command())).unwrap();
    let [facts, tone] = prepared.as_slice() else {
        panic!("{} adapters", prepared.len());
    };
    assert!(std::rc::Rc::ptr_eq(&facts.base, &tone.base), "the base is opened once");
    let questions = |run: &dlm_flow::train::PreparedRun| -> Vec<String> {
        let bodies = run.dataset.examples().map(|example| format!("{:?}", example.body));
        bodies.collect()
    };
    assert_eq!(
        (questions(facts).len(), questions(tone).len()),
        (2, 2),
        "prose is everyone's"
    );
    assert!(questions(facts)[1].contains("Who is it?") && questions(tone)[1].contains("Where is the boat?"));
    assert_eq!((facts.plan.phases.len(), tone.plan.phases.len()), (1, 2));
    assert_eq!((facts.plan.lora_r.value, tone.plan.lora_r.value), (4, 8));

    let reports = lab.try_train(&lab.command()).unwrap();
    let told: Vec<_> = reports
        .iter()
        .map(|r| (r.adapter_name.as_deref().unwrap(), r.phase, r.version))
        .collect();
    assert_eq!(
        told,
        [
            ("facts", TrainPhase::Sft, 1),
            ("tone", TrainPhase::Sft, 1),
            ("tone", TrainPhase::Dpo, 2)
        ]
    );
    let manifest = lab.store().manifest().unwrap().unwrap();
    assert_eq!(
        manifest.adapter_versions,
        [("facts".to_owned(), 1), ("tone".to_owned(), 2)].into()
    );
    assert_eq!((manifest.adapter_version, manifest.content_hashes.len()), (0, 4));
    let names: Vec<_> = manifest
        .training_runs
        .iter()
        .map(|run| run.adapter_name.as_deref())
        .collect();
    assert_eq!(names, [Some("facts"), Some("tone"), Some("tone")]);
    assert_eq!(lab.store().verify().unwrap(), Vec::<String>::new());
    let corpus = lab.store().replay().unwrap();
    let routed = corpus
        .entries()
        .iter()
        .filter(|e| corpus.extra(&e.section_id).adapter.as_deref() == Some("tone"));
    assert_eq!((corpus.entries().len(), routed.count()), (4, 2));

    // Each is found by its name; without one there is nothing to choose by.
    let found = |adapter| lab.within(|around| locate(around, &path, false, adapter, Subject::Prompt));
    for name in ["facts", "tone"] {
        let located = found(Some(name)).ok().unwrap();
        let current = lab.store().current_version(&named(name)).unwrap().unwrap();
        assert_eq!(located.adapter.unwrap().0, current.directory);
    }
    for adapter in [None, Some("other")] {
        let failure = found(adapter).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Misuse);
        assert!(failure.message().contains("`facts`, `tone`"), "{failure:?}");
    }
}

#[test]
fn a_deleted_section_is_rehearsed_by_the_adapter_that_knew_it() {
    let lab = Lab::new();
    lab.write_with(TWO, &two());
    lab.try_train(&lab.command()).unwrap();
    lab.time.pass(DAY_MS);
    let gone = two().replace(
        &format!("::instruction#tone::\n{}\n\n", pair("Where is the boat?", "At sea.")),
        "",
    );
    lab.write_with(TWO, &gone);
    let prepared = lab.within(|around| prepare(around, &lab.command())).unwrap();
    let drawn: Vec<usize> = prepared.iter().map(|run| run.replay().drawn.len()).collect();
    assert_eq!(drawn, [0, 1]);
}

#[test]
fn several_adapters_go_on_where_they_were_stopped() {
    let whole = Lab::new();
    whole.write_with(TWO, &two());
    let expected = whole.try_train(&whole.command()).unwrap();
    // Two steps a phase, three phases.
    for stop in [1, 3, 5] {
        let lab = Lab::new();
        lab.write_with(TWO, &two());
        let (outcome, before) = train_until(&lab, &lab.command(), stop);
        assert_eq!(outcome.err().unwrap().kind, FailureKind::Interrupted);
        lab.time.pass(DAY_MS);
        let after = lab.try_train(&resuming(&lab.command())).unwrap();
        assert_eq!(before.len() + after.len(), 3, "{stop}");
        for (found, expected) in before.iter().chain(&after).zip(&expected) {
            assert_eq!(lab.adapter_bytes(found), whole.adapter_bytes(expected), "{stop}");
        }
        let manifest = lab.store().manifest().unwrap().unwrap();
        assert_eq!(manifest.content_hashes.len(), 4, "{stop}");
    }
}

#[test]
fn an_adapter_without_a_section_waits_and_the_others_are_trained() {
    let lab = Lab::new();
    let facts = fenced(&pair("Who is it?", "It is Ann."));
    lab.write_with(TWO, &facts);
    let reports = lab.try_train(&lab.command()).unwrap();
    assert_eq!(reports.len(), 1);
    let warnings = lab.ear.0.lock().unwrap().join("\n");
    assert!(warnings.contains("adapter `tone` has nothing to learn"), "{warnings}");
}

fn questions_of(name: &str, questions: &[&str]) -> String {
    let pairs: Vec<String> = questions.iter().map(|question| pair(question, "At sea.")).collect();
    format!("::instruction#{name}::\n{}\n\n", pairs.join("\n\n"))
}

fn prompt(lab: &Lab, gate: Option<GateChoice>, adapter: Option<&str>) -> Result<Vec<(String, f32)>, Failure> {
    let command = PromptCommand {
        path: lab.directory.path().join("a.dlm"),
        query: "Is Ann at sea?".into(),
        options: PromptOptions {
            max_tokens: Some(2),
            temperature: Some(0.0),
            threads: Some(1),
            ..PromptOptions::default()
        },
        is_base_only: false,
        adapter: adapter.map(str::to_owned),
        adapter_directory: None,
        gate,
    };
    lab.within(|around| {
        let asked = ask(around, &command)?;
        let report = answer(around, &asked, &mut |_| {})?;
        Ok(report
            .adapters
            .into_iter()
            .map(|share| (share.name, share.weight))
            .collect())
    })
}

#[test]
fn the_gate_is_made_after_the_adapters_and_asked_where_none_is_named() {
    let lab = Lab::new();
    let gated = format!("{TWO}  gate: {{enabled: true, cold_start_floor: 2, steps: 50}}\n");
    let body = questions_of("facts", &["Who is it?", "Who was it?", "Who is Ann?"])
        + &questions_of("tone", &["Where is the sea?", "Where is the boat?", "Where is it?"]);
    lab.write_with(&gated, &body);
    let failure = prompt(&lab, None, None).err().unwrap();
    assert_eq!(failure.kind, FailureKind::Misuse, "there is no gate yet: {failure:?}");

    let (outcome, reports) = train_until(&lab, &lab.command(), u64::MAX);
    let gate = outcome.unwrap().unwrap();
    assert_eq!(reports.len(), 2);
    let samples: Vec<_> = gate
        .adapters
        .iter()
        .map(|share| (share.name.as_str(), share.samples))
        .collect();
    assert_eq!(samples, [("facts", 3), ("tone", 3)]);
    assert!(gate.accuracy.is_some() && gate.majority == Some(0.5));
    let kept = lab.store().gate().unwrap().unwrap();
    assert_eq!((kept.config.adapter_names.len(), kept.config.mode), (2, gate.mode));
    let recorded = lab
        .store()
        .metrics_reader()
        .unwrap()
        .unwrap()
        .last_gate()
        .unwrap()
        .unwrap();
    assert_eq!((recorded.0, recorded.1.len()), (2, 2));

    // What the gate says is what is mixed; a named adapter passes it by, and it may be switched off.
    let weights = prompt(&lab, None, None).unwrap();
    assert!((weights.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-5);
    let off = prompt(&lab, Some(GateChoice::Off), None).unwrap();
    assert!(off.iter().all(|(_, weight)| *weight == 0.5), "{off:?}");
    assert!(prompt(&lab, None, Some("tone")).unwrap().is_empty());

    // Another set of adapters has no gate, and that is said.
    lab.write_with(&gated.replace("facts:", "other:"), &body.replace("#facts", "#other"));
    lab.try_train(&of_phase(&lab, PhaseSelection::Sft)).unwrap();
    let (config, tensors) = (lab.store().paths().gate_config(), lab.store().paths().gate_tensors());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("other", "facts")).unwrap();
    assert_eq!(prompt(&lab, None, None).err().unwrap().kind, FailureKind::Misuse);
    let warnings = lab.ear.0.lock().unwrap().join("\n");
    assert!(
        warnings.contains("the gate is not used: it chooses between `facts`, `tone`"),
        "{warnings}"
    );
    drop(tensors);
}

#[test]
fn a_gate_with_too_few_samples_is_uniform_and_says_so() {
    let lab = Lab::new();
    let gated = format!("{TWO}  gate: {{enabled: true}}\n");
    lab.write_with(
        &gated,
        &(questions_of("facts", &["Who is it?"]) + &questions_of("tone", &["Where is it?"])),
    );
    let (outcome, _) = train_until(&lab, &lab.command(), u64::MAX);
    let gate = outcome.unwrap().unwrap();
    assert_eq!(gate.mode.name(), "uniform");
    assert!(gate.why_uniform.unwrap().contains("4 are needed"));
    assert!(
        prompt(&lab, None, None)
            .unwrap()
            .iter()
            .all(|(_, weight)| *weight == 0.5)
    );
}
