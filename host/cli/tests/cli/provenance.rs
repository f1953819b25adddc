//! Whose plugin runs, and whose name its work carries, through the binary: the attacks of people who share a name, a file or a
//! directory with a plugin that is trusted.

use crate::lab::Lab;
use crate::plugin::{HTTP, pack};

/// A judge that scores by length and calls itself `test\u{1b}[31m-judge`.
const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/test-judge/plugin.wasm");

/// Asks for one address.
fn asking() -> String {
    format!("[[request]]\ncapability = \"{HTTP}\"\nreason = \"fetches shelves\"\noptional = true\n")
}

/// Puts what [`pack`] made into the project's directory of plugins under this name.
fn into_project(lab: &Lab, file: &std::path::Path, name: &str) {
    let directory = lab.path(".dlm/plugins");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(file, directory.join(name)).unwrap();
}

fn rows(lab: &Lab) -> Vec<(String, String, bool)> {
    let listed = lab.json(&["plugin", "list", "--json"]);
    let rows = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["name"] == "shelf");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    rows.map(|row| (text(&row["origin"]), text(&row["version"]), row["problem"].is_null()))
        .collect()
}

#[test]
fn a_copy_of_an_installed_plugin_has_nothing_of_its_grants() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", &asking());
    lab.run(&["plugin", "install", "src/shelf.wasm", "--grant", HTTP]).ok();
    into_project(&lab, &file, "shelf.wasm");
    lab.run(&["plugin", "remove", "shelf"]).ok();
    lab.run(&["plugin", "inspect", "shelf"])
        .exits(1)
        .says(&["was never trusted", "dlm plugin trust"]);
    let seen = lab.json(&["plugin", "inspect", ".dlm/plugins/shelf.wasm", "--json"]);
    assert_eq!(seen["granted"], serde_json::json!([]));
}

#[test]
fn a_repository_that_was_cloned_hides_no_installed_plugin() {
    let lab = Lab::new();
    pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", "src/shelf.wasm"]).ok();
    let foreign = pack(&lab, "9.0.0", "");
    into_project(&lab, &foreign, "shelf.wasm");
    for name in ["shelf", "shelf@^1"] {
        let seen = lab.json(&["plugin", "inspect", name, "--json"]);
        assert_eq!(
            (seen["version"].as_str(), seen["origin"].as_str()),
            (Some("1.0.0"), Some("installed"))
        );
    }
    let expected = [("project", "9.0.0", false), ("installed", "1.0.0", true)];
    assert_eq!(
        rows(&lab),
        expected.map(|(origin, version, runs)| (origin.to_owned(), version.to_owned(), runs))
    );
    // A command that uses it says that another one is there.
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    lab.run(&["export", "a.dlm", "--target", "shelf", "--no-smoke"])
        .ok()
        .says(&["shelf.wasm` was never trusted and is not used; `shelf` 1.0.0 is the installed one"]);
    lab.run(&["plugin", "trust", ".dlm/plugins/shelf.wasm"]).ok();
    let seen = lab.json(&["plugin", "inspect", "shelf", "--json"]);
    assert_eq!(seen["origin"], "project");
    let seen = lab.json(&["plugin", "inspect", "shelf@^1", "--json"]);
    assert_eq!(seen["origin"], "installed");
    lab.run(&["plugin", "remove", ".dlm/plugins/shelf.wasm"])
        .ok()
        .says(&["is no longer trusted; the file stays"]);
    assert_eq!(
        lab.json(&["plugin", "inspect", "shelf", "--json"])["origin"],
        "installed"
    );
    lab.run(&["plugin", "remove", "shelf"]).ok();
    assert_eq!(rows(&lab).len(), 1);
}

