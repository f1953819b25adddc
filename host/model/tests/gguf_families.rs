//! The settings of every family as GGUF metadata states them give the same decoder as `config.json`, and values that the
//! format stores otherwise come back as Hugging Face has them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;
use std::sync::Arc;

use dlm_model::config::{Architecture, DecoderConfig, LayerRope, RopeScaling, config_from_gguf, parse_config};
use dlm_model::gguf::{GgufFile, GgufWeights};
use dlm_model::weights::WeightSource;
use dlm_testkit::gguf::GgufBytes;

fn expected(arch: &str) -> DecoderConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(arch)
        .join("config.json");
    parse_config(&std::fs::read(path).unwrap()).unwrap()
}

fn opened(gguf: &GgufBytes) -> GgufFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, gguf.bytes()).unwrap();
    GgufFile::open(&path).unwrap()
}

/// What every family states, in the words of llama.cpp's converter.
fn common(family: &str, config: &DecoderConfig) -> GgufBytes {
    let key = |name: &str| format!("{family}.{name}");
    let size = |value: usize| u32::try_from(value).unwrap();
    let embedding = vec![0.0; config.vocab * config.d_model];
    let mut gguf = GgufBytes::default()
        .string("general.architecture", family)
        .u32(&key("block_count"), size(config.n_layers))
        .u32(&key("context_length"), size(config.context_max))
        .u32(&key("embedding_length"), size(config.d_model))
        .u32(&key("feed_forward_length"), size(config.d_ff))
        .u32(&key("attention.head_count"), size(config.n_heads))
        .u32(&key("attention.head_count_kv"), size(config.n_kv_heads))
        .u32(&key("attention.key_length"), size(config.head_dim))
        .f32(&key("attention.layer_norm_rms_epsilon"), config.norm_eps)
        .f32(&key("rope.freq_base"), config.rope.theta as f32)
        .u32(&key("rope.dimension_count"), size(config.rope.dim))
        .floats(
            "token_embd.weight",
            &[config.d_model as u64, config.vocab as u64],
            &embedding,
        );
    if !config.tied {
        gguf = gguf.floats("output.weight", &[32], &[0.0; 32]);
    }
    gguf
}

#[track_caller]
fn check(arch: &str, family: &str, more: impl FnOnce(GgufBytes, &DecoderConfig) -> GgufBytes) {
    let mut expected = expected(arch);
    let gguf = more(common(family, &expected), &expected);
    let found = config_from_gguf(&opened(&gguf)).unwrap();
    if expected.arch == Architecture::Mistral {
        // The format does not tell it from Llama.
        expected.arch = Architecture::Llama;
    }
    assert_eq!(found, expected, "{arch}");
}

#[test]
fn every_family_gives_the_same_decoder() {
    let window =
        |size: u32| move |gguf: GgufBytes, family: &str| gguf.u32(&format!("{family}.attention.sliding_window"), size);
    check("llama", "llama", |gguf, _| gguf);
    check("smollm3", "smollm3", |gguf, _| gguf);
    check("qwen2", "qwen2", |gguf, _| {
        gguf.floats("blk.0.attn_q.bias", &[64], &[0.0; 64])
    });
    check("qwen3", "qwen3", |gguf, _| gguf);
    check("olmo2", "olmo2", |gguf, _| gguf);
    check("mistral", "llama", |gguf, _| window(8)(gguf, "llama"));
    check("phi3", "phi3", |gguf, _| window(13)(gguf, "phi3"));
    check("mixtral", "llama", |gguf, _| {
        gguf.u32("llama.expert_count", 4).u32("llama.expert_used_count", 2)
    });
    check("gemma2", "gemma2", |gguf, config| {
        window(8)(gguf, "gemma2")
            .f32("gemma2.attn_logit_softcapping", 4.0)
            .f32("gemma2.final_logit_softcapping", 5.0)
            .f32("gemma2.attention.scale", config.attention_scale)
    });
    check("gemma3", "gemma3", |gguf, config| {
        window(8)(gguf, "gemma3")
            .string("gemma3.rope.scaling.type", "linear")
            .f32("gemma3.rope.scaling.factor", 8.0)
            .f32("gemma3.attention.scale", config.attention_scale)
    });
    check("phi4-longrope", "phi3", |gguf, config| {
        let RopeScaling::LongRope {
            short,
            long,
            attention_factor,
            ..
        } = &config.rope.scaling
        else {
            panic!("phi4-longrope scales otherwise");
        };
        gguf.u32("phi3.rope.scaling.original_context_length", 32)
            .f32("phi3.rope.scaling.attn_factor", *attention_factor)
            .floats("rope_factors_short.weight", &[short.len() as u64], short)
            .floats("rope_factors_long.weight", &[long.len() as u64], long)
    });
}

