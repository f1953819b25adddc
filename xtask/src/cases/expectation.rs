//! What must hold after a case ran: `expect.toml`, and what holds for every case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::DIRECTORY;
use super::process::{Limits, Outcome};
use crate::repository;

/// What a case may take when it says nothing.
const SECONDS_DEFAULT: u64 = 120;
const MEMORY_MIB_DEFAULT: u64 = 6144;

/// What the output of no case may hold: words of this language's runtime and of the shell about a program that crashed.
const CRASHES: [&str; 8] = [
    "panicked at",
    "stack overflow",
    "memory allocation of",
    "Segmentation fault",
    "Aborted",
    "Bus error",
    "Illegal instruction",
    "core dumped",
];

/// The content of an `expect.toml`. Everything is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    /// Why the case is not run here.
    pub left_out: Option<String>,
    /// Exit codes of the script, one of which it must have.
    exit: Option<Vec<i32>>,
    seconds: Option<u64>,
    memory_mib: Option<u64>,
    /// Texts that the output must hold, and those that it must not.
    #[serde(default)]
    must: Vec<String>,
    #[serde(default)]
    must_not: Vec<String>,
    /// How often a text must stand in the output.
    #[serde(default)]
    times: BTreeMap<String, usize>,
    /// Groups of lines that must say the same, and of lines that must all differ.
    #[serde(default)]
    same: Vec<Vec<Line>>,
    #[serde(default)]
    differ: Vec<Vec<Line>>,
    /// Numbers that may not grow faster than stated from one to the next.
    #[serde(default)]
    growth: Vec<Growth>,
    /// Files that must or must not be there afterwards.
    #[serde(default)]
    file: Vec<FileCheck>,
    /// What is made before the run: `document` is a trained `D.dlm`.
    pub prepare: Option<String>,
    /// Directories that the script takes for granted.
    #[serde(default)]
    pub directories: Vec<String>,
    /// What stands in the script, and what is run instead: a pause, for example, that is too short on a busy machine.
    #[serde(default)]
    pub replace: BTreeMap<String, String>,
    /// Files of the case that lie elsewhere in `tests/cases`, by the name that they get.
    #[serde(default)]
    pub copies: BTreeMap<String, String>,
}

/// A line of the output; what it says is what is left without the given start and end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    starts: String,
    #[serde(default)]
    ends: String,
    /// The how-manieth of those lines, from 1.
    #[serde(default = "first")]
    nth: usize,
}

fn first() -> usize {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Growth {
    lines: Vec<Line>,
    /// The largest quotient of a number and the one before.
    factor: f64,
    /// Numbers below this count as this.
    floor: f64,
}

/// A file below the temporary directory of the case, its homes included.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCheck {
    /// The end of its path, in whole components.
    path: String,
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    must: Vec<String>,
    #[serde(default)]
    must_not: Vec<String>,
}

impl Expectation {
    /// Reads what is expected of a case: beside it, else from the repository, else what holds for every case.
    pub(super) fn of(directory: &Path, name: &str) -> Result<Expectation> {
        let places = [directory.to_owned(), repository::root().join(DIRECTORY)];
        let files = places.map(|place| place.join(name).join("expect.toml"));
        let Some(path) = files.iter().find(|path| path.is_file()) else {
            return Ok(Expectation::default());
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            seconds: self.seconds.unwrap_or(SECONDS_DEFAULT),
            memory_bytes: self.memory_mib.unwrap_or(MEMORY_MIB_DEFAULT) << 20,
        }
    }

