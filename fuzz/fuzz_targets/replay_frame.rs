#![no_main]

#[path = "../checks/replay_frame.rs"]
mod replay_frame;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| replay_frame::check(bytes));
