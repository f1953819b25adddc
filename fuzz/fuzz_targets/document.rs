#![no_main]

#[path = "../checks/document.rs"]
mod document;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| document::check(bytes));
