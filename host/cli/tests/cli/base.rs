//! `dlm base`: every source, every refusal, and that a refusal leaves nothing.

use std::path::Path;

use crate::lab::Lab;

fn bases(lab: &Lab) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(lab.path("home/bases")) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_directory_is_added_listed_shown_and_removed() {
    let lab = Lab::new();
    lab.tiny_model();
    lab.write("model/run.py", "import os");
    let ran = lab
        .run(&["base", "add", "tiny", "--from", "model"])
        .ok()
        .says(&["base: added tiny\n"]);
    assert_eq!(ran.out, "");
    assert!(
        !lab.path("home/bases/tiny/run.py").exists(),
        "nothing that runs code is copied"
    );
    assert!(lab.path("home/bases/tiny/model.safetensors").exists());

    let list = lab.json(&["base", "list", "--json"]);
    assert_eq!(list["local"][0]["key"], "local:tiny");
    assert_eq!(list["local"][0]["is_here"], true);
    assert_eq!(list["registry"].as_array().unwrap().len(), 27);
    let text = lab.run(&["base", "list"]).ok().out;
    assert!(text.contains("local:tiny") && text.contains("smollm2-135m"), "{text}");

    let detail = lab.json(&["base", "show", "tiny", "--json"]);
    assert_eq!(detail["local"]["format"], "safetensors");
    assert_eq!(detail["local"]["location"], "[DIR]/home/bases/tiny");
    assert!(lab.run(&["base", "show", "tiny"]).ok().out.starts_with("local:tiny\n"));

    lab.run(&["base", "remove", "tiny"]).ok().says(&["base: removed tiny"]);
    assert_eq!(bases(&lab), [] as [&str; 0]);
}

#[test]
fn a_home_that_moves_keeps_its_bases() {
    let lab = Lab::new();
    lab.tiny_model();
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    std::fs::rename(lab.path("home"), lab.path("moved")).unwrap();
    let detail = lab.json(&["--home", "moved", "base", "show", "tiny", "--json"]);
    assert_eq!(detail["is_here"], true);
    assert_eq!(detail["local"]["location"], "[DIR]/moved/bases/tiny");
}

#[test]
fn registry_bases_are_shown_with_license_and_nearest_names() {
    let lab = Lab::new();
    let text = lab.run(&["base", "show", "llama-3.2-1b"]).ok().out;
    assert!(
        text.contains("gated          yes") && text.contains("https://www.llama.com/"),
        "{text}"
    );
    let mut elsewhere = lab.command();
    elsewhere
        .env("HF_ENDPOINT", "https://mirror.example/")
        .args(["base", "show", "qwen2.5-0.5b"]);
    let text = lab.finish(&mut elsewhere).ok().out;
    assert!(text.contains("(https://mirror.example/Qwen/"), "{text}");
    lab.run(&["base", "show", "smollm2-135"])
        .exits(1)
        .says(&["base: unknown base", "did you mean `smollm2-135m`?"]);
    lab.run(&["base", "show", "hf:org/name"])
        .exits(2)
        .says(&["known to the hub only"]);
    assert!(!lab.path("home").exists());
}

#[test]
fn a_taken_or_unfit_name_is_refused() {
    let lab = Lab::new();
    lab.tiny_model();
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    lab.run(&["base", "add", "tiny", "--from", "model"])
        .exits(1)
        .says(&["base: base `tiny` exists already", "dlm base remove tiny"]);
    lab.run(&["base", "add", "../out", "--from", "model"])
        .exits(2)
        .says(&["`../out` is not a base name"]);
    assert_eq!(bases(&lab), ["tiny"]);
}

#[test]
fn what_cannot_be_opened_is_never_added() {
    let lab = Lab::new();
    lab.tiny_model();
    std::fs::create_dir(lab.path("empty")).unwrap();
    lab.write("notes.txt", "text");
    lab.write(
        "bad.gguf",
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\0\0\0\0\0",
    );
    lab.write("short.gguf", b"GG");
    lab.write("bad.whl", b"PK no archive");
    let cases = [
        ("none", "none does not exist"),
        (
            "notes.txt",
            "neither a directory of safetensors nor a GGUF file or a wheel",
        ),
        ("empty", "has neither `model.safetensors` nor"),
        ("bad.gguf", "bad.gguf cannot be used as a base"),
        ("short.gguf", "short.gguf cannot be used as a base"),
        ("bad.whl", "bad.whl cannot be read: it is no wheel"),
    ];
    for (from, message) in cases {
        let ran = lab.run(&["base", "add", "x", "--from", from]).exits(1);
        assert!(
            ran.err.contains("base: ") && ran.err.contains(message),
            "{from}:\n{}",
            ran.err
        );
        assert_eq!(bases(&lab), [] as [&str; 0], "{from}");
    }
}

