#![no_main]

#[path = "../checks/grants.rs"]
mod grants;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| grants::check(bytes));
