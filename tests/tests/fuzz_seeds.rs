//! Replays the corpus of every fuzz target, so that the checks of `fuzz/` compile and hold without a fuzzer.
//!
//! A finding of the fuzzer becomes a file below `fuzz/corpus/<target>/`, and with that a case here.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![expect(
    clippy::duplicate_mod,
    reason = "to the fuzzer each check is a file that stands alone"
)]
#![expect(
    clippy::print_stderr,
    reason = "a seed that aborts the process is named by the last line"
)]

use std::path::{Path, PathBuf};

#[path = "../../fuzz/checks/adapter.rs"]
mod adapter;
#[path = "../../fuzz/checks/chat_template.rs"]
mod chat_template;
#[path = "../../fuzz/checks/document.rs"]
mod document;
#[path = "../../fuzz/checks/gguf_header.rs"]
mod gguf_header;
#[path = "../../fuzz/checks/gguf_model.rs"]
mod gguf_model;
#[path = "../../fuzz/checks/grants.rs"]
mod grants;
#[path = "../../fuzz/checks/hub_listing.rs"]
mod hub_listing;
#[path = "../../fuzz/checks/model_config.rs"]
mod model_config;
#[path = "../../fuzz/checks/plugin_files.rs"]
mod plugin_files;
#[path = "../../fuzz/checks/replay_frame.rs"]
mod replay_frame;
#[path = "../../fuzz/checks/safetensors_header.rs"]
mod safetensors_header;
#[path = "../../fuzz/checks/store_files.rs"]
mod store_files;
#[path = "../../fuzz/checks/tokenizer.rs"]
mod tokenizer;
#[path = "../../fuzz/checks/wheel.rs"]
mod wheel;

/// A test for each target, and the list of them.
macro_rules! replayed {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), $target::check);
            }
        )*
        const TARGETS: &[&str] = &[$(stringify!($target)),*];
    };
}

replayed! {
    adapter chat_template document gguf_header gguf_model grants hub_listing
    model_config plugin_files replay_frame safetensors_header store_files tokenizer wheel
}

/// Targets whose seeds are replayed by the crate that they need: `host/plugins/tests/plugins/seeds.rs`, `host/flow/tests/`.
const ELSEWHERE: [&str; 2] = ["guest_values", "teacher_answers"];
/// Places at which each seed is also cut off and damaged, at most.
const DAMAGES: usize = 64;
/// Places of all seeds of a target together, at most: templates and tokenizers take milliseconds each.
const DAMAGES_ALL: usize = 384;

/// Most address space of the tests: the stacks of templates and the reading of a tokenizer fit several times.
const MEMORY_MAX: u64 = 8 << 30;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// Every seed whole, cut and damaged.
fn replay(target: &str, check: fn(&[u8])) {
    // The program's own allocator is not here: what takes too much must not take the machine.
    dlm_files::limit_memory(MEMORY_MAX).unwrap();
    let seeds = names(&fuzz().join("corpus").join(target));
    assert!(!seeds.is_empty(), "{target} has no seed");
    let damages = DAMAGES.min(DAMAGES_ALL / seeds.len()).max(1);
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap();
        eprintln!("{target}: {}", seed.display());
        check(&bytes);
        for i in 0..damages {
            let place = bytes.len() * i / damages;
            check(&bytes[..place]);
            let mut damaged = bytes.clone();
            if let Some(byte) = damaged.get_mut(place) {
                *byte = byte.wrapping_add(127);
                check(&damaged);
            }
        }
    }
}

#[test]
fn every_target_of_the_fuzzer_is_replayed() {
    let mut targets: Vec<String> = names(&fuzz().join("fuzz_targets"))
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    targets.retain(|target| !ELSEWHERE.contains(&target.as_str()));
    targets.sort();
    assert_eq!(targets, TARGETS);
}
