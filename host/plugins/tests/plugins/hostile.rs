//! What a judge is refused, each beside the same thing granted or done well: a Rust guest that does what it is told, and the
//! built-in judges over ports that are played.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dlm_core::FailureKind;
use dlm_core::ports::judge::{JudgeItem, JudgeSource, JudgeVerdict};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::secrets::Secrets;
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{Compile, GrantFlags, Plugins};

use crate::fakes::{World, facts, finished, item};

const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/test-judge/plugin.wasm");
/// The text of the secret that no message may ever hold.
const SECRET: &str = "k-9f31-never-shown";

struct OneSecret;

impl Secrets for OneSecret {
    fn find(&self, name: &str) -> Result<Option<String>, String> {
        Ok((name == "KEY").then(|| SECRET.to_owned()))
    }
}

fn small() -> Limits {
    Limits {
        memory_bytes: 32 << 20,
        open_time: Duration::from_millis(300),
        call_time: Duration::from_millis(300),
        ..limits(Kind::Judge)
    }
}

fn plugins(world: &World, flags: &GrantFlags) -> Plugins {
    let mut ports = world.ports();
    ports.secrets = Arc::new(OneSecret);
    Plugins::new(facts(), ports, Compile::InMemory, flags).unwrap()
}

fn tell_with(world: &World, granted: &[&str], told: &str) -> Result<Vec<JudgeVerdict>, PluginFailure> {
    let flags = GrantFlags {
        granted: granted.iter().map(|grant| format!("test-judge={grant}")).collect(),
        ..GrantFlags::default()
    };
    // Short times only where the deed is an endless loop: a busy machine must not fail a test of something else.
    let plugins = plugins(world, &flags);
    let plugins = match told.contains(" loop") || told.contains(" memory") {
        true => plugins.with_limits(small()),
        false => plugins,
    };
    let mut judge = plugins.open_judge(&format!("{JUDGE}:{told}"))?;
    judge.score(&[item(), item()])
}

fn tell(told: &str) -> Result<Vec<JudgeVerdict>, PluginFailure> {
    tell_with(&World::new(), &[], told)
}

/// Tells the judge to do something; it must end with `code`, named, and the host must go on.
#[track_caller]
fn refused(granted: &[&str], told: &str, code: &str, part: &str) -> PluginFailure {
    let world = World::new();
    let error = tell_with(&world, granted, told).unwrap_err();
    assert_eq!(error.code, code, "{told}: {error}");
    assert!(error.to_string().contains(part), "{told}: {error}");
    assert!(
        error.to_string().contains("judge `test-judge` 0.1.0") || error.detail.is_some(),
        "{error}"
    );
    assert!(
        !format!("{error:?}").contains('\u{1b}'),
        "an escape got through: {error:?}"
    );
    assert!(world.process.ran.lock().unwrap().is_empty(), "a program was started");
    assert!(world.http.sent.lock().unwrap().is_empty(), "a request was sent");
    tell_with(&world, &[], "score nothing").unwrap();
    error
}

#[test]
fn the_well_behaved_twin_scores() {
    let verdicts = tell("").unwrap();
    assert_eq!(verdicts.len(), 2);
    assert_eq!(verdicts[0].scores, [3.0, 5.0]);
}

#[test]
fn answers_that_break_the_contract_are_not_used() {
    for (told, part) in [
        ("score nan", "item 1 of 2: the score NaN is not finite"),
        ("score infinite", "the score inf is not finite"),
        ("score few", "it gave 1 scores for 2 candidates"),
        ("score many", "it gave 3 scores for 2 candidates"),
        ("score verdicts", "it gave 1 verdicts for 2 items"),
        ("info threshold", "suggested threshold is NaN"),
        ("info negative", "suggested threshold is -1"),
        ("info batch", "largest batch is 0"),
    ] {
        refused(&[], told, "plugin::bad-result", part);
    }
}

#[test]
fn batches_are_as_large_as_the_judge_takes() {
    assert_eq!(tell("info one").unwrap().len(), 2);
}

