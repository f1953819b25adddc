//! The readers against the golden model directories: settings in both key styles, weights, tokenizer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};

use dlm_model::config::{Architecture, LayerRope, QkNorm, RopeScaling, parse_config};
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::tokenizer::{PadChoice, read_tokenizer_dir};
use dlm_model::weights::{GgmlType, WeightSource};
use dlm_testkit::architectures;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn config(arch: &str, file: &str) -> dlm_model::config::DecoderConfig {
    let path = golden().join("arch").join(arch).join(file);
    parse_config(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{arch}/{file}: {error}"))
}

#[test]
fn both_key_styles_give_the_same_model() {
    for arch in architectures::ALL {
        assert_eq!(config(arch, "config.json"), config(arch, "config.hub.json"), "{arch}");
    }
}

#[test]
fn settings_that_set_families_apart() {
    assert_eq!(
        config("smollm3", "config.json")
            .layers
            .iter()
            .map(|l| l.rope)
            .collect::<Vec<_>>(),
        [LayerRope::Main, LayerRope::Main, LayerRope::Main, LayerRope::None]
    );
    assert!(
        config("smollm3", "config.json")
            .layers
            .iter()
            .all(|l| l.window.is_none())
    );
    let gemma = config("gemma2", "config.json");
    assert_eq!(
        gemma.layers.iter().map(|l| l.window).collect::<Vec<_>>(),
        [Some(8), None, Some(8)]
    );
    assert_eq!((gemma.attention_softcap, gemma.final_softcap), (Some(4.0), Some(5.0)));
    assert!((gemma.attention_scale - 20f32.powf(-0.5)).abs() < 1e-7);
    assert_eq!((gemma.embed_scale, gemma.norm_plus_one, gemma.tied), (8.0, true, true));
    assert!(config("qwen2", "config.json").qkv_bias && !config("qwen2", "config.json").o_bias);
    assert!(config("qwen2", "config.json").layers.iter().all(|l| l.window.is_none()));
    assert_eq!(config("qwen3", "config.json").qk_norm, QkNorm::PerHead);
    let gemma = config("gemma3", "config.json");
    let local: Vec<bool> = gemma.layers.iter().map(|l| l.rope == LayerRope::Local).collect();
    assert_eq!(local, [true, true, true, true, true, false, true]);
    assert!(
        gemma
            .layers
            .iter()
            .all(|l| l.window.is_some() == (l.rope == LayerRope::Local))
    );
    assert_eq!(gemma.rope.theta, 1_000_000.0);
    assert_eq!(gemma.rope.scaling, RopeScaling::Linear { factor: 8.0 });
    let local = gemma.rope_local.unwrap();
    assert_eq!((local.theta, local.scaling), (10_000.0, RopeScaling::None));
    assert_eq!(
        (gemma.qk_norm, gemma.embed_scale, gemma.tied),
        (QkNorm::PerHead, 8.0, true)
    );
    assert_eq!(config("olmo2", "config.json").qk_norm, QkNorm::Whole);
    assert!(config("phi3", "config.json").fused_projections);
    assert_eq!(config("phi3", "config.json").layers[1].window, Some(13));
    assert_eq!(config("mistral", "config.json").layers[0].window, Some(8));
    let experts = config("mixtral", "config.json").experts.unwrap();
    assert_eq!((experts.count, experts.per_token), (4, 2));
    assert_eq!(config("mixtral", "config.json").head_dim, 16);
    let phi4 = config("phi4-longrope", "config.json");
    assert_eq!((phi4.rope.dim, phi4.tied), (12, true));
    let RopeScaling::LongRope {
        short,
        long,
        original_max,
        attention_factor,
    } = phi4.rope.scaling
    else {
        panic!("phi4-longrope scales otherwise");
    };
    assert_eq!((short.len(), long.len(), original_max), (6, 6, 32));
    assert!((attention_factor - 1.8f32.sqrt()).abs() < 1e-6);
    assert!(matches!(
        config("llama3-rope", "config.json").rope.scaling,
        RopeScaling::Llama3 { original_max: 64, .. }
    ));
    assert_eq!(config("llama", "config.json").arch, Architecture::Llama);
}

#[test]
fn settings_that_are_not_understood_are_refused() {
    let text = std::fs::read_to_string(golden().join("arch/llama/config.json")).unwrap();
    let refusal = |from: &str, to: &str| {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from} is not in the file");
        parse_config(changed.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("LlamaForCausalLM", "MambaForCausalLM"),
        "architecture `MambaForCausalLM` is not supported"
    );
    assert!(refusal("\"silu\"", "\"gelu\"").contains("`hidden_act` is \"gelu\""));
    assert!(refusal("\"default\"", "\"yarn\"").contains("`rope_type` is \"yarn\""));
    assert!(refusal("\"use_cache\"", "\"quantization_config\"").contains("unquantized"));
    assert!(refusal("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4000000000").contains("contradict"));
    assert!(refusal("\"hidden_size\": 64", "\"hidden_size\": -1").contains("`hidden_size` is -1"));
    assert!(refusal("\"num_attention_heads\": 4", "\"num_attention_heads\": 3").contains("contradict"));
    assert!(refusal("\"num_attention_heads\"", "\"n_heads\"").contains("`num_attention_heads` is missing"));
    assert!(parse_config(b"[]").is_err() && parse_config(b"{").is_err() && parse_config(b"{}").is_err());
}

#[test]
fn every_golden_directory_opens() {
    for arch in architectures::ALL {
        let dir = golden().join("arch").join(arch);
        let weights = SafetensorsDir::open(&dir).unwrap();
        let config = config(arch, "config.json");
        let embedding = weights.tensor("model.embed_tokens.weight").unwrap();
        assert_eq!(embedding.dtype, GgmlType::F32);
        assert_eq!(embedding.shape, [config.vocab, config.d_model], "{arch}");
        assert_eq!(embedding.bytes.len(), config.vocab * config.d_model * 4);
        assert_eq!(weights.has("lm_head.weight"), !config.tied, "{arch}");
        assert!(weights.tensor("model.layers.9.none").is_err());
    }
}

#[test]
fn tokenizer_directory_matches_the_goldens() {
    let dir = golden().join("arch/tokenizer");
    let files = read_tokenizer_dir(&dir).unwrap();
    let tokenizer = &files.tokenizer;
    assert_eq!(files.eos_ids, [2]);
    assert_eq!(
        (
            tokenizer.specials.bos,
            tokenizer.specials.pad,
            tokenizer.specials.add_bos
        ),
        (Some(0), Some(3), false)
    );
    assert_eq!(tokenizer.pad_choice(320), PadChoice::Own(3));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("golden.json")).unwrap()).unwrap();
    let cases = json["encode"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = case["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(tokenizer.decode_all(&ids).unwrap(), case["decoded"].as_str().unwrap());
    }
}

#[test]
fn streaming_equals_decoding_at_once() {
    let tokenizer = read_tokenizer_dir(&golden().join("arch/tokenizer")).unwrap().tokenizer;
    // Every byte token in a row is mostly no UTF-8; a cut character ends the sequence.
    let mut sequences: Vec<Vec<u32>> = vec![(0..320).collect(), (0..320).rev().collect()];
    let text = "naïve café 日本 😀 tail 日";
    let ids = tokenizer.encode(text).unwrap();
    sequences.push(ids[..ids.len() - 1].to_vec());
    sequences.push(ids);
    for ids in sequences {
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        for id in &ids {
            let piece = stream.push(*id).unwrap();
            streamed.push_str(&piece);
        }
        streamed.push_str(&stream.finish().unwrap());
        assert_eq!(streamed, tokenizer.decode(&ids).unwrap());
    }
}
