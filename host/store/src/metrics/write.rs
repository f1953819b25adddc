//! The writer's side of the metrics database.
//!
//! Invariants: a run's start and end must be recorded or the command fails; other streams tell their first failure and
//! go on, unless the user asked for strictness. Nothing is dropped without a word.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dlm_core::manifest::RunStatus;
use dlm_core::stamp::Stamp;
use dlm_files::{Disk, DiskError, Operation};
use rusqlite::{Connection, OpenFlags, Params, params};

use super::{MetricsError, SCHEMA, open};
use crate::layout::StorePaths;
use crate::store::{Store, StoreGuard};

/// What a failed write of a step, evaluation or other side stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The first failure of each stream is told, the run goes on.
    Lenient,
    /// `--strict-metrics`: every failure is an error.
    Strict,
}

/// The start of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStart {
    pub run_id: u64,
    pub started_at: Stamp,
    pub adapter_version: u32,
    /// One of [`super::PHASES`].
    pub phase: &'static str,
    pub seed: i64,
}

/// Figures of one optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMetrics {
    pub run_id: u64,
    pub step: u64,
    pub loss: f64,
    pub lr: f64,
    pub grad_norm: Option<f64>,
    pub tokens_per_sec: Option<f64>,
    pub peak_vram_mb: Option<u64>,
    pub at: Stamp,
}

/// Figures of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalMetrics {
    pub run_id: u64,
    pub step: u64,
    pub val_loss: Option<f64>,
    pub perplexity: Option<f64>,
    pub retention: Option<f64>,
    pub at: Stamp,
}

/// Figures of one export.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportMetrics {
    pub exported_at: Stamp,
    pub quant: String,
    pub merged: bool,
    pub ollama_name: Option<String>,
    pub size_bytes: u64,
    pub duration_s: f64,
}

/// Figures of tokenizing a run's sections.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizationMetrics {
    pub run_id: u64,
    pub total_sections: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub total_tokenize_seconds: f64,
    pub cache_bytes_after: u64,
    pub at: Stamp,
}

/// What a learned gate gave one adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct GateMetrics {
    pub run_id: u64,
    pub adapter_name: String,
    pub mean_weight: f64,
    pub sample_count: u64,
    /// `trained`, `uniform` or `diverged`.
    pub mode: String,
    pub at: Stamp,
}

/// What mining preferences gave.
#[derive(Clone, Debug, PartialEq)]
pub struct MiningMetrics {
    pub run_id: u64,
    pub judge_name: String,
    pub sample_count: u64,
    pub mined_pairs: u64,
    pub skipped_prompts: u64,
    /// `staged`, `applied` or `empty`.
    pub write_mode: String,
    pub at: Stamp,
}

/// The writing connection of one command.
#[derive(Debug)]
pub struct MetricsRecorder {
    disk: Disk,
    paths: StorePaths,
    connection: Connection,
    strictness: Strictness,
    /// Streams whose first failure was told.
    told: BTreeSet<&'static str>,
}

