//! Guests that import WASI: present so that they link, empty of authority. Each test is a real component with real imports.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dlm_core::FailureKind;
use dlm_core::ports::plugin::PluginFailure;
use dlm_packages::Kind;
use dlm_plugins::{Compile, GrantFlags, LogLevel, Plugins, RunFacts};

use crate::bombs::{ask, little};
use crate::fakes::{World, facts};
use crate::guest::{component, contract, judge};

/// The parts of WASI that are tried; a component imports what its module uses.
const WASI: &str = include_str!("wasi/wasi.wit");

/// A judge whose module imports the named functions.
fn built(imports: &[&str], score: &str) -> Vec<u8> {
    static CONTRACT: OnceLock<(wit_parser::Resolve, wit_parser::PackageId)> = OnceLock::new();
    let contract = CONTRACT.get_or_init(|| contract(Some(WASI)));
    let declared: String = imports.iter().map(|import| format!("(import {import})")).collect();
    component(contract, Kind::Judge, "guest", &judge("1.0.0", &declared, "", score))
}

const BLOCK: &str = r#""wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32))"#;
const AFTER: &str =
    r#""wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration" (func $after (param i64) (result i32))"#;
const NOW: &str = r#""wasi:clocks/monotonic-clock@0.2.3" "now" (func $now (result i64))"#;
const WALL: &str = r#""wasi:clocks/wall-clock@0.2.3" "now" (func $wall (param i32))"#;
const RANDOM: &str = r#""wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64))"#;
const RANDOM_BYTES: &str = r#""wasi:random/random@0.2.3" "get-random-bytes" (func $bytes (param i64 i32))"#;
const ENVIRONMENT: &str = r#""wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32))"#;
const ARGUMENTS: &str = r#""wasi:cli/environment@0.2.3" "get-arguments" (func $arguments (param i32))"#;
const DIRECTORY: &str = r#""wasi:cli/environment@0.2.3" "initial-cwd" (func $directory (param i32))"#;
const EXIT: &str = r#""wasi:cli/exit@0.2.3" "exit" (func $exit (param i32))"#;
const STDIN: &str = r#""wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32))"#;
const STDOUT: &str = r#""wasi:cli/stdout@0.2.3" "get-stdout" (func $out (result i32))"#;
const STDERR: &str = r#""wasi:cli/stderr@0.2.3" "get-stderr" (func $out (result i32))"#;
const READ: &str = r#""wasi:io/streams@0.2.3" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32))"#;
const WRITE: &str =
    r#""wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32))"#;
const DIRECTORIES: &str = r#""wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32))"#;
const SAME: &str =
    r#""wasi:filesystem/types@0.2.3" "[method]descriptor.is-same-object" (func $same (param i32 i32) (result i32))"#;
const TCP: &str = r#""wasi:sockets/tcp-create-socket@0.2.3" "create-tcp-socket" (func $socket (param i32 i32))"#;
const UDP: &str = r#""wasi:sockets/udp-create-socket@0.2.3" "create-udp-socket" (func $socket (param i32 i32))"#;
const NETWORK: &str = r#""wasi:sockets/instance-network@0.2.3" "instance-network" (func $network (result i32))"#;
const LOOK_UP: &str =
    r#""wasi:sockets/ip-name-lookup@0.2.3" "resolve-addresses" (func $look-up (param i32 i32 i32 i32))"#;

fn granted(capability: &str) -> GrantFlags {
    GrantFlags {
        granted: vec![format!("hostile={capability}")],
        ..GrantFlags::default()
    }
}

/// Asks a guest under the usual limits.
fn tried(imports: &[&str], score: &str, flags: &GrantFlags) -> Result<Vec<f64>, PluginFailure> {
    let world = World::new();
    let plugins = world.targets(flags);
    let answer = ask(&plugins, &world, &built(imports, score));
    assert_eq!(
        ask(&plugins, &world, &built(&[], "")).unwrap(),
        [0.0, 0.0],
        "the host goes on"
    );
    answer
}

/// Keeps two integers as the scores.
fn scored(first: &str, second: &str) -> String {
    let keep = |place: u32, number: &str| format!("(f64.store (i32.const {place}) (f64.convert_i64_u {number}))");
    format!("{} {}", keep(160, first), keep(168, second))
}

/// An integer of memory.
fn at(place: u32) -> String {
    format!("(i64.load32_u (i32.const {place}))")
}

const SLEEP: &str = "(call $block (call $after (i64.const 3600000000000)))";

