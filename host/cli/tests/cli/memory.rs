//! What a command is expected to take beside what it takes, for models of three sizes, and what happens where that is not there.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{Lab, Ran, tiny_base};

/// Widths of the models; with four layers they have 4, 16 and 63 million parameters.
pub const WIDTHS: [usize; 3] = [256, 512, 1024];
const LAYERS: usize = 4;
const HEAD: usize = 64;
const VOCAB: usize = 320;
/// What the program and its tables may take that no estimate counts one by one.
const FIXED_MIB: f64 = 96.0;

/// Rows and columns of every matrix of a model, norms as one row.
fn shapes(width: usize) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::from([
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, width]),
        ("model.norm.weight".to_owned(), vec![width]),
    ]);
    for layer in 0..LAYERS {
        let matrices: [(&str, Vec<usize>); 9] = [
            ("self_attn.q_proj", vec![width, width]),
            ("self_attn.k_proj", vec![width / 2, width]),
            ("self_attn.v_proj", vec![width / 2, width]),
            ("self_attn.o_proj", vec![width, width]),
            ("mlp.gate_proj", vec![4 * width, width]),
            ("mlp.up_proj", vec![4 * width, width]),
            ("mlp.down_proj", vec![width, 4 * width]),
            ("input_layernorm", vec![width]),
            ("post_attention_layernorm", vec![width]),
        ];
        for (name, shape) in matrices {
            shapes.insert(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
    shapes
}

/// Writes a model of this width in bf16 into `model`: numbers without meaning, the tokenizer of the tiny one.
pub fn write_model(lab: &Lab, width: usize) {
    std::fs::create_dir(lab.path("model")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny_base().join(name), lab.path("model").join(name)).unwrap();
    }
    let config = std::fs::read_to_string(tiny_base().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["hidden_size"] = json!(width);
    config["intermediate_size"] = json!(4 * width);
    config["num_hidden_layers"] = json!(LAYERS);
    config["num_attention_heads"] = json!(width / HEAD);
    config["num_key_value_heads"] = json!(width / HEAD / 2);
    config["head_dim"] = json!(HEAD);
    lab.write("model/config.json", config.to_string());
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    let mut state = 1u32;
    for (name, shape) in shapes(width) {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = match shape.len() {
                1 => 1.0,
                _ => (f64::from(state >> 8) / f64::from(1u32 << 24) - 0.5) as f32 * 0.04,
            };
            data.extend_from_slice(
                &value.to_bits().to_be_bytes()[..2]
                    .iter()
                    .rev()
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        header.insert(
            name,
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    lab.write("model/model.safetensors", bytes);
}

/// A size as it is shown, in MiB.
fn mib(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap();
    number.parse::<f64>().unwrap()
        * match unit {
            "KiB" => 1.0 / 1024.0,
            "MiB" => 1.0,
            "GiB" => 1024.0,
            other => panic!("{other}"),
        }
}

/// What a command took and what was planned, in MiB.
fn taken(ran: &Ran) -> (f64, f64) {
    let line = ran.err.lines().find_map(|line| line.strip_prefix("memory: at most "));
    let line = line.unwrap_or_else(|| panic!("no figures in {}", ran.err));
    let (peak, planned) = line.split_once("; planned ").unwrap();
    (mib(peak), mib(planned))
}

#[track_caller]
fn compare(what: &str, ran: &Ran) {
    let (found, planned) = taken(ran);
    assert!(
        found <= planned,
        "{what} took {found:.0} MiB, planned were {planned:.0}"
    );
    // An estimate that is far too high refuses what would fit.
    assert!(
        planned <= 1.5 * found + FIXED_MIB,
        "{what} took {found:.0} MiB, planned were {planned:.0}"
    );
}

#[test]
fn what_is_planned_is_what_is_taken_for_three_sizes() {
    for width in WIDTHS {
        let lab = Lab::new();
        write_model(&lab, width);
        lab.trainable_from("model");
        lab.write(
            "questions.json",
            r#"{"pairs": [{"question": "What?", "accept": ["x"]}]}"#,
        );
        let prompt = ["-v", "prompt", "a.dlm", "What?", "--base-only", "--max-tokens", "4"];
        let greedy = [&prompt[..], &["--temp", "0"]].concat();
        let score = ["-v", "score", "a.dlm", "--questions", "questions.json", "--base-only"];
        let ask = || {
            compare("a sampled answer", &lab.run(&prompt).ok());
            compare("a greedy answer", &lab.run(&greedy).ok());
            compare("a score", &lab.run(&score).ok());
        };
        ask();
        lab.run(&["train", "a.dlm", "--max-steps", "1", "--anchors", "off"])
            .ok();
        let export = [
            "-v",
            "export",
            "a.dlm",
            "--target",
            "llama-server",
            "--no-smoke",
            "--merged",
            "--quant",
            "Q8_0",
        ];
        let ran = lab.run(&export).ok();
        let written = lab.store().join("exports/Q8_0/merged.Q8_0.gguf");
        compare("an export", &ran);
        // The same model in blocks.
        lab.run(&["base", "add", "small", "--from", written.to_str().unwrap()])
            .ok();
        let text = lab.read("a.dlm").replace("base_model: tiny", "base_model: small");
        lab.write("a.dlm", text);
        ask();
    }
}

/// The plan of a training is its peak within a tenth, beside what the program may take; in bf16 with the copies, and in four bits.
#[test]
fn what_a_training_is_planned_with_is_what_it_takes() {
    const PROGRAM_MIB: f64 = 24.0;
    for (kind, width) in [("lora", WIDTHS[1]), ("lora", WIDTHS[2]), ("qlora", WIDTHS[2])] {
        let lab = Lab::new();
        write_model(&lab, width);
        lab.trainable_from("model");
        lab.set_training(&format!("adapter: {kind}"));
        let ran = lab
            .run(&["train", "a.dlm", "--max-steps", "6", "--anchors", "off"])
            .ok();
        let found = ran.err.split_once("peak memory ").unwrap().1.lines().next().unwrap();
        let plan = lab.json(&["train", "a.dlm", "--dry-run", "--json"]);
        let planned = plan["memory"]["total"].as_f64().unwrap() / f64::from(1 << 20);
        let found = mib(found.trim_end());
        assert!(
            (found - planned).abs() <= 0.1 * found + PROGRAM_MIB,
            "{kind} {width}: {found:.0} MiB, planned were {planned:.0}"
        );
    }
}

/// An exact answer from quantized weights is the same whether there is room to decode them once or not.
#[test]
fn little_memory_takes_longer_and_says_the_same() {
    let lab = Lab::new();
    write_model(&lab, WIDTHS[2]);
    lab.trainable_from("model");
    lab.run(&["train", "a.dlm", "--max-steps", "1", "--anchors", "off"])
        .ok();
    let export = [
        "export",
        "a.dlm",
        "--target",
        "llama-server",
        "--no-smoke",
        "--merged",
        "--quant",
        "Q8_0",
    ];
    lab.run(&export).ok();
    let written = lab.store().join("exports/Q8_0/merged.Q8_0.gguf");
    lab.run(&["base", "add", "small", "--from", written.to_str().unwrap()])
        .ok();
    let text = lab.read("a.dlm").replace("base_model: tiny", "base_model: small");
    lab.write("a.dlm", text);
    let ask = "-v prompt a.dlm What? --base-only --max-tokens 8 --temp 0";
    let roomy = lab.run(&ask.split(' ').collect::<Vec<_>>()).ok();
    // Kibibytes of address space: decoded, the weights take 250 MB of it, which is more than half.
    let mut command = lab.command();
    let program = command.get_program().to_owned();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("ulimit -v 420000 && exec \"$0\" {ask}")])
        .arg(program)
        .current_dir(lab.path(""))
        .env_clear();
    for (name, value) in command.env("HF_HUB_OFFLINE", "1").get_envs() {
        shell.env(name, value.unwrap());
    }
    let narrow = lab.finish(&mut shell).ok();
    assert_eq!(narrow.out, roomy.out);
    let (less, more) = (taken(&narrow).1, taken(&roomy).1);
    assert!(less + 150.0 < more, "{less:.0} and {more:.0} MiB were planned");
}
