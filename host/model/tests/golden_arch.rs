//! Every text architecture against the numbers of the reference implementation.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use dlm_testkit::architectures::dir;
use dlm_testkit::golden::{CaseResult, run_arch_case};

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

dlm_testkit::each_architecture!(architectures);
