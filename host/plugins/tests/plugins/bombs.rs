//! Guests that take room or time where no function of the contract is called: tables, memories, instances, components inside
//! components, recursion, and the guest's own allocator. Each beside what is allowed.

use std::time::{Duration, Instant};

use dlm_core::ports::judge::{JudgeItem, JudgeSource, JudgeVerdict};
use dlm_core::ports::plugin::PluginFailure;
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{GrantFlags, Plugins};

use crate::fakes::World;
use crate::guest::{component, contract, judge};

/// A judge of the contract made of text.
pub fn built(declared: &str, open: &str, score: &str) -> Vec<u8> {
    component(
        &contract(None),
        Kind::Judge,
        "judge-plugin",
        &judge("1.0.0", declared, open, score),
    )
}

/// Opens a judge's bytes as the file `hostile.wasm` and asks it once.
pub fn ask(plugins: &Plugins, world: &World, bytes: &[u8]) -> Result<Vec<f64>, PluginFailure> {
    let path = world.directory.path().join("hostile.wasm");
    std::fs::write(&path, bytes).unwrap();
    let item = JudgeItem {
        system: None,
        prompt: "Who?".to_owned(),
        candidates: vec!["one".to_owned(), "three".to_owned()],
        reference: None,
    };
    let verdicts: Vec<JudgeVerdict> = plugins.open_judge(&path.display().to_string())?.score(&[item])?;
    Ok(verdicts[0].scores.clone())
}

/// Little of everything that is raised or counted; times that only a guest without end reaches.
pub fn little() -> Limits {
    Limits {
        memory_bytes: 64 << 20,
        open_time: Duration::from_millis(300),
        call_time: Duration::from_millis(300),
        ..limits(Kind::Judge)
    }
}

fn tried(bytes: &[u8]) -> Result<Vec<f64>, PluginFailure> {
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default()).with_limits(little());
    let answer = ask(&plugins, &world, bytes);
    // The same host goes on with a good plugin.
    assert_eq!(ask(&plugins, &world, &built("", "", "")).unwrap(), [0.0, 0.0]);
    answer
}

