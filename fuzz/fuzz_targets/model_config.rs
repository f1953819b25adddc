//! Any bytes are a `config.json` or an error; what is accepted passes the decoder's own check.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = dlm_model::config::parse_config(bytes) {
        config.check().expect("the reader checks last");
    }
});
