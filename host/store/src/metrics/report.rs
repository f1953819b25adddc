//! What `dlm metrics show` prints: a list of runs or one run in detail, as text lines, JSON or CSV.
//!
//! Invariants: all three forms come from the same rows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::query::{EvalRow, MetricsReader, MiningRow, RunFilter, RunRow, StepRow};
use super::{MetricsError, query};
use crate::json;
use crate::store::Store;

/// Runs that match a filter, or one run in detail.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricsReport {
    /// Newest first, of so many that are recorded.
    Runs { runs: Vec<RunRow>, recorded: u64 },
    /// One run.
    Run(Box<RunDetail>),
}

/// One run in detail.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDetail {
    pub run: RunRow,
    pub steps: Vec<StepRow>,
    pub evals: Vec<EvalRow>,
    pub mining: Vec<MiningRow>,
}

impl MetricsReport {
    /// Gathers the rows; a store without a database has no runs.
    ///
    /// **Errors** when the filter names a run that does not exist.
    pub fn gather(store: &Store, filter: &RunFilter) -> Result<Self, MetricsError> {
        let reader = store.metrics_reader()?;
        let runs = match &reader {
            Some(reader) => reader.runs(filter)?,
            None => Vec::new(),
        };
        let Some(run_id) = filter.run_id else {
            let recorded = match &reader {
                Some(reader) => reader.runs_count()?,
                None => 0,
            };
            return Ok(MetricsReport::Runs { runs, recorded });
        };
        match (reader, runs.into_iter().next()) {
            (Some(reader), Some(run)) => Self::detail(&reader, run).map(MetricsReport::Run),
            _ => Err(MetricsError::NoSuchRun {
                path: store.paths().metrics(),
                run_id,
            }),
        }
    }

    fn detail(reader: &MetricsReader, run: RunRow) -> Result<Box<RunDetail>, MetricsError> {
        Ok(Box::new(RunDetail {
            steps: reader.steps(run.run_id, 0)?,
            evals: reader.evals(run.run_id, None)?,
            mining: reader.mining(Some(run.run_id))?,
            run,
        }))
    }

    /// The JSON form: `runs`, and for one run `steps`, `evals`, `preference_mining` and `run`.
    pub fn to_json(&self) -> Value {
        match self {
            MetricsReport::Runs { runs, .. } => json!({ "runs": runs }),
            MetricsReport::Run(detail) => json!({
                "runs": [detail.run],
                "run": detail.run,
                "steps": detail.steps,
                "evals": detail.evals,
                "preference_mining": detail.mining,
            }),
        }
    }

    /// The CSV form with a header line: runs, or the steps of one run beside its evaluations.
    pub fn to_csv(&self) -> String {
        match self {
            MetricsReport::Runs { runs, .. } => {
                let mut out = "run_id,phase,seed,status,started_at,ended_at\n".to_owned();
                for run in runs {
                    let cells = [
                        run.run_id.to_string(),
                        run.phase.clone().unwrap_or_default(),
                        run.seed.map(|seed| seed.to_string()).unwrap_or_default(),
                        run.status.clone().unwrap_or_default(),
                        run.started_at.clone(),
                        run.ended_at.clone().unwrap_or_default(),
                    ];
                    push_csv_line(&mut out, &cells);
                }
                out
            }
            MetricsReport::Run(detail) => steps_csv(detail),
        }
    }

    /// The text form, without colors.
    pub fn to_text(&self) -> String {
        match self {
            MetricsReport::Runs { runs, recorded } => {
                let mut out = format!("Runs: {}\n", runs.len());
                for run in runs {
                    out.push_str(&run_line(run));
                }
                let hidden = recorded.saturating_sub(runs.len() as u64);
                if hidden > 0 {
                    out.push_str(&format!(
                        "  {hidden} more recorded, outside --since, --phase or --limit\n"
                    ));
                }
                out
            }
            MetricsReport::Run(detail) => detail_text(detail),
        }
    }
}

