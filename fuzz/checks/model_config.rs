//! Any bytes are a `config.json` or an error; what is accepted passes the decoder's own check.

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    if let Ok(config) = dlm_model::config::parse_config(bytes) {
        config.check().expect("the reader checks last");
    }
}
