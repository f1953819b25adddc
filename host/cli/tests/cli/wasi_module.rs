//! Core modules that ask for WASI 0.1, as the compiler of Go writes them: what `dlm plugin pack` makes of them, and what is there.

use crate::lab::Lab;

/// A teacher that uses WASI 0.1, and ends itself where anything is not as it must be; asked for `panic` it ends as Go does.
const TEACHER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 0) "0123456789abcdef")
  (data (i32.const 64) "clock[]")
  ;; `ok` with a name, and one instance at most.
  (data (i32.const 1024) "\00\00\00\00\40\00\00\00\05\00\00\00")
  (data (i32.const 1052) "\01")
  ;; `ok` with the text `[]`.
  (data (i32.const 2056) "\45\00\00\00\02\00\00\00")
  ;; Two parts of a line.
  (data (i32.const 128) "it goeson\n")
  (data (i32.const 160) "\80\00\00\00\05\00\00\00\85\00\00\00\05\00\00\00")
  (data (i32.const 192) "panic: boom\n\ngoroutine 1 [running]:\nexample.com/m.Complete(...)\n\texample.com/m/a.go:7 +0x1\n")
  (data (i32.const 320) "\c0\00\00\00\5c\00\00\00")
  ;; The sleep of two seconds that is marked with 7.
  (data (i32.const 3100) "\07")
  (data (i32.const 3116) "\01")
  (data (i32.const 3124) "\00\94\35\77")
  (func $must (param i32) (if (i32.eqz (local.get 0)) (then (unreachable))))
  (func $none (param i32) (call $must (i32.eqz (local.get 0))))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "dlm:plugin/teacher@1.0.0#open") (param i32 i32) (result i32) (i32.const 1024))
  (func (export "dlm:plugin/teacher@1.0.0#complete")
    (param i32 i32 i32 i32 i32 f32 i32 f32 i32 i64) (result i32)
    (if (i32.eq (local.get 3) (i32.const 5))
      (then
        (call $none (call $fd_write (i32.const 2) (i32.const 320) (i32.const 1) (i32.const 3000)))
        (unreachable)))
    (call $none (call $fd_write (i32.const 2) (i32.const 160) (i32.const 2) (i32.const 3000)))
    (call $must (i32.eq (i32.load (i32.const 3000)) (i32.const 10)))
    (call $must (i32.eq (call $fd_write (i32.const 5) (i32.const 160) (i32.const 2) (i32.const 3000)) (i32.const 8)))
    ;; The wall clock stands at the start of the run, the other one at its own beginning.
    (call $none (call $clock (i32.const 0) (i64.const 0) (i32.const 3000)))
    (call $none (call $clock (i32.const 1) (i64.const 0) (i32.const 3008)))
    (call $must (i64.gt_u (i64.load (i32.const 3000)) (i64.const 1700000000000000000)))
    (call $must (i64.lt_u (i64.load (i32.const 3008)) (i64.const 1000000000000)))
    (call $none (call $poll (i32.const 3100) (i32.const 3200) (i32.const 1) (i32.const 3300)))
    (call $must (i32.eq (i32.load (i32.const 3300)) (i32.const 1)))
    (call $must (i64.eq (i64.load (i32.const 3200)) (i64.const 7)))
    (call $none (call $clock (i32.const 1) (i64.const 0) (i32.const 3016)))
    (call $must (i64.ge_u
      (i64.sub (i64.load (i32.const 3016)) (i64.load (i32.const 3008))) (i64.const 2000000000)))
    ;; 13 bytes and not one more.
    (i64.store (i32.const 3408) (i64.const -1))
    (call $none (call $random (i32.const 3400) (i32.const 13)))
    (call $must (i32.wrap_i64 (i64.popcnt (i64.load (i32.const 3400)))))
    (call $must (i64.eq (i64.shr_u (i64.load (i32.const 3408)) (i64.const 40)) (i64.const 0xffffff)))
    (call $none (call $environ (i32.const 3500) (i32.const 3504)))
    (call $none (i32.load (i32.const 3500)))
    (call $must (i32.eq (call $prestat (i32.const 3) (i32.const 3500)) (i32.const 8)))
    (call $must (i32.eq
      (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 0) (i64.const 0) (i64.const 0)
        (i32.const 0) (i32.const 3500))
      (i32.const 76)))
    ;; Nothing of the guest's own memory was touched.
    (call $must (i64.eq (i64.load (i32.const 0)) (i64.const 0x3736353433323130)))
    (call $must (i64.eq (i64.load (i32.const 8)) (i64.const 0x6665646362613938)))
    (i32.const 2048)))"#;

const TOML: &str = "schema = 1\nname = \"clock\"\nversion = \"1.0.0\"\nkinds = [\"teacher\"]\ndescription = \"d\"\n\
    deterministic = true\n[build]\nwasm = \"core.wasm\"\n";

fn packed() -> Lab {
    let lab = Lab::new();
    lab.write("core.wasm", wat::parse_str(TEACHER).unwrap());
    lab.write("plugin.toml", TOML);
    lab.run(&["plugin", "pack", "."])
        .ok()
        .says(&["made from a core module"]);
    lab
}

fn tested(lab: &Lab, user: &str) -> serde_json::Value {
    let case = serde_json::json!({
        "kind": "teacher",
        "call": { "complete": { "system": "", "user": user } },
        "expect": { "completion": { "text": "[]" } },
    });
    lab.write("case.json", case.to_string());
    let ran = lab.run(&["plugin", "test", "./clock.wasm", "--case", "case.json", "--json"]);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn it_asks_for_little_of_wasi_and_is_given_it_empty() {
    let lab = packed();
    let seen = lab.json(&["plugin", "inspect", "./clock.wasm", "--json"]);
    assert_eq!(seen["wasi"], "inert");
    let imports: Vec<&str> = seen["imports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let wasi: Vec<&str> = imports.into_iter().filter(|name| name.starts_with("wasi:")).collect();
    let expected = [
        "wasi:io/error@0.2.0",
        "wasi:io/streams@0.2.0",
        "wasi:cli/stdout@0.2.0",
        "wasi:cli/stderr@0.2.0",
        "wasi:clocks/wall-clock@0.2.0",
        "wasi:random/random@0.2.0",
    ];
    assert_eq!(wasi, expected);

    let report = tested(&lab, "What is there?");
    // It writes no pairs; all else is right, twice and without a grant.
    let checks = [&report["cases"][0]["problems"], &report["standing"]];
    let mut problems = checks[1]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| !check["problem"].is_null());
    assert_eq!(checks[0], &serde_json::json!([]), "{report:#}");
    assert!(
        problems.all(|check| check["name"] == "teacher: pairs for `dlm synth`"),
        "{report:#}"
    );
    assert!(report["cases"].to_string().contains("it goeson"), "{report:#}");
}

#[test]
fn the_end_of_a_guest_in_go_is_told_in_its_own_words() {
    let lab = packed();
    let report = tested(&lab, "panic");
    let told = report["cases"].to_string();
    let expected = "crashed in `complete`: panic: boom, at `example.com/m/a.go:7`";
    assert!(told.contains(expected), "{report:#}");
}

#[test]
fn a_program_is_no_plugin() {
    let lab = Lab::new();
    let program = TEACHER.replace("(func $must", "(func (export \"_start\"))\n  (func $must");
    lab.write("core.wasm", wat::parse_str(program).unwrap());
    lab.write("plugin.toml", TOML);
    lab.run(&["plugin", "pack", "."])
        .exits(1)
        .says(&["it is a program", "-buildmode=c-shared"]);
}