impl Store {
    /// Opens the metrics database for writing, making it when it is missing.
    ///
    /// SQLite keeps writers apart by itself, so this needs no store lock.
    ///
    /// **Errors** name the file.
    pub fn metrics_recorder(&self, strictness: Strictness) -> Result<MetricsRecorder, MetricsError> {
        let path = self.paths().metrics();
        self.disk().before(Operation::Database, &path)?;
        // Made here, for its companions take over who may read it.
        if path.symlink_metadata().is_err() {
            drop(self.disk().open_for_append(&path)?);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = open(&path, flags)?;
        let wrap = |source| MetricsError::Database {
            path: path.clone(),
            action: "prepare the metrics database",
            source,
        };
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .and_then(|()| connection.pragma_update(None, "synchronous", "NORMAL"))
            .and_then(|()| connection.pragma_update(None, "foreign_keys", true))
            .and_then(|()| connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;")))
            .map_err(wrap)?;
        Ok(MetricsRecorder {
            disk: self.disk().clone(),
            paths: self.paths().clone(),
            connection,
            strictness,
            told: BTreeSet::new(),
        })
    }
}

/// What lies beside a database while it is in use.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

impl Store {
    /// What is wrong with the metrics database, where it is damaged; none where it is sound or missing.
    ///
    /// **Errors** where it cannot be looked at: its disk, its owner, another process that holds it.
    /// **Cost:** reads it once.
    pub(crate) fn metrics_damage(&self) -> Result<Option<String>, MetricsError> {
        let path = self.paths().metrics();
        let found = std::fs::symlink_metadata(&path);
        if found.is_ok_and(|found| !found.is_file()) {
            return Ok(Some("it is not a file".to_owned()));
        }
        let looked = self.metrics_recorder(Strictness::Strict).and_then(|recorder| {
            let check = recorder
                .connection
                .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
            check.map_err(|source| recorder.failed("check the metrics database", source))
        });
        match looked {
            Ok(said) if said == "ok" => Ok(None),
            Ok(said) => Ok(Some(said.lines().last().unwrap_or_default().to_owned())),
            Err(error) if error.is_damage() => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

impl StoreGuard {
    /// Moves the metrics database out of the way, so that a new one can be begun; returns its new place.
    pub(crate) fn set_metrics_aside(&self, now: Stamp) -> Result<PathBuf, DiskError> {
        let path = self.paths().metrics();
        let beside = |ending: &str| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{name}{ending}"))
        };
        let aside = |count: u32| match count {
            0 => format!(".damaged-{}", now.compact()),
            // Another one was set aside in the same second.
            count => format!(".damaged-{}-{count}", now.compact()),
        };
        let is_free = |count: &u32| beside(&aside(*count)).symlink_metadata().is_err();
        let aside = aside((0..).find(is_free).unwrap_or_default());
        // Its companions first: beside a new database they would be taken for its own.
        for companion in COMPANIONS {
            let from = beside(companion);
            if from.symlink_metadata().is_ok() {
                self.disk().rename(&from, &beside(&format!("{aside}{companion}")))?;
            }
        }
        let place = beside(&aside);
        self.disk().rename(&path, &place)?;
        Ok(place)
    }
}

impl MetricsRecorder {
    /// Records that a run began.
    ///
    /// **Errors** name the file, whatever the strictness.
    pub fn run_started(&self, start: &RunStart) -> Result<(), MetricsError> {
        self.write(
            "INSERT INTO runs (run_id, started_at, ended_at, adapter_version, phase, seed, status)
             VALUES (?1, ?2, NULL, ?3, ?4, ?5, 'running')
             ON CONFLICT (run_id) DO UPDATE SET started_at = ?2, ended_at = NULL, adapter_version = ?3, phase = ?4,
             seed = ?5, status = 'running'",
            params![
                integer(start.run_id),
                start.started_at.zoned(),
                start.adapter_version,
                start.phase,
                start.seed
            ],
        )
    }

    /// Records how a run ended.
    ///
    /// **Errors** name the file, whatever the strictness.
    pub fn run_ended(&self, run_id: u64, ended_at: Stamp, status: RunStatus) -> Result<(), MetricsError> {
        self.write(
            "UPDATE runs SET ended_at = ?2, status = ?3 WHERE run_id = ?1",
            params![integer(run_id), ended_at.zoned(), status.metrics_word()],
        )
    }

    /// Ends every run that is still marked as running: `completed` ones well, all others as failed. For the holder of
    /// the store's lock, who knows that their writers are dead.
    ///
    /// **Errors** name the file.
    pub fn settle_running(&self, now: Stamp, completed: &[u64]) -> Result<(), MetricsError> {
        for run_id in completed {
            self.write(
                "UPDATE runs SET ended_at = ?2, status = 'ok' WHERE run_id = ?1 AND status = 'running'",
                params![integer(*run_id), now.zoned()],
            )?;
        }
        self.write(
            "UPDATE runs SET ended_at = ?1, status = 'failed' WHERE status = 'running'",
            params![now.zoned()],
        )
    }

    /// The largest recorded run number; 0 without runs.
    ///
    /// **Errors** name the file.
    pub fn last_run_id(&self) -> Result<u64, MetricsError> {
        self.connection
            .query_row("SELECT COALESCE(MAX(run_id), 0) FROM runs", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(|id| u64::try_from(id).unwrap_or(0))
            .map_err(|source| self.failed("read from the metrics database", source))
    }

    /// Records a step; hands back the stream's first failure as a warning.
    ///
    /// **Errors** under [`Strictness::Strict`].
    pub fn step(&mut self, step: &StepMetrics) -> Result<Option<MetricsError>, MetricsError> {
        let done = self.write(
            "INSERT OR REPLACE INTO steps (run_id, step, loss, lr, grad_norm, tokens_per_sec, peak_vram_mb, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                integer(step.run_id),
                integer(step.step),
                step.loss,
                step.lr,
                step.grad_norm,
                step.tokens_per_sec,
                step.peak_vram_mb.map(integer),
                step.at.zoned()
            ],
        );
        self.weigh("steps", done)
    }

    /// Records an evaluation; hands back the stream's first failure as a warning.
    ///
    /// **Errors** under [`Strictness::Strict`].
    pub fn eval(&mut self, eval: &EvalMetrics) -> Result<Option<MetricsError>, MetricsError> {
        let done = self.write(
            "INSERT OR REPLACE INTO evals (run_id, step, val_loss, perplexity, retention, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                integer(eval.run_id),
                integer(eval.step),
                eval.val_loss,
                eval.perplexity,
                eval.retention,
                eval.at.zoned()
            ],
        );
        self.weigh("evals", done)
    }

    /// Records an export; hands back the stream's first failure as a warning.
    ///
    /// **Errors** under [`Strictness::Strict`].
    pub fn export(&mut self, export: &ExportMetrics) -> Result<Option<MetricsError>, MetricsError> {
        let done = self.write(
            "INSERT OR REPLACE INTO exports (exported_at, quant, merged, ollama_name, size_bytes, duration_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                export.exported_at.zoned(),
                export.quant,
                export.merged,
                export.ollama_name,
                integer(export.size_bytes),
                export.duration_s
            ],
        );
        self.weigh("exports", done)
    }

    /// Records the tokenizing of a run's sections; hands back the stream's first failure as a warning.
    ///
    /// **Errors** under [`Strictness::Strict`].
    pub fn tokenization(&mut self, figures: &TokenizationMetrics) -> Result<Option<MetricsError>, MetricsError> {
        let done = self.write(
            "INSERT OR REPLACE INTO tokenization
             (run_id, total_sections, cache_hits, cache_misses, total_tokenize_seconds, cache_bytes_after, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                integer(figures.run_id),
                integer(figures.total_sections),
                integer(figures.cache_hits),
                integer(figures.cache_misses),
                figures.total_tokenize_seconds,
                integer(figures.cache_bytes_after),
                figures.at.zoned()
            ],
        );
        self.weigh("tokenization", done)
    }

    /// Records what a gate gave one adapter; hands back the stream's first failure as a warning.
    ///
    /// **Errors** under [`Strictness::Strict`].
    pub fn gate(&mut self, gate: &GateMetrics) -> Result<Option<MetricsError>, MetricsError> {
        let done = self.write(
            "INSERT OR REPLACE INTO gate_events (run_id, adapter_name, mean_weight, sample_count, mode, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                integer(gate.run_id),
                gate.adapter_name,
                gate.mean_weight,
                integer(gate.sample_count),
                gate.mode,
                gate.at.zoned()
            ],
        );
        self.weigh("gate_events", done)
    }

    /// Records what mining gave; hands back the stream's first failure as a warning.
    ///
    /// **Errors** under [`Strictness::Strict`].
    pub fn mining(&mut self, mining: &MiningMetrics) -> Result<Option<MetricsError>, MetricsError> {
        let done = self.write(
            "INSERT INTO preference_mining
             (run_id, judge_name, sample_count, mined_pairs, skipped_prompts, write_mode, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                integer(mining.run_id),
                mining.judge_name,
                integer(mining.sample_count),
                integer(mining.mined_pairs),
                integer(mining.skipped_prompts),
                mining.write_mode,
                mining.at.zoned()
            ],
        );
        self.weigh("preference_mining", done)
    }

    fn write(&self, sql: &str, values: impl Params) -> Result<(), MetricsError> {
        self.disk.before(Operation::Database, &self.paths.metrics())?;
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .map(|_| ())
            .map_err(|source| self.failed("write to the metrics database", source))
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> MetricsError {
        MetricsError::Database {
            path: self.paths.metrics(),
            action,
            source,
        }
    }

    fn weigh(
        &mut self,
        stream: &'static str,
        done: Result<(), MetricsError>,
    ) -> Result<Option<MetricsError>, MetricsError> {
        match (done, self.strictness) {
            (Ok(()), _) => Ok(None),
            (Err(error), Strictness::Strict) => Err(error),
            (Err(error), Strictness::Lenient) if self.told.insert(stream) => Ok(Some(error)),
            (Err(_), Strictness::Lenient) => Ok(None),
        }
    }
}

/// SQLite's integers are signed; larger numbers do not occur and are clamped.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
