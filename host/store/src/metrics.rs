//! The database of metrics: one row a step, evaluation, run and export, written while training and read at any time.
//!
//! Invariants: reading never creates the file; a reader never blocks the writer (write-ahead log); nothing that a run
//! needs to be repeated or resumed lies only here.

mod query;
mod report;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use dlm_core::{FailureKind, Hints, Subject};
use dlm_files::DiskError;
use rusqlite::{Connection, OpenFlags};

pub use query::{EvalRow, ExportRow, GateRow, MetricsReader, MiningRow, RunFilter, RunRow, StepRow, TokenizationRow};
pub use report::{MetricsReport, RunDetail};
pub use watch::{WatchEvent, Watcher};
pub use write::{
    EvalMetrics, ExportMetrics, GateMetrics, MetricsRecorder, MiningMetrics, RunStart, StepMetrics, Strictness,
    TokenizationMetrics,
};

/// The phases that a run can have, as in the `phase` column.
pub const PHASES: [&str; 4] = ["sft", "dpo", "orpo", "cpt"];

/// How long one side waits for the other's lock on the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The tables; every statement is harmless on a database that has them.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS runs (
    run_id INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    adapter_version INTEGER,
    phase TEXT,
    seed INTEGER,
    status TEXT
);
CREATE TABLE IF NOT EXISTS steps (
    run_id INTEGER NOT NULL REFERENCES runs(run_id),
    step INTEGER NOT NULL,
    loss REAL,
    lr REAL,
    grad_norm REAL,
    tokens_per_sec REAL,
    peak_vram_mb INTEGER,
    at TEXT NOT NULL,
    PRIMARY KEY (run_id, step)
);
CREATE TABLE IF NOT EXISTS evals (
    run_id INTEGER NOT NULL REFERENCES runs(run_id),
    step INTEGER NOT NULL,
    val_loss REAL,
    perplexity REAL,
    retention REAL,
    at TEXT NOT NULL,
    PRIMARY KEY (run_id, step)
);
CREATE TABLE IF NOT EXISTS exports (
    exported_at TEXT PRIMARY KEY,
    quant TEXT,
    merged INTEGER,
    ollama_name TEXT,
    size_bytes INTEGER,
    duration_s REAL
);
CREATE TABLE IF NOT EXISTS tokenization (
    run_id INTEGER PRIMARY KEY REFERENCES runs(run_id),
    total_sections INTEGER,
    cache_hits INTEGER,
    cache_misses INTEGER,
    total_tokenize_seconds REAL,
    cache_bytes_after INTEGER,
    at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS gate_events (
    run_id INTEGER NOT NULL REFERENCES runs(run_id),
    adapter_name TEXT NOT NULL,
    mean_weight REAL,
    sample_count INTEGER,
    mode TEXT,
    at TEXT NOT NULL,
    PRIMARY KEY (run_id, adapter_name)
);
CREATE TABLE IF NOT EXISTS preference_mining (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL REFERENCES runs(run_id),
    judge_name TEXT,
    sample_count INTEGER,
    mined_pairs INTEGER,
    skipped_prompts INTEGER,
    write_mode TEXT,
    at TEXT NOT NULL
);
";

/// A failure of the metrics database.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("`{}`: cannot {action}: {source}", path.display())]
    Database {
        path: PathBuf,
        action: &'static str,
        source: rusqlite::Error,
    },
    #[error("no run {run_id} is recorded in `{}`", path.display())]
    NoSuchRun { path: PathBuf, run_id: u64 },
    #[error("`{text}` is not a time window: expected digits and one of `s`, `m`, `h`, `d`, such as `24h`")]
    Window { text: String },
    #[error("`{found}` is not a phase (phases: sft, dpo, orpo, cpt)")]
    Phase { found: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl MetricsError {
    /// Says whether the file itself is what is wrong, and not the disk, its owner, or another process.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase};
        match self {
            MetricsError::Database { path, source, .. } => match source.sqlite_error_code() {
                Some(NotADatabase | DatabaseCorrupt) => true,
                // What is no file cannot be opened.
                Some(CannotOpen) => path.exists() && !path.is_file(),
                _ => false,
            },
            _ => false,
        }
    }
}

impl Hints for MetricsError {
    fn subject(&self) -> Subject {
        match self {
            MetricsError::Disk(error) => error.subject(),
            _ => Subject::Metrics,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            MetricsError::Window { .. } | MetricsError::Phase { .. } => FailureKind::Misuse,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            MetricsError::NoSuchRun { .. } => {
                vec!["run `dlm metrics show <document>` for the list of runs".to_owned()]
            }
            MetricsError::Disk(error) => error.hints(),
            MetricsError::Database { path, .. } => vec![format!(
                "see with `dlm doctor` whether the disk is full; a database that is damaged can be deleted, a new one is begun: `rm {}`",
                dlm_core::shell_quoted(&path.to_string_lossy())
            )],
            _ => Vec::new(),
        }
    }
}

/// Reads `24h`, `7d`, `30m` or `10s` as seconds.
///
/// **Errors** for anything else.
pub fn parse_window(text: &str) -> Result<u64, MetricsError> {
    let wrong = || MetricsError::Window { text: text.to_owned() };
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).ok_or_else(wrong)
}

/// Checks a phase from outside.
///
/// **Errors** name the phases.
pub fn parse_phase(text: &str) -> Result<&'static str, MetricsError> {
    PHASES
        .into_iter()
        .find(|phase| *phase == text)
        .ok_or_else(|| MetricsError::Phase { found: text.to_owned() })
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, MetricsError> {
    let wrap = |source| MetricsError::Database {
        path: path.to_owned(),
        action: "open the metrics database",
        source,
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(wrap)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(wrap)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        for (text, seconds) in [("10s", 10), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(parse_window(text).expect(text), seconds);
        }
        for text in [
            "",
            "h",
            "24",
            "24w",
            "-1h",
            "1.5h",
            " 1h",
            "1h ",
            "1é",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            let error = parse_window(text).expect_err(text);
            assert_eq!(error.kind().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn phases() {
        assert_eq!(parse_phase("cpt").expect("known"), "cpt");
        let error = parse_phase("rlhf").expect_err("unknown");
        assert_eq!(error.to_string(), "`rlhf` is not a phase (phases: sft, dpo, orpo, cpt)");
    }
}
