//! Golden cases that need several crates, and the program that runs every case of a directory (`src/bin/golden.rs`).

pub mod quant;
pub mod schedules;

/// One comparison with a recorded number.
pub struct Case {
    pub name: String,
    pub deviation: f64,
    pub tolerance: f64,
}

impl Case {
    /// Says whether the deviation is within the tolerance; a deviation that is not a number is not.
    pub fn is_pass(&self) -> bool {
        self.deviation <= self.tolerance
    }
}

/// Why a case could not be run.
pub type Failed = Box<dyn std::error::Error>;
