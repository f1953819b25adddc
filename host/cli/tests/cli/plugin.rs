//! `dlm plugin` through the binary: packing, installing with and without grants, trust, tampering, removal.

use std::path::PathBuf;

use crate::lab::Lab;

/// A component that exports a target and asks for nothing.
fn component() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/guests/test-target/plugin.wasm"
    );
    std::fs::read(path).unwrap()
}

pub const EXEC: &str = "exec:ollama --version";
pub const HTTP: &str = "http:https://api.example.com/v1";

/// Packs the component as `shelf` in this version, with these lines of manifest beside the usual ones.
pub fn pack(lab: &Lab, version: &str, more: &str) -> PathBuf {
    std::fs::create_dir_all(lab.path("src")).unwrap();
    lab.write("src/in.wasm", component());
    lab.write(
        "src/plugin.toml",
        format!(
            "schema = 1\nname = \"shelf\"\nversion = \"{version}\"\nkinds = [\"target\"]\ndescription = \"Puts models on a shelf\"\n\
             {more}\n[build]\nwasm = \"in.wasm\"\n"
        ),
    );
    lab.run(&["plugin", "pack", "src"]).ok();
    lab.path("src/shelf.wasm")
}

pub fn asking(lab: &Lab, version: &str) -> PathBuf {
    let requests = format!(
        "[[request]]\ncapability = \"{EXEC}\"\nreason = \"asks for the version\"\n\
         [[request]]\ncapability = \"{HTTP}\"\nreason = \"fetches shelves\"\noptional = true\n"
    );
    pack(lab, version, &requests)
}

