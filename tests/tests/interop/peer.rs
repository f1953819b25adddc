//! A program of the other side: a job as JSON goes in, an answer as JSON comes out.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What `cargo xtask interop` hands over.
pub fn variable(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("`cargo xtask interop` sets {name}"))
}

/// A script of `xtask/peers`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/peers").join(name)
}

/// Runs a peer on a job. The job goes in by a thread of its own, so that neither side waits for the other.
pub fn ask(command: &mut Command, job: &Value) -> Value {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut into, text) = (child.stdin.take().unwrap(), job.to_string());
    let writing = std::thread::spawn(move || into.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    writing.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = text.lines().last().unwrap_or_else(|| panic!("no answer: {told}"));
    serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}\n{told}"))
}
