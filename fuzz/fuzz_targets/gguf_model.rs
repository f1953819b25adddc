#![no_main]

#[path = "../checks/gguf_model.rs"]
mod gguf_model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gguf_model::check(bytes));
