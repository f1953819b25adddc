//! What strangers wrote reaches no screen as it was written: every command, with hostile strings in every field that it shows.

use dlm_core::inert::is_harmful;
use dlm_testkit::gguf::GgufBytes;

use crate::lab::{ID, Lab, Ran};

/// A title, a cleared screen, a color, a C1 code, a reversed order, an invisible mark, a line that goes back.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31m\u{9b}31m\u{202e}\u{2066}\u{200b}\rgood";
/// The same without what no argument or file name may have.
const TYPED: &str = "\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\rgood";

/// Panics where a stream has a character that could redraw a terminal or hide a text.
fn is_inert(what: &str, ran: &Ran) {
    for (stream, text) in [("stdout", &ran.out), ("stderr", &ran.err)] {
        let harmful = text.chars().find(|c| is_harmful(*c));
        assert_eq!(harmful, None, "{what}: {stream}:\n{text:?}");
    }
}

/// As JSON and YAML write it between double quotes.
fn escaped() -> String {
    let escape = |c: char| match is_harmful(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    HOSTILE.chars().map(escape).collect()
}

/// Writes a document whose strings are hostile: the base, the system prompt, a key, questions, answers.
fn hostile_document(lab: &Lab, name: &str, base: &str) {
    let text = format!(
        "---\ndlm_id: {ID}\ndlm_version: 15\nbase_model: {base}\nsystem_prompt: \"{system}\"\n---\n\nProse {HOSTILE}.\n\n::instruction::\n### Q\nWhat {HOSTILE}?\n\n### A\nThat {HOSTILE}.\n",
        system = escaped()
    );
    lab.write(name, text);
}

/// The command lines; `D` is a document, `M` a path that does not exist, `F` a hostile argument.
const LINES: &[&str] = &[
    "check D",
    "check D --json",
    "check M",
    "show D",
    "show D --json",
    "show M",
    "train D --dry-run",
    "train D --max-steps 1",
    "train M",
    "prompt D hi",
    "prompt D F --base-only",
    "prompt M hi",
    "score D M",
    "score D S",
    "export D",
    "export D --name F",
    "export D --target F",
    "export M",
    "migrate D",
    "migrate M",
    "metrics D",
    "metrics M",
    "metrics D --run-id 99",
    "init D",
    "init M --base F",
    "init M --template F",
    "doctor",
    "base list",
    "base list --json",
    "base show F",
    "base add F --from M",
    "base add x --from M",
    "base remove F",
    "preference mine D --judge F",
    "preference mine D --judge M",
    "preference list D",
    "synth instructions D --teacher F",
    "synth instructions M --teacher self",
    "synth list D",
    "templates list",
    "templates show F",
    "plugin list",
    "plugin install M",
    "plugin install F",
    "plugin inspect M",
    "plugin inspect F",
    "plugin search F --index F",
    "plugin search --index M",
    "plugin add F --index M",
    "plugin add x@F --index M",
    "plugin outdated --index F",
    "plugin update F --index M",
    "plugin index M",
    "plugin index F",
    "cache plugins",
    "cache plugins --json",
    "plugin remove F",
    "plugin verify F",
    "plugin test M",
    "plugin trust F",
    "plugin pack M",
    "plugin new F",
    "F",
    "train --F",
    "train D --seed F",
    "prompt D --temp F",
    "F D",
    "--home F base list",
    "help F",
];

#[test]
fn every_command_shows_hostile_strings_as_text() {
    let document = format!("d{TYPED}.dlm");
    let missing = format!("m/{TYPED}");
    for base in [format!("\"{}\"", escaped()), "tiny".to_owned()] {
        let lab = Lab::new();
        lab.tiny_model();
        lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
        lab.write(
            "scores.jsonl",
            format!(
                "{{\"question\": \"{e}\", \"words\": [\"{e}\"], \"{e}\": 1}}\n",
                e = escaped()
            ),
        );
        for line in LINES {
            hostile_document(&lab, &document, &base);
            let words: Vec<String> = line
                .split(' ')
                .map(|word| match word {
                    "D" => document.clone(),
                    "M" => missing.clone(),
                    "S" => "scores.jsonl".to_owned(),
                    "F" => TYPED.to_owned(),
                    "--F" => format!("--{TYPED}"),
                    word => word.to_owned(),
                })
                .chain(["-v".to_owned()])
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ran = lab.run(&words);
            assert!(!ran.err.contains("panicked"), "{line}:\n{}", ran.err);
            // What a model answers goes into a pipe as it is (`terminal.rs` looks at it on a screen).
            let out = match line.starts_with("prompt D") {
                true => String::new(),
                false => ran.out,
            };
            is_inert(line, &Ran { out, ..ran });
        }
    }
}

#[test]
fn no_command_is_left_out() {
    let help = Lab::new().run(&["--help"]).ok().out;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
    {
        let name = line.split_whitespace().next().unwrap();
        let is_driven = LINES.iter().any(|line| line.split(' ').next() == Some(name));
        assert!(
            is_driven || line.contains("(not built yet)"),
            "{name} is not driven with hostile strings"
        );
    }
}

#[test]
fn bases_with_hostile_strings_are_refused_as_text() {
    let lab = Lab::new();
    let tensor = || GgufBytes::default().tensor("a", &[32], 0, 0).data(128);
    let ggufs = [
        tensor().string("general.architecture", HOSTILE),
        tensor()
            .string(HOSTILE, HOSTILE)
            .string("general.architecture", HOSTILE),
        tensor()
            .string("general.architecture", "llama")
            .string("llama.embedding_length", HOSTILE),
        GgufBytes::default()
            .tensor(HOSTILE, &[32], 0, 0)
            .tensor(HOSTILE, &[32], 0, 0)
            .data(128),
    ];
    for (index, gguf) in ggufs.iter().enumerate() {
        let name = format!("{index}{TYPED}.gguf");
        lab.write(&name, gguf.bytes());
        is_inert("gguf", &lab.run(&["base", "add", "x", "--from", &name, "-v"]).exits(1));
    }
    lab.tiny_model();
    let sound: Vec<(&str, String)> = ["config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name, lab.read(&format!("model/{name}"))))
        .to_vec();
    for (name, text) in &sound {
        // Every string of the file in turn, one at a time.
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let Some(fields) = value.as_object() else { continue };
        for key in fields.keys() {
            let mut changed = value.clone();
            changed[key] = HOSTILE.into();
            lab.write(&format!("model/{name}"), changed.to_string());
            let ran = lab.run(&["base", "add", "x", "--from", "model", "-v"]);
            assert!(!ran.err.contains("panicked"), "{name} {key}:\n{}", ran.err);
            is_inert(&format!("{name} {key}"), &ran);
            lab.run(&["base", "remove", "x", "--force"]);
        }
        lab.write(&format!("model/{name}"), text);
    }
    lab.write(
        "model/chat_template.jinja",
        format!("{{{{ raise_exception('{HOSTILE}') }}}}"),
    );
    is_inert("template", &lab.run(&["base", "add", "x", "--from", "model", "-v"]));
    lab.write("model/chat_template.jinja", format!("{{% {HOSTILE} %}}"));
    is_inert("template", &lab.run(&["base", "add", "x", "--from", "model", "-v"]));
}

/// Nothing but the console holds a stream; bars are drawn by their crate, and the allocator writes constants without memory.
#[test]
fn one_module_writes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![root];
    let mut guilty = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let asks = text.matches("stdout().is_terminal()").count() + text.matches("stderr().is_terminal()").count();
            let names = text.matches("stdout()").count() + text.matches("stderr()").count();
            if names > asks && !path.ends_with("console.rs") {
                guilty.push(path);
            }
        }
    }
    assert_eq!(guilty, Vec::<std::path::PathBuf>::new());
}
