//! Real programs that a granted plugin starts: what they are given, and that none of them stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dlm_core::ports::judge::{JudgeItem, JudgeSource, JudgeVerdict};
use dlm_core::ports::plugin::PluginFailure;
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{Compile, GrantFlags, NativeProcess, Plugins, Ports};

use crate::fakes::{World, facts};

const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/test-judge/plugin.wasm");
/// What the programs of plugins get of the environment.
const PATH: &str = "/usr/bin:/bin";

fn plugins(world: &World, granted: &str, wall_time: Duration) -> Plugins {
    let search = vec![PathBuf::from("/usr/bin"), PathBuf::from("/bin")];
    let ports = Ports {
        process: Arc::new(NativeProcess::new(search, vec![("PATH".to_owned(), PATH.to_owned())])),
        ..world.ports()
    };
    let flags = GrantFlags {
        granted: vec![format!("test-judge={granted}")],
        ..GrantFlags::default()
    };
    let plugins = Plugins::new(facts(), ports, Compile::InMemory, &flags).unwrap();
    plugins.with_limits(Limits {
        wall_time,
        ..limits(Kind::Judge)
    })
}

fn run(plugins: &Plugins, command: &str) -> Result<Vec<JudgeVerdict>, PluginFailure> {
    let item = JudgeItem {
        system: None,
        prompt: "Who?".to_owned(),
        candidates: vec!["one".to_owned()],
        reference: None,
    };
    let told = match command {
        "" => JUDGE.to_owned(),
        command => format!("{JUDGE}:score exec {command}"),
    };
    plugins.open_judge(&told)?.score(&[item])
}

/// A script in the world's directory.
fn script(world: &World, text: &str) -> String {
    let path = world.directory.path().join("script.sh");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Waits until the process whose number a script wrote is gone: the signal was sent, and a busy kernel may take a moment.
#[track_caller]
fn is_gone(file: &Path) {
    let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let is_running = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while is_running() {
        assert!(Instant::now() < until, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_gets_the_bare_environment_and_its_own_group() {
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "this program has variables"
    );
    let world = World::new();
    run(&plugins(&world, "exec:env", Duration::from_secs(60)), "env").unwrap();
    let told = world.warnings();
    let [told] = &told[..] else { panic!("{told:?}") };
    let own = told
        .strip_prefix(&format!("test-judge│ status 0: PATH={PATH} TMPDIR="))
        .unwrap();
    // Its own directory for temporary files, and nothing else.
    assert!(
        std::path::Path::new(own.trim_end()).is_absolute() && !own.trim_end().contains(' '),
        "{own}"
    );
}

#[test]
fn arguments_do_not_become_options() {
    let world = World::new();
    let plugins = plugins(&world, "exec:sh *", Duration::from_secs(60));
    for command in [
        "sh -c",
        "sh --version",
        "sh -",
        "sh",
        "sh a b",
        "/bin/sh a",
        "env a",
        "sh /dev/null;id x",
    ] {
        let error = run(&plugins, command).unwrap_err();
        assert_eq!(error.code, "plugin::denied", "{command}: {error}");
    }
    // No shell reads the words: this is the name of a file that is not there.
    run(&plugins, "sh $(id);id").unwrap();
    let told = world.warnings().join("\n");
    assert!(told.contains("status 127") || told.contains("status 2"), "{told}");
    assert!(!told.contains("uid="), "{told}");
}

#[test]
fn nothing_stays_of_a_program_past_its_time() {
    let world = World::new();
    let plugins = plugins(&world, "exec:sh *", Duration::from_millis(700));
    let pid = world.directory.path().join("pid");
    let path = script(
        &world,
        &format!("trap '' TERM INT HUP\nsleep 600 &\necho $! > {}\nwait\n", pid.display()),
    );
    let started = Instant::now();
    let error = run(&plugins, &format!("sh {path}")).unwrap_err();
    assert!(["plugin::timed-out", "plugin::limit"].contains(&error.code), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
    is_gone(&pid);
    run(&plugins, "").unwrap();
}

#[test]
fn nothing_stays_of_a_program_that_ended_well() {
    let world = World::new();
    let plugins = plugins(&world, "exec:sh *", Duration::from_secs(60));
    let pid = world.directory.path().join("pid");
    let path = script(
        &world,
        &format!("sleep 600 &\necho $! > {}\necho fine\n", pid.display()),
    );
    run(&plugins, &format!("sh {path}")).unwrap();
    assert!(world.warnings()[0].contains("status 0: fine"), "{:?}", world.warnings());
    is_gone(&pid);
}

#[test]
fn nothing_stays_after_ctrl_c() {
    let world = World::new();
    let plugins = plugins(&world, "exec:sh *", Duration::from_secs(60));
    let pid = world.directory.path().join("pid");
    let path = script(&world, &format!("sleep 600 &\necho $! > {}\nwait\n", pid.display()));
    let (cancel, written) = (world.cancel.clone(), pid.clone());
    let raiser = std::thread::spawn(move || {
        while std::fs::read_to_string(&written).unwrap_or_default().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        cancel.cancel();
    });
    let error = run(&plugins, &format!("sh {path}")).unwrap_err();
    raiser.join().unwrap();
    assert_eq!(error.code, "plugin::cancelled", "{error}");
    is_gone(&pid);
}

#[test]
fn what_a_program_prints_is_cut_and_inert() {
    let world = World::new();
    let plugins = plugins(&world, "exec:sh *", Duration::from_secs(60));
    let path = script(
        &world,
        "printf 'a\\033[2Jb'; head -c 5000000 /dev/zero | tr '\\0' x; printf 'end\\033]0;t\\007'\n",
    );
    run(&plugins, &format!("sh {path}")).unwrap();
    let told = world.warnings();
    assert!(
        told[0].len() < 10_000 && !told[0].contains('\u{1b}'),
        "{} bytes",
        told[0].len()
    );
}
