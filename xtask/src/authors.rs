//! `cargo xtask authors [LANGUAGE…|KIND…|examples]`: does what an author does, for every language and kind of plugin.
//!
//! Each project is written by `dlm plugin new`, and every command of its README is typed as it stands there: build, pack, test,
//! inspect, install. Then it is used for real, by the command that its kind is for. One judge per language is broken on purpose, and
//! what `dlm plugin test` says of it is held against what an author must be able to read there. Last, the build scripts of
//! `examples/plugins` run from clean. A table says what each project took: commands, and processor time of all that they started.
//!
//! With `--keep` the components in [`KEPT`] go to `tests/scaffolds`, where a test of every run uses them.
//!
//! Everything lies below `target/authors`, the packages of Python and Node and Go itself too; nothing is installed on the machine. A tool that is
//! missing is named with the command that brings it, and what needs it counts as failed.

mod table;
mod tools;
mod uses;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::program::{Program, target_directory};
use crate::repository;
use table::{Row, Table};
use tools::Tools;
use uses::Uses;

const LANGUAGES: [&str; 5] = ["rust", "python", "js", "c", "go"];
const KINDS: [&str; 5] = ["judge", "teacher", "target", "destination", "templates"];
const EXAMPLES: &str = "examples";
/// Keeps the components for the tests of every run.
const KEEP: &str = "--keep";
/// Components that are small enough for that; of Go one that calls nothing and one that calls the host.
const KEPT: [(&str, &[&str]); 3] = [("rust", &KINDS), ("c", &KINDS), ("go", &["judge", "target"])];

/// A mistake in a project's source, and what the author must then be told.
struct Mistake {
    language: &'static str,
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    told: &'static [&'static str],
}

const MISTAKES: [Mistake; 16] = [
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
            "fewer-words-win.json: `score` broke down",
            "AttributeError: 'NoneType' object has no attribute 'split'",
            "app.py\", line ",
        ],
    },
    Mistake {
        language: "python",
        name: "result of a wrong type",
        file: "app.py",
        from: "-float(len(text.split()))",
        to: "\"many\"",
        told: &["what `score` returned[0].scores[0] is 'many', a number was expected"],
    },
    Mistake {
        language: "python",
        name: "wrong score",
        file: "app.py",
        from: "-float(len(text.split()))",
        to: "float(len(text.split()))",
        told: &["verdicts[0].scores[0] is 3.0, -3.0 was expected"],
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
        told: &["the function `score` is missing"],
    },
    Mistake {
        language: "js",
        name: "missing field",
        file: "app.js",
        from: "      scores: item.candidates",
        to: "      score: item.candidates",
        told: &["what `score` returned[0] has the field `score`, the contract knows scores, reasoning"],
    },
    Mistake {
        language: "js",
        name: "wrong variant",
        file: "app.js",
        from: "mode: \"pointwise\"",
        to: "mode: \"single\"",
        told: &["what `open` returned.mode is \"single\", \"pointwise\" or \"pairwise\" was expected"],
    },
    Mistake {
        language: "js",
        name: "denied by the host",
        file: "app.js",
        from: "  score(items) {",
        to: "  score(items) {\n    current();",
        told: &[
            "wanted `model:current` in `score`",
            "--grant 'my-mistake=model:current'",
        ],
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
    Mistake {
        language: "go",
        name: "wrong score",
        file: "export_dlm_plugin_judge/judge.go",
        from: "-float64(",
        to: "float64(",
        told: &["verdicts[0].scores[0] is 3.0, -3.0 was expected"],
    },
    Mistake {
        language: "go",
        name: "panic",
        file: "export_dlm_plugin_judge/judge.go",
        from: "\tfor i, item := range items {",
        to: "\t_ = items[0].Candidates[9]\n\tfor i, item := range items {",
        told: &[
            "crashed in `score`: panic: runtime error: index out of range [9] with length 2, at \
             `example.com/my-mistake/export_dlm_plugin_judge/judge.go:29`",
        ],
    },
    Mistake {
        language: "go",
        name: "missing function",
        file: "export_dlm_plugin_judge/judge.go",
        from: "func Score(",
        to: "func Mark(",
        told: &["undefined: export_dlm_plugin_judge.Score"],
    },
    Mistake {
        language: "go",
        name: "denied by the host",
        file: "export_dlm_plugin_judge/judge.go",
        from: "\tverdicts := make(",
        to: "\tif current := model.Current(); current.IsErr() {\n\t\treturn wit.Err[[]judge.Verdict](current.Err())\n\t}\n\
             \tverdicts := make(",
        told: &[
            "wanted `model:current` in `score`",
            "--grant 'my-mistake=model:current'",
        ],
    },
];

