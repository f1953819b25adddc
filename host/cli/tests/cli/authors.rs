//! `dlm plugin new` through the binary: what a project of each language must be, as far as this machine has the tools to say so.
//! `cargo xtask authors` fetches the tools and builds every project to the end.

use std::path::Path;
use std::process::Command;

use crate::lab::Lab;

const KINDS: [&str; 5] = ["judge", "teacher", "target", "destination", "templates"];

/// Starts `my-plugin` of a kind in `p-<kind>`.
fn start(lab: &Lab, kind: &str, language: &str) -> String {
    let directory = format!("p-{kind}");
    lab.run(&[
        "plugin",
        "new",
        kind,
        "my-plugin",
        "--lang",
        language,
        "--dir",
        &directory,
    ])
    .ok();
    directory
}

/// Runs a tool in a directory; `None` where this machine has not got it.
fn tool(directory: &Path, line: &[&str]) -> Option<()> {
    let (program, arguments) = line.split_first().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .ok()?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        output.status.success(),
        "{line:?} in {}: {}",
        directory.display(),
        said.concat()
    );
    Some(())
}

#[test]
fn projects_in_c_build_and_pass_their_tests() {
    let is_here = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let linkers = ["wasm-ld", "wasm-ld-19", "wasm-ld-16"];
    if !is_here("make")
        || !["clang", "clang-19", "clang-16"].into_iter().any(is_here)
        || !linkers.into_iter().any(is_here)
    {
        eprintln!("skipped: no make, clang and wasm-ld; apt-get install clang-19 lld-19 make");
        return;
    }
    let lab = Lab::new();
    for kind in KINDS {
        let directory = start(&lab, kind, "c");
        tool(&lab.path(&directory), &["make", "--silent"]).unwrap();
        lab.run(&["plugin", "pack", &directory]).ok();
        let file = format!("{directory}/my-plugin.wasm");
        let report = lab.json(&["plugin", "test", &format!("./{file}"), "--json"]);
        assert_eq!(report["passed"], true, "{report:#}");
        assert_eq!(report["cases"].as_array().unwrap().len(), 2);
        let seen = lab.json(&["plugin", "inspect", &format!("./{file}"), "--json"]);
        assert_eq!((&seen["kinds"][0], &seen["wasi"]), (&kind.into(), &"none".into()));
    }
    // What was built and not packed is not what is tested.
    lab.write("p-judge/build/plugin.wasm", "newer");
    lab.run(&["plugin", "test", "./p-judge/my-plugin.wasm"])
        .ok()
        .says(&["plugin.wasm is newer than what is tested; pack it: dlm plugin pack"]);
}

#[test]
fn a_plugin_that_breaks_down_says_where_and_says_it_once() {
    if tool(Path::new("/"), &["make", "--version"]).is_none() || Command::new("clang-19").output().is_err() {
        eprintln!("skipped: no make and clang-19");
        return;
    }
    let lab = Lab::new();
    let directory = start(&lab, "judge", "c");
    let text = lab.read("p-judge/plugin.c");
    lab.write(
        "p-judge/plugin.c",
        text.replace("  verdicts->len = items->len;", "  abort();"),
    );
    tool(&lab.path(&directory), &["make", "--silent"]).unwrap();
    lab.run(&["plugin", "pack", &directory]).ok();
    let ran = lab.run(&["plugin", "test", "./p-judge/my-plugin.wasm"]).exits(1);
    let place =
        "crashed in `score`: it gave up (wasm `unreachable`), at `abort`, from `exports_dlm_plugin_judge_score`";
    assert_eq!(ran.out.matches(place).count(), 1, "{}", ran.out);
    assert!(ran.out.contains("         as in `fewer-words-win`\n"), "{}", ran.out);
    assert!(!ran.out.contains("is missing"), "{}", ran.out);
}

#[test]
fn projects_in_python_and_javascript_can_be_read() {
    let lab = Lab::new();
    let parse = "import ast, sys; ast.parse(open('app.py').read())";
    for kind in KINDS {
        let directory = lab.path(&start(&lab, kind, "python"));
        if tool(&directory, &["python3", "-c", parse]).is_none() {
            eprintln!("skipped: no python3");
        }
        std::fs::remove_dir_all(&directory).unwrap();
        let directory = lab.path(&start(&lab, kind, "js"));
        if tool(&directory, &["node", "--check", "app.js"]).is_none() {
            eprintln!("skipped: no node");
        }
    }
}
