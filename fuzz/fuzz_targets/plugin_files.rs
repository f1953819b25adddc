#![no_main]

#[path = "../checks/plugin_files.rs"]
mod plugin_files;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| plugin_files::check(bytes));
