//! Replays the corpus of the fuzz target that runs plugins, whole, cut and damaged, and damages real components.
//!
//! A finding of the fuzzer becomes a file below `fuzz/corpus/<target>/`, and with that a case here.

use std::path::{Path, PathBuf};

use dlm_core::ports::judge::{JudgeItem, JudgeSource};
use dlm_plugins::GrantFlags;

use crate::bombs::little;
use crate::fakes::World;
use crate::guest_values;

/// Places at which each seed is also cut off and damaged.
const DAMAGES: usize = 32;

fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut seeds: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seed");
    seeds
}

/// The bytes cut at and changed in `places` places each.
fn damaged(bytes: &[u8], places: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..places).flat_map(move |number| {
        let place = bytes.len() * number / places;
        let mut changed = bytes.to_vec();
        if let Some(byte) = changed.get_mut(place) {
            *byte = byte.wrapping_add(127);
        }
        [bytes[..place].to_vec(), changed]
    })
}

fn replay(target: &str, check: fn(&[u8])) {
    for seed in corpus(target) {
        let bytes = std::fs::read(&seed).unwrap();
        check(&bytes);
        damaged(&bytes, DAMAGES).for_each(|bytes| check(&bytes));
    }
}

#[test]
fn values_of_guests() {
    replay("guest_values", guest_values::check);
}

#[test]
fn a_component_that_is_cut_or_changed_is_refused_or_runs_without_harm() {
    let whole = include_bytes!("../../../../tests/guests/test-judge/plugin.wasm");
    let world = World::new();
    let plugins = world.targets(&GrantFlags::default()).with_limits(little());
    let path = world.directory.path().join("damaged.wasm");
    let item = JudgeItem {
        system: None,
        prompt: "Who?".to_owned(),
        candidates: vec!["one".to_owned(), "three".to_owned()],
        reference: None,
    };
    let ask = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let mut judge = plugins.open_judge(&path.display().to_string())?;
        judge.score(std::slice::from_ref(&item))
    };
    let codes = [
        "plugin::malformed",
        "plugin::manifest",
        "plugin::not-a-component",
        "plugin::crashed",
        "plugin::limit",
    ];
    let more = [
        "plugin::wrong-kind",
        "plugin::import",
        "plugin::api",
        "plugin::bad-result",
        "plugin::failed",
    ];
    let mut refused = 0;
    let head = (0..64).map(|place| {
        let mut changed = whole.to_vec();
        changed[place] ^= 0xff;
        changed
    });
    for bytes in damaged(whole, 40).chain(head) {
        match ask(&bytes) {
            Ok(verdicts) => assert!(verdicts[0].scores.iter().all(|score| score.is_finite())),
            Err(error) => {
                assert!(
                    codes.contains(&error.code) || more.contains(&error.code),
                    "{}: {error}",
                    error.code
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 80, "{refused} were refused");
    for cut in 0..40 {
        assert!(ask(&whole[..whole.len() * cut / 40]).is_err(), "cut at {cut} fortieths");
    }
    assert_eq!(ask(whole).unwrap()[0].scores, [3.0, 5.0]);
}
