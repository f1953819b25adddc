//! The text architectures with golden files, and where these lie.

use std::path::PathBuf;

/// Hands the text architectures with golden files to a macro of the caller, as `name_of_a_test: "directory",` items. The one
/// list of them: tests that run one by one are made of it, and [`ALL`] is.
#[macro_export]
macro_rules! each_architecture {
    ($each:ident) => {
        $each! {
            llama: "llama",
            llama3_rope: "llama3-rope",
            smollm3: "smollm3",
            qwen2: "qwen2",
            qwen3: "qwen3",
            gemma2: "gemma2",
            gemma3: "gemma3",
            phi3: "phi3",
            phi4_longrope: "phi4-longrope",
            olmo2: "olmo2",
            mistral: "mistral",
            mixtral: "mixtral",
        }
    };
}

macro_rules! names {
    ($($test:ident: $name:literal,)*) => {
        /// Every text architecture of `tests/golden/arch`.
        pub const ALL: [&str; [$($name),*].len()] = [$($name),*];
    };
}

each_architecture!(names);

/// The directory of one architecture's golden files.
pub fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}
