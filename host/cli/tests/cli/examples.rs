//! The plugins of `examples/plugins` as they lie there: their cases through `dlm plugin test`, and each once through the command
//! that it is for.

use std::path::PathBuf;
use std::process::Command;

use crate::lab::Lab;

fn directory(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins")).join(name)
}

fn file(name: &str) -> String {
    directory(name).join(format!("{name}.wasm")).display().to_string()
}

/// Runs the cases of an example, and the checks that every plugin must pass.
fn passes(lab: &Lab, name: &str) {
    let report = lab.json(&["plugin", "test", &file(name), "--no-build", "--json"]);
    assert_eq!(report["passed"], true, "{report:#}");
    let cases = std::fs::read_dir(directory(name).join("cases")).unwrap().count();
    assert_eq!(report["cases"].as_array().unwrap().len(), cases);
    assert!(report["standing"].as_array().unwrap().len() > cases);
}

#[test]
fn the_target_in_rust_writes_a_compose_file() {
    let lab = Lab::new();
    passes(&lab, "compose");
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    let target = file("compose");
    let option = ["--plugin-opt", "compose.port=9000"];
    let export = ["export", "a.dlm", "--target", &target, "--quant", "F16", "--json"];
    let report = lab.json(&[export.as_slice(), &option].concat());
    let here = lab.path("").display().to_string();
    let directory = report["directory"]
        .as_str()
        .unwrap()
        .replace("[DIR]", here.trim_end_matches('/'));
    let written = PathBuf::from(directory).join("compose.yaml");
    let text = std::fs::read_to_string(written).unwrap();
    assert!(text.contains("- \"127.0.0.1:9000:8080\""), "{text}");
    assert!(text.contains(".F16.gguf\""), "{text}");
}

#[test]
fn the_template_source_in_javascript_starts_a_document() {
    let lab = Lab::new();
    passes(&lab, "starters");
    let installed = lab.run(&["plugin", "install", &file("starters")]).ok();
    // The interpreter imports all that its kind may: that says nothing about the author's code.
    assert!(!installed.err.contains("every use will be denied"), "{}", installed.err);
    let rows = lab
        .json(&["templates", "list", "--source", "starters", "--json"])
        .to_string();
    assert!(rows.contains("glossary") && rows.contains("faq"), "{rows}");
    lab.run(&[
        "init",
        "words.dlm",
        "--template",
        "starters:glossary",
        "--i-accept-license",
    ])
    .ok()
    .says(&["template `glossary` of `starters`"]);
    lab.run(&["check", "words.dlm"]).ok();
    assert!(lab.read("words.dlm").contains("### Q\nWhat is kerning?\n"));
}

#[test]
fn the_teacher_in_c_makes_pairs_of_a_passage() {
    let lab = Lab::new();
    passes(&lab, "cloze");
    let text = std::fs::read_to_string(lab.document()).unwrap();
    lab.write(
        "a.dlm",
        text.replace("Some prose.", "The hull is painted yellow. It was built in 1921."),
    );
    let teacher = file("cloze");
    lab.run(&[
        "synth",
        "instructions",
        "a.dlm",
        "--teacher",
        &teacher,
        "--filter",
        "none",
    ])
    .ok();
    lab.run(&["synth", "apply", "a.dlm"]).ok();
    let applied = lab.read("a.dlm");
    assert!(
        applied.contains("### Q\nWhat is the hull?\n### A\nThe hull is painted yellow."),
        "{applied}"
    );
    assert!(
        applied.contains("synth_teacher=\"cloze@1.0.0 (path, sha256 "),
        "{applied}"
    );
}

/// It is not in the repository: 18 MB. Where its `build.sh` ran, it is tested like the others.
#[test]
fn the_judge_in_python_mines_preferences() {
    let lab = Lab::new();
    if !directory("rubric").join("rubric.wasm").is_file() {
        eprintln!("skipped: examples/plugins/rubric/build.sh makes rubric.wasm");
        return;
    }
    passes(&lab, "rubric");
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    let judge = file("rubric");
    let mine = [
        "preference",
        "mine",
        "a.dlm",
        "--judge",
        &judge,
        "--samples",
        "4",
        "--max-pairs",
        "1",
    ];
    let ran = lab.run(&[mine.as_slice(), &["--threshold", "0"]].concat()).ok();
    assert!(ran.out.contains("judge=rubric@"), "{}", ran.out);
}

/// The cases of the Python judge without a WebAssembly tool: its plain Python, with stand-ins for the contract's modules.
#[test]
fn the_rules_of_the_judge_in_python_fit_its_cases() {
    let asked = Command::new("python3")
        .arg(directory("rubric").join("test_app.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    let Ok(output) = asked else {
        eprintln!("skipped: no python3");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("3 cases pass"), "{said}");
}
