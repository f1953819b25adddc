//! `dlm init`: what it writes, what it refuses, and that a refusal leaves nothing.

use std::io::Write;
use std::process::Stdio;

use crate::lab::{Lab, tiny_base};

fn id_of(lab: &Lab, name: &str) -> String {
    lab.json(&["check", name, "--json"])["frontmatter"]["dlm_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_document_and_its_store_are_made() {
    let lab = Lab::new();
    let ran = lab
        .run(&["init", "a.dlm", "--base", "smollm2-135m"])
        .ok()
        .says(&["init: wrote a.dlm\n", "dlm train a.dlm"]);
    assert_eq!(ran.out, "");
    let id = id_of(&lab, "a.dlm");
    let manifest: serde_json::Value =
        serde_json::from_str(&lab.read(&format!("home/store/{id}/manifest.json"))).unwrap();
    assert_eq!(manifest["base_model"], "smollm2-135m");
    assert_eq!(
        manifest["base_model_revision"],
        "12fd25f77366fa6b3b4b768ec3050bf629380bac"
    );
    assert_eq!(manifest["source_path"], lab.path("a.dlm").display().to_string());
    assert!(lab.path(&format!("home/store/{id}/adapter/versions")).is_dir());
    assert!(lab.path(&format!("home/store/{id}/logs")).is_dir());
    assert!(!lab.path(&format!("home/store/{id}/.lock")).exists());
}

#[test]
fn quiet_says_nothing_and_home_moves_the_store() {
    let lab = Lab::new();
    let ran = lab
        .run(&["init", "a.dlm", "--base", "smollm2-135m", "-q", "--home", "elsewhere"])
        .ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    assert!(lab.path("elsewhere/store").is_dir() && !lab.path("home").exists());
}

#[test]
fn an_existing_document_is_only_replaced_by_force_and_keeps_its_store() {
    let lab = Lab::new();
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m"]).ok();
    let (first, text) = (id_of(&lab, "a.dlm"), lab.read("a.dlm"));
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m"])
        .exits(1)
        .says(&["init: a.dlm exists already", "--force"]);
    assert_eq!(lab.read("a.dlm"), text);
    let kept = format!("its store is kept: [DIR]/home/store/{first}");
    lab.write("a.dlm.tmp.1.0000002a", "half of a killed one");
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m", "--force"])
        .ok()
        .says(&[&format!("id {first}"), &kept]);
    assert!(!lab.path("a.dlm.tmp.1.0000002a").exists());
    assert_ne!(id_of(&lab, "a.dlm"), first);
    assert!(lab.path(&format!("home/store/{first}/manifest.json")).exists());
}

#[test]
fn force_replaces_a_file_that_is_no_document() {
    let lab = Lab::new();
    lab.write("a.dlm", "no document");
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m", "--force"])
        .ok()
        .says(&["an id that could not be read"]);
}

#[test]
fn a_gated_base_needs_its_license_accepted() {
    let lab = Lab::new();
    let gated = ["init", "a.dlm", "--base", "llama-3.2-1b"];
    let ran = lab
        .run(&gated)
        .exits(1)
        .says(&["license: ", "--i-accept-license", "https://"]);
    assert!(ran.err.starts_with("license: "), "{}", ran.err);
    assert!(!lab.path("a.dlm").exists() && !lab.path("home").exists());
    lab.run(&[&gated[..], &["--i-accept-license"]].concat())
        .ok()
        .says(&["license accepted: Other"]);
    let id = id_of(&lab, "a.dlm");
    let manifest: serde_json::Value =
        serde_json::from_str(&lab.read(&format!("home/store/{id}/manifest.json"))).unwrap();
    assert_eq!(manifest["license_acceptance"]["via"], "cli_flag");
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let lab = Lab::new();
    let mut child = lab
        .command()
        .args(["init", "a.dlm", "--base", "llama-3.2-1b"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may have ended before it reads, which is what is tested.
    let _ = child.stdin.take().unwrap().write_all(b"yes\n");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    assert!(!lab.path("a.dlm").exists());
}

#[test]
fn an_unknown_base_suggests_the_nearest() {
    let lab = Lab::new();
    let ran = lab.run(&["init", "a.dlm", "--base", "smollm-135m"]).exits(1);
    assert!(ran.err.starts_with("init: unknown base `smollm-135m`"), "{}", ran.err);
    let _ = ran.says(&["did you mean `smollm2-135m`?", "dlm base list", "dlm base add"]);
    assert!(!lab.path("a.dlm").exists() && !lab.path("home").exists());
}

#[test]
fn a_hub_base_without_a_hub_says_how_to_go_on() {
    let lab = Lab::new();
    lab.run(&["init", "a.dlm", "--base", "hf:org/name"])
        .exits(1)
        .says(&["offline (HF_HUB_OFFLINE)", "dlm base add"]);
    lab.run(&["init", "a.dlm", "--base", "hf:no-slash"]).exits(1);
    assert!(!lab.path("a.dlm").exists());
}

#[test]
fn media_bases_and_flags_that_are_not_built_are_misuse() {
    let lab = Lab::new();
    lab.run(&["init", "a.dlm", "--base", "paligemma-3b-mix-224"])
        .exits(2)
        .says(&["init: ", "vision-language"]);
    for flags in [&["--multimodal"][..], &["--audio"]] {
        let ran = lab.run(&[&["init", "a.dlm"], flags].concat()).exits(2);
        assert!(
            ran.err.contains(flags[0]) && ran.err.contains("not built yet"),
            "{}",
            ran.err
        );
    }
    lab.run(&["init", "a.dlm", "--multimodal", "--audio"]).exits(2);
    lab.run(&["init", "a.dlm", "--multimodal", "--template", "x"]).exits(2);
    lab.run(&["init", "a.dlm", "--audio", "--template", "x"]).exits(2);
    assert!(!lab.path("a.dlm").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_refused_first() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("directory")).unwrap();
    lab.run(&["init", "directory", "--base", "smollm2-135m"])
        .exits(1)
        .says(&["directory is a directory"]);
    lab.run(&["init", "no/such/a.dlm", "--base", "smollm2-135m"])
        .exits(1)
        .says(&["does not exist", "mkdir -p"]);
    assert!(!lab.path("home").exists());
}

#[test]
fn skipping_the_export_probes_is_remembered() {
    let lab = Lab::new();
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m", "--skip-export-probes"])
        .ok();
    assert!(
        lab.read(&format!("home/store/{}/init.json", id_of(&lab, "a.dlm")))
            .contains("\"skip_export_probes\": true")
    );
    lab.run(&["init", "b.dlm", "--base", "smollm2-135m"]).ok();
    assert!(
        !lab.path(&format!("home/store/{}/init.json", id_of(&lab, "b.dlm")))
            .exists()
    );
    let mut with_variable = lab.command();
    with_variable
        .env("DLM_SKIP_EXPORT_PROBES", "1")
        .args(["init", "c.dlm", "--base", "smollm2-135m"]);
    lab.finish(&mut with_variable).ok();
    assert!(
        lab.path(&format!("home/store/{}/init.json", id_of(&lab, "c.dlm")))
            .exists()
    );
}

#[test]
fn a_local_base_can_be_named() {
    let lab = Lab::new();
    lab.run(&["base", "add", "tiny", "--from", tiny_base().to_str().unwrap()])
        .ok();
    lab.run(&["init", "a.dlm", "--base", "tiny"]).ok();
    let report = lab.json(&["show", "a.dlm", "--json"]);
    assert_eq!(report["base_model"], "tiny");
    assert_eq!(report["base_model_revision"].as_str().unwrap().len(), 40);
}
