//! Replays the corpus of every fuzz target, so that the checks of `fuzz/` compile and hold without a fuzzer.
//!
//! A finding of the fuzzer becomes a file below `fuzz/corpus/<target>/`, and with that a case here.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

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

type Check = fn(&[u8]);

const TARGETS: [(&str, Check); 14] = [
    ("adapter", adapter::check),
    ("chat_template", chat_template::check),
    ("document", document::check),
    ("gguf_header", gguf_header::check),
    ("gguf_model", gguf_model::check),
    ("grants", grants::check),
    ("hub_listing", hub_listing::check),
    ("model_config", model_config::check),
    ("plugin_files", plugin_files::check),
    ("replay_frame", replay_frame::check),
    ("safetensors_header", safetensors_header::check),
    ("store_files", store_files::check),
    ("tokenizer", tokenizer::check),
    ("wheel", wheel::check),
];
/// Targets whose seeds are replayed by the crate that they need: `host/plugins/tests/plugins/seeds.rs`, `host/flow/tests/`.
const ELSEWHERE: [&str; 2] = ["guest_values", "teacher_answers"];
/// Places at which each seed is also cut off and damaged.
const DAMAGES: usize = 64;

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

#[test]
fn every_seed_passes_whole_cut_and_damaged() {
    for (target, check) in TARGETS {
        let seeds = names(&fuzz().join("corpus").join(target));
        assert!(!seeds.is_empty(), "{target} has no seed");
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            eprintln!("{target}: {}", seed.display());
            check(&bytes);
            for i in 0..DAMAGES {
                let place = bytes.len() * i / DAMAGES;
                check(&bytes[..place]);
                let mut damaged = bytes.clone();
                if let Some(byte) = damaged.get_mut(place) {
                    *byte = byte.wrapping_add(127);
                    check(&damaged);
                }
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
    assert_eq!(targets, TARGETS.map(|(name, _)| name));
}
