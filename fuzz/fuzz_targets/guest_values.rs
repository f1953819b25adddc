#![no_main]

#[path = "../checks/guest.rs"]
#[expect(dead_code, reason = "the tests of the plugin host use the rest")]
mod guest;
#[path = "../checks/guest_values.rs"]
mod guest_values;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| guest_values::check(bytes));