#[test]
fn a_guest_asleep_is_stopped_at_its_deadline() {
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default()).with_limits(little());
    let sleeper = built(&[BLOCK, AFTER], SLEEP);
    let started = Instant::now();
    let error = ask(&plugins, &world, &sleeper).unwrap_err();
    let took = started.elapsed();
    assert_eq!(error.code, "plugin::limit", "{error}");
    assert_eq!(
        error.to_string(),
        "judge `hostile` 0.0.1 used more than 300 ms of its own time in `score`"
    );
    // The promise is 50 ms past the deadline; compiling is in this time, and the machine may be busy.
    assert!(took < Duration::from_secs(30), "{took:?}");
    let short = built(&[BLOCK, AFTER], "(call $block (call $after (i64.const 10000000)))");
    assert_eq!(ask(&plugins, &world, &short).unwrap(), [0.0, 0.0]);
}

#[test]
fn a_guest_asleep_is_stopped_by_ctrl_c() {
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default());
    let cancel = world.cancel.clone();
    let raiser = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
    });
    let error = ask(&plugins, &world, &built(&[BLOCK, AFTER], SLEEP)).unwrap_err();
    raiser.join().unwrap();
    assert_eq!(
        (error.code, error.kind),
        ("plugin::cancelled", FailureKind::Interrupted)
    );
}

#[test]
fn a_guest_that_spins_is_stopped_too() {
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default()).with_limits(little());
    let error = ask(&plugins, &world, &built(&[NOW], "(loop $l (drop (call $now)) (br $l))")).unwrap_err();
    assert!(
        error.to_string().contains("300 ms of its own time in `score`"),
        "{error}"
    );
}

#[test]
fn there_are_no_variables_arguments_or_directories() {
    assert!(
        std::env::vars_os().next().is_some() && std::env::args_os().next().is_some(),
        "the host has them"
    );
    let score = format!(
        "(call $environment (i32.const 512)) (call $arguments (i32.const 520)) {}",
        scored(&at(516), &at(524))
    );
    assert_eq!(
        tried(&[ENVIRONMENT, ARGUMENTS], &score, &GrantFlags::default()).unwrap(),
        [0.0, 0.0]
    );
    let score = format!(
        "(i32.store (i32.const 512) (i32.const 7)) (i32.store (i32.const 536) (i32.const 7))
         (call $directory (i32.const 512)) (call $directories (i32.const 532)) {}",
        scored("(i64.load8_u (i32.const 512))", &at(536))
    );
    assert_eq!(
        tried(&[DIRECTORY, DIRECTORIES], &score, &GrantFlags::default()).unwrap(),
        [0.0, 0.0]
    );
    // A handle that nobody gave.
    for handle in [0, 1, 3, 100] {
        let score = format!("(drop (call $same (i32.const {handle}) (i32.const {handle})))");
        let error = tried(&[SAME], &score, &GrantFlags::default()).unwrap_err();
        assert_eq!(error.code, "plugin::crashed", "{error}");
        assert!(error.to_string().contains("handle index"), "{error}");
    }
}

#[test]
fn exit_ends_the_guest_and_not_the_host() {
    for status in [0, 1] {
        let score = format!("(call $exit (i32.const {status})) unreachable");
        let error = tried(&[EXIT], &score, &GrantFlags::default()).unwrap_err();
        assert_eq!(error.code, "plugin::crashed", "{error}");
        assert!(error.to_string().contains("exit"), "{error}");
    }
}

#[test]
fn standard_input_is_empty() {
    // The result is an error (1) of the case `closed` (1).
    let score = format!(
        "(call $read (call $stdin) (i64.const 100) (i32.const 512)) {}",
        scored("(i64.load8_u (i32.const 512))", "(i64.load8_u (i32.const 516))")
    );
    assert_eq!(
        tried(&[STDIN, READ], &score, &GrantFlags::default()).unwrap(),
        [1.0, 1.0]
    );
}

/// Asks a guest while everything that it logs is shown.
fn shown(world: &World, bytes: &[u8]) -> Vec<String> {
    let facts = RunFacts {
        log_level: LogLevel::Trace,
        ..facts()
    };
    let plugins = Plugins::new(facts, world.ports(), Compile::InMemory, &GrantFlags::default()).unwrap();
    ask(&plugins, world, bytes).unwrap();
    world.lines()
}

