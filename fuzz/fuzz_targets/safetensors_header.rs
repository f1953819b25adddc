#![no_main]

#[path = "../checks/safetensors_header.rs"]
mod safetensors_header;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| safetensors_header::check(bytes));
