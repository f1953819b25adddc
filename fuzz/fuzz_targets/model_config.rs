#![no_main]

#[path = "../checks/model_config.rs"]
mod model_config;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| model_config::check(bytes));
