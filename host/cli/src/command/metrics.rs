//! `dlm metrics show` and `dlm metrics watch`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dlm_flow::metrics::MetricsOptions;
use dlm_flow::{Clock, Failure};
use dlm_store::Home;

use crate::args::Global;
use crate::args::build::Metrics;
use crate::console::Console;
use crate::wiring::{self, SystemClock};

/// Longest sleep without a look at Ctrl-C.
const NAP: Duration = Duration::from_millis(50);

/// Prints runs, or follows the newest.
pub fn run(command: &Metrics, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let home = Home::new(wiring::home(global)?);
    match command {
        Metrics::Show {
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
                (true, _) => console.json(&report.to_json()),
                (_, true) => console.result(&report.to_csv()),
                _ => console.result(&report.to_text()),
            }
        }
        Metrics::Watch { path, poll_seconds } => {
            let cancel = wiring::cancel_on_interrupt()?;
            let pause = || {
                let until = Instant::now() + Duration::from_secs_f64(*poll_seconds);
                while !cancel.is_cancelled() && Instant::now() < until {
                    std::thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
                }
            };
            let mut emit = |event: &dlm_store::metrics::WatchEvent| console.result(&event.to_string());
            dlm_flow::metrics::watch(&home, path, &cancel, &pause, &mut emit)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