/// The base of Gemma-3's windowed layers is 10,000 in files that do not state it; readers before that key took it for granted.
#[test]
fn a_local_rotary_base_may_be_stated() {
    let config = expected("gemma3");
    let stated = common("gemma3", &config)
        .u32("gemma3.attention.sliding_window", 8)
        .f32("gemma3.rope.freq_base_swa", 500.0);
    let found = config_from_gguf(&opened(&stated)).unwrap();
    assert_eq!(found.rope_local.map(|local| local.theta), Some(500.0));
    // Without a window every layer is a global one.
    let global = config_from_gguf(&opened(&common("gemma3", &config))).unwrap();
    assert!(
        global
            .layers
            .iter()
            .all(|layer| layer.rope == LayerRope::Main && layer.window.is_none())
    );
}

#[test]
fn rotary_divisors_come_from_their_tensor() {
    let config = expected("llama3-rope");
    let gguf = common("llama", &config).floats("rope_freqs.weight", &[8], &[1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]);
    let found = config_from_gguf(&opened(&gguf)).unwrap();
    assert_eq!(
        found.rope.scaling,
        RopeScaling::Divisors(vec![1.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0])
    );
    let short = common("llama", &config).floats("rope_freqs.weight", &[4], &[1.0; 4]);
    let refusal = config_from_gguf(&opened(&short)).unwrap_err().to_string();
    assert!(
        refusal.contains("`rope_freqs.weight` has the shape [4], expected [8]"),
        "{refusal}"
    );
    // ggml-org/llama.cpp#2772: a factor without a type is linear, and the older name still counts.
    let scaling = |gguf: GgufBytes| config_from_gguf(&opened(&gguf)).unwrap().rope.scaling;
    let plain = || common("llama", &config);
    let linear = RopeScaling::Linear { factor: 4.0 };
    assert_eq!(scaling(plain().f32("llama.rope.scaling.factor", 4.0)), linear);
    assert_eq!(scaling(plain().f32("llama.rope.scale_linear", 4.0)), linear);
    assert_eq!(scaling(plain().u32("llama.rope.scaling.factor", 4)), linear);
    assert_eq!(
        scaling(plain().f32("llama.rope.scaling.factor", 0.0)),
        RopeScaling::None
    );
    let off = plain()
        .string("llama.rope.scaling.type", "none")
        .f32("llama.rope.scale_linear", 4.0);
    assert_eq!(scaling(off), RopeScaling::None);
    let yarn = common("llama", &config).string("llama.rope.scaling.type", "yarn");
    assert!(
        config_from_gguf(&opened(&yarn))
            .unwrap_err()
            .to_string()
            .contains("rope.scaling.type` is yarn")
    );
}

