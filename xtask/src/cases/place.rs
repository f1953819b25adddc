//! Where cases run: a copy of their directory with the program in the path.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{Case, DIRECTORY};
use crate::{program, repository};

/// The tiny model that prepared documents are trained on, and that cases may copy.
const WEIGHTS: &str = "lib/tiny";
/// What `prepare = "document"` trains.
const DOCUMENT: &str = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6D0\nbase_model: tiny\n---\n\n::instruction::\n### Q\nWho keeps the lamp?\n### A\nMarta keeps the lamp.\n";
/// The id of that document, which stands for `<ID>` in scripts.
const DOCUMENT_ID: &str = "01HZ4X7TGZM3J1A2B3C4D5E6D0";

/// A copy of a directory of cases.
pub(super) struct Place {
    cases: PathBuf,
    scratch: PathBuf,
    /// A directory that holds the program as `dlm` and nothing else.
    programs: PathBuf,
}

/// One case that is ready to run.
pub(super) struct Prepared {
    directory: PathBuf,
    /// Its temporary directory: homes that a script makes lie in it.
    pub scratch: PathBuf,
    home: PathBuf,
    programs: PathBuf,
}

impl Place {
    /// Copies the cases; what an earlier run left is removed.
    pub(super) fn make(directory: &Path, binary: &Path) -> Result<Place> {
        let root = program::target_directory().join("cases");
        if root.exists() {
            std::fs::remove_dir_all(&root).with_context(|| format!("clearing {}", root.display()))?;
        }
        let place = Place {
            cases: root.join("run"),
            scratch: root.join("scratch"),
            programs: root.join("bin"),
        };
        for directory in [&place.cases, &place.scratch, &place.programs] {
            make_directory(directory)?;
        }
        let link = place.programs.join("dlm");
        std::os::unix::fs::symlink(binary, &link).with_context(|| format!("linking {}", link.display()))?;
        for path in repository::files_below(directory)? {
            let inside = path.strip_prefix(directory).expect("the file lies in the directory");
            copy(&path, &place.cases.join(inside))?;
        }
        Ok(place)
    }

    /// Makes a case's home and the files that it needs.
    pub(super) fn prepare(&self, case: &Case) -> Result<Prepared> {
        let scratch = self.scratch.join(case.name.replace('/', "-"));
        let prepared = Prepared {
            directory: self.cases.join(&case.name),
            home: scratch.join("home"),
            scratch,
            programs: self.programs.clone(),
        };
        make_directory(&prepared.home)?;
        for name in &case.expectation.directories {
            make_directory(&prepared.directory.join(name))?;
        }
        for (to, from) in &case.expectation.copies {
            let from = repository::root().join(DIRECTORY).join(from);
            copy(&from, &prepared.directory.join(to))?;
        }
        let cmd = prepared.directory.join("cmd");
        let mut text = std::fs::read_to_string(&cmd).with_context(|| format!("reading {}", cmd.display()))?;
        for (from, to) in &case.expectation.replace {
            ensure!(text.contains(from.as_str()), "the script does not hold `{from}`");
            text = text.replace(from.as_str(), to);
        }
        if !case.expectation.replace.is_empty() {
            std::fs::write(&cmd, &text).with_context(|| format!("writing {}", cmd.display()))?;
        }
        if text.contains("./dlm") {
            let link = prepared.directory.join("dlm");
            std::os::unix::fs::symlink(self.programs.join("dlm"), &link)
                .with_context(|| format!("linking {}", link.display()))?;
        }
        match case.expectation.prepare.as_deref() {
            None => {}
            Some("document") => prepared.train_document(&cmd, &text)?,
            Some(other) => bail!("`prepare` is `{other}`, expected `document`"),
        }
        Ok(prepared)
    }
}

impl Prepared {
    /// Makes the command that runs the case's script in its own home, without what this process was told about homes, hubs and proxies.
    pub(super) fn command(&self) -> impl Fn() -> Command {
        || self.bash(&["cmd"])
    }

    fn bash(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        let foreign = |name: &str| {
            let prefixes = ["DLM", "HF_", "OPENAI_", "ANTHROPIC_", "OLLAMA_"];
            prefixes.iter().any(|prefix| name.starts_with(prefix)) || name.to_lowercase().ends_with("_proxy")
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(foreign) {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("DLM", self.programs.join("dlm"))
            .env("DLM_HOME", &self.home)
            .env("HOME", &self.scratch)
            .env("TMPDIR", &self.scratch)
            .env("PATH", format!("{}:{path}", self.programs.display()));
        command
    }

    /// Trains `D.dlm` and writes its id where the script says `<ID>`.
    fn train_document(&self, cmd: &Path, text: &str) -> Result<()> {
        std::fs::write(self.directory.join("D.dlm"), DOCUMENT).context("writing D.dlm")?;
        let ready = text.replace("<ID>", DOCUMENT_ID);
        std::fs::write(cmd, ready).with_context(|| format!("writing {}", cmd.display()))?;
        let base = repository::root().join(DIRECTORY).join(WEIGHTS);
        let script = "\"$DLM\" base add tiny --from \"$0\" && \"$DLM\" train D.dlm --max-steps 2";
        let output = self
            .bash(&["-c", script, &base.display().to_string()])
            .output()
            .context("starting bash")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the document could not be trained: {told}");
        Ok(())
    }

    /// Writes what a case printed into a file.
    pub(super) fn keep(&self, output: &[u8]) -> Result<PathBuf> {
        let path = self.scratch.join("output.txt");
        std::fs::write(&path, output).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))
}

/// Copies a file that may be written to afterwards, whatever its source allows.
fn copy(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    make_directory(to.parent().expect("a file lies in a directory"))?;
    std::fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))?;
    let mode = std::fs::metadata(from)
        .with_context(|| format!("reading {}", from.display()))?
        .permissions()
        .mode();
    let permissions = std::fs::Permissions::from_mode(mode | 0o600);
    std::fs::set_permissions(to, permissions).with_context(|| format!("writing {}", to.display()))
}
