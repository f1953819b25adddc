//! `dlm metrics show` and `dlm metrics watch`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueHint};
use dlm_flow::metrics::MetricsOptions;
use dlm_flow::{Clock, Failure};
use dlm_store::Home;
use dlm_store::metrics::WatchEvent;

use crate::console::Console;
use crate::render;
use crate::settings::Settings;
use crate::wiring::{self, SystemClock};

/// `dlm metrics`.
#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// List runs, or one run's steps and evaluations
    Show {
        /// Document whose runs are shown
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
        /// Print as JSON
        #[arg(long, conflicts_with = "csv")]
        json: bool,
        /// Print as CSV
        #[arg(long)]
        csv: bool,
        /// Show one run
        #[arg(long, value_name = "N")]
        run_id: Option<u64>,
        /// Only runs of this phase: sft, dpo, orpo or cpt
        #[arg(long, value_name = "PHASE", value_parser = ["sft", "dpo", "orpo", "cpt"])]
        phase: Option<String>,
        /// Only runs of this last time: 24h, 7d, 30m, 10s
        #[arg(long, value_name = "WINDOW")]
        since: Option<String>,
        /// At most this many runs
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Follow the newest run's steps as they come
    Watch {
        /// Document whose runs are followed
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
        /// Seconds between looks
        #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = parse_seconds)]
        poll_seconds: f64,
    },
}

/// Longest sleep without a look at Ctrl-C.
const NAP: Duration = Duration::from_millis(50);

/// Prints runs, or follows the newest.
pub fn run(command: &MetricsCommand, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let home = Home::new(settings.home()?);
    match command {
        MetricsCommand::Show {
            path,
            json,
            csv,
            run_id,
            phase,
            since,
            limit,
        } => {
            let options = MetricsOptions {
                run_id: *run_id,
                phase: phase.clone(),
                since: since.clone(),
                limit: *limit as usize,
            };
            let report = dlm_flow::metrics::show(&home, path, &options, SystemClock::start().unix_ms())?;
            match (json, csv) {
                (true, _) => render::metrics::json(&report, console),
                (_, true) => render::metrics::csv(&report, console),
                _ => render::metrics::text(&report, console),
            }
        }
        MetricsCommand::Watch { path, poll_seconds } => {
            let cancel = wiring::cancel_on_interrupt()?;
            let pause = || {
                let until = Instant::now() + Duration::from_secs_f64(*poll_seconds);
                while !cancel.is_cancelled() && Instant::now() < until {
                    std::thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
                }
            };
            let mut emit = |event: &WatchEvent| render::metrics::event(event, console);
            dlm_flow::metrics::watch(&home, path, &cancel, &pause, &mut emit)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0.05 to 3600".to_owned()),
    }
}
