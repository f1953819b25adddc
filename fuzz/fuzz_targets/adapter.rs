#![no_main]

#[path = "../checks/adapter.rs"]
mod adapter;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| adapter::check(bytes));