#[test]
fn what_is_no_decoder_or_would_change_the_numbers_is_refused() {
    let config = expected("llama3-rope");
    let plain = || common("llama", &config);
    for (gguf, said) in [
        (plain().string("general.type", "mmproj"), "`general.type` is mmproj"),
        (plain().string("general.type", "adapter"), "`general.type` is adapter"),
        (
            plain().bool("llama.attention.causal", false),
            "`llama.attention.causal` is false",
        ),
        (plain().f32("llama.rope.scaling.factor", -2.0), "rope_scaling factor"),
        (
            plain().f32("llama.rope.scaling.factor", f32::NAN),
            "rope_scaling factor",
        ),
    ] {
        let refusal = config_from_gguf(&opened(&gguf)).unwrap_err().to_string();
        assert!(refusal.contains(said), "{refusal}");
    }
    let usual = plain()
        .string("general.type", "model")
        .bool("llama.attention.causal", true)
        .f32("llama.attn_logit_softcapping", 50.0);
    let found = config_from_gguf(&opened(&usual)).unwrap();
    assert_eq!(
        found.attention_softcap, None,
        "runtimes do not read it of this architecture"
    );
}

fn values(weights: &GgufWeights, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = weights.tensor(name).unwrap();
    let mut values = vec![0.0; tensor.shape.iter().product()];
    dlm_kernels::quant::dequantize_row(tensor.dtype, &tensor.bytes, &mut values).unwrap();
    (tensor.shape, values)
}

#[test]
fn gemma_norms_lose_the_one_that_the_format_adds() {
    let gguf = GgufBytes::default()
        .string("general.architecture", "gemma2")
        .floats("blk.0.attn_norm.weight", &[2], &[1.5, 0.75])
        .floats("blk.0.ffn_up.weight", &[2, 1], &[1.5, 0.75]);
    let weights = GgufWeights::new(Arc::new(opened(&gguf))).unwrap();
    assert_eq!(
        values(&weights, "model.layers.0.input_layernorm.weight").1,
        [0.5, -0.25]
    );
    assert_eq!(values(&weights, "model.layers.0.mlp.up_proj.weight").1, [1.5, 0.75]);
}

#[test]
fn rows_of_queries_and_keys_go_back_in_rotary_families_only() {
    let stored: Vec<f32> = (0..8u8).map(f32::from).collect();
    let rows = |family: &str| {
        let gguf = GgufBytes::default()
            .string("general.architecture", family)
            .u32(&format!("{family}.attention.head_count"), 2)
            .u32(&format!("{family}.attention.head_count_kv"), 1)
            .floats("blk.0.attn_q.weight", &[1, 8], &stored)
            .floats("blk.0.attn_k.weight", &[1, 4], &stored[..4])
            .floats("blk.0.attn_v.weight", &[1, 4], &stored[..4]);
        let weights = GgufWeights::new(Arc::new(opened(&gguf))).unwrap();
        let named = |part: &str| values(&weights, &format!("model.layers.0.self_attn.{part}.weight")).1;
        (named("q_proj"), named("k_proj"), named("v_proj"))
    };
    for family in ["llama", "smollm3"] {
        let (q, k, v) = rows(family);
        assert_eq!(q, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0], "{family}");
        assert_eq!(
            (k.as_slice(), v.as_slice()),
            (&[0.0, 2.0, 1.0, 3.0][..], &stored[..4]),
            "{family}"
        );
    }
    for family in ["qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2"] {
        assert_eq!(rows(family).0, stored, "{family}");
    }
}

#[test]
fn stacked_experts_come_apart() {
    let stored: Vec<f32> = (0..12u8).map(f32::from).collect();
    let gguf = GgufBytes::default()
        .string("general.architecture", "llama")
        .floats("blk.0.ffn_gate_exps.weight", &[2, 3, 2], &stored)
        .floats("blk.1.ffn_down.1.weight", &[2, 1], &stored[..2]);
    let weights = GgufWeights::new(Arc::new(opened(&gguf))).unwrap();
    let (shape, second) = values(&weights, "model.layers.0.block_sparse_moe.experts.1.w1.weight");
    assert_eq!((shape.as_slice(), second.as_slice()), (&[3, 2][..], &stored[6..]));
    assert!(weights.has("model.layers.1.block_sparse_moe.experts.1.w2.weight"));
    assert!(!weights.has("model.layers.0.block_sparse_moe.experts.2.w1.weight"));
}
