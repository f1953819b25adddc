#![no_main]

#[path = "../checks/chat_template.rs"]
mod chat_template;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| chat_template::check(bytes));
