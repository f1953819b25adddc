//! What a guest is refused, each beside the same thing granted or done well, through one guest that does what it is told.

use std::time::{Duration, Instant};

use dlm_core::FailureKind;
use dlm_core::ports::target::{ExportTarget, PluginFailure, TargetReport, TargetRun, TargetSmoke, run_target};
use dlm_packages::error::Diagnose;
use dlm_plugins::GrantFlags;

use crate::fakes::{HASTY, PORT, SMALL, TEST_TARGET, World, finished, grant};
use crate::targets::plan;

/// Takes the test guest through a whole export under small limits, little time where the deed is an endless loop.
fn tell(world: &World, flags: &GrantFlags, told: &str) -> Result<TargetReport, PluginFailure> {
    let is_endless = told.contains(" loop");
    let targets = world.targets(flags).with_limits(if is_endless { HASTY } else { SMALL });
    let mut target = targets.open_bytes("test-target", TEST_TARGET, told)?;
    let run = TargetRun {
        is_installed: true,
        is_smoked: true,
    };
    run_target(&mut target, &plan(), &world.stage(), run)
}

/// Tells the guest to do something without any grant; it must be refused with `code`.
#[track_caller]
fn refused(told: &str, code: &str) -> PluginFailure {
    let world = World::new();
    let error = tell(&world, &GrantFlags::default(), told).unwrap_err();
    assert_eq!(error.code, code, "{told}: {error}");
    let detail = error.detail.as_deref().expect("the plugin is named");
    assert_eq!(
        (detail.plugin.as_str(), detail.version.as_str(), detail.world),
        ("test-target", "0.1.0", "target-plugin")
    );
    assert_eq!(detail.function, told.split(' ').next(), "{error}");
    assert!(world.process.ran.lock().unwrap().is_empty(), "a program was started");
    assert!(world.http.sent.lock().unwrap().is_empty(), "a request was sent");
    // The host is unharmed: the same guest, told to behave, runs next.
    tell(&world, &GrantFlags::default(), "prepare nothing").unwrap();
    error
}

#[track_caller]
fn limited(told: &str, limit: &str, raised: Option<&str>) -> PluginFailure {
    let error = refused(told, "plugin::limit");
    assert_eq!(error.detail.as_ref().unwrap().limit.as_deref(), Some(limit));
    match raised {
        Some(value) => assert!(
            error.hints[0].starts_with(&format!("raise it: --grant 'test-target=limit:{limit}={value}'")),
            "{:?}",
            error.hints
        ),
        None => assert_eq!(error.hints, ["no grant raises this limit"]),
    }
    error
}

#[test]
fn the_well_behaved_twin_passes() {
    let world = World::new();
    let report = tell(&world, &GrantFlags::default(), "prepare nothing").unwrap();
    assert_eq!(report.prepared.files.len(), 1);
    assert_eq!(world.read("note.txt"), "written by prepare");
    assert_eq!(
        report.info.detail.as_deref(),
        Some("escape \\u{1b}[31m"),
        "terminal escapes are inert"
    );
    let smoke = TargetSmoke::Passed {
        detail: "nothing to serve".to_owned(),
    };
    assert_eq!(report.smoke, smoke);
}