#[track_caller]
fn refused(bytes: &[u8], code: &str, part: &str) {
    let error = tried(bytes).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

/// Keeps an integer as the first score.
fn scored(number: &str) -> String {
    format!("(f64.store (i32.const 160) (f64.convert_i32_u {number}))")
}

#[test]
fn a_table_grows_to_its_limit_and_no_further() {
    let grow = |by: u32| {
        let declared = "(table $t 0 funcref)";
        let grow =
            format!("(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const {by})) (i32.const -1))))");
        tried(&built(declared, "", &format!("{grow} {}", scored("(table.size $t)")))).unwrap()[0]
    };
    assert_eq!(grow(1000), 100_000.0);
    assert_eq!(grow(70_000), 70_000.0);
    // All tables together.
    let declared = "(table $t 60000 funcref) (table $u 0 funcref)";
    let grow = |by| format!("(drop (table.grow $u (ref.null func) (i32.const {by})))");
    let both = |by| {
        tried(&built(
            declared,
            "",
            &format!("{} {}", grow(by), scored("(table.size $u)")),
        ))
        .unwrap()[0]
    };
    assert_eq!(both(40_000), 40_000.0);
    assert_eq!(both(40_001), 0.0);
}

#[test]
fn a_table_that_is_too_large_from_the_start_is_refused() {
    refused(
        &built("(table 100001 funcref)", "", ""),
        "plugin::limit",
        "100000 table elements",
    );
    tried(&built("(table 100000 funcref)", "", "")).unwrap();
}

/// Puts a component into a component, and an instance of it.
fn with_inner(mut bytes: Vec<u8>, inner: &str) -> Vec<u8> {
    let inner = wat::parse_str(inner).unwrap();
    let mut depth = 0;
    let mut components = 0u8;
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            wasmparser::Payload::ComponentSection { .. } => {
                components += u8::from(depth == 0);
                depth += 1;
            }
            wasmparser::Payload::ModuleSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    let mut size = inner.len();
    bytes.push(4);
    while size >= 0x80 {
        bytes.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
        size >>= 7;
    }
    bytes.push(u8::try_from(size).unwrap());
    bytes.extend(inner);
    bytes.extend([5, 4, 1, 0, components, 0]);
    bytes
}

/// A component with so many instances of one core module.
fn crowd(module: &str, instances: usize) -> Vec<u8> {
    let made = "(core instance (instantiate $m))".repeat(instances);
    with_inner(
        built("", "", ""),
        &format!("(component (core module $m {module}) {made})"),
    )
}

#[test]
fn instances_memories_and_tables_are_counted() {
    // The judge itself takes an instance and a memory of 16 MiB.
    tried(&crowd("", 60)).unwrap();
    refused(&crowd("", 64), "plugin::limit", "64 core instances");
    refused(&crowd("", 900), "plugin::limit", "64 core instances");
    tried(&crowd("(memory 1)", 15)).unwrap();
    refused(&crowd("(memory 1)", 16), "plugin::limit", "16 memories");
    tried(&crowd("(table 1 funcref)", 60)).unwrap();
    let tables = "(table 1 funcref)".repeat(2);
    refused(&crowd(&tables, 40), "plugin::limit", "64 tables");
    // Few memories, each of a size that is allowed on its own.
    refused(&crowd("(memory 400)", 3), "plugin::limit", "64 MiB of memory");
    refused(&crowd("(memory 65536)", 1), "plugin::limit", "64 MiB of memory");
}

#[test]
fn components_that_double_inside_each_other_are_refused_before_they_are_compiled() {
    let doubling = |depth: usize| {
        let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
        for level in 1..=depth {
            let below = level - 1;
            text = format!(
                "(component $c{level} {text} (instance (instantiate $c{below})) (instance (instantiate $c{below})))"
            );
        }
        with_inner(built("", "", ""), &text)
    };
    let started = Instant::now();
    refused(&doubling(30), "plugin::malformed", "instantiated more than 1000 times");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    tried(&doubling(4)).unwrap();
}

#[test]
fn recursion_without_end_is_a_limit_of_the_stack() {
    let deep = "(func $deep (param i64 i64) (result i64)
                  (i64.add (call $deep (local.get 1) (local.get 0)) (local.get 0)))";
    let call = "(drop (call $deep (i64.const 1) (i64.const 2)))";
    refused(&built(deep, call, ""), "plugin::limit", "1 MiB of stack in `open`");
    refused(&built(deep, "", call), "plugin::limit", "1 MiB of stack in `score`");
    let turns = "(type $f (func)) (table 2 2 funcref) (elem (i32.const 0) $a $b)
                 (func $a (call_indirect (type $f) (i32.const 1))) (func $b (call_indirect (type $f) (i32.const 0)))";
    refused(
        &built(turns, "", "(call $a)"),
        "plugin::limit",
        "1 MiB of stack in `score`",
    );
    let some = "(func $some (param i32) (result i32) (if (result i32) (local.get 0)
                  (then (call $some (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 7))))";
    let scores = tried(&built(some, "", &scored("(call $some (i32.const 1000))"))).unwrap();
    assert_eq!(scores[0], 7.0);
}

#[test]
fn the_guests_own_allocator_is_as_little_trusted_as_the_rest() {
    let with = |body: &str| {
        let text = judge("1.0.0", "", "", "");
        let start = text.find("(local $at i32)").unwrap();
        let text = format!("{} {body} {}", &text[..start + 15], &text[start + 15..]);
        component(&contract(None), Kind::Judge, "judge-plugin", &text)
    };
    refused(
        &with("(loop $l (br $l))"),
        "plugin::limit",
        "300 ms of its own time in `open`",
    );
    refused(&with("(return (i32.const -8))"), "plugin::crashed", "realloc");
    refused(&with("(return (i32.const 3))"), "plugin::crashed", "realloc");
    refused(&with("unreachable"), "plugin::crashed", "unreachable");
    tried(&with("(nop)")).unwrap();
}