#[test]
fn what_is_packed_is_installed_shown_checked_and_removed() {
    let lab = Lab::new();
    let file = asking(&lab, "1.2.0");
    let source = file.to_str().unwrap();
    let refused = lab.run(&["plugin", "install", source, "--allow-unsigned"]).exits(1);
    assert!(refused.err.contains(&format!(
        "plugin: plugin `shelf` 1.2.0 needs {EXEC}, which was not granted"
    )));
    assert!(
        refused.err.contains(&format!("grant it: --grant '{EXEC}'")),
        "{}",
        refused.err
    );
    assert!(!lab.path("home/plugins").exists(), "a refusal writes nothing");

    lab.run(&["plugin", "install", source, "--allow-unsigned", "--grant", EXEC])
        .ok();
    let listed = lab.json(&["plugin", "list", "--json"]);
    let plugins = listed["plugins"].as_array().unwrap();
    let row = plugins.iter().find(|row| row["name"] == "shelf").unwrap();
    assert_eq!(row["granted"], serde_json::json!([EXEC]));
    assert_eq!(
        (row["origin"].as_str(), row["wasi"].as_str()),
        (Some("installed"), Some("none"))
    );
    assert!(
        plugins
            .iter()
            .any(|row| row["name"] == "ollama" && row["origin"] == "built in")
    );
    let judges = lab.json(&["plugin", "list", "--kind", "judge", "--json"]);
    assert!(
        judges["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["name"] != "shelf")
    );
    let outdated = lab.json(&["plugin", "list", "--outdated-api", "--json"]);
    assert_eq!(outdated["plugins"], serde_json::json!([]));

    let seen = lab.run(&["plugin", "inspect", "shelf"]).ok().out;
    for part in [
        "shelf 1.2.0",
        "plugin api     1.0.0",
        "granted      exec:",
        "not granted  http:",
        "dlm:plugin/target@1.0.0",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(
        lab.run(&["plugin", "inspect", "shelf", "--imports"])
            .ok()
            .out
            .contains("\n  write\n")
    );
    assert!(
        lab.run(&["plugin", "inspect", "shelf", "--wit"])
            .ok()
            .out
            .contains("export dlm:plugin/target@1.0.0;")
    );
    assert!(
        lab.run(&["plugin", "inspect", "shelf", "--audit"])
            .ok()
            .out
            .contains("not signed")
    );

    assert_eq!(lab.run(&["plugin", "verify"]).ok().out, "shelf 1.2.0: as pinned\n");
    lab.run(&["plugin", "trust", "shelf", "--grant", HTTP, "--revoke", EXEC])
        .ok();
    let seen = lab.json(&["plugin", "inspect", "shelf", "--json"]);
    assert_eq!(seen["granted"], serde_json::json!([HTTP]));
    let wrong = lab.run(&["plugin", "trust", "shelf", "--grant", "clock"]).exits(2);
    assert!(wrong.err.contains("does not request `clock`"), "{}", wrong.err);

    lab.write(
        "home/config.toml",
        "[plugins.shelf.config]\nx = 1\n[plugins.other.config]\ny = 1\n",
    );
    lab.run(&["plugin", "remove", "shelf"]).ok();
    assert_eq!(lab.read("home/config.toml"), "[plugins.other.config]\ny = 1\n");
    assert!(!lab.path("home/plugins/shelf").exists());
    let gone = lab.run(&["plugin", "remove", "shelf"]).exits(2);
    assert!(
        gone.err.contains("no plugin called `shelf` is installed"),
        "{}",
        gone.err
    );
}

#[test]
fn remove_can_leave_the_settings() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
    let settings = "[plugins.shelf.config]\nx = 1\n";
    lab.write("home/config.toml", settings);
    lab.run(&["plugin", "remove", "shelf", "--keep-config"]).ok();
    assert_eq!(lab.read("home/config.toml"), settings);
}

#[test]
fn the_consent_screen() {
    let lab = Lab::new();
    let file = asking(&lab, "1.2.0");
    let source = file.to_str().unwrap();
    let shown = lab.run(&["plugin", "install", source, "--dry-run"]).ok().out;
    let shown = shown
        .lines()
        .map(|line| match line.trim_start().starts_with("sha256 ") {
            true => "  sha256 [HASH]   not signed".to_owned(),
            false => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n");
    insta::with_settings!({prepend_module_to_snapshot => false, snapshot_path => "../snapshots"}, {
        insta::assert_snapshot!("plugin-consent", shown);
    });
    assert!(!lab.path("home/plugins").exists());
    lab.run(&["plugin", "install", source, "--allow-unsigned", "--grant-requested"])
        .ok();
    let offered =
        |file: &std::path::Path| lab.json(&["plugin", "install", file.to_str().unwrap(), "--dry-run", "--json"]);
    assert_eq!(offered(&file)["offer"]["asks"], serde_json::json!([]));
    let next = offered(&asking(&lab, "1.3.0"));
    assert_eq!(next["offer"]["replaces"], "1.2.0");
    let asks = next["offer"]["asks"].as_array().unwrap();
    assert_eq!(asks.len(), 2, "nobody signed both: {asks:?}");
}

#[test]
fn a_hash_and_another_name() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    let source = file.to_str().unwrap();
    let zeros = "0".repeat(64);
    let wrong = lab
        .run(&["plugin", "install", source, "--sha256", &zeros, "--json"])
        .exits(1);
    let error: serde_json::Value = serde_json::from_str(&wrong.out).unwrap();
    assert_eq!(
        (error["error"]["code"].as_str(), error["error"]["class"].as_str()),
        (Some("plugin::tampered"), Some("permission"))
    );
    lab.run(&["plugin", "install", source, "--sha256", "00"]).exits(2);
    lab.run(&["plugin", "install", source, "--name", "rack"]).ok();
    assert!(
        lab.run(&["plugin", "inspect", "rack"])
            .ok()
            .out
            .starts_with("rack 1.0.0\n")
    );
    let taken = lab.run(&["plugin", "install", source, "--name", "ollama"]).exits(2);
    assert!(taken.err.contains("`ollama` is not a name"), "{}", taken.err);
}

#[test]
fn a_changed_file_is_told_and_does_not_run() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
    let installed = lab.path("home/plugins/shelf/1.0.0/plugin.wasm");
    let mut bytes = std::fs::read(&installed).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&installed, bytes).unwrap();
    let verified = lab.run(&["plugin", "verify"]).exits(1);
    assert!(
        verified.out.starts_with("shelf 1.0.0: plugin::tampered: "),
        "{}",
        verified.out
    );
    let seen = lab.run(&["plugin", "inspect", "shelf"]).exits(1);
    assert!(seen.err.contains("is not the file that was trusted"), "{}", seen.err);
    assert!(lab.run(&["plugin", "list"]).ok().out.contains("does not run"));
}

