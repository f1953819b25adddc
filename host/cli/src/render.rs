//! Reports on the two streams, one file per command: text for people, and JSON from the same report.
//!
//! Invariants: a result goes to stdout, everything else to stderr; texts of models, teachers and template authors are
//! shown without control characters, and in listings cut to one line.

pub mod base;
pub mod cache;
pub mod check;
pub mod doctor;
pub mod export;
pub mod grant;
pub mod index;
pub mod init;
pub mod metrics;
pub mod migrate;
pub mod plugin;
pub mod preference;
pub mod prompt;
pub mod score;
pub mod show;
pub mod staging;
pub mod synth;
pub mod templates;
pub mod train;
pub mod used;

use dlm_core::inert::{inert_line, is_harmful};

/// Longest quoted line, in characters.
const LINE_CHARS_MAX: usize = 80;

/// The first line of a text, cut and harmless.
pub fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(LINE_CHARS_MAX).map(harmless).collect();
    if line.chars().nth(LINE_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// One line, of any length, harmless.
pub fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().map(harmless).collect()
}

/// Control, direction and invisible characters could redraw the terminal or hide a text.
fn harmless(c: char) -> char {
    let is_shown = !c.is_control() && !is_harmful(c);
    if is_shown { c } else { '\u{fffd}' }
}

/// `135 M`, `1.5 B`.
pub fn parameters(count: u64) -> String {
    let millions = count as f64 / 1e6;
    if millions < 1000.0 {
        format!("{millions:.0} M")
    } else {
        format!("{:.1} B", millions / 1000.0)
    }
}

/// Puts rows under a header, every column as wide as its widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    // What a cell is replaced by on the screen has a width too.
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| inert_line(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(header.to_vec());
    for row in &rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_parameters() {
        assert_eq!(
            (parameters(134_515_008), parameters(46_700_000_000)),
            ("135 M".into(), "46.7 B".into())
        );
    }

    #[test]
    fn columns_line_up_without_blanks_at_the_end() {
        let rows = [
            vec!["long name".to_owned(), "1".to_owned()],
            vec!["b".to_owned(), String::new()],
        ];
        assert_eq!(table(&["name", "n"], &rows), "name       n\nlong name  1\nb\n");
    }

    #[test]
    fn lines_are_cut_and_cannot_redraw_the_terminal() {
        assert_eq!(first_line("a\nb"), "a");
        assert_eq!(first_line(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(first_line(&"x".repeat(81)), "x".repeat(80) + "…");
        assert_eq!(first_line("\x1b[2J\u{202e}ok"), "\u{fffd}[2J\u{fffd}ok");
        assert_eq!(first_line(""), "");
    }
}