    /// Lists what is not as it must be; `scratch` is where the case kept its files.
    pub(super) fn flaws(&self, outcome: &Outcome, scratch: &Path) -> Vec<String> {
        let text = String::from_utf8_lossy(&outcome.output);
        let mut flaws: Vec<String> = outcome.stopped_by.iter().cloned().collect();
        flaws.extend(crash(outcome, &text));
        flaws.extend(raw_character(&text));
        if let Some(codes) = &self.exit
            && !codes.contains(&outcome.code)
        {
            flaws.push(format!("exit code {}, expected one of {codes:?}", outcome.code));
        }
        flaws.extend(texts("the output", &text, &self.must, &self.must_not));
        for (wanted, count) in &self.times {
            let found = text.matches(wanted.as_str()).count();
            if found != *count {
                flaws.push(format!(
                    "`{wanted}` stands {found} times in the output, expected {count}"
                ));
            }
        }
        for (lines, is_same) in self
            .same
            .iter()
            .map(|l| (l, true))
            .chain(self.differ.iter().map(|l| (l, false)))
        {
            flaws.extend(compare(lines, is_same, &text));
        }
        flaws.extend(self.growth.iter().filter_map(|growth| growth.flaw(&text)));
        let files = repository::files_below(scratch).unwrap_or_default();
        flaws.extend(self.file.iter().flat_map(|check| check.flaws(&files)));
        flaws
    }
}

/// A script that a signal ended, or a program in it that crashed.
fn crash(outcome: &Outcome, text: &str) -> Option<String> {
    if outcome.stopped_by.is_none() && outcome.code > 128 {
        return Some(format!("signal {} ended it", outcome.code - 128));
    }
    let word = CRASHES.iter().find(|word| text.contains(*word))?;
    let line = text.lines().find(|line| line.contains(word)).unwrap_or_default();
    Some(format!("a crash: {}", line.escape_debug()))
}

/// A character that a terminal obeys instead of showing it.
fn raw_character(text: &str) -> Option<String> {
    let obeys = |c: &char| {
        let is_bidi =
            matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}' | '\u{61C}');
        is_bidi || (c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
    };
    let found = text.chars().find(obeys)?;
    let line = text.lines().find(|line| line.contains(found)).unwrap_or_default();
    let shown: String = line.escape_debug().take(120).collect();
    Some(format!("U+{:04X} is printed as it is: {shown}", u32::from(found)))
}

fn texts(place: &str, text: &str, must: &[String], must_not: &[String]) -> Vec<String> {
    let absent = must.iter().filter(|wanted| !text.contains(wanted.as_str()));
    let absent = absent.map(|wanted| format!("{place} lacks `{wanted}`"));
    let present = must_not.iter().filter(|banned| text.contains(banned.as_str()));
    absent
        .chain(present.map(|banned| format!("{place} holds `{banned}`")))
        .collect()
}

impl Line {
    /// What the line says.
    fn value<'t>(&self, text: &'t str) -> Result<&'t str, String> {
        let middle = |line: &'t str| {
            line.strip_prefix(self.starts.as_str())?
                .strip_suffix(self.ends.as_str())
        };
        let found = text.lines().filter_map(middle).nth(self.nth.saturating_sub(1));
        found.ok_or_else(|| {
            let (starts, ends) = (&self.starts, &self.ends);
            format!(
                "there is no line {} that starts with `{starts}` and ends with `{ends}`",
                self.nth
            )
        })
    }
}

fn compare(lines: &[Line], is_same: bool, text: &str) -> Option<String> {
    let values: Result<Vec<&str>, String> = lines.iter().map(|line| line.value(text)).collect();
    let values = match values {
        Ok(values) => values,
        Err(flaw) => return Some(flaw),
    };
    let distinct: std::collections::BTreeSet<&str> = values.iter().copied().collect();
    let holds = match is_same {
        true => distinct.len() == 1,
        false => distinct.len() == values.len(),
    };
    let expected = if is_same { "the same" } else { "different ones" };
    (!holds).then(|| format!("{lines:?} say {values:?}, expected {expected}"))
}

impl Growth {
    fn flaw(&self, text: &str) -> Option<String> {
        let number = |line: &Line| -> Result<f64, String> {
            let value = line.value(text)?;
            let number = value.trim().parse::<f64>();
            number
                .map(|n| n.max(self.floor))
                .map_err(|_| format!("`{value}` is no number"))
        };
        let numbers: Result<Vec<f64>, String> = self.lines.iter().map(number).collect();
        match numbers {
            Err(flaw) => Some(flaw),
            Ok(numbers) => {
                let pair = numbers.windows(2).find(|pair| pair[1] > self.factor * pair[0])?;
                Some(format!(
                    "{} grew to {}, more than {} times",
                    pair[0], pair[1], self.factor
                ))
            }
        }
    }
}

