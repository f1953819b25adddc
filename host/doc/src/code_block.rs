//! Which lines stand inside a triple-backtick block, where fences and headers are text.
//!
//! Invariants: a block is closed only by at least as many backticks as opened it; tildes open nothing.

use crate::text::trim_blanks;

/// Shortest run of backticks that opens a block.
const TICKS_MIN: usize = 3;

/// Follows the lines of a text.
#[derive(Clone, Debug, Default)]
pub(crate) struct CodeTracker {
    /// Backticks and line of the open block's opener.
    open: Option<(usize, usize)>,
}

impl CodeTracker {
    /// Takes the next line; says whether it belongs to a block (opener and closer included).
    pub fn line(&mut self, line: &str, number: usize) -> bool {
        let text = trim_blanks(line);
        let ticks = text.bytes().take_while(|b| *b == b'`').count();
        match self.open {
            Some((opened_with, _)) => {
                if ticks >= opened_with && ticks == text.len() {
                    self.open = None;
                }
                true
            }
            None => {
                let opens = ticks >= TICKS_MIN && !text[ticks..].contains('`');
                if opens {
                    self.open = Some((ticks, number));
                }
                opens
            }
        }
    }

    /// Line of the opener when a block is still open.
    pub fn open_line(&self) -> Option<usize> {
        self.open.map(|(_, line)| line)
    }
}

/// The longest run of backticks in a text, for wrapping it in a longer one.
pub(crate) fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks each line with `#` when it belongs to a block.
    fn check(text: &str, expected: &str, is_open: bool) {
        let mut tracker = CodeTracker::default();
        let marks: String = text
            .split('\n')
            .enumerate()
            .map(|(i, line)| if tracker.line(line, i + 1) { '#' } else { '.' })
            .collect();
        assert_eq!(marks, expected, "{text:?}");
        assert_eq!(tracker.open_line().is_some(), is_open, "{text:?}");
    }

    #[test]
    fn blocks_close_by_run_length() {
        check("a\n```\nb\n```\nc", ".###.", false);
        check("````\n```\nx\n```\n````\nc", "#####.", false);
        check("```\n`````\nc", "##.", false);
        check("```rust\n```text\n```  \t\nc", "###.", false);
    }

    #[test]
    fn blocks_may_be_indented() {
        check("- item\n\t  ```\n::prose::\n          ```\nc", ".###.", false);
    }

    #[test]
    fn one_line_uses_and_tildes_open_nothing() {
        check("```x```\n~~~\n``\nc", "....", false);
    }

    #[test]
    fn a_block_may_stay_open() {
        check("```\nb", "##", true);
    }
}
