//! Any bytes are a GGUF header or an error; what is accepted lies inside the file.

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    if let Ok(header) = dlm_model::gguf::parse_header(bytes) {
        assert!(header.data_start <= bytes.len());
        for info in header.tensors.values() {
            assert!(info.bytes.start >= header.data_start && info.bytes.end <= bytes.len());
            assert!(!info.shape.is_empty());
        }
    }
}
