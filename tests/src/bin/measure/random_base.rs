//! A base of random weights in the shape of a real one: what a size costs does not hang on what its weights say.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use dlm_core::random::Rng;
use dlm_model::config::json::parse_config;
use dlm_model::layout::slot_plans;
use dlm_tests::Failed;
use serde_json::{Map, Value, json};

use super::open;

/// Sizes of a published base: width, blocks, heads, heads of keys, width of the feed-forward part, vocabulary.
fn sizes(shape: &str) -> Result<(&'static str, [u64; 6]), Failed> {
    Ok(match shape {
        "135m" => ("llama", [576, 30, 9, 3, 1536, 49152]),
        "360m" => ("llama", [960, 32, 15, 5, 2560, 49152]),
        "0.5b" => ("qwen2", [896, 24, 14, 2, 4864, 151_936]),
        "1.5b" => ("qwen2", [1536, 28, 12, 2, 8960, 151_936]),
        other => return Err(format!("unknown shape `{other}`; 135m, 360m, 0.5b or 1.5b").into()),
    })
}

fn settings(family: &str, [d, layers, heads, kv, ff, vocab]: [u64; 6]) -> Value {
    let class = match family {
        "qwen2" => "Qwen2ForCausalLM",
        _ => "LlamaForCausalLM",
    };
    json!({
        "architectures": [class], "model_type": family, "hidden_size": d, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": ff, "vocab_size": vocab,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "rope_theta": 100_000.0, "hidden_act": "silu",
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    })
}

/// Writes a directory of safetensors in bf16, with the tokenizer and the template of another base.
pub fn write(tokenizer_of: &str, shape: &str, directory: &str) -> Result<Value, Failed> {
    let (family, sizes) = sizes(shape)?;
    let directory = Path::new(directory);
    std::fs::create_dir_all(directory)?;
    let settings = settings(family, sizes).to_string();
    std::fs::write(directory.join("config.json"), &settings)?;
    for (name, text) in open(tokenizer_of)?.text().files()? {
        std::fs::write(directory.join(name), text)?;
    }
    let tensors = tensors(settings.as_bytes(), sizes)?;
    let mut header = Map::new();
    let mut offset = 0;
    for (name, shape) in &tensors {
        let end = offset + 2 * shape.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({ "dtype": "BF16", "shape": shape, "data_offsets": [offset, end] }),
        );
        offset = end;
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(directory.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let mut rng = Rng::new(index as u64);
        let bytes: Vec<u8> = (0..shape.iter().product())
            .flat_map(|_| weight(name, &mut rng).to_le_bytes())
            .collect();
        file.write_all(&bytes)?;
    }
    file.flush()?;
    Ok(json!({ "parameters": offset / 2, "bytes": offset }))
}

/// The bit pattern of one bf16 weight: norms are one, the rest is small.
fn weight(name: &str, rng: &mut Rng) -> u16 {
    const ONE: u16 = 0x3f80;
    match name.contains("norm") {
        true => ONE,
        false => (((rng.unit() as f32 - 0.5) * 0.08).to_bits() >> 16) as u16,
    }
}

/// Names and shapes in the order of the file.
fn tensors(settings: &[u8], [d, layers, _, _, _, vocab]: [u64; 6]) -> Result<Vec<(String, Vec<usize>)>, Failed> {
    let config = parse_config(settings)?;
    let (d, vocab) = (d as usize, vocab as usize);
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, d])];
    for layer in 0..layers as usize {
        for plan in slot_plans(&config, layer) {
            for (path, rows) in &plan.modules {
                let n: usize = rows.iter().sum();
                tensors.push((format!("{path}.weight"), vec![n, plan.k]));
                if plan.bias {
                    tensors.push((format!("{path}.bias"), vec![n]));
                }
            }
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push((format!("model.layers.{layer}.{norm}.weight"), vec![d]));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![d]));
    Ok(tensors)
}
