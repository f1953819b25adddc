//! Any GGUF file is a base or an error: configuration, tokenizer, chat template and the shapes of the weights.
//!
//! What is checked: nothing panics or allocates without bound before the file is accepted.

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    // Only the header's own check is cheap, so what it refuses is not written to a file.
    if dlm_model::gguf::parse_header(bytes).is_err() {
        return;
    }
    let path = std::env::temp_dir().join(format!("dlm-fuzz-{}.gguf", std::process::id()));
    std::fs::write(&path, bytes).expect("the directory for temporary files can be written");
    if let Ok(base) = dlm_model::base::open_base(&path) {
        base.config().check().expect("the reader checks last");
        // A template that cannot be compiled is an error like any other.
        let _ = base.text();
    }
    std::fs::remove_file(&path).expect("the file was just written");
}
