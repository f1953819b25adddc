//! A directory with a home of its own, and the program run inside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Id of [`Lab::document`].
pub const ID: &str = "01HF7YAT0004106R0430MG2000";

/// A temporary directory; `home` and `user` in it stand for the store and the user's home.
pub struct Lab {
    directory: TempDir,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Another lab with everything that is in this one.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        for (name, _) in self.files("") {
            let path = copy.path(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(self.path(&name), path).unwrap();
        }
        copy
    }

    /// Writes a program for the shell.
    pub fn script(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write(name, format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a small document with a known id.
    pub fn document(&self) -> PathBuf {
        let text = format!(
            "---\ndlm_id: {ID}\ndlm_version: 15\nbase_model: smollm2-135m\n---\n\nSome prose.\n\n::instruction::\n### Q\nWhat?\n\n### A\nThat.\n"
        );
        self.write("a.dlm", text)
    }

    /// Copies the tiny model into `model`.
    pub fn tiny_model(&self) {
        std::fs::create_dir(self.path("model")).unwrap();
        for name in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            std::fs::copy(tiny_base().join(name), self.path("model").join(name)).unwrap();
        }
    }

    /// Adds the tiny model as a base and writes `a.dlm`, which is trained on it in about a second.
    pub fn trainable(&self) -> PathBuf {
        self.tiny_model();
        self.trainable_from("model")
    }

    /// The same with a model that is there already.
    pub fn trainable_from(&self, model: &str) -> PathBuf {
        self.run(&["base", "add", "tiny", "--from", model]).ok();
        let text = std::fs::read_to_string(self.document()).unwrap();
        self.write("a.dlm", text.replace("smollm2-135m", "tiny"))
    }

    /// Writes the block `training` of `a.dlm` as one line, in the place of one that an earlier call wrote.
    pub fn set_training(&self, setting: &str) {
        let text = self.read("a.dlm");
        let without = text.lines().filter(|line| !line.starts_with("training: {"));
        let text = without.map(|line| format!("{line}\n")).collect::<String>();
        let head = format!("dlm_version: 15\ntraining: {{{setting}}}\n");
        self.write("a.dlm", text.replace("dlm_version: 15\n", &head));
    }

    /// The store of [`Lab::document`].
    pub fn store(&self) -> PathBuf {
        self.path("home/store").join(ID)
    }

    /// The program with an environment of its own: nothing of the machine's settings reaches it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dlm"));
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("HOME", self.path("user"))
            .env("DLM_HOME", self.path("home"))
            .env("HF_HUB_OFFLINE", "1")
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.finish(self.command().args(arguments))
    }

    /// Runs a command and puts `[DIR]` in the place of the directory.
    pub fn finish(&self, command: &mut Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let directory = self.directory.path().display().to_string();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&directory, "[DIR]");
        Ran {
            code: status.code().expect("the program ends by itself"),
            out: text(stdout),
            err: text(stderr),
        }
    }

    /// Runs the program and reads its output as JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ran = self.run(arguments).ok();
        assert!(ran.out.ends_with("}\n") || ran.out.ends_with("]\n"), "{}", ran.out);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// Every file below a directory, with its content.
    pub fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let root = self.path(name);
        let mut found = Vec::new();
        collect(&root, &root, &mut found);
        found.sort();
        found
    }
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

/// A child that does not outlive the test that started it, also when that test fails.
pub struct Guarded(pub std::process::Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // A child that has ended already is what the test wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends what Ctrl-C sends.
pub fn interrupt(child: &std::process::Child) {
    let id = i32::try_from(child.id()).unwrap();
    // SAFETY: the child is ours and was not waited for, so that its id is still its own.
    let sent = unsafe { libc::kill(id, libc::SIGINT) };
    assert_eq!(sent, 0);
}

impl Ran {
    /// Panics with both streams unless the exit code is `code`.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Panics unless stderr holds every part.
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is missing in:\n{}", self.err);
        }
        self
    }
}

/// A tiny model with weights, tokenizer and chat template.
pub fn tiny_base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/arch/llama")
}
