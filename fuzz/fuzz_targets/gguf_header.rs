//! Any bytes are a GGUF header or an error; what is accepted lies inside the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = dlm_model::gguf::parse_header(bytes) {
        assert!(header.data_start <= bytes.len());
        for info in header.tensors.values() {
            assert!(info.bytes.start >= header.data_start && info.bytes.end <= bytes.len());
            assert!(!info.shape.is_empty());
        }
    }
});
