//! The training state: what is written reads back, and nothing else is taken.

use std::fs;
use std::path::PathBuf;

use dlm_core::Hints;
use dlm_store::{AdapterSlot, ResumeIntegrityError, StateData, StateTensor, TrainingState, read_state};
use proptest::prelude::*;
use tempfile::TempDir;

use super::scenario::{state, weights};
use super::{lock, new_store};

fn written(state: &TrainingState) -> (TempDir, PathBuf) {
    let (directory, store) = new_store();
    let guard = lock(&store);
    let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
    pending.write("adapter_config.json", b"{}").unwrap();
    pending.write("adapter_model.safetensors", &weights(1.0)).unwrap();
    pending.write_state(state.clone()).unwrap();
    let version = pending.commit().unwrap();
    drop(guard);
    (directory, version.directory)
}

#[test]
fn reads_back_bit_for_bit() {
    let mut state = state(7);
    let nan = StateTensor {
        shape: vec![2],
        data: StateData::F32(vec![f32::NEG_INFINITY, 1e-42]),
    };
    state.tensors.insert("a".to_owned(), nan);
    let empty = StateTensor {
        shape: vec![0, 4],
        data: StateData::F32(Vec::new()),
    };
    state.tensors.insert("empty".to_owned(), empty);
    let (_directory, path) = written(&state);
    assert_eq!(read_state(&path).unwrap(), state);
    let digest = fs::read_to_string(path.join("training_state.pt.sha256")).unwrap();
    assert_eq!((digest.len(), digest.ends_with('\n')), (65, true));
}

/// The moments between the three files of a state, as a kill leaves them.
#[test]
fn the_old_state_or_the_new_is_whole_at_every_moment() {
    const NAMES: [&str; 3] = [
        "training_state.pt",
        "training_state.rng.json",
        "training_state.pt.sha256",
    ];
    let (_old, old) = written(&state(7));
    let (_new, new) = written(&state(8));
    assert_eq!(
        fs::read_dir(&new)
            .unwrap()
            .flatten()
            .filter(|f| f.file_name().to_string_lossy().starts_with("next."))
            .count(),
        0
    );
    for (count, name) in NAMES.iter().enumerate() {
        fs::copy(new.join(name), old.join(format!("next.{name}"))).unwrap();
        // The digest comes last and makes it the new one.
        let expected = state(if count == 2 { 8 } else { 7 });
        assert_eq!(read_state(&old).unwrap(), expected, "{name} was written");
    }
    for name in NAMES {
        fs::rename(old.join(format!("next.{name}")), old.join(name)).unwrap();
        assert_eq!(read_state(&old).unwrap(), state(8), "{name} has its name");
    }
}

/// A header of 640 bytes begins with the first two bytes of a pickle.
#[test]
fn a_header_of_any_length_is_a_header() {
    let mut lengths = Vec::new();
    for letters in 1..64 {
        let mut state = state(7);
        state.rng.insert("note".to_owned(), serde_json::Value::from("x"));
        let values = StateTensor {
            shape: vec![1],
            data: StateData::F32(vec![1.0]),
        };
        state.tensors.insert("n".repeat(letters * 8), values);
        let (_directory, path) = written(&state);
        assert_eq!(read_state(&path).unwrap(), state);
        let bytes = fs::read(path.join("training_state.pt")).unwrap();
        lengths.push(u16::from_le_bytes([bytes[0], bytes[1]]));
    }
    assert!(lengths.contains(&0x0280), "{lengths:?}");
}

#[test]
fn equal_states_give_equal_bytes() {
    let (_first, first) = written(&state(7));
    let (_second, second) = written(&state(7));
    let bytes = |path: PathBuf| fs::read(path.join("training_state.pt")).unwrap();
    assert_eq!(bytes(first), bytes(second));
}

#[test]
fn everything_missing_or_changed_is_an_integrity_error() {
    let (_directory, path) = written(&state(7));
    let file = path.join("training_state.pt");
    let good = fs::read(&file).unwrap();
    let check = |expected: &str| {
        let error = read_state(&path).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.subject().as_str(), "resume");
        assert!(error.hints()[0].contains("--fresh"));
    };
    for name in [
        "training_state.rng.json",
        "training_state.pt.sha256",
        "training_state.pt",
    ] {
        let saved = fs::read(path.join(name)).unwrap();
        fs::remove_file(path.join(name)).unwrap();
        check(&format!("{name}` is missing"));
        fs::write(path.join(name), saved).unwrap();
    }
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&file, &changed).unwrap();
    check("its digest file says");
    fs::write(path.join("training_state.pt.sha256"), "zzz\n").unwrap();
    check("is not 64 hexadecimal digits");

    let put = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let digest = dlm_core::digest::sha256_hex(bytes);
        fs::write(path.join("training_state.pt.sha256"), format!("{digest}\n")).unwrap();
    };
    put(b"PK\x03\x04 a zip archive");
    check("a pickle of another program");
    put(b"\x80\x02}q\x00.");
    check("a pickle of another program");
    put(&good[..good.len() - 1]);
    check("cannot be decoded");
    put(b"");
    check("cannot be decoded");
    put(&weights(1.0));
    check("its format is ``");
    put(&u64::MAX.to_le_bytes());
    check("cannot be decoded");
    put(&good);
    fs::write(path.join("training_state.rng.json"), "[]").unwrap();
    check("the top level is a list");
}

#[test]
fn a_tensor_that_lies_about_its_shape_is_not_written() {
    let (_directory, store) = new_store();
    let guard = lock(&store);
    let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
    for shape in [vec![3], vec![usize::MAX, usize::MAX], vec![]] {
        let mut state = TrainingState::default();
        let data = StateData::F32(vec![1.0, 2.0]);
        state.tensors.insert("m".to_owned(), StateTensor { shape, data });
        assert!(
            pending
                .write_state(state.clone())
                .unwrap_err()
                .to_string()
                .contains("tensor `m`")
        );
    }
    assert!(!pending.directory().join("training_state.pt").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes with a right digest and any content give an error or a state, never a panic.
    #[test]
    fn hostile_bytes_do_not_panic(cut in 0usize..400, flips in prop::collection::vec((0usize..400, any::<u8>()), 0..4)) {
        let directory = super::fast_directory();
        let (_kept, path) = written(&state(7));
        let mut bytes = fs::read(path.join("training_state.pt")).unwrap();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(1).min(bytes.len()));
        fs::write(directory.path().join("training_state.pt"), &bytes).unwrap();
        let digest = format!("{}\n", dlm_core::digest::sha256_hex(&bytes));
        fs::write(directory.path().join("training_state.pt.sha256"), digest).unwrap();
        fs::write(directory.path().join("training_state.rng.json"), "{}").unwrap();
        if let Err(error) = read_state(directory.path()) {
            let is_digest = matches!(error, ResumeIntegrityError::Digest { .. });
            prop_assert!(!is_digest, "{}", error);
        }
    }
}
