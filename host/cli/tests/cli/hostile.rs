//! Damaged and hostile model files given to `dlm base add`: refused with the file, the field and the place; nothing of them
//! stays, nothing is allocated that they claim.

use dlm_testkit::gguf::GgufBytes;

use crate::lab::Lab;

fn tensor() -> GgufBytes {
    GgufBytes::default().tensor("a", &[32], 0, 0).data(128)
}

fn array(elements: u64) -> Vec<u8> {
    [&0u32.to_le_bytes()[..], &elements.to_le_bytes()].concat()
}

/// Name, bytes, and what the refusal says.
fn ggufs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let sound = tensor().string("general.architecture", "llama");
    let at = |mut bytes: Vec<u8>, place: usize, value: &[u8]| {
        bytes[place..place + value.len()].copy_from_slice(value);
        bytes
    };
    vec![
        ("nothing", Vec::new(), "inside the magic"),
        ("cut", sound.bytes()[..60].to_vec(), "ends at byte 60"),
        (
            "cut in the data",
            sound.bytes()[..sound.bytes().len() - 1].to_vec(),
            "takes bytes",
        ),
        (
            "tensors",
            at(sound.bytes(), 8, &u64::MAX.to_le_bytes()),
            "number of tensors",
        ),
        (
            "entries",
            at(sound.bytes(), 16, &u64::MAX.to_le_bytes()),
            "number of metadata entries",
        ),
        ("array", tensor().value("k", 9, &array(1 << 40)).bytes(), "the limit is"),
        (
            "text",
            tensor().value("k", 8, &(1u64 << 50).to_le_bytes()).bytes(),
            "the length of the value of `k`",
        ),
        (
            "overlap",
            tensor().tensor("b", &[32], 0, 64).data(256).bytes(),
            "`a` and `b` overlap",
        ),
        (
            "outside",
            tensor().tensor("b", &[32], 0, 1 << 40).data(256).bytes(),
            "takes bytes",
        ),
        (
            "size",
            tensor().tensor("b", &[1 << 32, 1 << 32, 1 << 32], 0, 128).bytes(),
            "larger than any memory",
        ),
        (
            "tensor type",
            tensor().tensor("b", &[32], 999, 128).data(256).bytes(),
            "type 999",
        ),
        (
            "value type",
            tensor().value("k", 13, &[0; 8]).bytes(),
            "value type of `k`",
        ),
        ("no architecture", tensor().bytes(), "general.architecture"),
        (
            "architecture",
            tensor().string("general.architecture", "mamba").bytes(),
            "`mamba`",
        ),
        (
            "number as text",
            sound.clone().string("llama.embedding_length", "576").bytes(),
            "llama.embedding_length",
        ),
        (
            "twice",
            tensor().tensor("a", &[32], 0, 128).data(256).bytes(),
            "appears twice",
        ),
    ]
}

