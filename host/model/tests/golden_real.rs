//! The real base against the numbers of the reference implementation; needs the GGUF file that they were computed from.

use std::path::PathBuf;

use dlm_kernels::{Ctx, Simd};
use dlm_testkit::golden::{CaseResult, run_real_cases};

#[test]
fn the_real_base_computes_the_golden_numbers() {
    let Some(base) = std::env::var_os("DLM_TEST_BASE").map(PathBuf::from) else {
        println!("SKIPPED: set DLM_TEST_BASE to SmolLM2-135M-Instruct.Q4_1.gguf to compare with the golden numbers");
        return;
    };
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let results = run_real_cases(&golden, &base, Ctx::new(2, Simd::detect())).unwrap();
    for result in &results {
        println!("{} {:.2e} of {:.0e}", result.name, result.deviation, result.tolerance);
    }
    assert!(results.len() >= 40, "only {} numbers were compared", results.len());
    let missed: Vec<&CaseResult> = results.iter().filter(|result| !result.pass).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