#[test]
fn a_file_that_came_with_a_directory_needs_trust() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    std::fs::create_dir_all(lab.path(".dlm/plugins")).unwrap();
    std::fs::copy(&file, lab.path(".dlm/plugins/shelf.wasm")).unwrap();
    let refused = lab.run(&["plugin", "inspect", "shelf"]).exits(1);
    assert!(
        refused.err.contains("dlm plugin trust './.dlm/plugins/shelf.wasm'"),
        "{}",
        refused.err
    );
    lab.run(&["plugin", "trust", "./.dlm/plugins/shelf.wasm"]).ok();
    assert!(lab.run(&["plugin", "inspect", "shelf"]).ok().out.contains("project"));
    let mut command = lab.command();
    command.current_dir("/").args(["plugin", "inspect", "shelf"]);
    let unknown = lab.finish(&mut command).exits(2);
    assert!(unknown.err.contains("no plugin is called `shelf`"), "{}", unknown.err);
}

#[test]
fn directories_of_the_system_are_searched_last() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    std::fs::create_dir_all(lab.path("shared")).unwrap();
    std::fs::rename(&file, lab.path("shared/shelf.wasm")).unwrap();
    let mut command = lab.command();
    command
        .env("DLM_PLUGIN_PATH", lab.path("shared"))
        .args(["plugin", "list"]);
    let listed = lab.finish(&mut command).ok().out;
    assert!(
        listed.contains("shelf") && listed.contains("does not run") && listed.contains("system"),
        "{listed}"
    );
}

#[test]
fn an_unknown_name_suggests_and_says_where_it_looked() {
    let lab = Lab::new();
    let ran = lab.run(&["plugin", "inspect", "olama"]).exits(2);
    assert!(ran.err.contains("did you mean ollama?"), "{}", ran.err);
    assert!(ran.err.contains("looked: inside dlm"), "{}", ran.err);
    let json = lab.run(&["plugin", "inspect", "olama", "--json"]).exits(2);
    let error: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (error["error"]["code"].as_str(), error["error"]["class"].as_str()),
        (Some("plugin::unknown"), Some("usage"))
    );
}

#[test]
fn strings_of_a_plugin_are_shown_inert() {
    let lab = Lab::new();
    // A right-to-left override, which no manifest check refuses.
    let file = pack(&lab, "1.0.0", "authors = [\"a\u{202e}b\"]");
    let source = file.to_str().unwrap();
    for line in [
        &["plugin", "inspect", source][..],
        &["plugin", "inspect", source, "--json"],
        &["plugin", "install", source, "--dry-run"],
    ] {
        let ran = lab.run(line).ok();
        assert!(!ran.out.contains('\u{202e}') || line.contains(&"--json"), "{line:?}");
    }
    assert!(lab.run(&["plugin", "inspect", source]).ok().out.contains("a\\u{202e}b"));
    lab.write("broken.wasm", b"\0asm\x0d\0\x01\0\x00\x05\x04\x1b[31");
    let ran = lab.run(&["plugin", "inspect", "broken.wasm"]).ok();
    assert!(ran.out.contains("section \\u{1b}[31"), "{}", ran.out);
    assert!(ran.out.contains("does not run: plugin::manifest"), "{}", ran.out);
}

