//! What a plugin needs and was not granted is settled before a model is loaded, and flags are for the plugin that is used.

use std::path::PathBuf;

use crate::lab::Lab;
use crate::terminal::Terminal;

const MODEL: &str = "[[request]]\ncapability = \"model:current\"\nreason = \"asks how likely an answer is\"\n";

/// Packs a component of this repository under another name, with these requests.
fn packed(lab: &Lab, component: &str, kind: &str, name: &str, requests: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let directory = lab.path(&format!("src-{name}"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(format!("{root}/{component}/plugin.wasm"), directory.join("in.wasm")).unwrap();
    let manifest = format!(
        "schema = 1\nname = \"{name}\"\nversion = \"1.0.0\"\nkinds = [\"{kind}\"]\ndescription = \"A test's\"\n\
         {requests}\n[build]\nwasm = \"in.wasm\"\n"
    );
    std::fs::write(directory.join("plugin.toml"), manifest).unwrap();
    lab.run(&[
        "plugin",
        "pack",
        directory.to_str().unwrap(),
        "--out",
        &format!("{name}.wasm"),
    ])
    .ok();
    lab.path(&format!("{name}.wasm"))
}

/// A document that was trained on a base whose weights cannot be read any more: loading it ends a command.
fn untouchable() -> Lab {
    let lab = Lab::new();
    lab.trainable();
    lab.run(&["train", "a.dlm", "--max-steps", "1"]).ok();
    packed(&lab, "tests/guests/test-judge", "judge", "rubric", MODEL);
    lab
}

/// Makes weights that cannot be loaded of those that every copy of the base has.
fn break_weights(lab: &Lab) {
    let weights = lab.files("").into_iter().map(|(name, _)| name);
    for name in weights.filter(|name| name.ends_with("model.safetensors")) {
        lab.write(&name, "no weights");
    }
}

const MINE: [&str; 5] = ["preference", "mine", "a.dlm", "--judge", "./rubric.wasm"];

#[test]
fn a_judge_without_what_it_needs_is_refused_before_the_model_is_loaded() {
    let lab = untouchable();
    let granted = [&MINE[..], &["--grant", "rubric=model:current"]].concat();
    assert!(lab.copy().run(&granted).out.contains("mine plan"));
    break_weights(&lab);
    let refused = lab.run(&MINE).exits(1);
    refused.says(&[
        "judge `rubric` 1.0.0 needs `model:current`, which was not granted",
        "nothing is granted",
        "allow it once: --grant 'rubric=model:current'",
        "allow it always: dlm plugin install ./rubric.wasm --grant 'model:current'",
        "run it without: --deny 'rubric=model:current'",
    ]);
    let loaded = lab.run(&granted).exits(1);
    assert!(!loaded.err.contains("rubric"), "{}", loaded.err);
}

#[test]
fn what_the_command_line_takes_away_is_no_question() {
    let lab = untouchable();
    for flags in [&["--deny", "rubric=model:current"][..], &["--sandbox"]] {
        // It counts characters and asks no model.
        let ran = lab.copy().run(&[&MINE, flags].concat());
        assert!(ran.out.contains("mine plan"), "{}", ran.err);
    }
}

#[test]
fn a_flag_for_another_plugin_is_an_error_that_names_the_one_in_use() {
    let lab = untouchable();
    let granted = [&MINE[..], &["--grant", "rubric=model:current"]].concat();
    for flags in [
        ["--grant", "rubrik=model:current"],
        ["--deny", "sway=model:current"],
        ["--plugin-opt", "rubrik.x=1"],
    ] {
        let what = format!("`{} {}` is for `", flags[0], flags[1]);
        lab.run(&[&granted, &flags[..]].concat()).exits(2).says(&[
            &what,
            "which this command does not use",
            "it uses the judge `rubric`",
        ]);
    }
    lab.run(&["init", "b.dlm", "--grant", "bundled=clock"])
        .exits(2)
        .says(&["`--grant` changes nothing here", "`dlm init` uses no plugin"]);
    assert!(!lab.path("b.dlm").exists());
    // Addresses from the environment are no flags of this command.
    let mut elsewhere = lab.command();
    elsewhere.env("OPENAI_BASE_URL", "https://proxy.example/v1");
    lab.finish(elsewhere.args(["templates", "list"])).ok();
}

#[test]
fn teachers_targets_and_template_sources_are_held_to_it_too() {
    let lab = Lab::new();
    lab.trainable();
    break_weights(&lab);
    packed(&lab, "plugins/self", "teacher", "mentor", MODEL);
    lab.run(&["synth", "instructions", "a.dlm", "--teacher", "./mentor.wasm"])
        .exits(1)
        .says(&[
            "teacher `mentor` 1.0.0 needs `model:current`",
            "--grant 'mentor=model:current'",
        ]);

    let clock = "[[request]]\ncapability = \"clock\"\n[[request]]\ncapability = \"random\"\noptional = true\n";
    packed(&lab, "tests/guests/test-target", "target", "shelf", clock);
    let refused = lab.run(&["export", "a.dlm", "--target", "./shelf.wasm"]).exits(1);
    assert!(!refused.err.contains("random"), "{}", refused.err);
    refused.says(&["target `shelf` 1.0.0 needs `clock`", "--grant 'shelf=clock'"]);

    let gallery = packed(&lab, "plugins/bundled", "templates", "gallery", clock);
    lab.run(&["plugin", "install", gallery.to_str().unwrap(), "--grant", "clock"])
        .ok();
    lab.run(&["templates", "list", "--source", "gallery"]).ok();
    lab.run(&["plugin", "trust", "gallery", "--revoke", "clock"]).ok();
    lab.run(&["templates", "list", "--source", "gallery"]).exits(1).says(&[
        "needs `clock`",
        "allow it always: dlm plugin trust gallery --grant 'clock'",
    ]);
}

#[test]
fn a_terminal_is_asked_once_and_a_yes_is_for_this_run() {
    let lab = untouchable();
    let question = "Grant model:current for this run? [y/N] ";
    let copy = lab.copy();
    let mut terminal = Terminal::start(&copy, &MINE);
    terminal.until(question).types("y\n");
    let (_, screen) = terminal.end();
    assert!(
        screen.contains("judge `rubric` 1.0.0 needs model:current (asks how likely an answer is)"),
        "{screen}"
    );
    assert!(screen.contains("mine plan"), "{screen}");
    assert_eq!(screen.matches(question).count(), 1, "{screen}");
    let mut terminal = Terminal::start(&lab, &MINE);
    terminal.until(question).types("n\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("which was not granted"), "{screen}");
    assert!(!lab.path("home/plugins/plugins.lock").exists(), "nothing is kept");
}