/// Runs the command.
pub fn run(arguments: &[String]) -> Result<()> {
    let is_keeping = arguments.iter().any(|word| word == KEEP);
    let arguments: Vec<String> = arguments.iter().filter(|word| *word != KEEP).cloned().collect();
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
    let mut workshop = Workshop::open(is_keeping)?;
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
    print!("{}", workshop.table);
    if is_keeping && workshop.failed.is_empty() {
        workshop.count("tests/scaffolds", |_| note_sources());
    }
    println!("{} passed, {} failed", workshop.passed, workshop.failed.len());
    ensure!(workshop.failed.is_empty(), "failed: {}", workshop.failed.join(", "));
    Ok(())
}

/// Lets the test that watches over the kept components write down what they were built from.
fn note_sources() -> Result<()> {
    let status = Command::new("cargo")
        .args([
            "test",
            "--workspace",
            "--test",
            "cli",
            "the_components_are_built_from_what_is_written_today",
        ])
        .env("DLM_UPDATE_SCAFFOLDS", "1")
        .current_dir(repository::root())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo test ended with {status}");
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
    /// Made when the first project is used.
    uses: Option<Uses>,
    table: Table,
    is_keeping: bool,
}

impl Workshop {
    fn open(is_keeping: bool) -> Result<Workshop> {
        let status = Command::new("cargo")
            // The whole workspace: its other members decide which features the dependencies are built with.
            .args(["build", "--workspace"])
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
            uses: None,
            table: Table::default(),
            is_keeping,
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

    /// Writes a project, types what its README says, and uses what was installed.
    fn project(&mut self, language: &'static str, kind: &'static str) -> Result<()> {
        let name = format!("my-{kind}");
        let directory = self.new_project(language, kind, &name)?;
        let begun = table::processor_s()?;
        let lines = commands(&directory)?;
        for line in &lines {
            self.shell(language, &directory, line)?;
        }
        let built = table::processor_s()?;
        let file = directory.join(format!("{name}.wasm"));
        self.inspect(language, kind, &name, &file)?;
        if self.uses.is_none() {
            self.uses = Some(Uses::open(&self.program, &self.directory.join("uses"))?);
        }
        let uses = self.uses.as_ref().context("it was made above")?;
        let before = table::processor_s()?;
        let told = uses.project(&self.program, kind, &name)?;
        self.table.add(Row {
            kind,
            language,
            // `dlm plugin new` is the first, the command that the plugin is for the last.
            commands: lines.len() + 2,
            build_s: built - begun,
            use_s: table::processor_s()? - before,
            bytes: file.metadata().context("its file")?.len(),
            told,
        });
        let mut kept = KEPT.iter();
        if self.is_keeping && kept.any(|(of, kinds)| *of == language && kinds.contains(&kind)) {
            let kept = repository::root().join("tests/scaffolds").join(language);
            std::fs::create_dir_all(&kept).context("making tests/scaffolds")?;
            std::fs::copy(&file, kept.join(format!("{name}.wasm"))).context("keeping its file")?;
        }
        Ok(())
    }

    /// Reads what is known of a file without running it.
    fn inspect(&self, language: &str, kind: &str, name: &str, file: &Path) -> Result<()> {
        let arguments = [Path::new("plugin"), Path::new("inspect"), Path::new("--json"), file];
        let seen = self.program.json(&arguments, false)?;
        for (pointer, expected) in [
            ("/kinds/0", kind),
            ("/name", name),
            ("/api", "1.0.0"),
            ("/wasi", if language == "go" { "inert" } else { "none" }),
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
        let mut text = text.replacen(mistake.from, mistake.to, 1);
        if mistake.to.contains("current()") {
            text.insert_str(0, "import { current } from \"dlm:plugin/model@1.0.0\";\n");
        }
        if mistake.to.contains("model.") {
            let import = "import (\n\tmodel \"example.com/my-mistake/bindings/dlm_plugin_model\"";
            text = text.replacen("import (", import, 1);
        }
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        for line in commands(&directory)? {
            // The build tells of what shows before anything is built.
            let Err(error) = self.shell(language, &directory, &line) else {
                ensure!(!line.starts_with("dlm plugin test"), "it passed its tests");
                continue;
            };
            let said = format!("{error:#}");
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
        self.shell(language, &directory, "PATH=\"$PWD/.venv/bin:$PATH\" ./build.sh")?;
        let test = format!("dlm plugin test ./{name}.wasm --no-build");
        self.shell(language, &directory, &test)?;
        if from.join(format!("{name}.wasm")).is_file() {
            self.shell(language, &from, &test)?;
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
            .envs(self.tools.environment(language))
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

/// The commands of a project's README, as they are typed; what brings the tools was done once for all.
fn commands(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let typed = text.lines().filter_map(|line| line.strip_prefix("    "));
    Ok(typed
        .map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned())
        .filter(|line| line.starts_with("dlm "))
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