#[test]
fn hostile_ggufs_are_refused_with_field_and_place() {
    let lab = Lab::new();
    for (name, bytes, says) in ggufs() {
        lab.write("x.gguf", bytes);
        let ran = lab.run(&["base", "add", "x", "--from", "x.gguf"]).exits(1);
        let start = "base: x.gguf cannot be used as a base: ";
        assert!(
            ran.err.contains(start) && ran.err.contains(says),
            "{name}: `{says}` is missing in:\n{}",
            ran.err
        );
        assert!(!ran.err.contains("panicked"), "{name}:\n{}", ran.err);
        assert_eq!(lab.files("home/bases"), [], "{name}");
    }
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn hostile_safetensors_are_refused_with_tensor_and_place() {
    let lab = Lab::new();
    lab.tiny_model();
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let overlap =
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    let whole = std::fs::read(lab.path("model/model.safetensors")).unwrap();
    let cases = [
        ("nothing", Vec::new(), "safetensors"),
        ("cut", whole[..whole.len() - 1].to_vec(), "the file holds"),
        ("cut in the header", whole[..40].to_vec(), "header"),
        (
            "header",
            [&u64::MAX.to_le_bytes()[..], &[0; 16]].concat(),
            "the limit is",
        ),
        ("overlap", safetensors(overlap, 6), "`b` begins at data byte 2"),
        (
            "outside",
            safetensors(&one("F32", "[2]", "[0,8]"), 4),
            "the file holds 4",
        ),
        (
            "backwards",
            safetensors(&one("F32", "[2]", "[8,0]"), 8),
            "ends before it begins",
        ),
        (
            "size",
            safetensors(&one("F32", "[4294967296,4294967296]", "[0,8]"), 8),
            "larger than any memory",
        ),
        ("type", safetensors(&one("F99", "[2]", "[0,8]"), 8), "type `F99`"),
        (
            "no model",
            safetensors(&one("F32", "[2]", "[0,8]"), 8),
            "model.embed_tokens.weight",
        ),
    ];
    for (name, bytes, says) in cases {
        lab.write("model/model.safetensors", bytes);
        let ran = lab.run(&["base", "add", "x", "--from", "model"]).exits(1);
        let start = "base: model cannot be used as a base: ";
        assert!(
            ran.err.contains(start) && ran.err.contains(says),
            "{name}: `{says}` is missing in:\n{}",
            ran.err
        );
        assert!(!ran.err.contains("panicked"), "{name}:\n{}", ran.err);
        assert_eq!(lab.files("home/bases"), [], "{name}");
    }
}

#[test]
fn a_gguf_whose_settings_ask_for_more_than_it_holds_is_refused() {
    let lab = Lab::new();
    let whole = include_bytes!("../../../../fuzz/corpus/gguf_model/tiny");
    lab.write("whole.gguf", whole);
    lab.run(&["base", "add", "whole", "--from", "whole.gguf"]).ok();
    for (key, value, says) in [
        (
            "llama.block_count",
            200u32,
            "`model.layers.2.self_attn.q_proj.weight` is not in whole.gguf",
        ),
        ("llama.feed_forward_length", 96, "expected shape"),
        ("llama.embedding_length", 1 << 31, "expected [vocabulary, 2147483648]"),
    ] {
        let mut bytes = whole.to_vec();
        let key = key.as_bytes();
        let place = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        lab.write("whole.gguf", bytes);
        lab.run(&["base", "add", "x", "--from", "whole.gguf"])
            .exits(1)
            .says(&["base: whole.gguf cannot be used as a base: ", says]);
    }
}

/// A pipe that nobody writes to, and a device that never ends.
#[test]
fn pipes_and_devices_are_no_files_and_nobody_waits() {
    let lab = Lab::new();
    lab.trainable();
    let made = std::process::Command::new("mkfifo").arg(lab.path("pipe.dlm")).status();
    assert!(made.unwrap().success());
    std::fs::rename(lab.path("pipe.dlm"), lab.path("pipe")).unwrap();
    for name in [
        "pipe.dlm",
        "pipe.gguf",
        "pipe.whl",
        "pipe.jsonl",
        "pipe.wasm",
        "pipe.pub",
    ] {
        std::os::unix::fs::symlink(lab.path("pipe"), lab.path(name)).unwrap();
    }
    for line in [
        &["check", "pipe.dlm"][..],
        &["train", "pipe.dlm"],
        &["prompt", "pipe.dlm", "hi"],
        &["show", "pipe.dlm"],
        &["export", "pipe.dlm"],
        &["migrate", "pipe.dlm"],
        &["check", "/dev/zero"],
        &["score", "a.dlm", "--questions", "pipe.jsonl"],
        &["base", "add", "x", "--from", "pipe.gguf"],
        &["base", "add", "x", "--from", "pipe.whl"],
        &["plugin", "inspect", "./pipe.wasm"],
        &["plugin", "install", "./pipe.wasm"],
        &["plugin", "trust", "./pipe.wasm"],
        &["plugin", "trust", "pipe.pub"],
        &["plugin", "test", "./pipe.wasm"],
    ] {
        let ran = lab.run(line).exits(1);
        assert!(
            ran.err.contains("not a file") || ran.err.contains("no .wasm"),
            "{line:?}: {}",
            ran.err
        );
    }
    let settings = lab.path("home/config.toml");
    std::os::unix::fs::symlink(lab.path("pipe"), &settings).unwrap();
    for line in [
        &["templates", "list"][..],
        &["plugin", "list"],
        &["preference", "mine", "a.dlm", "--judge", "cli:true"],
    ] {
        lab.run(line).exits(1).says(&["config.toml", "not a file"]);
    }
    std::fs::remove_file(settings).unwrap();
    std::fs::remove_file(lab.path("model/tokenizer.json")).unwrap();
    std::os::unix::fs::symlink(lab.path("pipe"), lab.path("model/tokenizer.json")).unwrap();
    lab.run(&["base", "add", "y", "--from", "model"]).exits(1);
}
