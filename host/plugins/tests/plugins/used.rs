//! What a plugin used is counted, and instructions can stand for time.

use std::sync::Arc;
use std::time::Duration;

use dlm_core::ports::judge::JudgeSource;
use dlm_core::ports::plugin::{HttpUse, PluginUse};
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{Compile, GrantFlags, Metering, Plugins};

use crate::fakes::{World, facts, finished, item};
use crate::judges::{FakeModel, FakeModels};

const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/test-judge/plugin.wasm");

fn plugins(world: &World, granted: &[&str]) -> Plugins {
    let flags = GrantFlags {
        granted: granted.iter().map(|grant| format!("test-judge={grant}")).collect(),
        ..GrantFlags::default()
    };
    Plugins::new(facts(), world.ports(), Compile::InMemory, &flags).unwrap()
}

fn told(plugins: &Plugins, selector: &str) -> PluginUse {
    let mut judge = plugins.open_judge(selector).unwrap();
    // Some deeds end in a refusal; what was used until then counts all the same.
    let _verdicts = judge.score(&[item()]);
    drop(judge);
    let mut used = plugins.used();
    assert_eq!(used.len(), 1, "{used:?}");
    used.remove(0)
}

#[test]
fn each_use_of_a_capability_is_counted() {
    let world = World::new();
    *world.http.answer.lock().unwrap() = Box::new(|_| (200, "four".to_owned()));
    let all = ["http:https://example.com/v1", "exec:server --score *"];
    let plugins = plugins(&world, &all);
    let used = told(&plugins, &format!("{JUDGE}:score http https://example.com/v1/x"));
    assert_eq!((used.plugin.as_str(), used.kind.as_str()), ("test-judge", "judge"));
    assert_eq!((used.instances, used.calls), (1, 2));
    let one = HttpUse {
        requests: 1,
        bytes_sent: 0,
        bytes_received: 4,
    };
    assert_eq!(used.http.get("example.com"), Some(&one), "{used:?}");
    assert!(used.memory_peak_bytes >= 64 << 10, "{used:?}");
    assert!(used.compile_ms.is_some() && used.programs.is_empty());
    let used = told(&plugins, &format!("{JUDGE}:score exec server --score x"));
    assert_eq!((used.instances, used.calls), (2, 4));
    assert_eq!(used.programs.get("server"), Some(&1), "{used:?}");
    assert_eq!(used.http.get("example.com"), Some(&one), "{used:?}");
}

#[test]
fn a_refused_request_is_counted_and_a_refused_program_is_not_run() {
    let world = World::new();
    let used = told(&plugins(&world, &[]), &format!("{JUDGE}:score exec server"));
    assert!(used.programs.is_empty() && used.granted.is_empty(), "{used:?}");
}

#[test]
fn questions_to_a_model_are_counted_with_their_tokens() {
    let world = World::new();
    let mut ports = world.ports();
    ports.models = Arc::new(FakeModels {
        model: Arc::new(FakeModel::default()),
        ..FakeModels::default()
    });
    let plugins = Plugins::new(facts(), ports, Compile::InMemory, &GrantFlags::default()).unwrap();
    let used = told(&plugins, "sway");
    // Two candidates, each with and without the adapter, of two tokens each.
    assert_eq!((used.model_requests, used.model_tokens), (4, 8), "{used:?}");
    assert_eq!(used.granted, ["model:current"]);
}

#[test]
fn instructions_are_counted_only_where_they_are_asked_for() {
    let world = World::new();
    let timed = told(&plugins(&world, &[]), JUDGE);
    assert_eq!(timed.instructions, None);
    let counted = || told(&plugins(&world, &[]).with_metering(Metering::Counted), JUDGE);
    let first = counted().instructions.unwrap();
    assert!(first > 100, "{first}");
    assert_eq!(
        counted().instructions,
        Some(first),
        "the same work takes the same instructions"
    );
}

#[test]
fn limits_can_count_instructions_and_then_stop_at_the_same_one() {
    let world = World::new();
    let stopped = || {
        let short = Limits {
            call_time: Duration::from_millis(20),
            ..limits(Kind::Judge)
        };
        let plugins = plugins(&world, &[])
            .with_limits(short)
            .with_metering(Metering::Instructions);
        let mut judge = plugins.open_judge(&format!("{JUDGE}:score loop")).unwrap();
        let error = judge.score(&[item()]).unwrap_err();
        assert_eq!(error.code, "plugin::limit", "{error}");
        assert!(error.to_string().contains("of its own time in `score`"), "{error}");
        drop(judge);
        plugins.used()[0].instructions.unwrap()
    };
    let first = stopped();
    assert!(first >= 20_000_000, "{first}");
    assert_eq!(stopped(), first);
    let plugins = plugins(&world, &[]).with_metering(Metering::Instructions);
    assert_eq!(
        plugins.open_judge(JUDGE).unwrap().score(&[item()]).unwrap()[0].scores,
        [3.0, 5.0]
    );
}

#[test]
fn a_typed_command_is_counted_under_its_program() {
    let world = World::new();
    world.process.programs.lock().unwrap().push("rate");
    *world.process.answer.lock().unwrap() = Box::new(|_| finished(0, "{\"score\": 0.5}", ""));
    let plugins = Plugins::new(facts(), world.ports(), Compile::InMemory, &GrantFlags::default()).unwrap();
    let used = told(&plugins, "cli:rate");
    assert_eq!(used.programs.get("rate"), Some(&2), "{used:?}");
}
