#![no_main]

#[path = "../checks/hub_listing.rs"]
mod hub_listing;

libfuzzer_sys::fuzz_target!(init: dlm_fuzz::begin(), |bytes: &[u8]| hub_listing::check(bytes));
