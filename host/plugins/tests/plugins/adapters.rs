//! The targets that serve the adapter as it was trained: `vllm` and `mlx-serve`.

use std::process::Command;

use dlm_core::FailureKind;
use dlm_core::digest::sha256_hex;
use dlm_core::ports::guest_http::{GuestBody, GuestMethod, GuestRequest};
use dlm_core::ports::target::{
    Artifact, ArtifactKind, PluginFailure, Stage, TargetAdapter, TargetPlan, TargetReport, TargetRun, TargetSmoke,
    TargetSource, run_target,
};
use dlm_plugins::GrantFlags;
use serde_json::{Value, json};

use crate::fakes::{PORT, World, finished};
use crate::targets::{FILES, WHOLE};

/// A plan of these adapters, each with its own rank.
fn plan(names: &[&str]) -> TargetPlan {
    let adapter = |(index, name): (usize, &&str)| TargetAdapter {
        name: (*name).to_owned(),
        version: 3 + u32::try_from(index).unwrap(),
        artifact: format!("adapters/{name}"),
        weight: 1.0,
    };
    TargetPlan {
        adapters: names.iter().enumerate().map(adapter).collect(),
        quant: "none".to_owned(),
        ..crate::targets::plan()
    }
}

fn mac(names: &[&str]) -> TargetPlan {
    TargetPlan {
        platform: "macos/aarch64".to_owned(),
        ..plan(names)
    }
}