#[test]
fn a_plugin_cannot_sign_with_the_name_of_another() {
    let lab = Lab::new();
    for name in ["sway", "local", "openai"] {
        std::fs::copy(JUDGE, lab.path(&format!("{name}.wasm"))).unwrap();
        let typed = format!("./{name}.wasm");
        lab.document();
        lab.run(&["preference", "mine", "a.dlm", "--judge", &typed]).exits(1);
    }
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    std::fs::create_dir_all(lab.path("judge")).unwrap();
    std::fs::copy(JUDGE, lab.path("judge/in.wasm")).unwrap();
    lab.write(
        "judge/plugin.toml",
        "schema = 1\nname = \"longest\"\nversion = \"0.3.0\"\nkinds = [\"judge\"]\ndescription = \"d\"\n[build]\nwasm = \"in.wasm\"\n",
    );
    lab.run(&["plugin", "pack", "judge"]).ok();
    let sha256 = lab.json(&["plugin", "inspect", "judge/longest.wasm", "--json"])["sha256"].clone();
    let sha256 = sha256.as_str().unwrap();
    let mine = |judge: &str| {
        let flags = ["--samples", "4", "--threshold", "0", "--max-pairs", "1"];
        let command = ["preference", "mine", "a.dlm", "--judge", judge];
        lab.run(&[command.as_slice(), &flags].concat()).ok()
    };
    let name = format!("longest@0.3.0 (path, sha256 {sha256})");
    assert!(mine("./judge/longest.wasm").out.contains(&format!("judge={name}")));
    lab.run(&["plugin", "install", "judge/longest.wasm"]).ok();
    let name = format!("longest@0.3.0 (installed, sha256 {sha256})");
    assert!(mine("longest").out.contains(&format!("judge={name}")));
    let plan = std::fs::read_to_string(lab.store().join("preference/pending.json")).unwrap();
    assert!(plan.contains(&name), "{plan}");
    lab.run(&["preference", "apply", "a.dlm"]).ok();
    assert!(
        lab.read("a.dlm").contains(&format!("judge_name=\"{name}\"")),
        "{}",
        lab.read("a.dlm")
    );
}

#[test]
fn an_older_version_is_installed_on_a_word_alone() {
    let lab = Lab::new();
    pack(&lab, "1.10.0", "");
    lab.run(&["plugin", "install", "src/shelf.wasm"]).ok();
    pack(&lab, "1.9.0", "");
    lab.run(&["plugin", "install", "src/shelf.wasm"]).exits(1).says(&[
        "is here in version 1.10.0, and 1.9.0 is older",
        "--allow-downgrade",
        "version 1.10.0 stays",
    ]);
    lab.run(&["plugin", "install", "src/shelf.wasm", "--allow-downgrade"])
        .ok();
    pack(&lab, "1.8.0", "");
    lab.run(&["plugin", "trust", "src/shelf.wasm"]).ok();
    pack(&lab, "1.7.0", "");
    lab.run(&["plugin", "trust", "src/shelf.wasm"])
        .exits(1)
        .says(&["1.7.0 is older"]);
    lab.run(&["plugin", "trust", "src/shelf.wasm", "--allow-downgrade"])
        .ok();
}

#[test]
fn a_grant_to_a_file_is_one_wherever_the_file_is_named() {
    let lab = Lab::new();
    pack(&lab, "1.0.0", &asking());
    lab.run(&["plugin", "trust", "src/shelf.wasm", "--grant", HTTP]).ok();
    let seen = lab.json(&["plugin", "inspect", "src/shelf.wasm", "--json"]);
    assert_eq!(seen["granted"], serde_json::json!([HTTP]));
    // Other bytes in its place start with nothing, and the command that uses them says so.
    pack(&lab, "1.0.1", &asking());
    let seen = lab.json(&["plugin", "inspect", "src/shelf.wasm", "--json"]);
    assert_eq!(seen["granted"], serde_json::json!([]));
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    lab.run(&["export", "a.dlm", "--target", "./src/shelf.wasm", "--no-smoke"])
        .ok()
        .says(&["is not the file that was trusted there; it runs without the grants"]);
}