#[test]
fn endless_loops_end_at_their_deadline() {
    for told in [
        "open loop",
        "prepare loop",
        "prepare loop-host",
        "install loop",
        "smoke loop",
    ] {
        let started = Instant::now();
        let error = limited(told, "deadline", Some("2s"));
        assert!(error.to_string().contains("300 ms of its own time"), "{error}");
        // Generous: the machine may be busy. The promise itself is two ticks of 10 ms.
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn memory_is_bounded_and_can_be_raised() {
    let error = limited("prepare memory", "memory", Some("64MiB"));
    assert!(
        error
            .to_string()
            .contains("used more than 32 MiB of memory in `prepare`"),
        "{error}"
    );
    let raised = tell(&World::new(), &grant("limit:memory=96MiB"), "prepare memory").unwrap_err();
    assert!(raised.to_string().contains("96 MiB"), "{raised}");
}

#[test]
fn handles_are_bounded() {
    limited("prepare handles", "handles", None);
}

#[test]
fn data_in_one_call_is_bounded() {
    let flags = grant("limit:memory=256MiB");
    let error = tell(&World::new(), &flags, "prepare transfer").unwrap_err();
    assert_eq!(
        error.detail.as_ref().unwrap().limit.as_deref(),
        Some("transfer"),
        "{error}"
    );
    assert!(error.hints[0].contains("limit:transfer=16MiB"), "{:?}", error.hints);
}

#[test]
fn written_files_are_bounded() {
    let error = limited("prepare write-much", "output", Some("8MiB"));
    assert!(error.to_string().contains("4 MiB of written files"), "{error}");
}

#[test]
fn a_crash_is_explained() {
    let error = refused("install panic on Tuesday", "plugin::crashed");
    assert!(error.to_string().contains("told to: on Tuesday"), "{error}");
}

#[test]
fn deep_recursion_is_called_by_its_name() {
    // A Rust guest exhausts its own stack first, which wasm reports as an access out of bounds.
    let error = limited("prepare recursion", "stack", None);
    assert!(error.to_string().contains("1 MiB of stack in `prepare`"), "{error}");
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let world = World::new();
    tell(&world, &GrantFlags::default(), "prepare log a\u{1b}[2Jb").unwrap();
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 10_001);
    assert_eq!(warnings[0], "test-target│ a\\u{1b}[2Jb");
    assert_eq!(warnings[10_000], "test-target│ 10000 more log lines were dropped");
}

#[test]
fn files_outside_the_export_are_refused() {
    for name in [
        "../x",
        "/etc/x",
        "a/../../x",
        "C:\\x",
        "a\\b",
        "CON",
        "x.",
        "sub/../x",
        ".dlm-target-0.tmp",
    ] {
        let error = refused(&format!("prepare write {name}"), "plugin::invalid-input");
        assert!(error.to_string().contains("refused"), "{error}");
    }
    for name in [
        "base.Q4_K_M.gguf",
        "BASE.q4_k_m.GGUF",
        "export_manifest.json",
        "adapter.gguf/x",
    ] {
        refused(&format!("prepare write {name}"), "plugin::conflict");
    }
    refused("install write late.txt", "plugin::unsupported");
    let world = World::new();
    tell(&world, &GrantFlags::default(), "prepare write sub/fine.txt").unwrap();
    assert_eq!(world.read("sub/fine.txt"), "x");
}

#[test]
fn a_failed_prepare_leaves_nothing() {
    let world = World::new();
    tell(&world, &GrantFlags::default(), "prepare fail").unwrap_err();
    assert!(!world.directory.path().join("note.txt").exists());
}

#[test]
fn programs_need_a_grant_a_phase_and_the_exact_words() {
    let error = refused("install exec server --go x", "plugin::denied");
    assert_eq!(
        error.detail.as_ref().unwrap().capability.as_deref(),
        Some("exec:server --go x")
    );
    assert_eq!(
        error.hints[1],
        "allow it once: --grant 'test-target=exec:server --go x'"
    );
    let go = grant("exec:server --go *");
    for told in [
        "prepare exec server --go x",
        "open exec server --go x",
        "install exec server --go x --more",
        "install exec server --go --evil",
        "install exec server",
        "install exec sh --go x",
        "install exec /fake/bin/server --go x",
    ] {
        let world = World::new();
        let error = tell(&world, &go, told).unwrap_err();
        assert_eq!(error.code, "plugin::denied", "{told}: {error}");
        assert!(world.process.ran.lock().unwrap().is_empty(), "{told}");
    }
    let world = World::new();
    world.answer_process(|_| finished(3, "", ""));
    tell(&world, &go, "install exec server --go x").unwrap();
    assert_eq!(*world.process.ran.lock().unwrap(), [["/fake/bin/server", "--go", "x"]]);
    assert_eq!(world.warnings(), ["test-target│ status 3"]);
}

#[test]
fn a_denial_and_the_sandbox_win_over_a_grant() {
    let granted = grant("exec:server --go *");
    let denied = GrantFlags {
        denied: vec!["test-target=exec:server **".to_owned()],
        ..granted.clone()
    };
    let sandboxed = GrantFlags {
        is_sandboxed: true,
        ..granted.clone()
    };
    for flags in [denied, sandboxed] {
        let error = tell(&World::new(), &flags, "install exec server --go x").unwrap_err();
        assert_eq!(error.code, "plugin::denied", "{error}");
    }
    tell(&World::new(), &granted, "install exec server --go x").unwrap();
}

#[test]
fn requests_need_a_grant_and_stay_on_this_machine() {
    refused("install http http://127.0.0.1:8000/v1", "plugin::denied");
    let granted = grant("http:http://127.0.0.1:8000/v1");
    for told in [
        "prepare http http://127.0.0.1:8000/v1",
        "install http http://127.0.0.1:8001/v1",
        "install http http://127.0.0.1:8000/v2",
        "install http http://localhost:8000/v1",
        "install http http://example.com/v1",
    ] {
        let world = World::new();
        let error = tell(&world, &granted, told).unwrap_err();
        assert_eq!(error.code, "plugin::denied", "{told}: {error}");
        assert!(world.http.sent.lock().unwrap().is_empty(), "{told}");
    }
    let hidden = "install http http://127.0.0.1:8000@example.com/v1";
    let error = tell(&World::new(), &granted, hidden).unwrap_err();
    assert_eq!(error.code, "plugin::invalid-input", "{error}");
    let world = World::new();
    tell(&world, &granted, "install http http://127.0.0.1:8000/v1/x").unwrap();
    let sent = world.http.sent.lock().unwrap();
    assert_eq!(sent[0].url, "http://127.0.0.1:8000/v1/x");
    assert_eq!(sent[0].user_agent, "dlm/1.2.3 (plugin test-target/0.1.0)");
}

#[test]
fn requests_are_counted() {
    let granted = grant("http:http://127.0.0.1:8000");
    let error = tell(&World::new(), &granted, "install http-many http://127.0.0.1:8000/").unwrap_err();
    assert_eq!(
        error.detail.as_ref().unwrap().limit.as_deref(),
        Some("requests"),
        "{error}"
    );
    assert!(error.hints[0].contains("limit:requests=20"), "{:?}", error.hints);
}

#[test]
fn secrets_are_never_given() {
    let error = refused("install secret TOKEN", "plugin::denied");
    assert_eq!(error.hints, ["nothing is granted"]);
}

#[test]
fn a_guests_own_error_is_shown_inert() {
    let error = refused("install fail badly", "plugin::failed");
    assert_eq!(error.to_string(), "\\u{1b}]0;title\\u{7}badly");
    assert_eq!(
        (error.kind, error.subject.as_str()),
        (FailureKind::Runtime, "test-target")
    );
}

#[test]
fn results_are_checked() {
    let error = refused("prepare unwritten", "plugin::bad-result");
    assert!(
        error.to_string().contains("`absent.txt`, which it did not write"),
        "{error}"
    );
    let error = refused("prepare launch-other", "plugin::bad-result");
    assert!(
        error.to_string().contains("`sh`, which is not among its programs"),
        "{error}"
    );
}

#[test]
fn a_cancelled_run_stops_the_guest() {
    let world = World::new();
    world.cancel.cancel();
    let error = tell(&world, &GrantFlags::default(), "prepare loop").unwrap_err();
    assert_eq!(
        (error.code, error.kind),
        ("plugin::cancelled", FailureKind::Interrupted)
    );
}

#[test]
fn a_server_needs_its_grant() {
    let world = World::new();
    let error = tell(&world, &GrantFlags::default(), "smoke server-own").unwrap_err();
    assert_eq!((error.code, error.subject.as_str()), ("plugin::denied", "smoke"));
    assert!(world.process.ran.lock().unwrap().is_empty());
    let report = tell(&world, &grant("exec:server --port *"), "smoke server-own").unwrap();
    let smoke = TargetSmoke::Passed {
        detail: "status 200".to_owned(),
    };
    assert_eq!(report.smoke, smoke);
    let port = PORT.to_string();
    assert_eq!(
        *world.process.ran.lock().unwrap(),
        [["/fake/bin/server", "--port", port.as_str()]]
    );
}

#[test]
fn the_seed_is_stable_and_the_plugins_own() {
    let seed = || {
        let world = World::new();
        tell(&world, &GrantFlags::default(), "prepare seed").unwrap();
        world.warnings()
    };
    let first = seed();
    assert_eq!(first, seed());
    assert_ne!(first, ["test-target│ seed 7"], "the run's own seed is not handed out");
}

#[test]
fn after_a_limit_the_instance_is_not_used_again() {
    let world = World::new();
    let targets = world.targets(&GrantFlags::default()).with_limits(SMALL);
    let mut target = targets.open_bytes("test-target", TEST_TARGET, "prepare panic").unwrap();
    let stage = world.stage();
    target.prepare(&plan(), &stage).unwrap_err();
    let error = target.install(&plan(), &stage).unwrap_err();
    assert!(error.to_string().contains("stopped in an earlier call"), "{error}");
}

/// Appends a manifest to a component.
fn with_manifest(mut bytes: Vec<u8>) -> Vec<u8> {
    let manifest = br#"{"schema":1,"name":"small","version":"0.0.1","kinds":["target"]}"#;
    let name = b"dlm:plugin-manifest";
    let sizes = [1 + name.len() + manifest.len(), name.len()];
    bytes.push(0);
    bytes.extend(sizes.map(|size| u8::try_from(size).unwrap()));
    bytes.extend(name);
    bytes.extend(manifest);
    bytes
}

/// A core module with the exports of a target, `more` added, made into a component.
fn target_component(more: &str) -> Vec<u8> {
    let interface = "dlm:plugin/target@1.0.0";
    let text = format!(
        "(module
            (memory (export \"memory\") 1)
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export \"{interface}#open\") (param i32 i32) (result i32) unreachable)
            (func (export \"{interface}#prepare\") (param i32) (result i32) unreachable)
            (func (export \"{interface}#install\") (param i32) (result i32) unreachable)
            (func (export \"{interface}#smoke\") (param i32) (result i32) unreachable)
            {more})"
    );
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_dir(wit).unwrap();
    let world = resolve.select_world(&[package], Some("target-plugin")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).unwrap();
    encoder.encode().unwrap()
}

#[track_caller]
fn not_loaded(component: Vec<u8>, code: &str, part: &str) {
    let targets = World::new().targets(&GrantFlags::default()).with_limits(HASTY);
    let opened = targets.open_bytes("small", &with_manifest(component), "");
    let error = opened.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn components_that_do_not_fit_are_refused_before_they_run() {
    let small = |text: &str| wat::parse_str(text).unwrap();
    not_loaded(
        small("(component)"),
        "plugin::wrong-kind",
        "is no target; it exports nothing",
    );
    for (import, code) in [
        ("wasi:keyvalue/store@0.2.0", "plugin::import"),
        ("wasi:http/outgoing-handler@0.2.0", "plugin::import"),
        ("wasi:cli/environment@0.3.0", "plugin::import"),
        ("dlm:plugin/log@2.0.0", "plugin::api"),
    ] {
        let text = format!("(component (import \"{import}\" (instance)))");
        not_loaded(small(&text), code, import.rsplit(['/', '@']).next().unwrap_or(import));
    }
    not_loaded(small("(component (import \"env\" (func)))"), "plugin::import", "env");
    let model = "(component (import \"dlm:plugin/model@1.0.0\" (instance)) (instance $i) \
                 (export \"dlm:plugin/target@1.0.0\" (instance $i)))";
    not_loaded(small(model), "plugin::import", "which a target may not");
    let empty = "(component (instance $i) (export \"dlm:plugin/target@1.0.0\" (instance $i)))";
    not_loaded(small(empty), "plugin::malformed", "open");
    let truncated = target_component("");
    let cut = truncated[..truncated.len() / 2].to_vec();
    not_loaded(cut, "plugin::malformed", "");
}

#[test]
fn wasi_can_be_refused_whole() {
    let text = "(component (import \"wasi:cli/environment@0.2.0\" (instance)) (instance $i) \
                (export \"dlm:plugin/target@1.0.0\" (instance $i)))";
    let bytes = with_manifest(wat::parse_str(text).unwrap());
    let targets = World::new().targets(&GrantFlags::default()).without_wasi();
    let error = targets.open_bytes("small", &bytes, "").map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "plugin::import", "{error}");
    assert!(
        error.diagnosis().hints[0].contains("wasi = \"inert\""),
        "{:?}",
        error.diagnosis().hints
    );
    // Its twin is looked into further.
    not_loaded(wat::parse_str(text).unwrap(), "plugin::malformed", "open");
}

#[test]
fn start_functions_run_under_the_limits() {
    let endless = target_component("(func $f (loop $l (br $l))) (start $f)");
    not_loaded(endless, "plugin::limit", "300 ms of its own time in `open`");
    let trapping = target_component("(func $f unreachable) (start $f)");
    not_loaded(trapping, "plugin::crashed", "unreachable");
    let deep = target_component("(func $f (call $f)) (start $f)");
    not_loaded(deep, "plugin::limit", "1 MiB of stack");
    let tables = target_component("(table 200000 funcref)");
    not_loaded(tables, "plugin::limit", "100000 table elements");
    not_loaded(target_component(""), "plugin::crashed", "unreachable");
}
