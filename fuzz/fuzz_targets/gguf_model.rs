#![no_main]

#[path = "../checks/gguf_model.rs"]
mod gguf_model;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| gguf_model::check(bytes));
