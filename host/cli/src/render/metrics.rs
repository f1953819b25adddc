//! `dlm metrics`: the store knows how its rows read; here they go to the streams.

use dlm_store::metrics::{MetricsReport, WatchEvent};

use crate::console::Console;

/// Runs, or one run's steps and evaluations, for people.
pub fn text(report: &MetricsReport, console: &Console) {
    console.result(&report.to_text());
}

/// The same as data.
pub fn json(report: &MetricsReport, console: &Console) {
    console.json(&report.to_json());
}

/// The same as a table of values.
pub fn csv(report: &MetricsReport, console: &Console) {
    console.result(&report.to_csv());
}

/// What is new in a run that is followed.
pub fn event(event: &WatchEvent, console: &Console) {
    console.result(&event.to_string());
}
