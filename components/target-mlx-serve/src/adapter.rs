//! From PEFT's form of an adapter to MLX's.

use std::collections::BTreeMap;

use dlm_plugin::peft::AdapterConfig;
use dlm_plugin::serde_json::json;
use dlm_plugin::{Error, error};

use crate::safetensors::{self, Tensor};

const PEFT_PREFIX: &str = "base_model.model.";

/// `adapter_config.json` as MLX reads it: sorted keys, two spaces, one final newline.
pub fn settings(config: &AdapterConfig, layers: u32) -> Result<String, Error> {
    if layers == 0 {
        return Err(error!(
            Unsupported,
            "the base's number of layers is not known, and mlx_lm must be told"
        ));
    }
    if config.has_patterns {
        return Err(error!(
            Unsupported,
            "mlx_lm takes one rank and one scale, and this adapter has others for single modules"
        ));
    }
    if config.targets.is_empty() {
        return Err(error!(Corrupt, "the adapter's `target_modules` names no module"));
    }
    let keys: Vec<String> = config
        .targets
        .iter()
        .map(|name| qualified(name))
        .collect::<Result<_, _>>()?;
    let value = json!({
        "fine_tune_type": if config.is_dora { "dora" } else { "lora" },
        "num_layers": layers,
        "lora_parameters": {
            "rank": config.rank,
            "scale": config.scale(),
            "dropout": config.dropout,
            "keys": keys,
        },
    });
    Ok(format!("{value:#}\n"))
}

/// A module's name inside of its block.
fn qualified(name: &str) -> Result<String, Error> {
    match name {
        "q_proj" | "k_proj" | "v_proj" | "o_proj" | "qkv_proj" | "wqkv" => Ok(format!("self_attn.{name}")),
        "gate_proj" | "up_proj" | "down_proj" | "gate_up_proj" | "fc1" | "fc2" => Ok(format!("mlp.{name}")),
        dotted if dotted.contains('.') => Ok(dotted.to_owned()),
        other => Err(error!(
            Unsupported,
            "the adapter changes `{other}`, which mlx_lm has no place for inside of a block; \
             export it with `--target llama-server --merged`"
        )),
    }
}

/// The adapter's tensors under MLX's names, the two matrices of each module turned around.
pub fn turned(name: &str, file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (old, tensor) in safetensors::read(name, file)? {
        let Some((new, is_matrix)) = renamed(&old) else {
            continue;
        };
        let tensor = if is_matrix { tensor.transposed(&old)? } else { tensor };
        if tensors.insert(new.clone(), tensor).is_some() {
            return Err(error!(Corrupt, "`{name}` has two tensors that become `{new}`"));
        }
    }
    if tensors.is_empty() {
        return Err(error!(Corrupt, "`{name}` has no LoRA tensor"));
    }
    Ok(safetensors::write(&tensors))
}

/// MLX's name of a tensor of PEFT, and whether it is one of the two matrices; nothing for what is no part of a LoRA.
fn renamed(name: &str) -> Option<(String, bool)> {
    let name = name.strip_prefix(PEFT_PREFIX).unwrap_or(name);
    let tails = [
        (".lora_A.weight", ".lora_a", true),
        (".lora_B.weight", ".lora_b", true),
        (".lora_A.default.weight", ".lora_a", true),
        (".lora_B.default.weight", ".lora_b", true),
        // The length of each row of a DoRA; MLX would else start from the base's own lengths.
        (".lora_magnitude_vector.weight", ".m", false),
        (".lora_magnitude_vector", ".m", false),
    ];
    tails.into_iter().find_map(|(old, new, is_matrix)| {
        let module = name.strip_suffix(old)?;
        Some((format!("{module}{new}"), is_matrix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(targets: &[&str]) -> AdapterConfig {
        AdapterConfig {
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            targets: targets.iter().map(|name| (*name).to_owned()).collect(),
            is_dora: false,
            is_rslora: false,
            modules_to_save: Vec::new(),
            has_patterns: false,
        }
    }

    #[test]
    fn the_settings_are_those_of_mlx() {
        let expected = r#"{
  "fine_tune_type": "lora",
  "lora_parameters": {
    "dropout": 0.05,
    "keys": [
      "self_attn.q_proj",
      "mlp.down_proj",
      "attention.wq"
    ],
    "rank": 8,
    "scale": 2.0
  },
  "num_layers": 30
}
"#;
        assert_eq!(
            settings(&config(&["q_proj", "down_proj", "attention.wq"]), 30).unwrap(),
            expected
        );
        let dora = AdapterConfig {
            is_dora: true,
            ..config(&["q_proj"])
        };
        assert!(settings(&dora, 30).unwrap().contains("\"dora\""));
        let scaled = AdapterConfig {
            is_rslora: true,
            rank: 16,
            ..config(&["q_proj"])
        };
        assert!(settings(&scaled, 30).unwrap().contains("\"scale\": 4.0"));
    }

    #[test]
    fn what_mlx_cannot_hold_is_refused() {
        assert!(
            settings(&config(&["lm_head"]), 30)
                .unwrap_err()
                .to_string()
                .contains("`lm_head`")
        );
        assert!(settings(&config(&[]), 30).is_err());
        assert!(settings(&config(&["q_proj"]), 0).is_err());
        let patterns = AdapterConfig {
            has_patterns: true,
            ..config(&["q_proj"])
        };
        assert!(settings(&patterns, 30).is_err());
    }

    fn file(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
        let tensor = |(name, shape, values): &(&str, &[usize], &[f32])| {
            let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (
                (*name).to_owned(),
                Tensor {
                    dtype: "F32".to_owned(),
                    shape: shape.to_vec(),
                    data,
                },
            )
        };
        safetensors::write(&tensors.iter().map(tensor).collect())
    }

    #[test]
    fn matrices_are_turned_and_renamed() {
        let peft = file(&[
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                &[2, 3],
                &[1., 2., 3., 4., 5., 6.],
            ),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
                &[2, 1],
                &[7., 8.],
            ),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
                &[2],
                &[9., 10.],
            ),
            ("base_model.model.lm_head.weight", &[1], &[0.]),
        ]);
        let mlx = turned("adapter_model.safetensors", &peft).unwrap();
        let expected = file(&[
            (
                "model.layers.0.self_attn.q_proj.lora_a",
                &[3, 2],
                &[1., 4., 2., 5., 3., 6.],
            ),
            ("model.layers.0.self_attn.q_proj.lora_b", &[1, 2], &[7., 8.]),
            ("model.layers.0.self_attn.q_proj.m", &[2], &[9., 10.]),
        ]);
        assert_eq!(mlx, expected);
    }

    #[test]
    fn an_empty_or_doubled_adapter_is_refused() {
        let none = file(&[("model.norm.weight", &[1], &[1.])]);
        assert!(turned("a", &none).unwrap_err().to_string().contains("no LoRA tensor"));
        let twice = file(&[
            ("base_model.model.x.lora_A.weight", &[1, 1], &[1.]),
            ("x.lora_A.weight", &[1, 1], &[1.]),
        ]);
        assert!(turned("a", &twice).unwrap_err().to_string().contains("`x.lora_a`"));
    }
}