/// What PEFT writes for an adapter.
fn config(rank: u64) -> Value {
    json!({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.05, "use_dora": false,
        "use_rslora": false, "modules_to_save": null, "target_modules": ["q_proj", "down_proj"],
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"})
}

/// A safetensors file of one LoRA: A is 2x3, B is 3x2.
fn weights() -> Vec<u8> {
    let module = "base_model.model.model.layers.0.self_attn.q_proj";
    let header = json!({
        format!("{module}.lora_A.weight"): {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        format!("{module}.lora_B.weight"): {"dtype": "F32", "shape": [3, 2], "data_offsets": [24, 48]},
    })
    .to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend((1u8..=12).flat_map(|n| f32::from(n).to_le_bytes()));
    file
}

/// The files of these adapters, outside of the export directory.
fn stage(world: &World, adapters: &[(&str, Value)]) -> Stage {
    let directory = world.directory.path().join("trained");
    let mut artifacts = Vec::new();
    for (name, config) in adapters {
        for (file, bytes) in [
            ("adapter_config.json", config.to_string().into_bytes()),
            ("adapter_model.safetensors", weights()),
        ] {
            let path = directory.join(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            artifacts.push(Artifact {
                name: format!("adapters/{name}/{file}"),
                kind: ArtifactKind::Adapter,
                path,
                size: bytes.len() as u64,
                sha256: sha256_hex(&bytes),
                staged_path: None,
            });
        }
    }
    let directory = world.directory.path().join("export");
    std::fs::create_dir_all(&directory).unwrap();
    Stage {
        directory,
        artifacts,
        reserved: vec!["export_manifest.json".to_owned()],
        is_draft: false,
    }
}

fn export(
    world: &World,
    target: &str,
    plan: &TargetPlan,
    stage: &Stage,
    run: TargetRun,
) -> Result<TargetReport, PluginFailure> {
    let mut target = world.targets(&GrantFlags::default()).open(target)?;
    run_target(&mut *target, plan, stage, run)
}

fn read(stage: &Stage, name: &str) -> String {
    std::fs::read_to_string(stage.directory.join(name)).unwrap()
}

/// Runs a launch script with a runtime that prints its arguments and one variable, a line each.
fn run_script(stage: &Stage, script: &str, program: &str, variable: &str) -> Vec<String> {
    let bin = stage.directory.parent().unwrap().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let runtime = bin.join(program);
    std::fs::write(&runtime, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" \"${variable}\"\n")).unwrap();
    let status = Command::new("chmod").arg("+x").arg(&runtime).status().unwrap();
    assert!(status.success());
    let output = Command::new(stage.directory.join(script))
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .arg("--extra")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The JSON that a request carries.
fn json_of(request: &GuestRequest) -> Value {
    let GuestBody::Bytes(bytes) = &request.body else {
        panic!("{:?}", request.body);
    };
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn vllm_gets_script_settings_and_modules() {
    let world = World::new();
    let stage = stage(&world, &[("default", config(8))]);
    let report = export(&world, "vllm", &plan(&["default"]), &stage, FILES).unwrap();
    let script = r#"#!/usr/bin/env bash
set -euo pipefail
SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --revision 12fd25f --host 127.0.0.1 --port 8000 --dtype auto --served-model-name dlm-01hq:v0003 --max-model-len 2048 --override-generation-config '{"temperature":0.7,"top_p":0.9}' --enable-lora --max-loras 1 --lora-modules adapter="$SCRIPT_DIR/adapters/adapter" "$@"
"#;
    assert_eq!(read(&stage, "vllm_launch.sh"), script);
    let settings = r#"{
  "dtype": "auto",
  "environment": {},
  "host": "127.0.0.1",
  "lora_modules": [
    {
      "adapter_version": 3,
      "name": "adapter",
      "path": "adapters/adapter"
    }
  ],
  "max_model_len": 2048,
  "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
  "override_generation_config": {
    "temperature": 0.7,
    "top_p": 0.9
  },
  "port": 8000,
  "revision": "12fd25f",
  "served_model_name": "dlm-01hq:v0003",
  "target": "vllm"
}
"#;
    assert_eq!(read(&stage, "vllm_config.json"), settings);
    let placed = std::fs::read(stage.directory.join("adapters/adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(placed, weights());
    let names: Vec<&str> = report.prepared.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "adapters/adapter/adapter_config.json",
            "adapters/adapter/adapter_model.safetensors",
            "vllm_config.json",
            "vllm_launch.sh"
        ]
    );
    assert_eq!(report.prepared.entry.as_deref(), Some("vllm_launch.sh"));
}

#[test]
fn the_script_of_vllm_hands_over_every_word() {
    let world = World::new();
    let stage = stage(&world, &[("tone", config(24)), ("facts", config(8))]);
    let mut plan = mac(&["tone", "facts"]);
    plan.name = "it's $HOME".to_owned();
    export(&world, "vllm", &plan, &stage, FILES).unwrap();
    let words = run_script(&stage, "vllm_launch.sh", "vllm", "VLLM_METAL_USE_PAGED_ATTENTION");
    let directory = stage.directory.canonicalize().unwrap();
    let module = |name: &str| format!("{name}={}/adapters/{name}", directory.display());
    let at = |word: &str| words.iter().position(|found| found == word).unwrap();
    assert_eq!(words[at("--served-model-name") + 1], "it's $HOME");
    assert_eq!(words[at("--max-lora-rank") + 1], "32");
    assert_eq!(words[at("--max-loras") + 1], "2");
    assert_eq!(
        words[at("--lora-modules") + 1..],
        [&module("tone"), &module("facts"), "--extra", "0"]
    );
    let settings: Value = serde_json::from_str(&read(&stage, "vllm_config.json")).unwrap();
    let environment = json!({"VLLM_METAL_USE_PAGED_ATTENTION": "0", "VLLM_METAL_MEMORY_FRACTION": "auto"});
    assert_eq!(settings["environment"], environment);
    assert_eq!(settings["lora_modules"][1]["adapter_version"], 4);
}

#[test]
fn vllm_is_started_and_its_adapter_is_asked() {
    let world = World::new();
    world.process.programs.lock().unwrap().push("vllm");
    world.answer_http(|request: &GuestRequest| {
        let path = request.url.strip_prefix(&format!("http://127.0.0.1:{PORT}")).unwrap();
        let body = match path {
            "/v1/models" => json!({"data": [{"id": "dlm-01hq:v0003"}, {"id": "adapter"}]}),
            _ => json!({"choices": [{"message": {"content": "\n Good day.\nMore."}}]}),
        };
        (200, body.to_string())
    });
    let stage = stage(&world, &[("default", config(8))]);
    let report = export(&world, "vllm", &plan(&["default"]), &stage, WHOLE).unwrap();
    let passed = TargetSmoke::Passed {
        detail: "Good day.".to_owned(),
    };
    assert_eq!(report.smoke, passed);
    let ran = world.process.ran.lock().unwrap();
    let module = format!("adapter={}", stage.directory.join("adapters/adapter").display());
    assert_eq!(
        ran[0][..3],
        ["/fake/bin/vllm", "serve", "HuggingFaceTB/SmolLM2-135M-Instruct"]
    );
    assert!(ran[0].ends_with(&["--lora-modules".to_owned(), module]), "{:?}", ran[0]);
    assert!(ran[0].windows(2).any(|pair| pair == ["--port", "4711"]));
    let sent = world.http.sent.lock().unwrap();
    let question = sent.iter().find(|request| request.method == GuestMethod::Post).unwrap();
    let question: Value = json_of(question);
    assert_eq!(question["model"], "adapter");
    assert_eq!(question["messages"], json!([{"role": "user", "content": "Hello."}]));
}

#[test]
fn a_failed_answer_of_vllm_is_a_failed_smoke_test() {
    for (status, body, part) in [
        (500, json!({"error": "out of memory"}), "status 500"),
        (200, json!({"choices": [{"message": {"content": " "}}]}), "blank"),
        (200, json!({}), "choices[0].message.content"),
    ] {
        let world = World::new();
        world.process.programs.lock().unwrap().push("vllm");
        world.answer_http(move |request: &GuestRequest| match request.method {
            GuestMethod::Post => (status, body.to_string()),
            _ => (200, "{}".to_owned()),
        });
        let stage = stage(&world, &[("default", config(8))]);
        let error = export(&world, "vllm", &plan(&["default"]), &stage, WHOLE).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(stage.directory.join("vllm_launch.sh").exists(), "the files stay");
    }
}

#[test]
fn vllm_refuses_what_it_cannot_serve() {
    #[track_caller]
    fn refused(change: impl FnOnce(&mut TargetPlan), config: Value, part: &str) {
        let world = World::new();
        let mut plan = plan(&["default"]);
        change(&mut plan);
        let stage = stage(&world, &[("default", config)]);
        let error = export(&world, "vllm", &plan, &stage, FILES).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(!stage.directory.join("vllm_launch.sh").exists());
    }
    let with = |key: &str, value: Value| {
        let mut config = config(8);
        config[key] = value;
        config
    };
    refused(|_| (), with("use_dora", json!(true)), "DoRA");
    refused(|_| (), with("modules_to_save", json!(["lm_head"])), "lm_head");
    refused(|_| (), config(1024), "rank 1024");
    refused(|_| (), with("peft_type", json!("IA3")), "IA3");
    refused(|plan| plan.is_merged = true, config(8), "--merged");
    refused(|plan| plan.adapters.clear(), config(8), "--merged");
    refused(|plan| plan.base.hub_id = None, config(8), "smollm2-135m");
    refused(
        |plan| plan.adapters[0].artifact = "adapters/other".to_owned(),
        config(8),
        "adapters/other",
    );
    let vision = "PaliGemmaForConditionalGeneration";
    refused(|plan| plan.base.architecture = vision.to_owned(), config(8), vision);
    let world = World::new();
    let mut plan = plan(&["default"]);
    plan.base.architecture = vision.to_owned();
    let error = export(&world, "vllm", &plan, &stage(&world, &[]), FILES).unwrap_err();
    assert_eq!(error.kind, FailureKind::Misuse);
}

#[test]
fn mlx_gets_script_settings_and_turned_matrices() {
    let world = World::new();
    let stage = stage(&world, &[("default", config(8))]);
    export(&world, "mlx-serve", &mac(&["default"]), &stage, FILES).unwrap();
    let script = r#"#!/usr/bin/env bash
set -euo pipefail
SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec python -m mlx_lm.server --model HuggingFaceTB/SmolLM2-135M-Instruct --adapter-path "$SCRIPT_DIR/adapter" --host 127.0.0.1 --port 8000 --temp 0.7 --top-p 0.9 "$@"
"#;
    assert_eq!(read(&stage, "mlx_serve_launch.sh"), script);
    let settings: Value = serde_json::from_str(&read(&stage, "adapter/adapter_config.json")).unwrap();
    let expected = json!({"fine_tune_type": "lora", "num_layers": 30, "lora_parameters": {
        "rank": 8, "scale": 2.0, "dropout": 0.05, "keys": ["self_attn.q_proj", "mlp.down_proj"]}});
    assert_eq!(settings, expected);
    let file = std::fs::read(stage.directory.join("adapter/adapters.safetensors")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let a = &header["model.layers.0.self_attn.q_proj.lora_a"];
    assert_eq!(a, &json!({"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}));
    let numbers: Vec<f32> = file[8 + length..]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(numbers, [1., 4., 2., 5., 3., 6., 7., 9., 11., 8., 10., 12.]);
    let words = run_script(&stage, "mlx_serve_launch.sh", "python", "NOTHING");
    let directory = stage
        .directory
        .canonicalize()
        .unwrap()
        .join("adapter")
        .display()
        .to_string();
    assert_eq!(
        words[..6],
        [
            "-m",
            "mlx_lm.server",
            "--model",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "--adapter-path",
            &directory
        ]
    );
}

#[test]
fn mlx_is_looked_for_started_and_asked_under_its_fixed_name() {
    let world = World::new();
    world.process.programs.lock().unwrap().push("python");
    world.answer_http(|request: &GuestRequest| match request.method {
        GuestMethod::Post => (200, json!({"choices": [{"message": {"content": "Hi."}}]}).to_string()),
        _ => (200, json!({"data": [{"id": "another/model"}]}).to_string()),
    });
    let stage = stage(&world, &[("tone", config(8))]);
    export(&world, "mlx-serve", &mac(&["tone"]), &stage, WHOLE).unwrap();
    let ran = world.process.ran.lock().unwrap();
    assert_eq!(ran[0], ["/fake/bin/python", "-m", "mlx_lm.server", "--help"]);
    let directory = stage.directory.join("tone").display().to_string();
    assert!(
        ran[1]
            .windows(2)
            .any(|pair| pair == ["--adapter-path", directory.as_str()]),
        "{:?}",
        ran[1]
    );
    let sent = world.http.sent.lock().unwrap();
    let question: Value = json_of(sent.last().unwrap());
    assert_eq!(question["model"], "default_model");
}

#[test]
fn mlx_refuses_other_machines_and_a_missing_package() {
    let world = World::new();
    let stage = stage(&world, &[("default", config(8)), ("tone", config(8))]);
    let error = export(&world, "mlx-serve", &plan(&["default"]), &stage, FILES).unwrap_err();
    assert!(error.to_string().contains("linux/x86_64"), "{error}");
    assert!(!stage.directory.join("mlx_serve_launch.sh").exists());
    let error = export(&world, "mlx-serve", &mac(&["default", "tone"]), &stage, FILES).unwrap_err();
    assert!(
        error.to_string().contains("--adapter, or mix them with --adapter-mix"),
        "{error}"
    );
    assert_eq!(error.kind, FailureKind::Misuse);
    world.process.programs.lock().unwrap().push("python");
    world.answer_process(|_| finished(1, "", "Traceback\nModuleNotFoundError: No module named 'mlx_lm'\n"));
    let error = export(&world, "mlx-serve", &mac(&["default"]), &stage, WHOLE).unwrap_err();
    assert!(error.to_string().contains("No module named 'mlx_lm'"), "{error}");
    assert!(error.to_string().contains("pip install mlx-lm"), "{error}");
}
