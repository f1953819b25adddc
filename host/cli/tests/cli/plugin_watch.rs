//! `dlm plugin test --watch`: a round at the start and one for every change, until Ctrl-C.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::lab::{Guarded, Lab, interrupt};

/// Far more than a round takes; a round that never comes ends the test.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reads lines on a thread, so that waiting for one has an end.
fn lines(reader: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Waits for a line with `part`; the lines until then come with it.
fn until(lines: &Receiver<String>, part: &str) -> String {
    let mut seen = String::new();
    loop {
        let line = lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|_| panic!("no line says `{part}`:\n{seen}"));
        seen.push_str(&line);
        seen.push('\n');
        if line.contains(part) {
            return seen;
        }
    }
}

#[cfg(unix)]
#[test]
fn every_change_starts_a_round_and_ctrl_c_ends_it_with_130() {
    let lab = Lab::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/cloze");
    std::fs::create_dir_all(lab.path("p/cases")).unwrap();
    for name in ["passage", "nothing"] {
        let name = format!("cases/{name}.json");
        std::fs::copy(example.join(&name), lab.path("p").join(&name)).unwrap();
    }
    // What the example's build leaves, so that no compiler is needed here.
    let component = std::fs::read(example.join("cloze.wasm")).unwrap();
    lab.write("p/built.wasm", &component);
    let author = std::fs::read_to_string(example.join("plugin.toml")).unwrap();
    let author = author.replace("command = \"./build.sh\"", "wasm = \"built.wasm\"");
    lab.write("p/plugin.toml", &author);

    let mut command = lab.command();
    command
        .args(["plugin", "test", "./p/cloze.wasm", "--watch"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Guarded(command.spawn().unwrap());
    let told = lines(child.0.stderr.take().unwrap());
    let first = until(&told, "watching for changes; Ctrl-C ends it");
    assert!(!first.contains("changed"), "{first}");

    lab.write("p/plugin.toml", format!("{author}\n# touched\n"));
    until(&told, "plugin.toml changed; testing again");
    until(&told, "watching for changes");

    let case = lab.read("p/cases/passage.json");
    lab.write("p/cases/passage.json", format!("{case}\n"));
    until(&told, "passage.json changed; testing again");
    until(&told, "watching for changes");

    // Somebody else's build.
    lab.write("p/built.wasm", &component);
    until(&told, "built.wasm changed; testing again");
    until(&told, "watching for changes");

    interrupt(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
}
