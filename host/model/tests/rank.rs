//! Reward models: the head on top of every decoder, against logits that the reference implementation computed.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use dlm_core::Cancel;
use dlm_core::hardware::SimdLevel;
use dlm_model::base::is_classifier;
use dlm_model::chat::Message;
use dlm_model::config::parse_config;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::weights::WeightSource;
use dlm_model::{Cpu, CpuOptions, OpenedRanker, RankError, RankInput, Ranker, open_base, open_ranker};
use dlm_testkit::architectures::{ALL, dir as golden};
use dlm_testkit::reward::{RewardHead, write_reward_model};

/// The tolerance of the golden logits.
const LOGITS: f64 = 2e-4;

fn opened(name: &str, head: RewardHead) -> (tempfile::TempDir, Result<OpenedRanker, RankError>) {
    let dir = tempfile::tempdir().unwrap();
    write_reward_model(&golden(name), dir.path(), head).unwrap();
    let opened = open_ranker(dir.path());
    (dir, opened)
}

fn load(opened: &OpenedRanker) -> Ranker {
    opened.load(&Cpu::new(2, SimdLevel::Amx), &CpuOptions::EXACT).unwrap()
}

fn input(ids: &[u32]) -> RankInput {
    RankInput {
        ids: ids.to_vec(),
        cut: 0,
    }
}

/// Batch rows with the padding that the reference gave them, and the golden logit of `token` at each row's last real token.
fn expected(name: &str, token: usize) -> (Vec<RankInput>, Vec<f64>) {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden(name).join("golden.json")).unwrap()).unwrap();
    let rows = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(json[key].clone()).unwrap() };
    let file = SafetensorsDir::open_file(&golden(name).join("golden.safetensors")).unwrap();
    let at = |tensor: &str, row: usize, position: usize| {
        let raw = file.tensor(tensor).unwrap();
        let [_, seq, vocab] = raw.shape[..] else {
            panic!("logits are [batch, seq, vocab]")
        };
        let at = 4 * ((row * seq + position) * vocab + token);
        f64::from(f32::from_le_bytes(raw.bytes[at..at + 4].try_into().unwrap()))
    };
    let (mut inputs, mut logits) = (Vec::new(), Vec::new());
    for (row, (ids, mask)) in rows("input_ids").iter().zip(rows("attention_mask")).enumerate() {
        let real = mask.iter().filter(|m| **m == 1).count();
        inputs.push(input(ids));
        logits.push(at("logits", row, real - 1));
    }
    let long = &rows("long_input_ids")[0];
    inputs.push(input(long));
    logits.push(at("long_logits", 0, long.len() - 1));
    (inputs, logits)
}

#[test]
fn every_decoder_ranks_as_the_reference() {
    for name in ALL {
        let token = 42;
        let (_dir, opened) = opened(name, RewardHead::Token(token));
        let opened = opened.unwrap();
        let ranker = load(&opened);
        let (inputs, expected) = expected(name, token);
        assert_eq!(inputs.len(), 3);
        let found = ranker.rank(&inputs, &Cancel::new()).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            // Gemma's golden logits went through the cap of its output head, which a classifier does not have.
            let found = match opened.config().final_softcap {
                Some(cap) => f64::from(cap) * (found / f64::from(cap)).tanh(),
                None => *found,
            };
            assert!((found - expected).abs() < LOGITS, "{name}: {found} for {expected}");
        }
        let alone: Vec<f64> = inputs
            .iter()
            .map(|input| ranker.rank(std::slice::from_ref(input), &Cancel::new()).unwrap()[0])
            .collect();
        assert_eq!(alone, found, "{name}: alone and together");
    }
}

#[test]
fn a_classifier_is_told_from_a_causal_model_and_neither_opens_as_the_other() {
    let (dir, opened) = opened("qwen2", RewardHead::Token(1));
    assert!(opened.is_ok());
    assert!(is_classifier(dir.path()).unwrap());
    assert!(!is_classifier(&golden("qwen2")).unwrap());
    let error = open_base(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("`Qwen2ForSequenceClassification` is not supported"),
        "{error}"
    );
    let error = open_ranker(&golden("qwen2")).unwrap_err().to_string();
    assert!(error.contains("`Qwen2ForCausalLM` is not supported"), "{error}");
    assert!(parse_config(&std::fs::read(dir.path().join("config.json")).unwrap()).is_err());
}

#[test]
fn more_labels_than_one_are_refused_with_their_number() {
    for labels in [2, 5] {
        let (_dir, opened) = opened("llama", RewardHead::Zeros(labels));
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(&format!("{labels} labels")), "{error}");
    }
    // Settings that speak of one label with weights of three.
    let (dir, _) = opened("llama", RewardHead::Zeros(3));
    let settings = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    config["id2label"] = serde_json::json!({"0": "LABEL_0"});
    std::fs::write(&settings, config.to_string()).unwrap();
    let opened = open_ranker(dir.path()).unwrap();
    let loaded = opened.load(&Cpu::new(1, SimdLevel::Amx), &CpuOptions::EXACT);
    let error = loaded.err().unwrap();
    assert!(error.to_string().contains("found [3, 64]"), "{error}");
    // The reference takes two labels where nothing is said.
    config.as_object_mut().unwrap().remove("id2label");
    std::fs::write(&settings, config.to_string()).unwrap();
    assert!(matches!(
        open_ranker(dir.path()),
        Err(RankError::Labels { labels: 2, .. })
    ));
}

#[test]
fn numbers_that_are_none_are_refused() {
    let (_dir, opened) = opened("llama", RewardHead::NotANumber);
    let ranker = load(&opened.unwrap());
    let error = ranker.rank(&[input(&[20, 21])], &Cancel::new()).unwrap_err();
    assert!(matches!(error, RankError::NotFinite { index: 0, .. }), "{error}");
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(
        ranker.rank(&[input(&[20])], &cancel),
        Err(RankError::Cancelled)
    ));
    assert!(matches!(
        ranker.rank(&[input(&[])], &Cancel::new()),
        Err(RankError::Empty { index: 0 })
    ));
}

#[test]
fn inputs_are_rendered_without_a_generation_prompt_and_keep_their_end() {
    let (_dir, opened) = opened("llama", RewardHead::Token(1));
    let opened = opened.unwrap();
    let text = opened.text();
    let chat = opened.chat_input(&[Message::user("Why?")], "Because.").unwrap();
    let shown = text.tokenizer.decode_all(&chat.ids).unwrap();
    assert!(
        shown.ends_with("<|im_start|>assistant\nBecause.<|im_end|>\n"),
        "{shown}"
    );
    assert_eq!(shown.matches("<|im_start|>assistant").count(), 1);
    assert_eq!(chat.cut, 0);
    let pair = opened.pair_input("Why?", "Because.").unwrap();
    let (first, second) = (
        text.tokenizer.encode("Why?").unwrap(),
        text.tokenizer.encode("Because.").unwrap(),
    );
    assert_eq!(pair.ids, [first, second].concat());
    let long = "word ".repeat(600);
    let cut = opened.chat_input(&[Message::user(long)], "The end.").unwrap();
    assert_eq!(cut.ids.len(), 512);
    assert!(cut.cut > 0);
    assert!(
        text.tokenizer
            .decode_all(&cut.ids)
            .unwrap()
            .ends_with("The end.<|im_end|>\n")
    );
}
