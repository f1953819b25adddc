//! Every flag of every command and every key of the frontmatter does something that can be seen, or is refused.
//!
//! Invariant: a row names what is seen with the setting and is not seen without it, so that a setting which is read and dropped
//! fails here. The program lists its own flags and keys; one without a row fails, and so does a row without a flag.

#[path = "every/flags.rs"]
mod flags;
#[path = "every/index.rs"]
mod index;
#[path = "every/keys.rs"]
mod keys;
#[path = "every/plugin.rs"]
mod plugin;
#[path = "every/staged.rs"]
mod staged;

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::Lab;

/// What a run with the setting has that a run without it has not.
pub enum Sees {
    /// These words, in what is printed or among the names of the files that are there afterwards.
    Words(&'static str),
    /// The other way round: the setting takes them away.
    Without(&'static str),
    /// Something else than before, where the same line says the same twice.
    Change,
}

/// One flag of a command.
pub struct Row {
    pub flag: &'static str,
    /// The command without the flag.
    pub line: &'static str,
    /// What is typed for it.
    pub typed: &'static str,
    pub sees: Sees,
}

/// A row whose flag makes these words appear.
pub const fn shows(flag: &'static str, line: &'static str, typed: &'static str, words: &'static str) -> Row {
    Row {
        flag,
        line,
        typed,
        sees: Sees::Words(words),
    }
}

/// A row whose flag makes these words go.
pub const fn hides(flag: &'static str, line: &'static str, typed: &'static str, words: &'static str) -> Row {
    Row {
        flag,
        line,
        typed,
        sees: Sees::Without(words),
    }
}

/// A row whose flag changes what is said, in words that nobody can know before.
pub const fn changes(flag: &'static str, line: &'static str, typed: &'static str) -> Row {
    Row {
        flag,
        line,
        typed,
        sees: Sees::Change,
    }
}

/// The rows of one command.
pub type Table = (&'static str, &'static [Row]);

/// Endings of files whose content is looked at too.
const READ: [&str; 6] = [".sh", ".dlm", ".toml", "Modelfile", "vllm_config.json", "case.json"];

/// Everything that a run leaves: exit code, both streams, the names of all files and some contents.
pub fn seen(lab: &Lab, line: &str) -> String {
    let mut command = lab.command();
    command
        .env("COLUMNS", "400")
        .env("PATH", lab.path("bin"))
        .args(line.split_whitespace());
    let ran = lab.finish(&mut command);
    let mut text = format!("exit {}\n{}{}", ran.code, ran.out, ran.err);
    for (name, bytes) in lab.files("") {
        text.push_str(&format!("FILE {name}\n"));
        if READ.iter().any(|ending| name.ends_with(ending)) {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    text
}

/// Runs every row of a table in a copy of `lab` each.
pub fn check(lab: &Lab, table: &Table) {
    check_by(table, &|line| seen(&lab.copy(), line));
}

/// The same with another way to run a line.
pub fn check_by((command, rows): &Table, run: &dyn Fn(&str) -> String) {
    for row in *rows {
        let line = format!("{command} {}", row.line);
        let place = format!("dlm {command} {}", row.flag);
        assert!(row.typed.contains(row.flag), "{place} is not typed in its row");
        let (without, with) = (run(&line), run(&format!("{line} {}", row.typed)));
        compare(&place, &row.sees, &with, &without);
        if matches!(row.sees, Sees::Change) {
            assert_eq!(run(&line), without, "{place}: the line alone is not the same twice");
        }
    }
}

/// Holds what was seen with a setting against what was seen without.
pub fn compare(place: &str, sees: &Sees, with: &str, without: &str) {
    let (there, not_there, words) = match sees {
        Sees::Words(words) => (with, without, words),
        Sees::Without(words) => (without, with, words),
        Sees::Change => return assert_ne!(with, without, "{place} makes no difference"),
    };
    assert!(there.contains(words), "{place}: `{words}` is missing in\n{there}");
    assert!(
        !not_there.contains(words),
        "{place}: `{words}` makes no difference:\n{not_there}"
    );
}

/// A flag as the reference pages list it.
struct Listed {
    name: String,
    takes_value: bool,
    is_built: bool,
}

/// The rows of a markdown table, without its head.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| `"))
}

fn page(lab: &Lab, name: &str) -> String {
    let pages = lab.json(&["__reference"]);
    pages[name].as_str().unwrap().to_owned()
}

/// Every flag by command; those of every command stand under the empty name.
fn listed(page: &str) -> BTreeMap<String, Vec<Listed>> {
    let mut commands = BTreeMap::new();
    for part in page.split("\n## ").skip(1) {
        let (head, body) = part.split_once('\n').unwrap();
        let command = head.strip_prefix("dlm ").unwrap_or_default().to_owned();
        let flags = rows(body).filter_map(|row| {
            let cell = row.split(" | ").next()?;
            let (_, long) = cell.split_once("`--")?;
            let long = long.trim_end_matches('`');
            Some(Listed {
                name: format!("--{}", long.split(' ').next()?),
                takes_value: long.contains('<'),
                is_built: !row.contains("not built yet"),
            })
        });
        let flags = flags.collect();
        commands.insert(command, flags);
    }
    commands
}

fn tables() -> Vec<&'static Table> {
    [flags::TABLES, index::TABLES, plugin::TABLES, staged::TABLES].concat()
}

#[test]
fn every_flag_of_the_help_has_a_row_and_every_row_a_flag() {
    let lab = Lab::new();
    let listed = listed(&page(&lab, "commands.md"));
    assert!(listed.len() > 30, "the page is read: {}", listed.len());
    let mut named = BTreeSet::new();
    for (command, flags) in &listed {
        for flag in flags.iter().filter(|flag| flag.is_built) {
            named.insert((command.clone(), flag.name.clone()));
        }
    }
    let mut known = BTreeSet::new();
    for (command, rows) in tables() {
        for row in *rows {
            known.insert(((*command).to_owned(), row.flag.to_owned()));
        }
    }
    known.extend(elsewhere());
    let missing: Vec<_> = named.difference(&known).collect();
    assert!(missing.is_empty(), "flags without a row: {missing:?}");
    let gone: Vec<_> = known.difference(&named).collect();
    assert!(gone.is_empty(), "rows without a flag: {gone:?}");
}

/// Flags that the tests named here switch: what they do is not to be seen in one line and one run.
fn elsewhere() -> Vec<(String, String)> {
    let mut flags: Vec<(&str, &str)> = vec![
        // `the_flags_of_every_command`
        ("", "--home"),
        ("", "--verbose"),
        ("", "--quiet"),
        ("", "--threads"),
        // `surface.rs`: the version and completion.
        ("", "--version"),
        ("", "--install-completion"),
        ("", "--show-completion"),
        // `what_takes_half_a_day_is_refused_by_its_time_and_what_takes_long_is_told` of `dlm-plan`.
        ("train", "--yes-slow"),
        // `metrics.rs`: it follows until it is interrupted.
        ("metrics watch", "--poll-seconds"),
        // `terminal.rs`: without it a person is asked.
        ("base remove", "--force"),
        // `authors.rs`: without it the project is built.
        ("plugin test", "--no-build"),
        // `plugin_cases.rs` and `teachers.rs`: what is recorded is run again.
        ("preference mine", "--record"),
        ("synth preferences", "--record"),
        ("synth instructions", "--record"),
        ("export", "--record"),
        ("init", "--record"),
        ("templates list", "--record"),
        // `plugin_watch.rs`
        ("plugin test", "--watch"),
        // `provenance.rs`: trust in a file belongs to its place, and each row runs in another.
        ("plugin trust", "--allow-downgrade"),
        // `plugin.rs`, on a terminal too.
        ("plugin pack", "--sign"),
        // `index.rs`
        ("plugin index", "--sign"),
        ("plugin add", "--allow-downgrade"),
        // `flow/tests/staging/synth.rs`: it is how many teachers are opened, and a kept answer is not asked for again.
        ("synth instructions", "--concurrency"),
        ("synth instructions", "--no-kept-answers"),
    ];
    // The same command under its other name.
    let (_, mine) = staged::MINE;
    flags.extend(mine.iter().map(|row| ("synth preferences", row.flag)));
    flags
        .into_iter()
        .map(|(command, flag)| (command.to_owned(), flag.to_owned()))
        .collect()
}

#[test]
fn what_is_not_built_is_refused_by_its_name() {
    let lab = Lab::new();
    let mut count = 0;
    for (command, flags) in listed(&page(&lab, "commands.md")) {
        for flag in flags.iter().filter(|flag| !flag.is_built) {
            let value = match flag.name.as_str() {
                "--policy" => "strict",
                "--watch-max-steps" | "--watch-debounce-ms" | "--max-cycles" => "3",
                _ => "x",
            };
            let value = if flag.takes_value { value } else { "" };
            let line = format!("{command} none.dlm {} {value}", flag.name);
            let arguments: Vec<&str> = line.split_whitespace().collect();
            lab.run(&arguments).exits(2).says(&[&flag.name, "is not built yet"]);
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn the_flags_of_every_command() {
    let lab = Lab::new();
    lab.trainable();
    lab.write(
        "f.dlm",
        lab.read("a.dlm")
            .replace("\n---\n\n", "\ntraining: {adapters: {t: {}}}\n---\n\n"),
    );
    let lines = [
        "init n.dlm --base tiny",
        "train a.dlm --dry-run",
        "check a.dlm",
        "show a.dlm",
        "migrate a.dlm",
        "doctor",
        "metrics show a.dlm",
        "base list",
        "base show tiny",
        "base add other --from model",
        "base remove tiny",
        "preference list a.dlm",
        "synth list a.dlm",
        "templates list",
        "plugin list",
        "plugin inspect sway",
        "prompt a.dlm What? --base-only --temp 0 --max-tokens 1",
        "score a.dlm --text a.dlm --base-only",
        "export f.dlm",
    ];
    for line in lines {
        let plain = seen(&lab.copy(), line);
        let verbose = seen(&lab.copy(), &format!("{line} -v"));
        assert!(
            !plain.contains("(given by DLM_HOME)") && verbose.contains("(given by DLM_HOME)"),
            "{line}: -v adds nothing\n{verbose}"
        );
        let elsewhere = seen(&lab.copy(), &format!("{line} -v --home elsewhere --threads 3"));
        assert!(
            elsewhere.contains("[DIR]/elsewhere  (given by --home)"),
            "{line}: {elsewhere}"
        );
        assert!(elsewhere.contains("3  (given by --threads)"), "{line}: {elsewhere}");
    }
    let said = |flag: &str| lab.copy().run(&["init", "n.dlm", "--base", "tiny", flag]).ok().err;
    assert!(said("-v").contains("init: wrote"));
    assert_eq!(said("-q"), "");
    let plan = lab.run(&["train", "a.dlm", "--dry-run", "--threads", "3"]).ok().out;
    assert!(plan.contains("3  (given by --threads)"), "{plan}");
}

/// Flags of other programs.
const FOREIGN: [&str; 9] = [
    "--no-deps",
    "--format-version",
    "--offline",
    "--merge",
    "--release",
    "--stub-wasi",
    "--silent",
    "--help",
    "--print",
];

/// The flags in the code of a file, without its comments and tests.
fn named(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut flags = Vec::new();
    for line in lines {
        for (at, _) in line.match_indices("--") {
            let is_inside = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
            let word: String = line[at + 2..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
                .collect();
            if !is_inside && word.len() > 1 && !word.starts_with('-') {
                flags.push(format!("--{}", word.trim_end_matches('-')));
            }
        }
    }
    flags
}

#[test]
fn every_flag_that_the_program_speaks_of_is_there_and_built() {
    let lab = Lab::new();
    let listed = listed(&page(&lab, "commands.md"));
    let built: BTreeSet<String> = listed
        .into_values()
        .flatten()
        .filter(|flag| flag.is_built)
        .map(|flag| flag.name)
        .collect();
    let mut open = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    let mut count = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            match name.as_str() {
                "tests" | "tests.rs" | "target" | "testkit" | "candle" => {}
                _ if path.is_dir() => open.push(path),
                _ if name.ends_with(".rs") => {
                    for flag in named(&path) {
                        let is_known = built.contains(&flag) || FOREIGN.contains(&flag.as_str());
                        assert!(is_known, "{} speaks of `{flag}`", path.display());
                        count += 1;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(count > 100, "{count}");
}
