//! A page of the book, read for what can be checked.
//!
//! A block of commands is one of
//! - `` ```sh `` with one command a line,
//! - `` ```console `` with commands behind `$ ` and what they print below; `…` in that stands for anything, a line of its own
//!   for any lines. `real` in the fence says that the output is the real base's: it is run and not compared.
//!
//! `exits N` in the fence announces an exit code; `no-run: reason` says why a block cannot be run here. A block with
//! `file=NAME` in its fence is written to that file. A page may hide a block from the reader in a comment.

use std::collections::BTreeSet;

pub struct Page {
    /// Its path in the repository.
    pub name: String,
    pub blocks: Vec<Block>,
    /// Commands that stand where nobody runs them.
    pub problems: Vec<String>,
    /// The lines that are no code, with their numbers.
    text: Vec<(usize, String)>,
}

pub enum Block {
    /// To be written before the next command.
    File { name: String, text: String },
    Commands {
        /// Line of the fence.
        line: usize,
        exits: i32,
        commands: Vec<Typed>,
        is_compared: bool,
    },
    /// Commands that only a person can run.
    NotRun { line: usize, commands: Vec<Typed> },
}

/// A command with the output that the page shows.
pub struct Typed {
    pub typed: String,
    pub shown: Vec<String>,
}

impl Typed {
    /// Whether the machine of a test has the program.
    pub fn is_known(&self) -> bool {
        let first = self.typed.split_whitespace().next().unwrap_or_default();
        matches!(
            first,
            "dlm" | "echo" | "cat" | "cp" | "mkdir" | "printf" | "ls" | "rm" | "grep" | "sed" | "chmod"
        )
    }
}

impl Page {
    pub fn new(name: &str, source: &str) -> Self {
        let mut page = Self {
            name: name.to_owned(),
            blocks: Vec::new(),
            problems: Vec::new(),
            text: Vec::new(),
        };
        let mut lines = source.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else {
                page.text.push((number, line.to_owned()));
                if line.starts_with("    ") && is_command(line.trim_start()) {
                    page.problems.push(format!(
                        "{name}:{number}: an indented command is not run; fence it as `sh`"
                    ));
                }
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let strip = |line: &str| line.get(indent..).unwrap_or_default().to_owned();
            let body: Vec<String> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```")
                .map(strip)
                .collect();
            page.block(number, info.trim(), body);
        }
        page
    }

    fn block(&mut self, line: usize, info: &str, body: Vec<String>) {
        let (language, marks) = info.split_once(' ').unwrap_or((info, ""));
        if let Some(name) = marks.split_whitespace().find_map(|mark| mark.strip_prefix("file=")) {
            let (name, text) = (name.to_owned(), body.join("\n") + "\n");
            self.blocks.push(Block::File { name, text });
            return;
        }
        let commands = match language {
            "sh" => commands(&body),
            "console" => conversation(&body),
            _ => {
                if body.iter().any(|line| is_command(line)) {
                    self.problems.push(format!(
                        "{}:{line}: a command in a block of `{language}` is not run",
                        self.name
                    ));
                }
                return;
            }
        };
        if let Some((_, reason)) = marks.split_once("no-run:") {
            if reason.trim().is_empty() {
                self.problems
                    .push(format!("{}:{line}: `no-run:` without a reason", self.name));
            }
            self.blocks.push(Block::NotRun { line, commands });
            return;
        }
        let words: Vec<&str> = marks.split_whitespace().collect();
        let exits = match words.iter().position(|word| *word == "exits") {
            Some(at) => words[at + 1].parse().expect("`exits` is followed by a number"),
            None => 0,
        };
        self.blocks.push(Block::Commands {
            line,
            exits,
            commands,
            is_compared: language == "console" && !words.contains(&"real"),
        });
    }

    /// Commands in running text and in blocks that are not run, with their lines.
    pub fn mentions(&self) -> Vec<(usize, String)> {
        let in_text = self.spans().filter(|(_, span)| is_command(span));
        let mut found: Vec<(usize, String)> = in_text.collect();
        for block in &self.blocks {
            if let Block::NotRun { line, commands } = block {
                let typed = commands.iter().map(|command| command.typed.clone());
                found.extend(typed.filter(|typed| is_command(typed)).map(|typed| (*line, typed)));
            }
        }
        found
    }

    /// Links that lead to a place in the repository.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in &self.text {
            for part in line.split("](").skip(1) {
                let link = part.split(')').next().unwrap_or_default();
                if !link.contains("://") && !link.is_empty() {
                    found.push((*number, link.to_owned()));
                }
            }
        }
        found
    }

    /// Paths in code spans, `path` or `path::item`, with their lines.
    pub fn places(&self) -> Vec<(usize, String, Option<String>)> {
        const ROOTS: [&str; 10] = [
            "host/",
            "xtask/",
            "components/",
            "docs/",
            "examples/",
            "tests/",
            "wit/",
            "plugins/",
            "fuzz/",
            ".ci/",
        ];
        let is_place = |span: &str| {
            ROOTS.iter().any(|root| span.starts_with(root)) && !span.contains(['<', '*', '…', '{', ' ', '('])
        };
        self.spans()
            .filter(|(_, span)| is_place(span))
            .map(|(number, span)| match span.split_once("::") {
                Some((path, item)) => (
                    number,
                    path.to_owned(),
                    Some(item.rsplit("::").next().unwrap_or(item).to_owned()),
                ),
                None => (number, span, None),
            })
            .collect()
    }

    fn spans(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.text.iter().flat_map(|(number, line)| {
            line.split('`')
                .skip(1)
                .step_by(2)
                .map(|span| (*number, span.to_owned()))
        })
    }
}

