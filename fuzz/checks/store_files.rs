//! Any bytes are the files of a store or an error: manifest, lock, replay index, staged plans, training state, pointers.
//!
//! Files lie one behind the other, a line with a zero byte between them; the first line of each is its name in the store. What is checked:
//! nothing panics, and what is read is written and read back alike.

use dlm_core::digest::sha256_hex;
use dlm_store::determinism::load_lock;
use dlm_store::manifest::{load_manifest, manifest_text};
use dlm_store::{AdapterSlot, Disk, PlanKind, Store, read_state, verify_version};

#[path = "scratch.rs"]
mod scratch;

/// What a store may hold; other names are left out.
const NAMES: [&str; 15] = [
    "manifest.json",
    "dlm.lock",
    "replay/index.json",
    "replay/extra.json",
    "replay/corpus.zst",
    "replay/compacted.json",
    "preference/pending.json",
    "synth/pending.json",
    "adapter/current.txt",
    "adapter/versions/v0001/adapter_config.json",
    "adapter/versions/v0001/adapter_model.safetensors",
    "adapter/versions/v0001/training_state.pt",
    "adapter/versions/v0001/training_state.rng.json",
    "adapter/versions/v0001/training_run.json",
    "logs/train.summary.json",
];
const STATE: &str = "training_state.pt";
const FILES_MAX: usize = 8;
const BORDER: &[u8] = b"\n\0\n";

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let place = scratch::Scratch::new("store");
    for file in files(bytes) {
        let end = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let Some(name) = NAMES.iter().find(|name| name.as_bytes() == &file[..end]) else {
            continue;
        };
        let content = file.get(end + 1..).unwrap_or_default();
        place.write(name, content);
        if name.ends_with(STATE) {
            // Nothing is read of a state whose digest is another, so that it is made right.
            place.write(&format!("{name}.sha256"), sha256_hex(content).as_bytes());
        }
    }
    let store = Store::at(place.path(), Disk::new());
    if let Ok(Some(manifest)) = store.manifest() {
        place.write("again.json", manifest_text(&manifest).as_bytes());
        let again = load_manifest(&place.path().join("again.json")).expect("written by us");
        assert_eq!(again, Some(manifest));
    }
    if let Ok(Some(lock)) = store.determinism_lock() {
        let text = serde_json::to_string(&lock).expect("a lock has only text keys");
        place.write("again.lock", text.as_bytes());
        let again = load_lock(&place.path().join("again.lock")).expect("written by us");
        assert_eq!(again, Some(lock));
    }
    if let Ok(corpus) = store.replay() {
        for entry in corpus.entries() {
            let _ = (corpus.read(entry), corpus.extra(&entry.section_id));
        }
        let _ = corpus.dead_bytes();
    }
    // What they refuse is an error like any other.
    let _ = (store.pending(PlanKind::Preference), store.pending(PlanKind::Synth));
    let _ = (
        store.inspect(),
        store.adapter_slots(),
        store.summary("logs/train.summary.json"),
    );
    let flat = AdapterSlot::of(None).expect("the flat layout has a slot");
    let _ = (store.current_version(&flat), store.versions(&flat));
    let version = place.path().join("adapter/versions/v0001");
    let _ = (read_state(&version), verify_version(&version));
}

fn files(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut files, mut rest) = (Vec::new(), bytes);
    while files.len() < FILES_MAX {
        let Some(at) = rest.windows(BORDER.len()).position(|part| part == BORDER) else {
            files.push(rest);
            break;
        };
        files.push(&rest[..at]);
        rest = &rest[at + BORDER.len()..];
    }
    files
}
