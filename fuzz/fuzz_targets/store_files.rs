#![no_main]

#[path = "../checks/store_files.rs"]
mod store_files;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| store_files::check(bytes));
