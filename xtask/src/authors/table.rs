//! What each project took: commands that were typed, and processor time of everything that they started.

use std::fmt;

use anyhow::{Context, Result};

/// Ticks of the kernel's clock in a second, as `/proc` counts them on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// One project.
pub struct Row {
    pub kind: &'static str,
    pub language: &'static str,
    pub commands: usize,
    /// Seconds of processor time to build, test and install it, and to use it once.
    pub build_s: f64,
    pub use_s: f64,
    /// Of the component.
    pub bytes: u64,
    /// What its use gave.
    pub told: String,
}

/// Every project so far.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "| kind | language | commands | build and test, CPU s | use, CPU s | KiB | what its use gave |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(
                f,
                "| {} | {} | {} | {:.1} | {:.2} | {} | {} |",
                row.kind,
                row.language,
                row.commands,
                row.build_s,
                row.use_s,
                row.bytes.div_ceil(1024),
                row.told
            )?;
        }
        Ok(())
    }
}

/// Processor time of all children that have ended, in seconds.
pub fn processor_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The name in parentheses may hold blanks.
    let fields = stat.rsplit_once(')').context("/proc/self/stat has no name")?.1;
    let ticks = fields.split_whitespace().skip(13).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>().context("reading /proc/self/stat")?;
    Ok(ticks / TICKS_A_SECOND)
}