impl FileCheck {
    fn flaws(&self, files: &[PathBuf]) -> Vec<String> {
        let found: Vec<&PathBuf> = files.iter().filter(|file| file.ends_with(&self.path)).collect();
        let name = &self.path;
        match (found.as_slice(), self.absent) {
            ([], true) => Vec::new(),
            ([], false) => vec![format!("there is no file `{name}`")],
            (_, true) => vec![format!("there is a file `{name}`")],
            (found, false) => found
                .iter()
                .flat_map(|path| {
                    let text = std::fs::read(path).unwrap_or_default();
                    texts(
                        &format!("`{name}`"),
                        &String::from_utf8_lossy(&text),
                        &self.must,
                        &self.must_not,
                    )
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(expectation: &str, code: i32, output: &str) -> Vec<String> {
        let expectation: Expectation = toml::from_str(expectation).unwrap();
        let outcome = Outcome {
            code,
            output: output.as_bytes().to_vec(),
            seconds: 0.0,
            memory_bytes: 0,
            stopped_by: None,
        };
        expectation.flaws(&outcome, Path::new("/nowhere"))
    }

    #[track_caller]
    fn check(expectation: &str, code: i32, output: &str, expected: &str) {
        let found = flaws(expectation, code, output);
        assert!(found.iter().any(|flaw| flaw.contains(expected)), "{found:?}");
    }

    #[test]
    fn every_case_must_end_without_a_crash_or_a_raw_character() {
        assert_eq!(flaws("", 1, "base: refused\n\tsee `x`\r\n"), [""; 0]);
        check("", 0, "thread 'main' panicked at src/a.rs", "a crash");
        check("", 0, "cmd: line 3: 77 Segmentation fault", "a crash");
        check("", 137, "", "signal 9");
        check("", 0, "title \u{1b}]0;x", "U+001B");
        check("", 0, "abc \u{202e}dcb", "U+202E");
        check("", 0, "c1 \u{9b}31m", "U+009B");
    }

    #[test]
    fn codes_and_texts_are_compared() {
        assert_eq!(flaws("exit = [0, 1]\nmust = ['a']\nmust_not = ['b']", 1, "a"), [""; 0]);
        check("exit = [0]", 1, "", "exit code 1");
        check("must = ['pull']", 0, "a", "lacks `pull`");
        check("must_not = ['pull']", 0, "git pull", "holds `pull`");
        check("times = { rc = 2 }", 0, "rc 0", "1 times");
        check("[[file]]\npath = 'Modelfile'", 0, "", "no file `Modelfile`");
        assert_eq!(flaws("[[file]]\npath = 'Modelfile'\nabsent = true", 0, ""), [""; 0]);
    }

    #[test]
    fn lines_are_compared_and_numbers_may_grow_as_stated() {
        let output = "a 1\nb 1\nc 2\n0.5 s\n1.0 s\n3.0 s\n";
        let same = "same = [[{ starts = 'a ' }, { starts = 'b ' }]]\ndiffer = [[{ starts = 'a ' }, { starts = 'c ' }]]";
        assert_eq!(flaws(same, 0, output), [""; 0]);
        check(
            "same = [[{ starts = 'a ' }, { starts = 'c ' }]]",
            0,
            output,
            "expected the same",
        );
        check(
            "differ = [[{ starts = 'a ' }, { starts = 'b ' }]]",
            0,
            output,
            "different ones",
        );
        check("same = [[{ starts = 'x' }]]", 0, output, "no line 1");
        let growth = |factor: &str| {
            format!(
                "[[growth]]\nlines = [{{ ends = ' s' }}, {{ ends = ' s', nth = 2 }}, {{ ends = ' s', nth = 3 }}]\nfactor = {factor}\nfloor = 0.1"
            )
        };
        assert_eq!(flaws(&growth("3.1"), 0, output), [""; 0]);
        check(&growth("2.5"), 0, output, "grew to 3");
    }

    #[test]
    fn a_misspelt_expectation_is_refused() {
        assert!(toml::from_str::<Expectation>("musst = ['a']").is_err());
    }
}
