#![no_main]

#[path = "../checks/gguf_header.rs"]
mod gguf_header;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| gguf_header::check(bytes));
