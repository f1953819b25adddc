//! Every text architecture against the numbers of the reference implementation.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use std::path::PathBuf;

use dlm_testkit::golden::{CaseResult, run_arch_case};

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}

#[expect(clippy::print_stdout, reason = "the deviations are what a reader of a failure wants")]
fn check(name: &str) {
    let results = run_arch_case(&dir(name)).unwrap();
    let missed: Vec<&CaseResult> = results.iter().filter(|result| !result.pass).collect();
    assert!(
        results.len() >= 10,
        "{name}: only {} numbers were compared",
        results.len()
    );
    for result in &results {
        println!(
            "{name}: {} {:.2e} of {:.0e}",
            result.name, result.deviation, result.tolerance
        );
    }
    assert!(missed.is_empty(), "{name}: {missed:#?}");
}

macro_rules! architectures {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { check($name); })*
    };
}

architectures! {
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
