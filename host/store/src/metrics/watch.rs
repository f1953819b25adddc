//! What `dlm metrics watch` prints: the newest run's rows as they arrive.
//!
//! Invariants: never waits; the caller polls. Every row is told once.

use std::fmt;

use super::MetricsError;
use super::query::{self, EvalRow, StepRow};
use crate::store::Store;

/// Something new since the last poll.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// A newer run began.
    Following {
        run_id: u64,
    },
    Step(StepRow),
    Eval(EvalRow),
}

impl fmt::Display for WatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchEvent::Following { run_id } => write!(f, "→ following run_id={run_id}"),
            WatchEvent::Step(row) => write!(
                f,
                "  step {:>5}  loss={} lr={} grad_norm={}",
                row.step,
                query::number(row.loss),
                row.lr.map_or_else(|| "-".to_owned(), |lr| format!("{lr:.2e}")),
                query::number(row.grad_norm)
            ),
            WatchEvent::Eval(row) => write!(
                f,
                "  eval @ step {}  val_loss={}  perplexity={}",
                row.step,
                query::number(row.val_loss),
                query::number(row.perplexity)
            ),
        }
    }
}

/// What was told already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watcher {
    run_id: Option<u64>,
    step: u64,
    eval: Option<u64>,
}

impl Watcher {
    /// Starts with nothing told.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what is new; nothing while there is no database or no run.
    ///
    /// **Errors** name the file.
    pub fn poll(&mut self, store: &Store) -> Result<Vec<WatchEvent>, MetricsError> {
        let Some(reader) = store.metrics_reader()? else {
            return Ok(Vec::new());
        };
        let Some(newest) = reader.last_run_id()? else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        if self.run_id.is_none_or(|run_id| run_id < newest) {
            *self = Self {
                run_id: Some(newest),
                ..Self::default()
            };
            events.push(WatchEvent::Following { run_id: newest });
        }
        for row in reader.steps(newest, self.step)? {
            self.step = row.step;
            events.push(WatchEvent::Step(row));
        }
        for row in reader.evals(newest, self.eval)? {
            self.eval = Some(row.step);
            events.push(WatchEvent::Eval(row));
        }
        Ok(events)
    }
}
