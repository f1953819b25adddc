//! Any bytes are a safetensors header or an error; what is accepted lies inside the file.

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    if let Ok(entries) = dlm_model::safetensors_dir::parse_header(bytes) {
        for entry in entries.values() {
            assert!(entry.bytes.start >= 8 && entry.bytes.end <= bytes.len());
        }
    }
}
