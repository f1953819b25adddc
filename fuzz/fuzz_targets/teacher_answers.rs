#![no_main]

#[path = "../checks/teacher_answers.rs"]
mod teacher_answers;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| teacher_answers::check(bytes));