#[test]
fn a_key_is_trusted_with_names() {
    let lab = Lab::new();
    let key = "RWSGqw7ftyWdoBJlGgx5mZ6klOXfHwukLdrYwA56SDFtpTin6ais8uxK";
    let ran = lab.run(&["plugin", "trust", key, "--for-names", "acme-*"]).ok();
    assert!(ran.err.contains("it may sign: acme-*"), "{}", ran.err);
    lab.write("mine.pub", format!("untrusted comment: x\n{key}\n"));
    lab.run(&["plugin", "trust", "mine.pub"])
        .ok()
        .says(&["was trusted before", "it may sign: acme-*\n"]);
    lab.run(&["plugin", "trust", "mine.pub", "--for-names", "rubric"])
        .ok()
        .says(&["it may sign: acme-*, rubric\n"]);
    let listed = lab.json(&["plugin", "keys", "--json"]);
    assert_eq!(listed["keys"][0]["names"], serde_json::json!(["acme-*", "rubric"]));
    assert!(
        lab.run(&["plugin", "keys"])
            .ok()
            .out
            .starts_with(&format!("{key}\n  it may sign: acme-*, rubric\n"))
    );
    lab.run(&["plugin", "trust", key, "--for-names", "*"])
        .ok()
        .says(&["every plugin"]);
    // Its text may hold a slash, as those of most keys do.
    let slashed = "RWR6CtMbOq5AgfQftHFlPj1XeoxBA/nMGYp/idga8qUAHEAXPxkj9xAs";
    lab.run(&["plugin", "trust", slashed])
        .ok()
        .says(&[&format!("the key {slashed} is trusted")]);
    lab.run(&["plugin", "keys", "--revoke", slashed])
        .ok()
        .says(&["is no longer trusted"]);
    lab.run(&["plugin", "keys", "--revoke", slashed])
        .exits(1)
        .says(&["is not trusted", "dlm plugin keys"]);
    lab.run(&["plugin", "keys", "--revoke", "mine.pub"]).ok();
    assert!(lab.run(&["plugin", "keys"]).ok().out.contains("no key is trusted"));
    lab.write("mine.pub", "nonsense");
    assert!(
        lab.run(&["plugin", "trust", "mine.pub"])
            .exits(1)
            .err
            .contains("no minisign public key")
    );
    lab.run(&["plugin", "trust", key, "--grant", "clock"]).exits(2);
}

#[test]
fn packing_refuses_and_warns() {
    let lab = Lab::new();
    let missing = lab.run(&["plugin", "pack", "."]).exits(1);
    assert!(missing.err.contains("dlm plugin new KIND NAME"), "{}", missing.err);
    pack(&lab, "1.0.0", "");
    lab.write(
        "src/plugin.toml",
        "schema = 1\nname = \"shelf\"\nversion = \"1.0.0\"\nkinds = [\"judge\"]\n",
    );
    let wrong = lab.run(&["plugin", "pack", "src", "--wasm", "src/in.wasm"]).exits(1);
    assert!(
        wrong.err.contains("exports target, its manifest says judge"),
        "{}",
        wrong.err
    );
    lab.write(
        "src/plugin.toml",
        "schema = 1\nname = \"shelf\"\nversion = \"1.0.0\"\nkinds = [\"target\"]\n[[request]]\ncapability = \"model:current\"\n",
    );
    let warned = lab
        .run(&["plugin", "pack", "src", "--wasm", "src/in.wasm", "--out", "out.wasm"])
        .ok();
    assert!(
        warned
            .err
            .contains("requests `model:current` and imports nothing that could use it"),
        "{}",
        warned.err
    );
    assert!(lab.path("out.wasm").is_file());
    let unsigned = lab
        .run(&["plugin", "pack", "src", "--wasm", "src/in.wasm", "--sign"])
        .exits(1);
    assert!(unsigned.err.contains("minisign -G -s"), "{}", unsigned.err);
}