#[test]
fn loops_and_memory_end_at_their_limits() {
    for told in ["open loop", "score loop", "score loop-host"] {
        let started = Instant::now();
        let error = refused(&[], told, "plugin::limit", "300 ms of its own time");
        assert!(
            error.hints[0].contains("--grant 'test-judge=limit:deadline="),
            "{:?}",
            error.hints
        );
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    let error = refused(&[], "score memory", "plugin::limit", "32 MiB of memory");
    assert!(error.hints[0].contains("limit:memory=64MiB"), "{:?}", error.hints);
}

#[test]
fn handles_and_results_are_bounded() {
    refused(&[], "score bars", "plugin::limit", "1000 live handles");
    refused(
        &["limit:memory=1GiB"],
        "score huge",
        "plugin::limit",
        "8 MiB of data in one call",
    );
}

#[test]
fn crashes_are_named_and_explained() {
    let error = refused(&[], "score panic at noon", "plugin::crashed", "told to: at noon");
    assert_eq!(error.kind, FailureKind::Runtime);
    refused(&[], "score unreachable", "plugin::crashed", "in `score`");
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let world = World::new();
    tell_with(&world, &[], "score log a\u{1b}[2Jb").unwrap();
    let warnings = world.warnings();
    assert!(warnings.iter().any(|line| line.contains("more log lines were dropped")));
    assert!(warnings.len() < 10_100, "{}", warnings.len());
    assert!(warnings.iter().all(|line| !line.contains('\u{1b}')));
}

#[test]
fn escapes_are_inert_wherever_they_come_from() {
    let verdicts = tell("score escapes title").unwrap();
    let reasoning = verdicts[0].reasoning.as_deref().unwrap();
    assert!(
        reasoning.contains("\\u{1b}") && reasoning.contains("\\u{202e}"),
        "{reasoning}"
    );
    let judge = plugins(&World::new(), &GrantFlags::default())
        .open_judge(JUDGE)
        .unwrap();
    let identity = &judge.info().identity;
    // What it calls itself, escapes and all, is in no name.
    let name = format!("test-judge@0.1.0 (path, sha256 {})", identity.sha256);
    assert_eq!(identity.name, name);
    assert_eq!(identity.detail.as_deref(), Some("\\u{202e}reversed"));
    let error = tell("score fail x").unwrap_err();
    assert_eq!(error.code, "plugin::failed");
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[test]
fn nothing_outside_is_reached_without_a_grant() {
    let denied = |granted: &[&str], told: &str, capability: &str| {
        let error = refused(granted, told, "plugin::denied", capability);
        assert_eq!(error.detail.unwrap().capability.as_deref(), Some(capability), "{told}");
        assert!(
            error
                .hints
                .iter()
                .any(|hint| hint.contains(&format!("--grant 'test-judge={capability}'"))),
            "{:?}",
            error.hints
        );
    };
    denied(&[], "score current", "model:current");
    denied(&["model:current"], "score named hf:org/other", "model:hf:org/other");
    denied(&[], "score exec sh -c id", "exec:sh -c id");
    denied(&["exec:sh"], "score exec sh -c id", "exec:sh -c id");
    denied(&[], "score http https://example.com/v1", "http:https://example.com/v1");
    let granted = ["http:https://example.com/v1"];
    denied(
        &granted,
        "score http https://example.com/v10",
        "http:https://example.com/v10",
    );
    denied(
        &granted,
        "score http http://example.com/v1",
        "http:http://example.com/v1",
    );
    denied(
        &granted,
        "score http https://example.com:444/v1",
        "http:https://example.com:444/v1",
    );
}

#[test]
fn a_hint_to_type_is_one_word_of_a_shell() {
    // What a shell would read never stands in a capability.
    let error = refused(&[], "score exec sh ';id;'", "plugin::denied", "exec:sh *");
    assert_eq!(error.hints[1], "allow it once: --grant 'test-judge=exec:sh *'");
}

#[test]
fn what_is_granted_works() {
    let world = World::new();
    tell_with(
        &world,
        &["http:https://example.com/v1"],
        "score http https://example.com/v1/x",
    )
    .unwrap();
    assert_eq!(world.http.sent.lock().unwrap()[0].url, "https://example.com/v1/x");
    let world = World::new();
    tell_with(&world, &["exec:server --score *"], "score exec server --score x").unwrap();
    assert_eq!(
        world.process.ran.lock().unwrap()[0],
        ["/fake/bin/server", "--score", "x"]
    );
    // Granted, but this run has no model: the engine's own words come through.
    let error = tell_with(&World::new(), &["model:current"], "score current").unwrap_err();
    assert_eq!(error.code, "plugin::unavailable", "{error}");
}

#[test]
fn secrets_are_attached_not_seen() {
    let world = World::new();
    let granted = ["http:https://a.example", "secret:KEY@a.example"];
    refused(&[], "score secret KEY", "plugin::denied", "secret:KEY");
    refused(&granted, "score reveal KEY", "plugin::denied", "reveal:KEY");
    refused(&granted, "score secret OTHER", "plugin::denied", "secret:OTHER");
    refused(
        &["secret:GONE@a.example"],
        "score secret GONE",
        "plugin::not-found",
        "DLM_SECRET_GONE",
    );
    refused(
        &granted,
        "score secret key",
        "plugin::invalid-input",
        "not the name of a secret",
    );
    world.answer_http(|_| (200, "ok".to_owned()));
    tell_with(&world, &granted, "score header KEY https://a.example/x").unwrap();
    let sent = world.http.sent.lock().unwrap();
    let header = &sent[0].secret_headers[0];
    assert_eq!(
        (header.name.as_str(), header.value.as_str()),
        ("authorization", &*format!("Bearer {SECRET}"))
    );
    assert_eq!(header.hosts, ["a.example"], "the port sends it there only");
    assert!(
        !format!("{:?}", sent[0]).contains(SECRET),
        "a debug print shows the secret"
    );
    let said = format!("{:?}", world.events.0.lock().unwrap());
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn a_revealed_secret_is_what_was_granted() {
    let world = World::new();
    tell_with(&world, &["reveal:KEY"], "score reveal KEY").unwrap();
    assert!(world.warnings().iter().any(|line| line.contains(SECRET)));
}

#[test]
fn the_clock_stands_and_the_seed_is_the_plugins_own() {
    let said = |granted: &[&str]| {
        let world = World::new();
        tell_with(&world, granted, "score facts").unwrap();
        world.warnings().join("\n")
    };
    let first = said(&[]);
    assert!(first.contains("unix-ms: 951782400000"), "{first}");
    assert_eq!(first, said(&[]), "two runs say the same");
    assert!(
        !first.contains("seed: 7,"),
        "the run's own seed is mixed with the plugin: {first}"
    );
}

#[test]
fn a_sandbox_and_a_denial_win_over_grants() {
    for (denied, is_sandboxed) in [
        (vec!["test-judge=exec:server **".to_owned()], false),
        (Vec::new(), true),
    ] {
        let flags = GrantFlags {
            granted: vec!["test-judge=exec:server".to_owned()],
            denied,
            is_sandboxed,
            ..GrantFlags::default()
        };
        let world = World::new();
        let mut judge = plugins(&world, &flags)
            .open_judge(&format!("{JUDGE}:score exec server"))
            .unwrap();
        let error = judge.score(&[item()]).unwrap_err();
        assert_eq!(error.code, "plugin::denied");
        // No grant would help here: the flag that takes it away is named instead.
        let lifted = match is_sandboxed {
            true => ["nothing is granted", "--sandbox takes it away: leave that out"],
            false => [
                "granted: exec:server",
                "--deny 'test-judge=exec:server **' takes it away: leave that out",
            ],
        };
        assert_eq!(error.hints, lifted, "{error}");
        assert!(world.process.ran.lock().unwrap().is_empty());
    }
}

#[test]
fn a_stopped_instance_gives_way_to_a_fresh_one_three_times_in_a_run() {
    let world = World::new();
    let plugins = plugins(&world, &GrantFlags::default()).with_limits(small());
    let mut judge = plugins.open_judge(&format!("{JUDGE}:score wild")).unwrap();
    let asked = |prompt: &str| JudgeItem {
        prompt: prompt.to_owned(),
        ..item()
    };
    for round in 0..2 {
        let crashed = judge.score(&[asked("please crash")]).unwrap_err();
        assert_eq!(crashed.code, "plugin::crashed", "{round}");
        assert!(crashed.to_string().contains("told to: please crash"), "{crashed}");
        assert_eq!(judge.score(&[asked("go on")]).unwrap().len(), 1);
    }
    // Judges of one run share what there is, whoever opened them.
    let mut other = plugins.open_judge(&format!("{JUDGE}:score wild")).unwrap();
    assert_eq!(other.score(&[asked("a loop")]).unwrap_err().code, "plugin::limit");
    assert_eq!(other.score(&[asked("go on")]).unwrap().len(), 1);
    assert_eq!(other.score(&[asked("crash")]).unwrap_err().code, "plugin::crashed");
    for _ in 0..2 {
        let over = other.score(&[asked("go on")]).unwrap_err();
        assert_eq!(over.code, "plugin::limit");
        assert!(
            over.ends_the_run() && over.to_string().contains("told to: crash"),
            "{over}"
        );
    }
    drop((judge, other));
    assert_eq!(plugins.used()[0].instances, 5);
}

#[test]
fn cancelling_stops_a_loop() {
    let world = World::new();
    let mut judge = plugins(&world, &GrantFlags::default())
        .open_judge(&format!("{JUDGE}:score loop"))
        .unwrap();
    let cancel = world.cancel.clone();
    let raiser = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
    });
    let error = judge.score(&[item()]).unwrap_err();
    raiser.join().unwrap();
    assert_eq!(
        (error.code, error.kind),
        ("plugin::cancelled", FailureKind::Interrupted)
    );
}

#[test]
fn the_typed_command_runs_and_no_other() {
    let world = World::new();
    world.answer_process(|_| finished(0, "{\"score\": 1.5, \"reasoning\": \"short\"}", ""));
    let plugins = plugins(&world, &GrantFlags::default());
    let mut judge = plugins.open_judge("cli:server --fast 'a b'").unwrap();
    let verdicts = judge.score(&[item()]).unwrap();
    assert_eq!(verdicts[0].scores, [1.5, 1.5]);
    let ran = world.process.ran.lock().unwrap();
    assert_eq!(ran[0], ["/fake/bin/server", "--fast", "a b"]);
    assert_eq!(ran.len(), 2, "once a candidate");
}

#[test]
fn unknown_judges_and_wrong_kinds_are_misuse() {
    let plugins = plugins(&World::new(), &GrantFlags::default());
    let error = plugins.open_judge("swaj").map(drop).unwrap_err();
    assert_eq!((error.code, error.kind), ("plugin::unknown", FailureKind::Misuse));
    assert!(
        format!("{error} {:?}", error.hints).contains("sway"),
        "{error} {:?}",
        error.hints
    );
    let error = plugins.open_judge("ollama").map(drop).unwrap_err();
    assert_eq!((error.code, error.kind), ("plugin::wrong-kind", FailureKind::Misuse));
}
