//! `cargo xtask authors [LANGUAGE…|KIND…|examples]`: does what an author does, for every language and kind of plugin.
//!
//! Each project is written by `dlm plugin new`, and every command of its README is typed as it stands there: build, pack, test,
//! inspect, install. Then one judge per language is broken on purpose, and what `dlm plugin test` says of it is held against what an
//! author must be able to read there. Last, the build scripts of `examples/plugins` run from clean.
//!
//! Everything lies below `target/authors`, the packages of Python and Node too; nothing is installed on the machine. A tool that is
//! missing is named with the command that brings it, and what needs it counts as failed.

mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::program::{Program, target_directory};
use crate::repository;
use tools::Tools;

const LANGUAGES: [&str; 4] = ["rust", "python", "js", "c"];
const KINDS: [&str; 5] = ["judge", "teacher", "target", "destination", "templates"];
const EXAMPLES: &str = "examples";

/// A mistake in a project's source, and what the author must then be told.
struct Mistake {
    language: &'static str,
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    told: &'static [&'static str],
}

const MISTAKES: [Mistake; 8] = [
    Mistake {
        language: "rust",
        name: "wrong score",
        file: "src/lib.rs",
        from: "-(text.split_whitespace()",
        to: "(text.split_whitespace()",
        told: &["verdicts[0].scores[0] is 3.0, -3.0 was expected"],
    },
    Mistake {
        language: "rust",
        name: "panic",
        file: "src/lib.rs",
        from: "let verdict = ",
        to: "items.first().expect(\"an item\").candidates.get(9).expect(\"a tenth candidate\");\n        let verdict = ",
        told: &["crashed in `score`: panicked at src/lib.rs:33:", "a tenth candidate"],
    },
    Mistake {
        language: "python",
        name: "exception",
        file: "app.py",
        from: "        return [",
        to: "        None.split()\n        return [",
        told: &[
            "AttributeError: 'NoneType' object has no attribute 'split'",
            "in Judge.score (/0/app.py:",
        ],
    },
    Mistake {
        language: "python",
        name: "result of a wrong type",
        file: "app.py",
        from: "-float(len(text.split()))",
        to: "\"many\"",
        told: &["crashed in `score`", "build without `--stub-wasi`"],
    },
    Mistake {
        language: "js",
        name: "exception",
        file: "app.js",
        from: "    const words =",
        to: "    undefined.x;\n    const words =",
        told: &["TypeError: cannot read property 'x' of undefined", "at score (/app.js:"],
    },
    Mistake {
        language: "js",
        name: "missing function",
        file: "app.js",
        from: "  score(items)",
        to: "  mark(items)",
        told: &["crashed in `score`", "at `dlm:plugin/judge@1.0.0#score`"],
    },
    Mistake {
        language: "c",
        name: "too few scores",
        file: "plugin.c",
        from: "verdict->scores.len = item->candidates.len;",
        to: "verdict->scores.len = 1;",
        told: &["item 1 of 1: it gave 1 scores for 2 candidates"],
    },
    Mistake {
        language: "c",
        name: "abort",
        file: "plugin.c",
        from: "  verdicts->len = items->len;",
        to: "  abort();",
        told: &[
            "crashed in `score`",
            "at `abort`, from `exports_dlm_plugin_judge_score`",
        ],
    },
];

