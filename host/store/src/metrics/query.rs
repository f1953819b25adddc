//! The reader's side of the metrics database.
//!
//! Invariants: opened read-only; a missing database is no error and is not made; a database of an older program may lack
//! tables, which then are empty.

use std::path::{Path, PathBuf};

use dlm_core::manifest::RunStatus;
use dlm_core::stamp::Stamp;
use rusqlite::{Connection, OpenFlags, Params, Row, params};
use serde::Serialize;

use super::{MetricsError, open};
use crate::store::Store;

/// A row of `runs`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    pub run_id: u64,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub adapter_version: Option<u32>,
    pub phase: Option<String>,
    pub seed: Option<i64>,
    /// In the words of the manifest, whatever the database calls it.
    pub status: Option<String>,
    /// Of the run's last logged step; not of the table `runs`.
    pub last_step: Option<u64>,
    pub last_loss: Option<f64>,
}

/// One word for one thing: `completed`, as the manifest has it, where the database has `ok`.
fn said(status: String) -> String {
    RunStatus::from_metrics_word(&status).map_or(status, |known| known.name().to_owned())
}

/// A row of `steps`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRow {
    pub step: u64,
    pub loss: Option<f64>,
    pub lr: Option<f64>,
    pub grad_norm: Option<f64>,
    pub tokens_per_sec: Option<f64>,
    pub peak_vram_mb: Option<u64>,
    pub at: String,
}

/// A row of `evals`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalRow {
    pub step: u64,
    pub val_loss: Option<f64>,
    pub perplexity: Option<f64>,
    pub retention: Option<f64>,
    pub at: String,
}

/// A row of `exports`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportRow {
    pub exported_at: String,
    pub quant: Option<String>,
    pub merged: Option<bool>,
    pub ollama_name: Option<String>,
    pub size_bytes: Option<u64>,
    pub duration_s: Option<f64>,
}

/// A row of `tokenization`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenizationRow {
    pub run_id: u64,
    pub total_sections: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub total_tokenize_seconds: f64,
    pub cache_bytes_after: u64,
    pub at: String,
}

impl TokenizationRow {
    /// Hits over all lookups; 0 without lookups.
    pub fn hit_rate(&self) -> f64 {
        match self.cache_hits + self.cache_misses {
            0 => 0.0,
            lookups => self.cache_hits as f64 / lookups as f64,
        }
    }
}

/// A row of `gate_events`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateRow {
    pub adapter_name: String,
    pub mean_weight: Option<f64>,
    pub sample_count: Option<u64>,
    pub mode: Option<String>,
}

/// A row of `preference_mining`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MiningRow {
    pub event_id: u64,
    pub run_id: u64,
    pub judge_name: Option<String>,
    pub sample_count: Option<u64>,
    pub mined_pairs: Option<u64>,
    pub skipped_prompts: Option<u64>,
    pub write_mode: Option<String>,
    pub at: String,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub run_id: Option<u64>,
    pub phase: Option<String>,
    /// Runs that began then or later.
    pub since: Option<Stamp>,
    /// At most this many, newest first; none for all.
    pub limit: Option<usize>,
}

