//! The imports without authority: `run`, `log`, `progress`.

use dlm_core::Event;
use dlm_core::event::Progress;
use dlm_core::inert::{cut, inert_line};
use dlm_packages::capability::Capability;
use wasmtime::component::Resource;

use super::State;
use super::wit::{log, progress, run, types};
use crate::limits::{BARS_MADE_MAX, BARS_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX};
use crate::ports::LogLevel;

/// The version of the contract that this host implements.
pub(crate) const API_VERSION: &str = "1.0.0";

/// What a plugin logged.
pub(crate) struct Log {
    level: LogLevel,
    bytes: u64,
    lines: u64,
    pub dropped: u64,
    pub last: Option<String>,
}

impl Log {
    pub fn new(level: LogLevel) -> Log {
        Log {
            level,
            bytes: 0,
            lines: 0,
            dropped: 0,
            last: None,
        }
    }

    /// Shows a line that is made harmless already counted against nothing.
    pub fn take(&mut self, level: LogLevel, line: String, plugin: &str, progress: &dyn Progress) {
        let text = format!("{plugin}│ {line}");
        progress.event(match level {
            LogLevel::Warn | LogLevel::Error => Event::Warning(text),
            LogLevel::Info | LogLevel::Debug | LogLevel::Trace => Event::Note(text),
        });
        self.last = Some(line);
    }
}

impl types::Host for State {}

impl State {
    /// The start of the run; the real time with the grant `clock`.
    fn unix_ms(&self) -> u64 {
        match self.new.ports.clock {
            Some(now) if self.new.grants.holds(&Capability::Clock) => now(),
            _ => self.new.facts.unix_ms,
        }
    }
}

impl run::Host for State {
    fn get(&mut self) -> wasmtime::Result<run::Info> {
        Ok(run::Info {
            plugin_name: self.new.plugin.clone(),
            plugin_version: self.new.version.clone(),
            host_version: self.new.facts.host_version.clone(),
            api_version: API_VERSION.to_owned(),
            seed: self.new.facts.seed,
            unix_ms: self.unix_ms(),
            dry_run: self.new.facts.is_dry_run,
        })
    }
}

impl log::Host for State {
    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(host_level(level) >= self.log.level)
    }

    fn write(&mut self, level: log::Level, message: String, fields: Vec<types::Field>) -> wasmtime::Result<()> {
        self.in_host(|state| state.log_line(host_level(level), &message, &fields));
        Ok(())
    }
}

impl State {
    /// Keeps a line that a guest printed.
    pub(crate) fn print(&mut self, line: &str) {
        self.log_line(LogLevel::Info, line, &[]);
    }

    fn log_line(&mut self, level: LogLevel, message: &str, fields: &[types::Field]) {
        let state = self;
        if level < state.log.level {
            return;
        }
        let mut line = cut(message, LOG_LINE_BYTES_MAX);
        for field in fields {
            let room = LOG_LINE_BYTES_MAX.saturating_sub(line.len());
            line.push_str(&cut(&format!(" {}={}", field.name, field.value), room));
        }
        let bytes = state.log.bytes.saturating_add(line.len() as u64);
        if bytes > state.new.limits.log_bytes || state.log.lines >= LOG_LINES_MAX {
            state.log.dropped += 1;
            return;
        }
        state.log.bytes = bytes;
        state.log.lines += 1;
        let line = inert_line(&line);
        state
            .log
            .take(level, line, &state.new.plugin, &*state.new.ports.progress);
    }
}

fn host_level(level: log::Level) -> LogLevel {
    match level {
        log::Level::Trace => LogLevel::Trace,
        log::Level::Debug => LogLevel::Debug,
        log::Level::Info => LogLevel::Info,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Error => LogLevel::Error,
    }
}

/// One progress bar of a guest; silent past the limit.
pub struct Bar {
    phase: Option<String>,
    done: u64,
}

impl progress::Host for State {
    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.new.ports.cancel.is_cancelled())
    }
}

impl progress::HostBar for State {
    fn new(&mut self, label: String, total: Option<u64>) -> wasmtime::Result<Resource<Bar>> {
        self.bars += 1;
        let label = cut(&label, LOG_LINE_BYTES_MAX);
        let bytes = self.log.bytes.saturating_add(label.len() as u64);
        let has_room = bytes <= self.new.limits.log_bytes && self.bars_made < BARS_MADE_MAX;
        let phase = (self.bars <= BARS_MAX && has_room).then(|| inert_line(&label));
        if phase.is_some() {
            // Its label is text on the screen as a line of the log is.
            self.bars_made += 1;
            self.log.bytes = bytes;
        }
        if let Some(phase) = &phase {
            self.new.ports.progress.event(Event::PhaseStarted {
                phase: phase.clone(),
                total,
                unit: "",
            });
        }
        Ok(self.table.push(Bar { phase, done: 0 })?)
    }

    fn advance(&mut self, bar: Resource<Bar>, by: u64) -> wasmtime::Result<()> {
        let bar = self.table.get_mut(&bar)?;
        bar.done = bar.done.saturating_add(by);
        if let Some(phase) = bar.phase.clone() {
            let done = bar.done;
            self.new.ports.progress.event(Event::PhaseAdvanced { phase, done });
        }
        Ok(())
    }

    fn message(&mut self, bar: Resource<Bar>, text: String) -> wasmtime::Result<()> {
        let phase = self.table.get(&bar)?.phase.clone();
        let Some(phase) = phase else { return Ok(()) };
        log::Host::write(self, log::Level::Info, format!("{phase}: {text}"), Vec::new())
    }

    fn drop(&mut self, bar: Resource<Bar>) -> wasmtime::Result<()> {
        let bar = self.table.delete(bar)?;
        self.bars = self.bars.saturating_sub(1);
        if let Some(phase) = bar.phase {
            self.new.ports.progress.event(Event::PhaseEnded { phase });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Recorder, state};
    use super::*;
    use progress::HostBar;

    fn shown(label: &str, times: usize) -> usize {
        let events = Arc::new(Recorder::default());
        let mut state = state(&events);
        for _ in 0..times {
            let bar = HostBar::new(&mut state, label.to_owned(), None).unwrap();
            HostBar::drop(&mut state, bar).unwrap();
        }
        let events = events.0.lock().unwrap();
        events
            .iter()
            .filter(|event| matches!(event, Event::PhaseStarted { .. }))
            .count()
    }

    #[test]
    fn bars_one_after_the_other_are_counted_and_their_labels_are_log_text() {
        assert_eq!(shown("scoring", 20), 20);
        assert_eq!(shown("scoring", 5_000) as u64, BARS_MADE_MAX);
        assert_eq!(
            shown(&"x".repeat(LOG_LINE_BYTES_MAX), 5_000),
            (1 << 20) / LOG_LINE_BYTES_MAX
        );
    }
}