#[test]
fn what_is_printed_goes_into_the_log_inert_and_up_to_its_limit() {
    for stream in [STDOUT, STDERR] {
        let text = r#"(i64.store (i32.const 512) (i64.const 0x0a620a4a325b1b61))"#;
        let score = format!("{text} (call $write (call $out) (i32.const 512) (i32.const 8) (i32.const 600))");
        let lines = shown(&World::new(), &built(&[stream, WRITE], &score));
        assert_eq!(lines, ["hostile│ a\\u{1b}[2J", "hostile│ b"]);
        // 40 MiB in lines of 4 KiB.
        let flood = "(local $n i32) (local $o i32) (local.set $o (call $out)) (memory.fill (i32.const 1024) (i32.const 120) (i32.const 4095))
            (i32.store8 (i32.const 5119) (i32.const 10))
            (loop $l (call $write (local.get $o) (i32.const 1024) (i32.const 4096) (i32.const 600))
              (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $l (i32.lt_u (local.get $n) (i32.const 10000))))";
        let lines = shown(&World::new(), &built(&[stream, WRITE], flood));
        assert_eq!(lines.len(), 65, "64 lines of 4 KiB, and what is said of the rest");
        let dropped = 10_000 * 4096 - 256 * 1024;
        assert_eq!(
            lines[64],
            format!("hostile│ {dropped} more bytes of printed text were dropped")
        );
    }
}

#[test]
fn handles_are_counted() {
    let error = tried(
        &[STDOUT],
        "(loop $l (drop (call $out)) (br $l))",
        &GrantFlags::default(),
    )
    .unwrap_err();
    assert_eq!(error.code, "plugin::limit", "{error}");
    assert!(error.to_string().contains("1000 live handles in `score`"), "{error}");
    let write = "(call $write (local.get $o) (i32.const 48) (i32.const 1) (i32.const 600))";
    let score = format!("(local $n i32) (local $o i32) (local.set $o (call $out))
        (loop $l {write} (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $l (i32.lt_u (local.get $n) (i32.const 3000))))");
    tried(&[STDOUT, WRITE], &score, &GrantFlags::default()).unwrap();
}

#[test]
fn sockets_and_names_are_refused() {
    for socket in [TCP, UDP] {
        for family in [0, 1] {
            let score = format!(
                "(call $socket (i32.const {family}) (i32.const 512)) {}",
                scored("(i64.load8_u (i32.const 512))", "(i64.load8_u (i32.const 516))")
            );
            // An error (1), access-denied (1).
            assert_eq!(tried(&[socket], &score, &GrantFlags::default()).unwrap(), [1.0, 1.0]);
        }
    }
    let score = format!(
        "(i64.store (i32.const 600) (i64.const 0x736f686c61636f6c)) (i32.store8 (i32.const 608) (i32.const 116))
         (call $look-up (call $network) (i32.const 600) (i32.const 9) (i32.const 512)) {}",
        scored("(i64.load8_u (i32.const 512))", "(i64.load8_u (i32.const 516))")
    );
    let name = tried(&[NETWORK, LOOK_UP], &score, &granted("http:http://localhost"));
    // Permanent-resolver-failure (20).
    assert_eq!(name.unwrap(), [1.0, 20.0], "a grant of `http:` resolves no name");
}

#[test]
fn the_clocks_stand_still_unless_granted() {
    let score = format!(
        "(call $wall (i32.const 512)) {}",
        scored("(i64.load (i32.const 512))", "(call $now)")
    );
    let clocks = |flags: &GrantFlags| tried(&[WALL, NOW], &score, flags).unwrap();
    assert_eq!(clocks(&GrantFlags::default()), [951_782_400.0, 0.0]);
    let real = clocks(&granted("clock"));
    assert!(real[0] > 1_700_000_000.0, "{real:?}");
    let twice = scored("(call $now)", "(call $now)");
    assert_eq!(
        tried(&[NOW], &twice, &GrantFlags::default()).unwrap(),
        [0.0, 1000.0],
        "a microsecond a reading"
    );
}

#[test]
fn randomness_is_seeded_unless_granted_and_bounded() {
    let score = scored("(call $random)", "(call $random)");
    let draw = |flags: &GrantFlags| tried(&[RANDOM], &score, flags).unwrap();
    let seeded = draw(&GrantFlags::default());
    assert_eq!(seeded, draw(&GrantFlags::default()));
    assert_ne!(seeded[0].to_bits(), seeded[1].to_bits());
    assert_ne!(draw(&granted("random")), draw(&granted("random")));
    let bytes = |count: u32| {
        let score = format!(
            "(call $bytes (i64.const {count}) (i32.const 512)) {}",
            scored(&at(516), "(i64.const 0)")
        );
        tried(&[RANDOM_BYTES], &score, &GrantFlags::default())
    };
    assert_eq!(bytes(65_536).unwrap()[0], 65_536.0);
    let error = bytes(65_537).unwrap_err();
    assert_eq!(error.code, "plugin::crashed", "{error}");
    assert!(error.to_string().contains("exceeds limit 65536"), "{error}");
}
