//! What a plugin says while a case runs: its log, and what it printed.

use std::sync::{Mutex, PoisonError};

use dlm_core::{Event, Progress};

/// Most lines that are kept of one run of a case.
const LINES_MAX: usize = 40;

/// The lines so far, and how many found no room.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<(Vec<String>, usize)>);

impl Heard {
    /// Every line without the plugin's name before it; a last one counts what was left out.
    pub fn lines(&self) -> Vec<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = heard.0.clone();
        if heard.1 > 0 {
            lines.push(format!("… {} more lines", heard.1));
        }
        lines
    }
}

impl Progress for Heard {
    fn event(&self, event: Event) {
        let (Event::Note(text) | Event::Warning(text)) = event else {
            return;
        };
        let line = text.split_once("│ ").map_or(text.as_str(), |(_, line)| line);
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match heard.0.len() < LINES_MAX {
            true => heard.0.push(line.to_owned()),
            false => heard.1 += 1,
        }
    }
}