fn steps_csv(detail: &RunDetail) -> String {
    // A full outer join: evaluations may fall on steps that were not logged.
    let mut joined: BTreeMap<u64, (Option<&StepRow>, Option<&EvalRow>)> = BTreeMap::new();
    for step in &detail.steps {
        joined.entry(step.step).or_default().0 = Some(step);
    }
    for eval in &detail.evals {
        joined.entry(eval.step).or_default().1 = Some(eval);
    }
    let mut out = "step,loss,lr,grad_norm,val_loss\n".to_owned();
    for (number, (step, eval)) in joined {
        let cells = [
            number.to_string(),
            csv_number(step.and_then(|step| step.loss)),
            csv_number(step.and_then(|step| step.lr)),
            csv_number(step.and_then(|step| step.grad_norm)),
            csv_number(eval.and_then(|eval| eval.val_loss)),
        ];
        push_csv_line(&mut out, &cells);
    }
    out
}

fn csv_number(value: Option<f64>) -> String {
    value.map(json::python_float).unwrap_or_default()
}

/// **Source**: RFC 4180, section 2, with LF line ends.
fn push_csv_line(out: &mut String, cells: &[String]) {
    let quoted: Vec<_> = cells
        .iter()
        .map(|cell| {
            if cell.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.clone()
            }
        })
        .collect();
    out.push_str(&quoted.join(","));
    out.push('\n');
}

fn run_line(run: &RunRow) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let steps = run.last_step.map_or(String::new(), |step| format!(" last_step={step}"));
    let loss = run.last_loss.map_or(String::new(), |loss| format!(" loss={loss:.4}"));
    format!(
        "  run_id={} phase={} seed={} status={} started={}{steps}{loss}\n",
        run.run_id,
        text(&run.phase),
        run.seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string()),
        text(&run.status),
        run.started_at
    )
}

/// At most about twenty steps, evenly, the first and the last among them.
fn thinned(steps: &[StepRow]) -> Vec<&StepRow> {
    /// Lines that a person reads without scrolling.
    const SHOWN_MAX: usize = 20;
    let stride = steps.len().div_ceil(SHOWN_MAX).max(1);
    let mut shown: Vec<&StepRow> = steps.iter().step_by(stride).collect();
    let is_last_shown = steps.is_empty() || (steps.len() - 1).is_multiple_of(stride);
    if !is_last_shown {
        shown.extend(steps.last());
    }
    shown
}

fn detail_text(detail: &RunDetail) -> String {
    let run = run_line(&detail.run);
    let mut out = format!(
        "{} steps={} evals={}\n",
        run.trim(),
        detail.steps.len(),
        detail.evals.len()
    );
    let shown = thinned(&detail.steps);
    for step in &shown {
        out.push_str(&format!(
            "  step {:>5}  loss={} lr={} grad_norm={}\n",
            step.step,
            query::number(step.loss),
            step.lr.map_or_else(|| "-".to_owned(), |lr| format!("{lr:.2e}")),
            query::number(step.grad_norm)
        ));
    }
    if shown.len() < detail.steps.len() {
        out.push_str("  every step: --csv or --json\n");
    }
    if let Some(eval) = detail.evals.last() {
        out.push_str(&format!(
            "  last eval @ step {}  val_loss={}  perplexity={}\n",
            eval.step,
            query::number(eval.val_loss),
            query::number(eval.perplexity)
        ));
    }
    if !detail.mining.is_empty() {
        let pairs: u64 = detail.mining.iter().filter_map(|row| row.mined_pairs).sum();
        let judges: std::collections::BTreeSet<_> = detail
            .mining
            .iter()
            .filter_map(|row| row.judge_name.as_deref())
            .collect();
        out.push_str(&format!(
            "  preference mining: {} event(s), {pairs} pair(s), judges {}\n",
            detail.mining.len(),
            judges.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    out
}