#[test]
fn a_directory_with_a_part_missing_or_damaged_is_refused() {
    for damage in ["config.json", "tokenizer.json", "model.safetensors"] {
        let lab = Lab::new();
        lab.tiny_model();
        std::fs::remove_file(lab.path("model").join(damage)).unwrap();
        lab.run(&["base", "add", "x", "--from", "model"])
            .exits(1)
            .says(&["base: "]);
        lab.write(&format!("model/{damage}"), b"\xff\xff\xff\xff\xff\xff\xff\x7f{}");
        lab.run(&["base", "add", "x", "--from", "model"])
            .exits(1)
            .says(&["base: ", "model cannot be used as a base"]);
        assert_eq!(bases(&lab), [] as [&str; 0], "{damage}");
    }
}

#[test]
fn removing_what_is_not_there_lists_what_is() {
    let lab = Lab::new();
    lab.tiny_model();
    lab.run(&["base", "remove", "x"])
        .exits(1)
        .says(&["there is no local base `x` (local bases: none)"]);
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    lab.run(&["base", "remove", "x"])
        .exits(1)
        .says(&["(local bases: tiny)", "dlm base add"]);
}

#[test]
fn a_damaged_record_is_told() {
    let lab = Lab::new();
    lab.tiny_model();
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    lab.write("home/bases/tiny/base.json", "{");
    lab.run(&["base", "list"])
        .exits(1)
        .says(&["base.json: is damaged", "dlm base remove tiny"]);
    lab.run(&["base", "remove", "tiny"]).ok();
}

/// One stored file in a ZIP archive, without the crate under test.
fn stored_zip(name: &str, body: &[u8], checksum: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let common = |out: &mut Vec<u8>| {
        out.extend(20u16.to_le_bytes());
        out.extend([0; 8]);
        out.extend(checksum.to_le_bytes());
        out.extend((body.len() as u32).to_le_bytes());
        out.extend((body.len() as u32).to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
    };
    out.extend(b"PK\x03\x04");
    common(&mut out);
    out.extend(name.as_bytes());
    out.extend(body);
    let directory = out.len();
    out.extend(b"PK\x01\x02\x14\0");
    common(&mut out);
    out.extend([0; 14]);
    out.extend(name.as_bytes());
    let length = out.len() - directory;
    out.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    out.extend((length as u32).to_le_bytes());
    out.extend((directory as u32).to_le_bytes());
    out.extend([0; 2]);
    out
}

#[test]
fn wheels_without_a_model_or_with_a_damaged_one_are_refused() {
    let lab = Lab::new();
    lab.write("empty.whl", stored_zip("pkg/readme.txt", b"text", 0x3b8ba7c7));
    lab.run(&["base", "add", "x", "--from", "empty.whl"])
        .exits(1)
        .says(&["it holds 0 .gguf files, expected one"]);
    lab.write("damaged.whl", stored_zip("pkg/model.gguf", b"text", 1));
    lab.run(&["base", "add", "x", "--from", "damaged.whl"])
        .exits(1)
        .says(&["base: damaged.whl cannot be read: ", "another checksum than it records"]);
    lab.write("other.whl", stored_zip("../../out.gguf", b"text", 0x3b8ba7c7));
    lab.run(&["base", "add", "x", "--from", "other.whl"])
        .exits(1)
        .says(&["other.whl cannot be used as a base"]);
    assert!(!lab.path("out.gguf").exists() && !Path::new("/out.gguf").exists());
    assert_eq!(bases(&lab), [] as [&str; 0]);
}

/// The real wheel or GGUF file, when `DLM_TEST_BASE` names one.
#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_real_base_is_added_and_stands_in_for_the_registrys() {
    let base = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
    let lab = Lab::new();
    lab.run(&["base", "add", "smollm2-135m", "--from", base.to_str().unwrap()])
        .ok();
    let detail = lab.json(&["base", "show", "smollm2-135m", "--json"]);
    assert_eq!(detail["record"]["key"], "smollm2-135m");
    assert_eq!(detail["record"]["license_spdx"], "Apache-2.0");
    assert_eq!(detail["local"]["format"], "gguf");
    lab.run(&["init", "a.dlm", "--base", "smollm2-135m"])
        .ok()
        .says(&["note: the weights of `smollm2-135m` come from the local base"]);
}
