//! What a fuzzer says about itself.

/// Counts of one process, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub executions: u64,
    /// Inputs that reached something new.
    pub new_inputs: u64,
    /// Whether it has got through the seeds.
    pub is_ready: bool,
    /// Whether an input was written down as a finding.
    pub is_finding: bool,
}

impl Told {
    /// Reads one line.
    pub fn read(&mut self, line: &str) {
        // `#2048  NEW    cov: 3 …`; a process that dies says nothing at its end.
        if let Some(rest) = line.strip_prefix('#') {
            let mut words = rest.split_whitespace();
            let executions = words.next().and_then(|word| word.parse().ok());
            self.executions = self.executions.max(executions.unwrap_or(0));
            let what = words.next();
            self.new_inputs += u64::from(what == Some("NEW"));
            self.is_ready |= what == Some("INITED");
        }
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = count.trim().parse().unwrap_or(self.executions);
        }
        let is_finding = line.contains("Test unit written to") && !line.contains("/slow-unit-");
        self.is_finding |= is_finding;
    }

    /// Adds what another process did.
    pub fn add(&mut self, other: &Told) {
        self.executions += other.executions;
        self.new_inputs += other.new_inputs;
        self.is_ready |= other.is_ready;
        self.is_finding |= other.is_finding;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_also_of_a_process_that_dies() {
        let mut told = Told::default();
        for line in [
            "INFO: Seed: 1",
            "#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#70\tNEW    cov: 4 ft: 5 corp: 2/3b lim: 4 exec/s: 0 rss: 40Mb L: 2/2 MS: 1 CopyPart-",
            "#128\tpulse  cov: 4 ft: 5",
            "artifact_prefix='x/'; Test unit written to x/slow-unit-ab",
        ] {
            told.read(line);
        }
        let died = Told {
            executions: 128,
            new_inputs: 1,
            is_ready: true,
            is_finding: false,
        };
        assert_eq!(told, died);
        told.read("artifact_prefix='x/'; Test unit written to x/crash-ab");
        told.read("stat::number_of_executed_units: 131");
        assert_eq!((told.executions, told.is_finding), (131, true));
        let mut sum = Told::default();
        sum.add(&told);
        sum.add(&died);
        assert_eq!((sum.executions, sum.new_inputs, sum.is_finding), (259, 2, true));
    }
}
