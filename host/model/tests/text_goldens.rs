//! Tokenizer, chat template and rows against the golden files, on the real base.
//!
//! The base's path comes in `DLM_TEST_BASE`; without it these tests are left out, and counted so.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;
use std::sync::OnceLock;

use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::config::{Architecture, config_from_gguf};
use dlm_model::gguf::{GgufFile, GgufWeights};
use dlm_model::text::TextModel;
use dlm_model::tokenizer::PadChoice;
use dlm_model::weights::{GgmlType, WeightSource};
use serde_json::Value;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn base() -> &'static (std::sync::Arc<GgufFile>, TextModel) {
    static BASE: OnceLock<(std::sync::Arc<GgufFile>, TextModel)> = OnceLock::new();
    BASE.get_or_init(|| {
        let path = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
        let file = GgufFile::open(Path::new(&path)).unwrap();
        let mut text = TextModel::from_gguf(&file, None).unwrap();
        // The reference takes special tokens in turns for tokens.
        text.reads_markup = true;
        (std::sync::Arc::new(file), text)
    })
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn settings_and_weights_of_the_base() {
    let (file, _) = base();
    let config = config_from_gguf(file).unwrap();
    assert_eq!(
        (config.arch, config.vocab, config.d_model, config.n_layers),
        (Architecture::Llama, 49152, 576, 30)
    );
    assert_eq!(
        (config.n_heads, config.n_kv_heads, config.head_dim, config.d_ff),
        (9, 3, 64, 1536)
    );
    assert_eq!(
        (config.rope.theta, config.rope.dim, config.tied, config.context_max),
        (100_000.0, 64, true, 8192)
    );
    let weights = GgufWeights::new(file.clone()).unwrap();
    assert_eq!(weights.names().len(), 272);
    let q = weights.tensor("model.layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!((q.dtype, q.shape.as_slice()), (GgmlType::Q4_1, &[576, 576][..]));
    let checked = check_sums(&weights, &golden("weights.json"));
    assert_eq!(checked, 22);
}

/// Compares sums of dequantized tensors; the first values depend on the row order of q and k.
fn check_sums(weights: &GgufWeights, golden: &Value) -> usize {
    let tensors = golden["cases"].as_object().unwrap();
    for (name, expected) in tensors {
        let raw = weights.tensor(name).unwrap();
        let mut values = vec![0.0; raw.shape.iter().product()];
        dlm_kernels::quant::dequantize_row(raw.dtype, &raw.bytes, &mut values).unwrap();
        let l2 = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let expected_l2 = expected["l2"].as_f64().unwrap();
        assert!((l2 / expected_l2 - 1.0).abs() < 1e-6, "{name}: {l2} for {expected_l2}");
        for (value, expected) in values.iter().zip(expected["first4"].as_array().unwrap()) {
            // Printed to nine digits, which name one f32.
            assert_eq!(*value, expected.as_f64().unwrap() as f32, "{name}");
        }
    }
    tensors.len()
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn forty_strings_encode_and_decode() {
    let (_, text) = base();
    let golden = golden("tokenizer.json");
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 40);
    for case in cases {
        let input = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(text.tokenizer.encode(input).unwrap(), expected, "{input:?}");
        assert_eq!(
            text.tokenizer.decode_all(&expected).unwrap(),
            case["decoded"].as_str().unwrap()
        );
        let plain = case["decoded_skip_special"].as_str().unwrap();
        assert_eq!(text.tokenizer.decode(&expected).unwrap(), plain);
        let mut stream = text.tokenizer.stream();
        let mut streamed: String = expected.iter().map(|id| stream.push(*id).unwrap()).collect();
        streamed.push_str(&stream.finish().unwrap());
        assert_eq!(streamed, plain);
    }
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn conversations_render() {
    let (_, text) = base();
    let golden = golden("chat_template.json");
    assert_eq!(
        text.template.as_ref().unwrap().source(),
        golden["chat_template"].as_str().unwrap()
    );
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let ending = if prompt {
            Ending::GenerationPrompt
        } else {
            Ending::Complete
        };
        let messages = messages(&case["messages"]);
        let rendered = text.render(&messages, ending, Thinking::TemplateDefault).unwrap();
        assert_eq!(rendered, case["text"].as_str().unwrap());
        assert_eq!(text.tokenizer.encode(&rendered).unwrap(), ids(&case["ids"]));
        if prompt {
            assert_eq!(
                text.prompt_ids(&messages, Thinking::TemplateDefault).unwrap(),
                ids(&case["ids"])
            );
        }
    }
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn rows_hold_the_reference_ids_and_teach_the_answer() {
    let (_, text) = base();
    let golden = golden("sft_rows.json");
    let rows = golden["conversation_first"]["rows"].as_array().unwrap();
    for row in rows {
        let expected = ids(&row["ids"]);
        let Some(prose) = row["text"].as_str() else {
            let messages = messages(&row["messages"]);
            let made = text.answer_row(&messages, Thinking::TemplateDefault).unwrap();
            assert_eq!(made.ids, expected);
            let taught = text.tokenizer.decode_all(&made.ids[made.loss]).unwrap();
            assert_eq!(taught, format!("{}<|im_end|>", messages.last().unwrap().content));
            continue;
        };
        let made = text.prose_row(prose).unwrap();
        assert_eq!(made.ids[..made.ids.len() - 1], expected);
        assert_eq!((made.ids.last(), made.loss), (Some(&2), 1..expected.len() + 1));
    }
    for row in golden["prose_first"]["rows"].as_array().unwrap() {
        if let Some(prose) = row["text"].as_str() {
            assert_eq!(text.prose_row(prose).unwrap().ids, ids(&row["ids"]));
        }
    }
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn an_answer_that_melts_into_the_frame_is_found_by_its_place() {
    let (_, text) = base();
    // The line ends of the answer join the one of the frame: ids of the prompt are no prefix.
    let messages = [Message::user("Q"), Message::assistant("\n\n  answer")];
    let row = text.answer_row(&messages, Thinking::TemplateDefault).unwrap();
    let taught = text.tokenizer.decode_all(&row.ids[row.loss]).unwrap();
    assert!(taught.ends_with("  answer<|im_end|>"), "{taught:?}");
    assert!(taught.trim_start_matches('\n').len() < taught.len(), "{taught:?}");
    assert!(text.answer_row(&messages[..1], Thinking::TemplateDefault).is_err());
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn stops_roles_and_files_of_the_base() {
    let (_, text) = base();
    assert_eq!(
        (text.stops.ids.as_slice(), text.stops.texts.len(), text.end_of_turn),
        (&[0, 1, 2][..], 0, Some(2))
    );
    assert!(!text.tokenizer.specials.add_bos);
    assert_eq!(text.tokenizer.pad_choice(49152), PadChoice::Unknown(0));
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in text.files().unwrap() {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let mut again = TextModel::from_dir(dir.path(), None).unwrap();
    again.reads_markup = true;
    assert_eq!(again.tokenizer.specials, text.tokenizer.specials);
    assert_eq!((&again.stops, again.end_of_turn), (&text.stops, text.end_of_turn));
    for case in golden("tokenizer.json")["cases"].as_array().unwrap() {
        assert_eq!(
            again.tokenizer.encode(case["text"].as_str().unwrap()).unwrap(),
            ids(&case["ids"])
        );
    }
    let messages = [Message::user("Hi")];
    assert_eq!(
        again.prompt_ids(&messages, Thinking::TemplateDefault).unwrap(),
        text.prompt_ids(&messages, Thinking::TemplateDefault).unwrap()
    );
}
