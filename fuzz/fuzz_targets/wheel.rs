#![no_main]

#[path = "../checks/wheel.rs"]
mod wheel;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| wheel::check(bytes));
