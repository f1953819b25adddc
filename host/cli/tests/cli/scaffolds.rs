//! What `dlm plugin new` writes, untouched, used for real: components that were built from it in C, in Rust and, of two kinds, in Go
//! lie in `tests/scaffolds`, so that no compiler is needed here. `cargo xtask authors --keep` builds them anew, all languages with it.

use std::path::{Path, PathBuf};

use dlm_core::digest::{hex, sha256};

use crate::lab::Lab;

const KINDS: [&str; 5] = ["judge", "teacher", "target", "destination", "templates"];
/// Go's components are 2 MB each: one that calls nothing, and one that calls the host.
const KEPT: [(&str, &[&str]); 3] = [("c", &KINDS), ("rust", &KINDS), ("go", &["judge", "target"])];
/// Three prompts and enough prose for pairs.
const BODY: &str = "# Harbour\n\nThe bell of the harbour was cast in 1904. It rings at noon. Its sound is heard in Mirrow.\n\n\
    ::instruction::\n### Q\nWho rings the bell?\n\n### A\nThe keeper rings it.\n\n### Q\nWhen does it ring?\n\n### A\nAt noon.\n";

fn kept(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/scaffolds")
        .join(language)
}

/// Writes the project of a kind with the component that was built from it.
fn project(lab: &Lab, language: &str, kind: &str) -> String {
    let name = format!("my-{kind}");
    let directory = format!("{language}-{kind}");
    lab.run(&["plugin", "new", kind, &name, "--lang", language, "--dir", &directory])
        .ok();
    let file = format!("{directory}/{name}.wasm");
    std::fs::copy(kept(language).join(format!("{name}.wasm")), lab.path(&file)).unwrap();
    format!("./{file}")
}

/// A document that was trained on the tiny model.
fn trained() -> Lab {
    let lab = Lab::new();
    lab.trainable();
    let head = lab.read("a.dlm").split("\n\n").next().unwrap().to_owned();
    lab.write("a.dlm", format!("{head}\n\n{BODY}"));
    lab.run(&["train", "a.dlm", "--max-steps", "2"]).ok();
    lab
}

#[test]
fn every_scaffold_passes_its_own_tests() {
    let lab = Lab::new();
    for (language, kinds) in KEPT {
        for kind in kinds {
            let file = project(&lab, language, kind);
            let report = lab.json(&["plugin", "test", &file, "--no-build", "--json"]);
            assert_eq!(report["passed"], true, "{language} {kind}: {report:#}");
            let names = report["standing"].to_string();
            let used = match *kind {
                "teacher" => "teacher: pairs for `dlm synth`",
                "templates" => "templates: `first` starts a document",
                _ => "opens twice",
            };
            assert!(names.contains(used), "{names}");
        }
    }
}

#[test]
fn every_scaffold_does_its_work() {
    for (language, kinds) in KEPT {
        let lab = trained();
        for kind in kinds {
            let file = project(&lab, language, kind);
            lab.run(&["plugin", "install", &file]).ok();
        }
        for kind in kinds {
            match *kind {
                "judge" => mines(&lab, language),
                "teacher" => writes_pairs(&lab, language),
                "target" => exports(&lab, language),
                "templates" => starts_documents(&lab),
                _ => waits_for_push(&lab),
            }
        }
    }
}

fn mines(lab: &Lab, language: &str) {
    let mine = [
        "preference",
        "mine",
        "a.dlm",
        "--judge",
        "my-judge",
        "--temp",
        "1.5",
        "--json",
    ];
    let mined = lab.json(&mine);
    assert!(
        !mined["additions"].as_array().unwrap().is_empty(),
        "{language}: {mined:#}"
    );
}

fn writes_pairs(lab: &Lab, language: &str) {
    let synth = [
        "synth",
        "instructions",
        "a.dlm",
        "--teacher",
        "my-teacher",
        "--filter",
        "none",
        "--json",
    ];
    let written = lab.json(&synth);
    let pairs = written["additions"].as_array().unwrap();
    assert_eq!(pairs.len(), 3, "{language}: {written:#}");
    assert_eq!(pairs[0]["answer"], "The bell of the harbour was cast in 1904.");
}

