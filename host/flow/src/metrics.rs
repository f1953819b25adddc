//! `dlm metrics`: the runs of a document, or one run's steps and evaluations, and following the newest.
//!
//! Invariants: reads only; a document that was never trained has no runs, which is no error.

use std::path::Path;

use dlm_core::stamp::Stamp;
use dlm_core::{Cancel, Ulid};
use dlm_store::metrics::{MetricsReport, RunFilter, WatchEvent, Watcher, parse_phase, parse_window};
use dlm_store::{Home, Store};

use crate::document;
use crate::failure::Failure;

/// Which runs are shown.
#[derive(Clone, Debug, Default)]
pub struct MetricsOptions {
    pub run_id: Option<u64>,
    pub phase: Option<String>,
    /// `24h`, `7d`, `30m`, `10s`.
    pub since: Option<String>,
    pub limit: usize,
}

/// Gathers runs.
///
/// **Errors:** a bad window or phase (misuse), no such run, a database that cannot be read.
pub fn show(home: &Home, path: &Path, options: &MetricsOptions, now_unix_ms: u64) -> Result<MetricsReport, Failure> {
    let filter = filter(options, now_unix_ms)?;
    Ok(MetricsReport::gather(&store(home, path)?, &filter)?)
}

fn filter(options: &MetricsOptions, now_unix_ms: u64) -> Result<RunFilter, Failure> {
    let since = match &options.since {
        Some(text) => {
            let window_ms = parse_window(text)?.saturating_mul(1000);
            let since_ms = i64::try_from(now_unix_ms.saturating_sub(window_ms)).unwrap_or(i64::MAX);
            Some(Stamp::from_unix_ms(since_ms))
        }
        None => None,
    };
    let phase = match &options.phase {
        Some(text) => Some(parse_phase(text)?.to_owned()),
        None => None,
    };
    Ok(RunFilter {
        run_id: options.run_id,
        phase,
        since,
        limit: Some(options.limit),
    })
}

/// Follows the newest run until `cancel`: `emit` takes what is new, `pause` waits for the next look.
///
/// **Errors:** a database that cannot be read.
pub fn watch(
    home: &Home,
    path: &Path,
    cancel: &Cancel,
    pause: &dyn Fn(),
    emit: &mut dyn FnMut(&WatchEvent),
) -> Result<(), Failure> {
    let store = store(home, path)?;
    let mut watcher = Watcher::new();
    while !cancel.is_cancelled() {
        watcher.poll(&store)?.iter().for_each(&mut *emit);
        pause();
    }
    Ok(())
}

fn store(home: &Home, path: &Path) -> Result<Store, Failure> {
    let document = document::load(path)?;
    let dlm_id: &Ulid = &document.parsed.frontmatter().dlm_id;
    Ok(Store::new(home, dlm_id))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn document() -> (tempfile::TempDir, Home, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.dlm");
        let id = Ulid::mint(1_700_000_000_000, [1; 10]);
        std::fs::write(&path, dlm_doc::starter_document(&id, "smollm2-135m").unwrap()).unwrap();
        let home = Home::new(directory.path().join("home"));
        (directory, home, path)
    }

    #[test]
    fn the_window_counts_back_from_now() {
        let options = MetricsOptions {
            since: Some("24h".into()),
            limit: 3,
            ..MetricsOptions::default()
        };
        let filter = filter(&options, 1_776_623_414_000).unwrap();
        assert_eq!(filter.since.unwrap().naive(), "2026-04-18T18:30:14");
        assert_eq!(filter.limit, Some(3));
    }

    #[test]
    fn never_trained_means_no_runs_and_a_named_run_is_missing() {
        let (_directory, home, path) = document();
        let all = MetricsOptions {
            limit: 20,
            ..MetricsOptions::default()
        };
        assert_eq!(show(&home, &path, &all, 0).unwrap().to_text(), "Runs: 0\n");
        let one = MetricsOptions {
            run_id: Some(7),
            ..all.clone()
        };
        assert_eq!(show(&home, &path, &one, 0).unwrap_err().kind.exit_code(), 1);
        for (since, phase) in [(Some("1w"), None), (None, Some("rlhf"))] {
            let bad = MetricsOptions {
                since: since.map(str::to_owned),
                phase: phase.map(str::to_owned),
                ..all.clone()
            };
            assert_eq!(show(&home, &path, &bad, 0).unwrap_err().kind.exit_code(), 2);
        }
        assert!(!home.root().exists());
    }

    #[test]
    fn watching_ends_with_the_interrupt() {
        let (_directory, home, path) = document();
        let (cancel, looks) = (Cancel::new(), Cell::new(0));
        let pause = || {
            looks.set(looks.get() + 1);
            if looks.get() == 3 {
                cancel.cancel();
            }
        };
        watch(&home, &path, &cancel, &pause, &mut |event| {
            panic!("nothing to tell: {event}")
        })
        .unwrap();
        assert_eq!(looks.get(), 3);
    }
}
