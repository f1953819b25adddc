//! Guests that were built for another version of the contract.

use dlm_packages::Kind;
use dlm_plugins::GrantFlags;

use crate::bombs::ask;
use crate::fakes::World;
use crate::guest::{component, judge, later_contract};

/// A judge for `version`, whose `log` has a function that this host lacks; with `call` it is called in `score`.
fn judge_of(version: &str, declared: &str, score: &str) -> Vec<u8> {
    component(
        &later_contract(version),
        Kind::Judge,
        "judge-plugin",
        &judge(version, declared, "", score),
    )
}

fn flush(version: &str) -> String {
    format!("(import \"dlm:plugin/log@{version}\" \"flush\" (func $flush))")
}

#[test]
fn a_newer_minor_version_runs_until_it_needs_something_newer() {
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default());
    let told = "hostile│ was built for plugin API 1.99.0; it runs until it needs something newer";
    let imported = judge_of("1.99.0", &flush("1.99.0"), "");
    assert_eq!(ask(&plugins, &world, &imported).unwrap(), [0.0, 0.0]);
    assert_eq!(world.warnings(), [told]);
    let called = judge_of("1.99.0", &flush("1.99.0"), "(call $flush)");
    let error = ask(&plugins, &world, &called).unwrap_err();
    assert_eq!(error.code, "plugin::api");
    assert_eq!(
        error.to_string(),
        "judge `hostile` 0.0.1 needs plugin API 1.99.0 (log.flush); upgrade dlm"
    );
    // What this host has is its own, not a trap.
    let enabled = "(import \"dlm:plugin/log@1.99.0\" \"enabled\" (func $enabled (param i32) (result i32)))";
    let declared = format!("{} {enabled}", flush("1.99.0"));
    let score = "(f64.store (i32.const 160) (f64.convert_i32_u (call $enabled (i32.const 4))))";
    assert_eq!(
        ask(&plugins, &world, &judge_of("1.99.0", &declared, score)).unwrap(),
        [1.0, 0.0]
    );
}

#[test]
fn other_major_versions_are_refused() {
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default());
    for version in ["2.0.0", "0.9.0"] {
        let error = ask(&plugins, &world, &judge_of(version, "", "")).unwrap_err();
        assert_eq!(error.code, "plugin::api", "{error}");
        let told = format!("plugin `hostile` was built for plugin API {version}; this dlm supports 1.0");
        assert_eq!(error.to_string(), told);
    }
}
