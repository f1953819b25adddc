//! The golden text cases through the runner that `cargo xtask golden` uses.

use std::path::{Path, PathBuf};

use dlm_testkit::golden::{CaseResult, run_text_cases, run_tokenizer_dir};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn check(results: &[CaseResult], expected: usize) {
    assert_eq!(results.len(), expected);
    let missed: Vec<&CaseResult> = results.iter().filter(|result| !result.pass).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn the_tokenizer_directory() {
    check(&run_tokenizer_dir(&golden().join("arch/tokenizer")).unwrap(), 2);
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_real_base() {
    let base = std::env::var_os("DLM_TEST_BASE")
        .map(PathBuf::from)
        .expect("DLM_TEST_BASE names the real base");
    check(&run_text_cases(&golden(), &base).unwrap(), 9);
}
