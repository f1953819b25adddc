//! Any `adapter_config.json` and `adapter_model.safetensors` are an adapter of a small base or an error.
//!
//! The bytes up to the first zero are the settings (JSON has none), what follows are the tensors. What is checked: nothing
//! panics or allocates without bound, what is read is finite, and what is written of it is read back alike.

use std::path::Path;
use std::sync::OnceLock;

use dlm_kernels::{Ctx, Simd};
use dlm_model::base::open_base;
use dlm_model::{Adapter, LoadOptions, Model, PeftMeta};
use dlm_store::verify_version;

#[path = "scratch.rs"]
mod scratch;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases/lib/tiny");

fn tiny() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let base = open_base(Path::new(TINY)).expect("the tiny base is sound");
        let options = LoadOptions::exact(Ctx::new(1, Simd::Scalar));
        base.load(options).expect("the tiny base can be loaded")
    })
}

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (settings, tensors) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let place = scratch::Scratch::new("adapter");
    place.write("adapter_config.json", settings);
    place.write("adapter_model.safetensors", tensors);
    // Damage that the store finds is an error like any other; the loader must hold without it.
    let _ = verify_version(place.path());
    let Ok(adapter) = Adapter::load_peft(place.path(), tiny()) else {
        return;
    };
    adapter.check_finite().expect("the reader checks last");
    let meta = PeftMeta {
        base: "tiny".to_owned(),
        revision: None,
    };
    let again = scratch::Scratch::new("adapter-again");
    for (name, content) in adapter.peft_files(&meta) {
        again.write(name, &content);
    }
    verify_version(again.path()).expect("what was written passes the store's check");
    let again = Adapter::load_peft(again.path(), tiny()).expect("what was written is read back");
    let facts = |adapter: &Adapter| {
        (
            adapter.spec.kind,
            adapter.spec.r,
            adapter.spec.alpha,
            adapter.spec.dropout,
        )
    };
    assert_eq!(facts(&again), facts(&adapter));
    let bits = |adapter: &Adapter| adapter.params.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&adapter));
}
