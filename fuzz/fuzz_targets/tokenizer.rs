#![no_main]

#[path = "../checks/tokenizer.rs"]
mod tokenizer;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| tokenizer::check(bytes));
