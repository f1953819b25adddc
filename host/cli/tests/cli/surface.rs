//! What holds for every command: global options, misuse, what is not built, completion, streams.

use crate::lab::Lab;

/// Every command that is not built yet.
const UNBUILT: [&str; 8] = ["repl", "harvest", "pack", "unpack", "verify", "push", "pull", "serve"];

#[test]
fn the_version_comes_before_everything() {
    let lab = Lab::new();
    for line in [&["--version"][..], &["show", "--version"], &["--nonsense", "--version"]] {
        assert_eq!(lab.run(line).ok().out, format!("dlm {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn bare_groups_print_their_help_and_exit_2() {
    let lab = Lab::new();
    for line in [
        &[][..],
        &["metrics"],
        &["base"],
        &["cache"],
        &["plugin"],
        &["preference"],
        &["synth"],
        &["templates"],
    ] {
        let ran = lab.run(line).exits(2);
        assert!(
            ran.err.contains("Usage: dlm") && ran.err.contains("Commands:"),
            "{line:?}: {}",
            ran.err
        );
        assert_eq!(ran.out, "");
    }
}

#[test]
fn what_is_not_built_says_so_with_any_arguments() {
    let lab = Lab::new();
    for command in UNBUILT {
        for rest in [&[][..], &["a.dlm", "--any", "flag"]] {
            let ran = lab.run(&[&[command], rest].concat()).exits(2);
            assert!(
                ran.err.starts_with(&format!("error: `dlm {command}` is not built yet")),
                "{}",
                ran.err
            );
        }
    }
}

#[test]
fn help_of_what_is_not_built_is_help() {
    let lab = Lab::new();
    for line in [
        &["cache", "show", "-h"][..],
        &["cache", "clear", "a.dlm", "--help"],
        &["pack", "a.dlm", "--help"],
    ] {
        let ran = lab.run(line).ok();
        assert!(
            ran.out.contains("(not built yet)") && ran.err.is_empty(),
            "{line:?}: {ran:?}"
        );
    }
    // Behind `--` it is a word like another.
    lab.run(&["cache", "show", "a.dlm", "--", "-h"]).exits(2);
}

#[test]
fn what_is_not_built_is_exit_2_wherever_it_is_asked_for() {
    let lab = Lab::new();
    lab.trainable();
    let text = lab.read("a.dlm");
    let with = |name: &str, training: &str| {
        lab.write(
            name,
            text.replace("\n---\n\n", &format!("\ntraining: {{{training}}}\n---\n\n")),
        );
    };
    with("warmup.dlm", "cpt: {embed_warmup_steps: 2}");
    with("sources.dlm", "sources: [{path: x}]");
    for document in ["warmup.dlm", "sources.dlm"] {
        let ran = lab.run(&["train", document]).exits(2).says(&["not built yet"]);
        let checked = lab.run(&["check", document]).ok();
        assert!(!checked.out.contains("no problems"), "{document}: {}", checked.out);
        let refusal = ran.err.lines().next().unwrap();
        assert!(
            checked.err.contains(refusal),
            "{document}: {refusal} in {}",
            checked.err
        );
        let json = lab.json(&["check", document, "--json"]);
        assert_eq!(json["training"]["refusal"]["exit_code"], 2, "{document}: {json}");
    }
    std::fs::create_dir(lab.path("notes")).unwrap();
    lab.run(&["train", "notes"])
        .exits(2)
        .says(&["is a directory", "not built yet"]);
}

#[test]
fn a_document_of_preferences_alone_and_one_with_several_adapters_are_trained() {
    let lab = Lab::new();
    lab.trainable();
    let text = lab.read("a.dlm");
    let head = text.split("Some prose.").next().unwrap();
    let preference = "::preference::\n### Prompt\nWhat?\n### Chosen\nThat.\n### Rejected\nThis one or another.\n";
    lab.write("preferences.dlm", format!("{head}{preference}"));
    // Nothing is asked of the preferences: there is nothing to do.
    lab.run(&["train", "preferences.dlm", "--phase", "sft"])
        .ok()
        .says(&["no-op: "]);
    lab.run(&["train", "preferences.dlm", "--phase", "preference"])
        .exits(1)
        .says(&["none was trained yet", "dlm train preferences.dlm"]);
    lab.run(&["train", "preferences.dlm", "--max-steps", "2"]).ok().says(&[
        "dpo: v0001 (2 steps",
        "preferences: the chosen answer",
        "rewards: chosen",
    ]);
    let json = lab.json(&[
        "train",
        "preferences.dlm",
        "--phase",
        "preference",
        "--max-steps",
        "2",
        "--json",
    ]);
    assert_eq!((&json["phase"], &json["version"]), (&"dpo".into(), &2.into()));
    assert!(json["preference"]["after"]["rewards"]["margin"].is_number(), "{json}");

    let several = text
        .replace(crate::lab::ID, "01HF7YAT0004106R0430MG2009")
        .replace("\n---\n\n", "\ntraining: {adapters: {a: {}, b: {}}}\n---\n\n");
    lab.write("adapters.dlm", several);
    for line in [
        &["prompt", "adapters.dlm", "What?"][..],
        &["export", "adapters.dlm", "--target", "vllm"],
    ] {
        lab.run(line)
            .exits(2)
            .says(&["has several adapters (`a`, `b`)", "--adapter a"]);
    }
    let ran = lab.run(&["train", "adapters.dlm", "--max-steps", "2"]).ok();
    ran.says(&[
        "a: sft: v0001",
        "adapter `b`: the document has prose only",
        "b: cpt: v0001",
        "next: dlm prompt adapters.dlm --adapter a",
    ]);
    let json = lab.json(&["train", "adapters.dlm", "--max-steps", "2", "--json"]);
    assert_eq!(
        (&json["adapter_name"], &json["earlier"][0]["adapter_name"]),
        (&"b".into(), &"a".into())
    );
    lab.run(&["prompt", "adapters.dlm", "What?", "--adapter", "b", "--max-tokens", "2"])
        .ok();
    lab.run(&[
        "prompt",
        "adapters.dlm",
        "What?",
        "--gate",
        "off",
        "--max-tokens",
        "2",
        "-v",
    ])
    .ok()
    .says(&["adapters: a 0.50, b 0.50"]);
    lab.run(&[
        "export",
        "adapters.dlm",
        "--adapter",
        "b",
        "--target",
        "vllm",
        "--no-smoke",
    ])
    .ok();
}

#[test]
fn advice_helps_with_what_was_wrong() {
    let lab = Lab::new();
    lab.trainable();
    let text = lab.read("a.dlm");
    let (head, _) = text.split_once("::instruction::").unwrap();
    lab.write("prose.dlm", head);
    let pairs = text.replace("Some prose.\n\n", "");
    lab.write("pairs.dlm", pairs.replace(crate::lab::ID, "01HF7YAT0004106R0430MG2001"));
    lab.run(&["train", "prose.dlm", "--max-steps", "2", "--threads", "1"])
        .ok();
    let mined = lab.run(&["preference", "mine", "prose.dlm"]).exits(2);
    assert!(
        mined.err.contains("has no question to ask") && !mined.err.contains("--samples"),
        "{}",
        mined.err
    );
    let asked = lab
        .run(&["synth", "instructions", "pairs.dlm", "--teacher", "self:base"])
        .exits(2);
    assert!(
        asked.err.contains("write prose") && !asked.err.contains("--threshold"),
        "{}",
        asked.err
    );
    let unfinished = "::preference::\n### Prompt\nWhat?\n### Chosen\nThat.\n";
    lab.write("cut.dlm", format!("{text}\n{unfinished}"));
    let chosen = lab
        .read("cut.dlm")
        .lines()
        .position(|line| line == "### Chosen")
        .unwrap()
        + 1;
    lab.run(&["check", "cut.dlm"])
        .exits(1)
        .says(&[&format!("belongs to the `### Chosen` on line {chosen}")]);
}

#[test]
fn a_negative_number_is_a_value() {
    let lab = Lab::new();
    for (line, part) in [
        (&["show", "a.dlm", "--threads", "-1"][..], "from 1 to 1024"),
        (&["prompt", "a.dlm", "q", "--top-p", "-0.5"], "'-0.5' for '--top-p"),
        (
            &["prompt", "a.dlm", "q", "--max-tokens", "-1"],
            "'-1' for '--max-tokens",
        ),
        (
            &["preference", "mine", "a.dlm", "--samples", "-1"],
            "'-1' for '--samples",
        ),
        (
            &["preference", "mine", "a.dlm", "--threshold", "-1"],
            "`--threshold` is -1",
        ),
        (
            &["synth", "instructions", "a.dlm", "--per-section", "-2"],
            "'-2' for '--per-section",
        ),
        (&["metrics", "show", "a.dlm", "--limit", "-3"], "'-3' for '--limit"),
        (
            &["metrics", "watch", "a.dlm", "--poll-seconds", "-1"],
            "from 0.05 to 3600",
        ),
    ] {
        let ran = lab.run(line).exits(2).says(&[part]);
        assert!(!ran.err.contains("unexpected argument"), "{line:?}: {}", ran.err);
    }
    // A question may begin with one.
    lab.run(&["prompt", "none.dlm", "-5"])
        .exits(1)
        .says(&["none.dlm does not exist"]);
}

#[test]
fn unknown_words_suggest_the_nearest() {
    let lab = Lab::new();
    lab.run(&["shwo", "a.dlm"]).exits(2).says(&["'show'"]);
    lab.run(&["show", "a.dlm", "--jsno"]).exits(2).says(&["'--json'"]);
    lab.run(&["show"]).exits(2).says(&["<PATH>"]);
}

#[test]
fn global_options_stand_anywhere() {
    let lab = Lab::new();
    lab.document();
    for line in [
        ["--home", "h1", "init", "b.dlm"],
        ["init", "--home", "h2", "c.dlm"],
        ["init", "d.dlm", "--home", "h3"],
    ] {
        lab.run(&[&line[..], &["--base", "smollm2-135m"]].concat()).ok();
    }
    assert!(["h1", "h2", "h3"].iter().all(|home| lab.path(home).is_dir()) && !lab.path("home").exists());
}

#[test]
fn the_flag_beats_the_variable_and_a_tilde_is_the_user() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("user")).unwrap();
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m", "--home", "~/mine"])
        .ok();
    assert!(lab.path("user/mine/store").is_dir());
    let mut bare = lab.command();
    bare.env_remove("DLM_HOME")
        .args(["init", "b.dlm", "--base", "smollm2-135m"]);
    lab.finish(&mut bare).ok();
    assert!(lab.path("user/.dlm/store").is_dir());
    let mut homeless = lab.command();
    homeless
        .env_remove("DLM_HOME")
        .env_remove("HOME")
        .args(["show", "a.dlm"]);
    lab.finish(&mut homeless).exits(1).says(&["HOME is not set", "--home"]);
    lab.write("file", "");
    lab.run(&["show", "a.dlm", "--home", "file"])
        .exits(2)
        .says(&["is a file"]);
}

#[test]
fn verbose_and_quiet_exclude_each_other_on_both_sides() {
    let lab = Lab::new();
    lab.document();
    for line in [
        &["-v", "-q", "show", "a.dlm"][..],
        &["-v", "show", "a.dlm", "-q"],
        &["show", "-q", "a.dlm", "-v"],
    ] {
        lab.run(line).exits(2);
    }
}

#[test]
fn verbose_adds_the_causes_of_a_failure() {
    let lab = Lab::new();
    lab.document();
    std::fs::create_dir_all(lab.store()).unwrap();
    std::fs::write(lab.store().join("manifest.json"), "{").unwrap();
    assert!(!lab.run(&["show", "a.dlm"]).exits(1).err.contains("because:"));
    lab.run(&["show", "a.dlm", "-v"]).exits(1).says(&["  because: "]);
    let mut with_variable = lab.command();
    with_variable.env("DLM_VERBOSE", "1").args(["show", "a.dlm"]);
    lab.finish(&mut with_variable).exits(1).says(&["  because: "]);
}

#[test]
fn quiet_keeps_results_and_refusals() {
    let lab = Lab::new();
    lab.document();
    assert_eq!(
        lab.run(&["show", "a.dlm", "-q"]).ok().out,
        lab.run(&["show", "a.dlm"]).ok().out
    );
    lab.run(&["show", "none.dlm", "-q"])
        .exits(1)
        .says(&["show: none.dlm does not exist"]);
    assert_eq!(lab.run(&["migrate", "a.dlm", "-q"]).ok().err, "");
}

#[test]
fn json_is_raw_with_two_blanks_and_one_line_end() {
    let lab = Lab::new();
    lab.document();
    for line in [
        &["show", "a.dlm", "--json"][..],
        &["check", "a.dlm", "--json"],
        &["metrics", "show", "a.dlm", "--json"],
    ] {
        let ran = lab.run(line).ok();
        assert!(
            ran.out.starts_with("{\n  \"") && ran.out.ends_with("\n}\n"),
            "{}",
            ran.out
        );
        assert_eq!(ran.err, "");
    }
}

#[test]
fn nothing_is_colored_without_a_terminal() {
    let lab = Lab::new();
    assert!(!lab.run(&["show", "none.dlm"]).exits(1).err.contains('\x1b'));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let lab = Lab::new();
    let mut child = lab
        .command()
        .args(["base", "list"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0), "{:?}", output.status);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_one_message_and_exit_1() {
    let lab = Lab::new();
    lab.document();
    for line in [
        &["check", "a.dlm"][..],
        &["base", "list", "--json"],
        &["--help"],
        &["--version"],
        &["--show-completion", "bash"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = lab
            .command()
            .args(line)
            .stdout(full)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {said}");
        assert!(
            said.starts_with("error: the output cannot be written: "),
            "{line:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{line:?}: {said}");
    }
}

#[test]
fn help_is_a_command_too() {
    let lab = Lab::new();
    assert_eq!(lab.run(&["help"]).ok().out, lab.run(&["--help"]).ok().out);
    for path in [&["train"][..], &["base", "add"]] {
        let by_command = lab.run(&[&["help"], path].concat()).ok().out;
        let by_flag = lab.run(&[path, &["--help"]].concat()).ok().out;
        assert_eq!(by_command, by_flag, "{path:?}");
    }
}

#[test]
fn what_is_not_built_is_never_suggested() {
    let lab = Lab::new();
    for line in [&["repll"][..], &["harvst"], &["train", "a.dlm", "--wach"]] {
        let ran = lab.run(line).exits(2);
        assert!(
            !ran.err.contains("tip:") && !ran.err.contains("--watch"),
            "{line:?}: {}",
            ran.err
        );
    }
}

#[test]
fn a_number_that_does_not_fit_is_told_what_would() {
    let lab = Lab::new();
    for (line, expected) in [
        (
            &["train", "a.dlm", "--max-steps", "0"][..],
            "expected a whole number of at least 1",
        ),
        (
            &["train", "a.dlm", "--max-steps", "-1"],
            "expected a whole number of at least 1",
        ),
        (
            &["show", "a.dlm", "--threads", "abc"],
            "expected a whole number from 1 to 1024",
        ),
        (
            &["prompt", "a.dlm", "q", "--temp", "-1"],
            "expected a number of at least 0",
        ),
        (
            &["prompt", "a.dlm", "q", "--seed", "-1"],
            "invalid value '-1' for '--seed <N>'",
        ),
    ] {
        let ran = lab.run(line).exits(2).says(&[expected]);
        assert!(!ran.err.contains("tip:"), "{line:?}: {}", ran.err);
    }
}

#[test]
fn commands_in_hints_are_quoted_for_a_shell() {
    let lab = Lab::new();
    lab.run(&["init", "a b.dlm", "--base", "smollm2-135m"])
        .ok()
        .says(&["then `dlm train 'a b.dlm'`"]);
    lab.run(&["show", "it's.dlm"])
        .exits(1)
        .says(&[r"make a document: `dlm init 'it'\''s.dlm'`"]);
}

#[test]
fn completion_is_printed_for_every_shell() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = lab.run(&["--show-completion", shell]).ok();
        assert!(ran.out.contains("dlm") && ran.out.contains("migrate"), "{shell}");
        assert!(!lab.path("user").exists(), "printing installs nothing");
    }
    lab.run(&["--show-completion", "tcsh"])
        .exits(2)
        .says(&["`tcsh` is not known; known: bash, zsh"]);
}

#[test]
fn completion_knows_bases_templates_targets_and_plugins() {
    let lab = Lab::new();
    let script = lab.run(&["--show-completion", "bash"]).ok().out;
    for word in ["smollm2-135m", "llama-server", "mlx-serve", "hf:", "vllm-server:"] {
        assert!(script.contains(word), "{word}");
    }
    let listed = lab.run(&["templates", "list", "--json"]).ok().out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    // All in one list, so that a new template is not forgotten here.
    let line = script.lines().find(|line| line.contains("regex-buddy")).unwrap();
    assert!(names.iter().all(|name| line.contains(name)), "{names:?} in {line}");
}

#[test]
fn completion_is_installed_where_the_shell_looks_and_twice_is_once() {
    let lab = Lab::new();
    let places = [
        ("bash", "user/.local/share/bash-completion/completions/dlm"),
        ("zsh", "user/.zfunc/_dlm"),
        ("fish", "user/.config/fish/completions/dlm.fish"),
        ("powershell", "user/.config/powershell/dlm.completion.ps1"),
        ("elvish", "user/.config/elvish/lib/dlm.elv"),
    ];
    for (shell, place) in places {
        lab.run(&["--install-completion", shell])
            .ok()
            .says(&["completion: wrote [DIR]/user/"]);
        let first = lab.read(place);
        lab.run(&["--install-completion", shell]).ok();
        assert_eq!(lab.read(place), first, "{shell}");
        assert_eq!(lab.run(&["--show-completion", shell]).ok().out, first, "{shell}");
    }
}

#[test]
fn variables_of_the_reference_are_ignored_aloud() {
    let lab = Lab::new();
    lab.document();
    let mut quiet = lab.command();
    quiet.env("DLM_LLAMA_CPP_ROOT", "/x").args(["show", "a.dlm"]);
    assert_eq!(lab.finish(&mut quiet).ok().err, "");
    let mut verbose = lab.command();
    verbose.env("DLM_LLAMA_CPP_ROOT", "/x").args(["show", "a.dlm", "-v"]);
    lab.finish(&mut verbose).ok().says(&["DLM_LLAMA_CPP_ROOT is ignored"]);
}

#[test]
fn flags_that_are_not_built_are_refused_before_anything_is_read() {
    let lab = Lab::new();
    let lines = [
        &["train", "none.dlm", "--watch"][..],
        &["train", "none.dlm", "--gpus", "all"],
        &["train", "none.dlm", "--max-cycles", "2"],
        &["train", "none.dlm", "--include", "*.md"],
        &["prompt", "none.dlm", "hi", "--image", "a.png"],
    ];
    for line in lines {
        let ran = lab.run(line).exits(2);
        assert!(ran.err.contains("is not built yet"), "{line:?}: {}", ran.err);
    }
}
