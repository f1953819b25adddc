//! The book: README, CONTRIBUTING and `docs/` say what is so.
//!
//! Every command that a page shows is run, in the order of the page, in a directory of its own; see [`page`] for how a page
//! marks what cannot be run. Every flag in running text is one that the program has, every link leads somewhere, and every
//! file and function that a page names is there.
//!
//! A tiny model stands in for SmolLM2-135M under the same name, so answers and figures of the real one are not compared.

#[path = "book/page.rs"]
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Lab, tiny_base};
use page::{Block, Page};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Pages whose commands are run, with a name for a person. The specification and the changelog are no instructions.
fn pages() -> Vec<Page> {
    let root = repository();
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    collect(&root, Path::new("docs"), &mut paths);
    paths.retain(|path| !path.starts_with("docs/spec") && !path.ends_with("CHANGELOG.md"));
    assert!(paths.len() > 20, "the book was found: {paths:?}");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root.join(&path)).unwrap();
        Page::new(&path.display().to_string(), &text)
    };
    paths.into_iter().map(read).collect()
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(root.join(directory))
        .unwrap()
        .map(|entry| directory.join(entry.unwrap().file_name()))
        .collect();
    entries.sort();
    for path in entries {
        if root.join(&path).is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Panics with everything that was found, not only the first.
fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// A machine as a page finds it: the base, its file, the examples.
fn machine() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("user")).unwrap();
    let file = lab.path("SmolLM2-135M-Instruct.Q4_1.gguf");
    copy(&tiny_base(), &file, &|name| {
        name.ends_with(".json") || name == "model.safetensors"
    });
    copy(&repository().join("examples"), &lab.path("examples"), &|name| {
        Path::new(name)
            .extension()
            .is_some_and(|e| ["dlm", "json", "txt", "wasm"].iter().any(|known| e == *known))
    });
    let added = shell(
        &lab,
        &lab.path(""),
        "dlm base add smollm2-135m --from SmolLM2-135M-Instruct.Q4_1.gguf",
    );
    assert_eq!(added.0, 0, "{}", added.1);
    lab
}

/// Copies the files that are wanted; directories keep their place.
fn copy(from: &Path, to: &Path, is_wanted: &dyn Fn(&str) -> bool) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(name), is_wanted);
        } else if is_wanted(&name) {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// Runs a line as a reader would type it; the exit code, and both streams in the order in which they were written. The
/// reader's home reads `~`, and paths below the working directory are relative.
fn shell(lab: &Lab, directory: &Path, line: &str) -> (i32, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_dlm")).parent().unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {line}\n}} 2>&1")])
        .current_dir(directory)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
        .env("HOME", lab.path("user"))
        .env("HF_HUB_OFFLINE", "1")
        .env("COLUMNS", "120")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let here = lab.path("").display().to_string();
    let here = here.trim_end_matches('/');
    let text = String::from_utf8_lossy(&output.stdout)
        .replace(&format!("{here}/user"), "~")
        .replace(&format!("{here}/"), "");
    (output.status.code().unwrap_or(-1), text)
}

/// Runs a page from top to bottom and says what went otherwise than it promises.
fn follow(page: &Page) -> Vec<String> {
    let mut problems = Vec::new();
    if !page
        .blocks
        .iter()
        .any(|block| matches!(block, Block::Commands { .. } | Block::File { .. }))
    {
        return problems;
    }
    let lab = machine();
    let mut directory = lab.path("");
    for block in &page.blocks {
        match block {
            Block::File { name, text } => std::fs::write(directory.join(name), text).unwrap(),
            Block::Commands {
                line,
                exits,
                commands,
                is_compared,
            } => {
                for command in commands {
                    let place = format!("{}:{line}: `{}`", page.name, command.typed);
                    if let Some(to) = command.typed.strip_prefix("cd ") {
                        directory = directory.join(to);
                        continue;
                    }
                    if !command.is_known() {
                        problems.push(format!(
                            "{place} is not run; a block that cannot be run says `no-run: why`"
                        ));
                        continue;
                    }
                    let (code, said) = shell(&lab, &directory, &command.typed);
                    if code != *exits {
                        problems.push(format!("{place} ended with {code}, not {exits}:\n{said}"));
                    } else if *is_compared && !page::fits(&command.shown, &said) {
                        let shown = command.shown.join("\n");
                        problems.push(format!("{place} is shown with\n{shown}\nbut says\n{said}"));
                    }
                }
            }
            Block::NotRun { .. } => {}
        }
    }
    problems
}

