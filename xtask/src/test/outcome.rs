//! What the test runners print, as numbers: of `cargo nextest run` and of the harness behind `cargo test`.
//!
//! Invariants: a line that is neither a closing line nor a test's own is passed over; nothing is counted twice.

/// Tests of one run or of many, and how long each took where the runner says so.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    /// Left out: what a test needs is not here.
    pub skipped: u64,
    /// Seconds and name.
    times: Vec<(f64, String)>,
}

impl Outcome {
    /// Adds a line of either runner.
    pub fn read(&mut self, line: &str) {
        // Nextest shows what a failed test printed further in: its harness's line is in the summary already.
        if let Some(rest) = line.strip_prefix("test result: ") {
            return self.add(rest, ["passed", "failed", "ignored"]);
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Summary [") {
            self.add(rest, ["passed", "failed", "skipped"]);
            // A test that was ended for its time is not among the failed ones.
            self.failed += number(rest, "timed out");
        } else {
            self.times.extend(time(line));
        }
    }

    fn add(&mut self, rest: &str, [passed, failed, skipped]: [&str; 3]) {
        self.passed += number(rest, passed);
        self.failed += number(rest, failed);
        self.skipped += number(rest, skipped);
    }

    /// The slowest tests, a line each.
    pub fn slowest(&self, count: usize) -> Vec<String> {
        let mut times: Vec<&(f64, String)> = self.times.iter().collect();
        times.sort_by(|a, b| b.0.total_cmp(&a.0));
        times
            .into_iter()
            .take(count)
            .map(|(seconds, name)| format!("{seconds:8.1} s  {name}"))
            .collect()
    }
}

/// The number before a word: `3` of `ok. 3 passed; 1 failed` or `[ 1.0s] 3 tests run: 3 passed (1 slow), 1 failed`.
fn number(text: &str, word: &str) -> u64 {
    let parts = text
        .split([';', ',', '.', ':', ']'])
        .map(|part| part.split(" (").next());
    parts
        .flatten()
        .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
        .unwrap_or(0)
}

/// The time and name in nextest's line of a test that ended: `PASS [   1.234s] (1/9) dlm-core random::tests::x`.
fn time(line: &str) -> Option<(f64, String)> {
    let (status, rest) = line.split_once('[')?;
    if !matches!(
        status.trim(),
        "PASS" | "FAIL" | "LEAK" | "TIMEOUT" | "SIGKILL" | "ABORT"
    ) {
        return None;
    }
    let (time, name) = rest.split_once(']')?;
    let seconds = time.trim().strip_suffix('s')?.parse().ok()?;
    // The counter shows only where the runner numbers its tests.
    let name = name.trim();
    let name = match name.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, name)) => name.trim(),
        None => name,
    };
    Some((seconds, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_test_printed_is_not_counted_again() {
        let mut outcome = Outcome::default();
        outcome.read("    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out");
        outcome.read("     Summary [  95.786s] 3 tests run: 2 passed, 1 failed, 1 skipped");
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (2, 1, 1));
    }

    #[test]
    fn closing_lines_of_the_harness_add_up() {
        let mut outcome = Outcome::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s",
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured",
            "test something ... ok",
        ] {
            outcome.read(line);
        }
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (5, 4, 1));
    }

    #[test]
    fn nextest_is_counted_once_with_its_times() {
        let mut outcome = Outcome::default();
        for line in [
            "        SLOW [> 60.000s] (   1/1200) dlm-store::crash second_run",
            "        PASS [   0.008s] (   1/1200) dlm-core random::tests::the_published_numbers_come_out",
            "        PASS [  71.500s] (   2/1200) dlm-store::crash second_run",
            "        FAIL [   1.250s] dlm-cli::cli init::a",
            "     Summary [  12.034s] 7 tests run: 4 passed (1 slow), 2 failed, 1 timed out, 3 skipped",
            "        FAIL [   1.250s] dlm-cli::cli init::a",
        ] {
            outcome.read(line);
        }
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (4, 3, 3));
        let slowest = outcome.slowest(2);
        assert_eq!(slowest.len(), 2);
        assert!(
            slowest[0].ends_with("71.5 s  dlm-store::crash second_run"),
            "{slowest:?}"
        );
    }
}