fn exports(lab: &Lab, language: &str) {
    let report = lab.json(&["export", "a.dlm", "--target", "my-target", "--quant", "F16", "--json"]);
    let here = lab.path("").display().to_string();
    let directory = report["directory"].as_str().unwrap();
    let directory = directory.replace("[DIR]", here.trim_end_matches('/'));
    let note = std::fs::read_to_string(Path::new(&directory).join("NOTE.txt")).unwrap();
    assert!(note.ends_with(" at F16\n"), "{language}: {note}");
}

fn starts_documents(lab: &Lab) {
    for name in ["first.dlm", "second.dlm"] {
        lab.run(&["init", name, "--template", "my-templates:first", "--i-accept-license"])
            .ok()
            .says(&["template `first` of `my-templates`"]);
        lab.run(&["check", name]).ok();
    }
    let id = |name: &str| lab.read(name).lines().nth(1).unwrap().to_owned();
    assert!(id("first.dlm").starts_with("dlm_id: ") && id("first.dlm") != id("second.dlm"));
}

/// Destinations have no command yet, and it says so.
fn waits_for_push(lab: &Lab) {
    lab.run(&["push", "a.dlm", "--to", "my-destination:there"])
        .exits(2)
        .says(&["not built yet"]);
}

/// The sources of a project in one digest; the contract and what is made of it are held elsewhere.
fn digest(lab: &Lab, directory: &str) -> String {
    let is_source = |name: &str| {
        let is_made = ["wit/", "bindings/", "README.md"]
            .iter()
            .any(|start| name.starts_with(start));
        // What Go's bindings share is ours.
        !is_made || name.starts_with("bindings/pkg/")
    };
    let mut all = Vec::new();
    for (name, bytes) in lab.files(directory).iter().filter(|(name, _)| is_source(name)) {
        if !name.ends_with(".wasm") {
            all.extend_from_slice(name.as_bytes());
            all.push(0);
            all.extend_from_slice(bytes);
            all.push(0);
        }
    }
    hex(&sha256(all))
}

#[test]
fn the_components_are_built_from_what_is_written_today() {
    let lab = Lab::new();
    let mut found = String::new();
    for (language, kinds) in KEPT {
        for kind in kinds {
            project(&lab, language, kind);
            let directory = format!("{language}-{kind}");
            found.push_str(&format!("{}  {language}/my-{kind}.wasm\n", digest(&lab, &directory)));
        }
    }
    let path = kept("").join("sources.sha256");
    if std::env::var_os("DLM_UPDATE_SCAFFOLDS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        found, known,
        "a scaffold changed: `cargo xtask authors c rust go --keep` builds it anew and writes tests/scaffolds"
    );
}

/// Go collects its garbage while texts are handed over, where nothing outside of the component may be called.
#[test]
fn a_component_of_go_takes_much_text_many_times() {
    let lab = Lab::new();
    let file = project(&lab, "go", "judge");
    let case = serde_json::json!({
        "kind": "judge",
        "call": { "score": [{ "prompt": "a ".repeat(60_000), "candidates": ["b ".repeat(20_000)] }] },
        "expect": { "verdicts": [{ "scores": [-20_000.0] }] },
    });
    lab.write("much.json", case.to_string());
    let line = [
        "plugin",
        "test",
        &file,
        "--no-build",
        "--bench",
        "--case",
        "much.json",
        "--json",
    ];
    let report = lab.json(&line);
    assert_eq!(report["passed"], true, "{report:#}");
    assert_eq!(report["bench"][0]["calls"], 101, "{report:#}");
}

#[test]
fn the_case_of_a_teacher_asks_what_synth_asks() {
    let lab = Lab::new();
    let file = project(&lab, "c", "teacher");
    let report = lab.json(&["plugin", "test", &file, "--no-build", "--json"]);
    let checks = report["standing"].as_array().unwrap();
    let shown = checks.iter().find_map(|check| check["shown"].as_str()).unwrap();
    let case: serde_json::Value = serde_json::from_str(&lab.read("c-teacher/cases/writes-pairs.json")).unwrap();
    for key in ["system", "user"] {
        let asked = case["call"]["complete"][key].as_str().unwrap();
        assert!(
            shown.contains(asked),
            "{key} of the case is not what is asked:\n{shown}"
        );
    }
}