fn is_command(line: &str) -> bool {
    line.trim_start_matches("$ ").starts_with("dlm ")
}

/// One command a line; a backslash at the end goes on in the next, and two blanks with `#` begin a remark.
fn commands(body: &[String]) -> Vec<Typed> {
    let mut found: Vec<Typed> = Vec::new();
    let mut is_open = false;
    for line in body {
        let line = line.split("  #").next().unwrap_or_default().trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let part = line.trim_end_matches('\\');
        match found.last_mut().filter(|_| is_open) {
            Some(command) => command.typed.push_str(part),
            None => found.push(Typed {
                typed: part.to_owned(),
                shown: Vec::new(),
            }),
        }
        is_open = line.ends_with('\\');
    }
    found
}

/// Commands behind `$ `, each with the lines below it.
fn conversation(body: &[String]) -> Vec<Typed> {
    let mut found: Vec<Typed> = Vec::new();
    for line in body {
        if let Some(typed) = line.strip_prefix("$ ") {
            found.extend(commands(&[typed.to_owned()]));
        } else if let Some(command) = found.last_mut() {
            command.shown.push(line.clone());
        }
    }
    found
}

/// Whether what was printed is what the page shows; `…` stands for anything.
pub fn fits(shown: &[String], printed: &str) -> bool {
    let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
    lines_fit(shown, &printed)
}

fn lines_fit(shown: &[String], printed: &[&str]) -> bool {
    let Some((first, rest)) = shown.split_first() else {
        return printed.is_empty();
    };
    if first.trim() == "…" {
        return (0..=printed.len()).any(|skip| lines_fit(rest, &printed[skip..]));
    }
    printed
        .split_first()
        .is_some_and(|(line, after)| line_fits(first.trim_end(), line) && lines_fit(rest, after))
}

fn line_fits(shown: &str, printed: &str) -> bool {
    match shown.split_once('…') {
        None => shown == printed,
        Some((before, after)) => printed.strip_prefix(before).is_some_and(|rest| {
            let ends = (0..=rest.len()).filter(|at| rest.is_char_boundary(*at));
            ends.into_iter().any(|at| line_fits(after, &rest[at..]))
        }),
    }
}

/// The anchors of a page's headings, as the usual viewers make them.
pub fn headings(source: &str) -> BTreeSet<String> {
    let titles = source
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    titles
        .map(|title| {
            let kept = title.to_lowercase().replace(' ', "-");
            kept.chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect()
        })
        .collect()
}

#[test]
fn shown_lines_are_compared_with_gaps() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&shown("a\n…\nc … e"), "a\nb\nb\nc d e\n"));
    assert!(fits(&shown("…"), ""));
    assert!(!fits(&shown("a"), "a\nb\n"));
    assert!(!fits(&shown("a …"), "b c\n"));
}

#[test]
fn a_page_is_read_for_what_can_be_checked() {
    let page = Page::new(
        "a.md",
        "Type `dlm show`, see [b](b.md#c) and `host/cli/src/main.rs::main`.\n\n```sh exits 2\ndlm a  # why\ndlm b \\\n  c\n```\n```text\ndlm lost\n```\n```sh no-run: alone\ndlm train --x\n```\n```dlm file=n.dlm\n---\n```\n",
    );
    assert!(matches!(&page.blocks[0], Block::Commands { exits: 2, commands, .. } if commands[1].typed == "dlm b   c"));
    assert!(matches!(&page.blocks[2], Block::File { name, text } if name == "n.dlm" && text == "---\n"));
    assert_eq!(page.problems.len(), 1, "{:?}", page.problems);
    assert_eq!(page.mentions().len(), 2);
    assert_eq!(page.links(), [(1, "b.md#c".to_owned())]);
    assert_eq!(
        page.places(),
        [(1, "host/cli/src/main.rs".to_owned(), Some("main".to_owned()))]
    );
}