/// Runs the command.
pub fn run(arguments: &[String]) -> Result<()> {
    let known = || LANGUAGES.into_iter().chain(KINDS).chain([EXAMPLES]);
    if let Some(unknown) = arguments.iter().find(|word| !known().any(|known| known == *word)) {
        bail!("`{unknown}` is none of {}", known().collect::<Vec<_>>().join(", "));
    }
    let is_asked = |word: &str| arguments.iter().any(|asked| asked == word);
    let of = |words: &[&'static str]| -> Vec<&'static str> {
        let any = words.iter().any(|word| is_asked(word));
        words.iter().copied().filter(|word| !any || is_asked(word)).collect()
    };
    let is_all = arguments.is_empty();
    let has_projects = is_all || arguments.iter().any(|word| word != EXAMPLES);
    let mut workshop = Workshop::open()?;
    if has_projects {
        for language in of(&LANGUAGES) {
            for kind in of(&KINDS) {
                workshop.count(&format!("{language} {kind}"), |it| it.project(language, kind));
            }
            let is_whole = is_all || is_asked(language);
            for mistake in MISTAKES
                .iter()
                .filter(|mistake| mistake.language == language && is_whole)
            {
                workshop.count(&format!("{language}: {}", mistake.name), |it| it.mistake(mistake));
            }
        }
    }
    if is_all || is_asked(EXAMPLES) {
        for example in examples()? {
            workshop.count(&format!("example {example}"), |it| it.example(&example));
        }
    }
    println!("{} passed, {} failed", workshop.passed, workshop.failed.len());
    ensure!(workshop.failed.is_empty(), "failed: {}", workshop.failed.join(", "));
    Ok(())
}

/// The names of the example plugins.
fn examples() -> Result<Vec<String>> {
    let directory = repository::root().join("examples/plugins");
    let entries = std::fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("plugin.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// The program, the tools, and how it went.
struct Workshop {
    program: Program,
    directory: PathBuf,
    tools: Tools,
    passed: usize,
    failed: Vec<String>,
}

impl Workshop {
    fn open() -> Result<Workshop> {
        let status = Command::new("cargo")
            .args(["build", "--package", "dlm-cli"])
            .current_dir(repository::root())
            .status()
            .context("starting cargo")?;
        ensure!(status.success(), "cargo build ended with {status}");
        let directory = target_directory().join("authors");
        Ok(Workshop {
            program: Program::at(target_directory().join("debug/dlm"), "authors/home")?,
            tools: Tools::new(directory.clone()),
            directory,
            passed: 0,
            failed: Vec::new(),
        })
    }

    fn count(&mut self, name: &str, work: impl FnOnce(&mut Workshop) -> Result<()>) {
        let begun = std::time::Instant::now();
        match work(self) {
            Ok(()) => {
                println!("ok     {name} ({:.1} s)", begun.elapsed().as_secs_f64());
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Writes a project and types what its README says.
    fn project(&mut self, language: &str, kind: &str) -> Result<()> {
        let name = format!("my-{kind}");
        let directory = self.new_project(language, kind, &name)?;
        for line in commands(&directory)? {
            self.shell(language, &directory, &line)?;
        }
        let file = directory.join(format!("{name}.wasm"));
        let arguments = [Path::new("plugin"), Path::new("inspect"), Path::new("--json"), &file];
        let seen = self.program.json(&arguments, false)?;
        for (pointer, expected) in [
            ("/kinds/0", kind),
            ("/name", &name),
            ("/api", "1.0.0"),
            ("/wasi", "none"),
            ("/exports/0/name", &format!("dlm:plugin/{kind}@1.0.0")),
        ] {
            // componentize-py puts an item of its own before the export.
            let exports = seen["exports"].as_array().into_iter().flatten();
            let is_among = exports.into_iter().any(|export| export["name"] == expected);
            let found = seen.pointer(pointer).and_then(serde_json::Value::as_str);
            let is_right = found == Some(expected) || (pointer.starts_with("/exports") && is_among);
            ensure!(is_right, "inspect says {found:?} at {pointer}, {expected} was expected");
        }
        Ok(())
    }

    fn new_project(&mut self, language: &str, kind: &str, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(language).join(name);
        clear(&directory)?;
        let typed = ["plugin", "new", kind, name, "--lang", language, "--dir"];
        let mut arguments: Vec<&Path> = typed.iter().map(Path::new).collect();
        arguments.push(&directory);
        self.program.run(&arguments, false)?;
        self.tools.prepare(language, &directory)?;
        Ok(directory)
    }

    /// Makes a mistake in a project, and reads what `dlm plugin test` says of it.
    fn mistake(&mut self, mistake: &Mistake) -> Result<()> {
        let language = mistake.language;
        let directory = self.new_project(language, "judge", "my-mistake")?;
        let path = directory.join(mistake.file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            text.contains(mistake.from),
            "{} has no `{}`",
            path.display(),
            mistake.from
        );
        std::fs::write(&path, text.replacen(mistake.from, mistake.to, 1))
            .with_context(|| format!("writing {}", path.display()))?;
        for line in commands(&directory)? {
            if !line.starts_with("dlm plugin test") {
                self.shell(language, &directory, &line)?;
                continue;
            }
            let said = match self.shell(language, &directory, &line) {
                Ok(_) => bail!("it passed its tests"),
                Err(error) => format!("{error:#}"),
            };
            for part in mistake.told {
                ensure!(said.contains(part), "`{part}` is not in what was said:\n{said}");
            }
            return Ok(());
        }
        bail!("its README does not test it")
    }

    /// Builds an example in a copy without what was built before, and tests both.
    fn example(&mut self, name: &str) -> Result<()> {
        let from = repository::root().join("examples/plugins").join(name);
        let directory = self.directory.join("examples/plugins").join(name);
        clear(&directory)?;
        copy(&from, &directory)?;
        // Its paths lead to the repository from where it lies.
        for shared in ["wit", "components"] {
            tools::link(&repository::root().join(shared), &self.directory.join(shared))?;
        }
        let language = match name {
            "rubric" => "python",
            "starters" => "js",
            "cloze" => "c",
            "compose" => "rust",
            _ => bail!("say in xtask/src/authors.rs which language it is written in"),
        };
        self.tools.prepare(language, &directory)?;
        self.shell(language, &directory, "./build.sh")?;
        self.shell(language, &directory, &format!("dlm plugin test ./{name}.wasm"))?;
        if from.join(format!("{name}.wasm")).is_file() {
            self.shell(language, &from, &format!("dlm plugin test ./{name}.wasm"))?;
        }
        Ok(())
    }

    /// Types a line in a directory.
    fn shell(&self, language: &str, directory: &Path, line: &str) -> Result<String> {
        let own = self.program.path.parent().unwrap_or(Path::new(".")).to_owned();
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(directory)
            .env("PATH", self.tools.path(language, &own)?)
            .env("DLM_HOME", &self.program.home)
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("RUSTFLAGS")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running `{line}`"))?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = said.concat();
        match output.status.success() {
            true => Ok(said),
            false => bail!(
                "`{line}` in {} ended with {}\n{said}",
                directory.display(),
                output.status
            ),
        }
    }
}

/// The commands of a project's README, as they are typed.
fn commands(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let typed = text.lines().filter_map(|line| line.strip_prefix("    "));
    Ok(typed
        .map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned())
        .collect())
}

fn clear(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("clearing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a directory's sources.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_built = ["build", "target", "node_modules"].iter().any(|built| name == *built)
            || path.extension().is_some_and(|extension| extension == "wasm");
        if is_built {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => copy(&path, &to.join(name))?,
            false => drop(std::fs::copy(&path, to.join(name)).with_context(|| format!("copying {}", path.display()))?),
        }
    }
    Ok(())
}