#[test]
fn a_new_project_is_whole_and_nothing_is_overwritten() {
    let lab = Lab::new();
    for kind in ["judge", "teacher", "target", "destination", "templates"] {
        for lang in ["rust", "python", "js", "c"] {
            let dir = format!("{kind}-{lang}");
            lab.run(&["plugin", "new", kind, "my-plugin", "--lang", lang, "--dir", &dir])
                .ok();
            let names: Vec<String> = lab.files(&dir).into_iter().map(|(name, _)| name).collect();
            assert!(names.contains(&"plugin.toml".to_owned()) && names.contains(&"wit/host.wit".to_owned()));
            assert_eq!(
                names.iter().filter(|name| name.starts_with("cases/")).count(),
                2,
                "{names:?}"
            );
        }
    }
    let taken = lab
        .run(&["plugin", "new", "judge", "my-plugin", "--dir", "judge-rust"])
        .exits(1);
    assert!(taken.err.contains("already there"), "{}", taken.err);
    let reserved = lab.run(&["plugin", "new", "judge", "sway"]).exits(2);
    assert!(reserved.err.contains("inside dlm"), "{}", reserved.err);
}

#[test]
fn sources_that_cannot_be_fetched_say_why() {
    let lab = Lab::new();
    assert!(
        lab.run(&["plugin", "install", "http://example.com/x.wasm"])
            .exits(2)
            .err
            .contains("open line")
    );
    assert!(
        lab.run(&["plugin", "install", "hf:org/repo"])
            .exits(2)
            .err
            .contains("--sha256 HASH")
    );
    let mut command = lab.command();
    command
        .env("DLM_OFFLINE", "1")
        .args(["plugin", "install", "https://example.com/x.wasm"]);
    let offline = lab.finish(&mut command).exits(1);
    assert!(offline.err.contains("DLM_OFFLINE"), "{}", offline.err);
    assert!(
        lab.run(&["plugin", "install", "nothing.wasm"])
            .exits(1)
            .err
            .contains("no such file")
    );
}

#[test]
fn the_settings_of_the_user_are_held() {
    let lab = Lab::new();
    let file = pack(&lab, "1.0.0", "");
    std::fs::create_dir_all(lab.path("home")).unwrap();
    lab.write("home/config.toml", "[plugins]\nrequire-signature = \"always\"\n");
    let refused = lab
        .run(&["plugin", "install", file.to_str().unwrap(), "--allow-unsigned"])
        .exits(1);
    assert!(
        refused.err.contains("your settings require a signature"),
        "{}",
        refused.err
    );
    // What is compiled at install is the code that this setting runs: another one than without it.
    let codes = || {
        let files = lab.files("home/cache/plugins").into_iter();
        files.filter(|(name, _)| name.ends_with(".cwasm")).count()
    };
    for (setting, count) in [("false", 1), ("true", 2)] {
        lab.write(
            "home/config.toml",
            format!("[plugins]\ndeterministic-limits = {setting}\n"),
        );
        lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
        assert_eq!(codes(), count, "{setting}");
    }
    lab.write("home/config.toml", "[plugins]\ncolor = 1\n");
    assert!(
        lab.run(&["plugin", "list"])
            .exits(1)
            .err
            .contains("unknown field `color`")
    );
}

/// A case for the judge `sway`, whose model gives the trained answer `gain` more.
pub fn sway_case(gain: f64, expect: &str) -> String {
    let answer = |weights: &str, completion: &str, logprob: f64| {
        format!(
            r#"{{ "score": {{ "weights": "{weights}", "completion": "{completion}" }}, "logprob": {logprob}, "token-count": 2 }}"#
        )
    };
    let answers = [
        answer("base", "good", -4.0),
        answer("adapter", "good", -4.0 + gain),
        answer("base", "bad", -4.0),
        answer("adapter", "bad", -4.0),
    ];
    format!(
        r#"{{ "kind": "judge", "host": {{ "model": [{}] }},
             "call": {{ "score": [ {{ "prompt": "Q", "candidates": ["good", "bad"] }} ] }}, "expect": {{ {expect} }} }}"#,
        answers.join(", ")
    )
}