#[test]
fn every_command_of_the_book_does_what_the_page_says() {
    let pages = pages();
    let problems = std::thread::scope(|scope| {
        let running: Vec<_> = pages.iter().map(|page| scope.spawn(|| follow(page))).collect();
        running.into_iter().flat_map(|page| page.join().unwrap()).collect()
    });
    report(problems);
}

#[test]
fn every_command_stands_where_it_is_run() {
    let mut problems = Vec::new();
    for page in pages() {
        problems.extend(page.problems);
    }
    report(problems);
}

/// The flags that a command takes, from its own help; `None` when there is no such command.
fn flags(lab: &Lab, known: &mut BTreeMap<String, Option<String>>, words: &[&str]) -> Option<String> {
    let key = words.join(" ");
    let help = known.entry(key).or_insert_with(|| {
        let mut arguments = words.to_vec();
        arguments.push("--help");
        let ran = lab.run(&arguments);
        (ran.code == 0).then_some(ran.out)
    });
    help.clone()
}

#[test]
fn every_flag_in_the_text_is_one_that_the_program_has() {
    let lab = Lab::new();
    let mut known = BTreeMap::new();
    let mut problems = Vec::new();
    for page in pages() {
        for (line, typed) in page.mentions() {
            let words: Vec<&str> = typed.split_whitespace().skip(1).collect();
            let named: Vec<&str> = words
                .iter()
                .copied()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                .collect();
            // The longest beginning that is a command; a document's name may follow without a dot in it.
            let help = (0..=named.len().min(2))
                .rev()
                .find_map(|n| flags(&lab, &mut known, &named[..n]).map(|help| (n, help)));
            let Some((taken, help)) = help else { continue };
            if taken == 0 && !named.is_empty() {
                problems.push(format!(
                    "{}:{line}: `{typed}`: there is no `dlm {}`",
                    page.name, named[0]
                ));
            }
            for word in &words {
                let flag = word.split('=').next().unwrap_or(word).trim_end_matches([',', '.']);
                if flag.starts_with("--") && flag.len() > 2 && !help.contains(flag) {
                    problems.push(format!("{}:{line}: `{typed}`: there is no `{flag}`", page.name));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_linked() {
    let root = repository();
    let mut problems = Vec::new();
    let pages = pages();
    let mut linked = BTreeSet::new();
    for page in &pages {
        let from = root.join(&page.name);
        for (line, link) in page.links() {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                from.clone()
            } else {
                from.parent().unwrap().join(file)
            };
            if !target.exists() {
                problems.push(format!("{}:{line}: nothing at {link}", page.name));
            } else if !heading.is_empty()
                && !page::headings(&std::fs::read_to_string(&target).unwrap()).contains(heading)
            {
                problems.push(format!("{}:{line}: no heading for {link}", page.name));
            } else {
                linked.insert(target.canonicalize().unwrap());
            }
        }
    }
    for page in pages.iter().filter(|page| page.name != "README.md") {
        if !linked.contains(&root.join(&page.name).canonicalize().unwrap()) {
            problems.push(format!("{}: no page leads here", page.name));
        }
    }
    report(problems);
}

#[test]
fn every_file_and_function_that_is_named_is_there() {
    let root = repository();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    // The style's examples are in other projects.
    for page in pages().iter().filter(|page| page.name != "docs/internals/style.md") {
        for (line, path, item) in page.places() {
            seen.insert(path.clone());
            let place = format!("{}:{line}", page.name);
            if !root.join(&path).exists() {
                problems.push(format!("{place}: there is no {path}"));
            } else if let Some(item) = item {
                let text = std::fs::read_to_string(root.join(&path)).unwrap();
                let is_there = ["fn", "struct", "enum", "trait", "const", "type", "static", "mod"]
                    .iter()
                    .any(|word| text.contains(&format!("{word} {item}")));
                if !is_there {
                    problems.push(format!("{place}: {path} has no `{item}`"));
                }
            }
        }
    }
    assert!(seen.len() > 20, "places are found: {seen:?}");
    report(problems);
}

#[test]
fn every_chapter_of_the_specification_that_a_comment_cites_is_there() {
    let root = repository();
    let mut files = Vec::new();
    sources(&root.join("host"), &mut files);
    let mut cited = BTreeSet::new();
    for text in files.iter().map(|path| std::fs::read_to_string(path).unwrap()) {
        for rest in text.split("`spec/").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                .collect();
            if rest[name.len()..].starts_with(".md") {
                cited.insert(name);
            }
        }
    }
    assert!(cited.len() > 5, "comments cite the specification: {cited:?}");
    let is_missing = |name: &&String| !root.join(format!("docs/spec/{name}.md")).is_file();
    report(cited.iter().filter(is_missing).cloned().collect());
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