/// The reading connection of one command.
#[derive(Debug)]
pub struct MetricsReader {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    /// Opens the metrics database for reading; none when there is none.
    ///
    /// **Errors** name the file.
    pub fn metrics_reader(&self) -> Result<Option<MetricsReader>, MetricsError> {
        let path = self.paths().metrics();
        if !path.is_file() {
            return Ok(None);
        }
        let connection = open(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(Some(MetricsReader { path, connection }))
    }
}

impl MetricsReader {
    /// What is wrong with the file; none where it is sound.
    ///
    /// **Cost:** reads it once.
    pub(crate) fn damage(&self) -> Option<String> {
        let check = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match check {
            Ok(said) if said == "ok" => None,
            Ok(said) => Some(said.lines().last().unwrap_or_default().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists runs, newest first.
    ///
    /// **Errors** name the file.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, MetricsError> {
        let limit = filter
            .limit
            .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let mut runs = self.rows(
            "SELECT run_id, started_at, ended_at, adapter_version, phase, seed, status FROM runs
             WHERE (?1 IS NULL OR run_id = ?1) AND (?2 IS NULL OR phase = ?2) AND (?3 IS NULL OR started_at >= ?3)
             ORDER BY run_id DESC LIMIT ?4",
            params![
                filter.run_id.map(signed),
                filter.phase,
                filter.since.map(Stamp::zoned),
                limit
            ],
            |row| {
                Ok(RunRow {
                    run_id: unsigned(row, 0)?,
                    started_at: row.get(1)?,
                    ended_at: row.get(2)?,
                    adapter_version: row.get(3)?,
                    phase: row.get(4)?,
                    seed: row.get(5)?,
                    status: row.get::<_, Option<String>>(6)?.map(said),
                    last_step: None,
                    last_loss: None,
                })
            },
        )?;
        for run in &mut runs {
            let last = self.rows(
                "SELECT step, loss FROM steps WHERE run_id = ?1 ORDER BY step DESC LIMIT 1",
                params![signed(run.run_id)],
                |row| Ok((unsigned(row, 0)?, row.get(1)?)),
            )?;
            if let Some((step, loss)) = last.into_iter().next() {
                (run.last_step, run.last_loss) = (Some(step), loss);
            }
        }
        Ok(runs)
    }

    /// How many runs there are, whatever a list leaves out.
    ///
    /// **Errors** name the file.
    pub fn runs_count(&self) -> Result<u64, MetricsError> {
        let counted = self.rows("SELECT COUNT(*) FROM runs", [], |row| unsigned(row, 0))?;
        Ok(counted.into_iter().next().unwrap_or(0))
    }

    /// The newest run's number.
    ///
    /// **Errors** name the file.
    pub fn last_run_id(&self) -> Result<Option<u64>, MetricsError> {
        let newest = RunFilter {
            limit: Some(1),
            ..RunFilter::default()
        };
        Ok(self.runs(&newest)?.first().map(|run| run.run_id))
    }

    /// The steps of a run after step `after`, in order; 0 for all.
    ///
    /// **Errors** name the file.
    pub fn steps(&self, run_id: u64, after: u64) -> Result<Vec<StepRow>, MetricsError> {
        self.rows(
            "SELECT step, loss, lr, grad_norm, tokens_per_sec, peak_vram_mb, at FROM steps
             WHERE run_id = ?1 AND step > ?2 ORDER BY step",
            params![signed(run_id), signed(after)],
            |row| {
                Ok(StepRow {
                    step: unsigned(row, 0)?,
                    loss: row.get(1)?,
                    lr: row.get(2)?,
                    grad_norm: row.get(3)?,
                    tokens_per_sec: row.get(4)?,
                    peak_vram_mb: unsigned_or_null(row, 5)?,
                    at: row.get(6)?,
                })
            },
        )
    }

    /// The evaluations of a run in order; `after` as in [`MetricsReader::steps`], none for all with step 0 too.
    ///
    /// **Errors** name the file.
    pub fn evals(&self, run_id: u64, after: Option<u64>) -> Result<Vec<EvalRow>, MetricsError> {
        self.rows(
            "SELECT step, val_loss, perplexity, retention, at FROM evals
             WHERE run_id = ?1 AND (?2 IS NULL OR step > ?2) ORDER BY step",
            params![signed(run_id), after.map(signed)],
            |row| {
                Ok(EvalRow {
                    step: unsigned(row, 0)?,
                    val_loss: row.get(1)?,
                    perplexity: row.get(2)?,
                    retention: row.get(3)?,
                    at: row.get(4)?,
                })
            },
        )
    }

    /// What mining gave, for one run or for all, oldest first.
    ///
    /// **Errors** name the file.
    pub fn mining(&self, run_id: Option<u64>) -> Result<Vec<MiningRow>, MetricsError> {
        self.rows(
            "SELECT event_id, run_id, judge_name, sample_count, mined_pairs, skipped_prompts, write_mode, at
             FROM preference_mining WHERE (?1 IS NULL OR run_id = ?1) ORDER BY event_id",
            params![run_id.map(signed)],
            |row| {
                Ok(MiningRow {
                    event_id: unsigned(row, 0)?,
                    run_id: unsigned(row, 1)?,
                    judge_name: row.get(2)?,
                    sample_count: unsigned_or_null(row, 3)?,
                    mined_pairs: unsigned_or_null(row, 4)?,
                    skipped_prompts: unsigned_or_null(row, 5)?,
                    write_mode: row.get(6)?,
                    at: row.get(7)?,
                })
            },
        )
    }

    /// The newest run's tokenization figures.
    ///
    /// **Errors** name the file.
    pub fn last_tokenization(&self) -> Result<Option<TokenizationRow>, MetricsError> {
        let rows = self.rows(
            "SELECT run_id, total_sections, cache_hits, cache_misses, total_tokenize_seconds, cache_bytes_after, at
             FROM tokenization ORDER BY run_id DESC LIMIT 1",
            [],
            |row| {
                Ok(TokenizationRow {
                    run_id: unsigned(row, 0)?,
                    total_sections: unsigned_or_null(row, 1)?.unwrap_or(0),
                    cache_hits: unsigned_or_null(row, 2)?.unwrap_or(0),
                    cache_misses: unsigned_or_null(row, 3)?.unwrap_or(0),
                    total_tokenize_seconds: row.get::<_, Option<f64>>(4)?.unwrap_or(0.0),
                    cache_bytes_after: unsigned_or_null(row, 5)?.unwrap_or(0),
                    at: row.get(6)?,
                })
            },
        )?;
        Ok(rows.into_iter().next())
    }

    /// The newest run that recorded a gate, with its rows by adapter name.
    ///
    /// **Errors** name the file.
    pub fn last_gate(&self) -> Result<Option<(u64, Vec<GateRow>)>, MetricsError> {
        let rows = self.rows(
            "SELECT run_id, adapter_name, mean_weight, sample_count, mode FROM gate_events
             WHERE run_id = (SELECT MAX(run_id) FROM gate_events) ORDER BY adapter_name",
            [],
            |row| {
                let gate = GateRow {
                    adapter_name: row.get(1)?,
                    mean_weight: row.get(2)?,
                    sample_count: unsigned_or_null(row, 3)?,
                    mode: row.get(4)?,
                };
                Ok((unsigned(row, 0)?, gate))
            },
        )?;
        let run_id = rows.first().map(|(run_id, _)| *run_id);
        Ok(run_id.map(|run_id| (run_id, rows.into_iter().map(|(_, gate)| gate).collect())))
    }

    /// Every export, oldest first.
    ///
    /// **Errors** name the file.
    pub fn exports(&self) -> Result<Vec<ExportRow>, MetricsError> {
        self.rows(
            "SELECT exported_at, quant, merged, ollama_name, size_bytes, duration_s FROM exports ORDER BY exported_at",
            [],
            |row| {
                Ok(ExportRow {
                    exported_at: row.get(0)?,
                    quant: row.get(1)?,
                    merged: row.get(2)?,
                    ollama_name: row.get(3)?,
                    size_bytes: unsigned_or_null(row, 4)?,
                    duration_s: row.get(5)?,
                })
            },
        )
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, MetricsError> {
        let queried = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(values, read)?.collect());
        match queried {
            Err(rusqlite::Error::SqliteFailure(_, Some(message))) if message.starts_with("no such table") => {
                Ok(Vec::new())
            }
            Err(source) => Err(MetricsError::Database {
                path: self.path.clone(),
                action: "read from the metrics database",
                source,
            }),
            Ok(rows) => Ok(rows),
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn unsigned_or_null(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value
        .map(|value| u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value)))
        .transpose()
}

/// A number for a person: four decimals, or `-`.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}