#[test]
fn a_case_passes_fails_and_is_updated() {
    let lab = Lab::new();
    lab.write("case.json", sway_case(2.0, ""));
    let empty = lab.run(&["plugin", "test", "sway", "--case", "case.json"]).exits(1);
    assert!(empty.out.contains("the case expects nothing"), "{}", empty.out);
    lab.run(&["plugin", "test", "sway", "--case", "case.json", "--update"])
        .ok();
    let passed = lab.run(&["plugin", "test", "sway", "--case", "case.json"]).ok();
    for part in [
        "ok     case (",
        "ok     case: a host that fails",
        "text that is huge",
        "Ctrl-C",
        "passed",
    ] {
        assert!(passed.out.contains(part), "{part} in {}", passed.out);
    }
    let updated: serde_json::Value = serde_json::from_str(&lab.read("case.json")).unwrap();
    let scores = updated["expect"]["verdicts"][0]["scores"].as_array().unwrap();
    assert!(scores[0].as_f64() > scores[1].as_f64(), "{updated}");

    // Another model, the old expectation.
    let mut changed: serde_json::Value = serde_json::from_str(&sway_case(-2.0, "")).unwrap();
    changed["expect"] = updated["expect"].clone();
    lab.write("case.json", changed.to_string());
    let json = lab
        .run(&["plugin", "test", "sway", "--case", "case.json", "--json"])
        .exits(1);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["passed"], false);
    assert!(
        report["cases"][0]["problems"][0]
            .as_str()
            .unwrap()
            .contains("scores[0]"),
        "{report}"
    );

    changed["host"]["model"].as_array_mut().unwrap().pop();
    lab.write("case.json", changed.to_string());
    let missing = lab.run(&["plugin", "test", "sway", "--case", "case.json"]).exits(1);
    assert!(
        missing.out.contains("add to host.model, with its answer"),
        "{}",
        missing.out
    );
    lab.write("case.json", "{");
    let broken = lab.run(&["plugin", "test", "sway", "--case", "case.json"]).exits(1);
    assert!(broken.out.contains("the case cannot be read"), "{}", broken.out);
}

#[test]
fn start_and_call_are_measured() {
    let lab = Lab::new();
    lab.write("case.json", sway_case(2.0, "\"verdicts\": [{}]"));
    let report = lab
        .run(&["plugin", "test", "sway", "--case", "case.json", "--bench", "--json"])
        .ok();
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    let bench = &report["bench"][0];
    assert!(bench["call_us"].as_f64().unwrap() > 0.0, "{report}");
    for key in ["memory_peak_bytes", "open_instructions", "call_instructions"] {
        assert!(bench[key].as_u64().unwrap() > 0, "{key}: {report}");
    }
}

#[test]
fn settings_of_plugins_reach_the_commands_that_run_them() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("home")).unwrap();
    lab.write("home/config.toml", "[plugins.bundled.config]\ncolor = \"red\"\n");
    let ran = lab.run(&["templates", "list"]).exits(2);
    assert!(
        ran.err.contains("plugin `bundled` has no setting `color`"),
        "{}",
        ran.err
    );
    // Another setting is another code: what counts instructions is compiled beside what does not.
    lab.write("home/config.toml", "[plugins]\ndeterministic-limits = true\n");
    let ran = lab.run(&["templates", "list", "--verbose"]).exits(0);
    assert!(
        ran.err.contains("bundled 0.1.0: used no capability") && ran.err.contains("compiled in"),
        "{}",
        ran.err
    );
    let ran = lab.run(&["templates", "list", "--verbose"]).exits(0);
    assert!(ran.err.contains("code from the cache"), "{}", ran.err);
    lab.write("home/config.toml", "[plugins]\nverify = \"always\"\n");
    lab.run(&["templates", "list"]).exits(0);
}
