//! The text architectures with golden files, and where these lie.

use std::path::PathBuf;

/// Every text architecture of `tests/golden/arch`.
pub const ALL: [&str; 12] = [
    "llama",
    "llama3-rope",
    "smollm3",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3",
    "phi4-longrope",
    "olmo2",
    "mistral",
    "mixtral",
];

/// The directory of one architecture's golden files.
pub fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}
