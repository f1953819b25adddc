//! Draws events: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dlm_core::event::StepEvent;
use dlm_core::inert::Inert;
use dlm_core::{Event, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::console::say;
use dlm_core::units::{duration, size};

/// Lines between two printed steps when there is no terminal.
const STEPS_PER_LINE: u64 = 10;

/// Least time between two lines about one phase when there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Time between two pictures of a spinner.
const TICK: Duration = Duration::from_millis(100);

/// Shows progress on stderr.
pub struct Screen {
    is_quiet: bool,
    is_terminal: bool,
    bar: Mutex<Option<ProgressBar>>,
    /// The phase whose length is known.
    told: Mutex<Option<Phase>>,
}

/// A phase of known length.
struct Phase {
    total: u64,
    unit: &'static str,
    started: Instant,
    /// When it was last told of in a plain line.
    last: Instant,
}

impl Phase {
    /// How long the rest takes at the pace so far; nothing where there is no pace yet.
    fn left(&self, done: u64) -> Option<String> {
        let seconds = self.started.elapsed().as_secs_f64();
        let rest = self.total.saturating_sub(done) as f64;
        (done > 0).then(|| format!("{} left", duration(seconds / done as f64 * rest)))
    }
}

impl Screen {
    /// Makes a screen that is silent when `is_quiet`, except for warnings.
    pub fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            bar: Mutex::new(None),
            told: Mutex::new(None),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        // Whatever panicked while drawing, the bar itself is whole.
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, phase: &str, total: Option<u64>, unit: &'static str) {
        let now = Instant::now();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = total.map(|total| Phase {
            total,
            unit,
            started: now,
            last: now,
        });
        if !self.is_terminal {
            let amount = total.map(|n| format!(" ({})", amount(n, unit))).unwrap_or_default();
            self.line(&format!("{phase}{amount}"));
            return;
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style("{prefix:>18} {wide_bar} {pos}/{len} {msg}")),
            None => ProgressBar::new_spinner().with_style(style("{prefix:>18} {spinner} {elapsed}")),
        };
        // The bar writes by itself, past the console.
        bar.set_prefix(Inert::line(phase).as_str().to_owned());
        self.end();
        if total.is_none() {
            // Work of unknown length shows that it goes on.
            bar.enable_steady_tick(TICK);
        }
        *self.bar() = Some(bar);
    }

    fn advance(&self, phase: &str, done: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let left = told.as_ref().and_then(|told| told.left(done));
        if let Some(bar) = self.bar().as_ref() {
            bar.set_position(done);
            bar.set_message(left.unwrap_or_default());
            return;
        }
        if let Some(told) = told.as_mut().filter(|told| told.last.elapsed() >= BETWEEN_LINES) {
            told.last = Instant::now();
            let (done, total) = (amount(done, told.unit), amount(told.total, told.unit));
            let left = left.map(|left| format!(", {left}")).unwrap_or_default();
            self.line(&format!("{phase}: {done} of {total}{left}"));
        }
    }

    fn end(&self) {
        let bar = self.bar().take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match self.bar().as_ref() {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn step(&self, step: &StepEvent) {
        let figures = format!(
            "loss {:.4}  {:.0} tokens/s  {} left",
            step.loss,
            step.tokens_per_s,
            duration(step.seconds_left)
        );
        if !self.is_terminal {
            let is_last = step.step == step.steps_max;
            if step.step == 1 || step.step.is_multiple_of(STEPS_PER_LINE) || is_last {
                self.line(&format!("step {}/{}  {figures}", step.step, step.steps_max));
            }
            return;
        }
        let is_new = self.bar().as_ref().is_none_or(|bar| bar.prefix() != "training");
        if is_new {
            self.start("training", Some(step.steps_max), "steps");
        }
        if let Some(bar) = self.bar().as_ref() {
            bar.set_position(step.step);
            bar.set_message(figures);
        }
        if step.step == step.steps_max {
            self.end();
        }
    }
}

impl Progress for Screen {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = &event {
            return self.line(&format!("warning: {text}"));
        }
        if self.is_quiet {
            return;
        }
        match event {
            Event::PhaseStarted { phase, total, unit } => self.start(&phase, total, unit),
            Event::PhaseAdvanced { phase, done } => self.advance(&phase, done),
            Event::PhaseEnded { .. } => self.end(),
            Event::Step(step) => self.step(&step),
            Event::Eval { step, loss } => self.line(&format!("step {step}  held-out loss {loss:.4}")),
            Event::Note(text) => self.line(&text),
            Event::Warning(_) => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is a constant")
        .progress_chars("━╸─")
}

/// `96 rows`, `1 row`, `12.5 MiB`.
fn amount(count: u64, unit: &str) -> String {
    match (count, unit) {
        (_, "bytes") => size(count),
        (1, _) => format!("1 {}", unit.strip_suffix('s').unwrap_or(unit)),
        _ => format!("{count} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn amounts_are_counted_in_their_unit() {
        assert_eq!(super::amount(96, "rows"), "96 rows");
        assert_eq!(super::amount(1, "prompts"), "1 prompt");
        assert_eq!(super::amount(5 << 20, "bytes"), "5 MiB");
    }
}
