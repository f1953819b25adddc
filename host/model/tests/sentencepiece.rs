//! Tokenizers in SentencePiece's manner (Gemma, Mistral, Phi-3.5): blanks as `▁`, bytes as `<0x0A>`, one blank dropped in
//! front. The directory is written here; the ids follow from its vocabulary.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::text::TextModel;
use serde_json::json;

const MISTRAL: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}\
                       {% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";

fn model() -> (tempfile::TempDir, TextModel) {
    let dir = tempfile::tempdir().unwrap();
    let mut vocab = serde_json::Map::new();
    let mut add = |token: &str| {
        let id = vocab.len();
        vocab.insert(token.to_owned(), id.into());
    };
    ["<unk>", "<s>", "</s>"].into_iter().for_each(&mut add);
    (0..256).for_each(|byte| add(&format!("<0x{byte:02X}>")));
    "▁abcdehiorlw[]/INST."
        .chars()
        .for_each(|letter| add(&letter.to_string()));
    ["▁a", "he", "▁he"].into_iter().for_each(&mut add);
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": [["▁", "a"], ["h", "e"], ["▁", "he"]]}
    });
    let settings = json!({
        "bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>", "pad_token": null,
        "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": MISTRAL}]
    });
    let write =
        |name: &str, value: serde_json::Value| std::fs::write(dir.path().join(name), value.to_string()).unwrap();
    write("tokenizer.json", tokenizer);
    write("tokenizer_config.json", settings);
    write("generation_config.json", json!({"eos_token_id": [2, 7, 100_000]}));
    let text = TextModel::from_dir(dir.path(), None).unwrap();
    (dir, text)
}

#[test]
fn roles_and_stops_come_from_the_files() {
    let (_dir, text) = model();
    let specials = &text.tokenizer.specials;
    assert_eq!(
        (specials.bos, specials.eos, specials.pad, specials.unk),
        (Some(1), Some(2), None, Some(0))
    );
    assert!(specials.add_bos, "the post-processor adds it");
    assert_eq!(text.stops.ids, [2, 7]);
    assert_eq!(text.stops.texts, ["[INST]", "[/INST]"]);
    assert_eq!(text.end_of_turn, Some(2));
}

#[test]
fn limits_of_the_file_do_not_cut_text() {
    let (_dir, text) = model();
    assert!(text.tokenizer.encode("hello world hello").unwrap().len() > 4);
}

#[test]
fn prose_begins_with_bos() {
    let (_dir, text) = model();
    let row = text.prose_row("he").unwrap();
    assert_eq!(row.ids, [1, text.tokenizer.id("▁he").unwrap(), 2]);
    assert_eq!(row.loss, 1..3);
}

#[test]
fn templates_write_the_only_bos() {
    let (_dir, text) = model();
    let ids = text
        .prompt_ids(&[Message::user("he")], Thinking::TemplateDefault)
        .unwrap();
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 1);
    let row = text
        .answer_row(
            &[Message::user("a"), Message::assistant("hello")],
            Thinking::TemplateDefault,
        )
        .unwrap();
    assert_eq!(
        text.tokenizer.decode_all(&row.ids[row.loss.clone()]).unwrap(),
        "hello</s>"
    );
    assert_eq!(row.ids.len(), row.loss.end);
    let whole = text.render(
        &[Message::user("a"), Message::assistant("b")],
        Ending::Complete,
        Thinking::TemplateDefault,
    );
    assert_eq!(whole.unwrap(), "<s>[INST] a [/INST] b</s>");
}

#[test]
fn streaming_equals_decoding_at_once() {
    let (_dir, text) = model();
    let tokenizer = &text.tokenizer;
    let byte = |value: u32| 3 + value;
    let mut sequences = vec![
        tokenizer.encode("hello a 日本 😀 he").unwrap(),
        // Valid bytes spoilt by a later one of the same run, a cut character at the end, special tokens between.
        vec![
            byte(0x41),
            byte(0xE6),
            tokenizer.id("a").unwrap(),
            byte(0xE6),
            byte(0x97),
            byte(0xA5),
        ],
        vec![tokenizer.id("▁a").unwrap(), 2, tokenizer.id("▁a").unwrap(), byte(0xE6)],
        vec![1, 2, 0],
        (0..tokenizer.vocab() as u32).collect(),
    ];
    sequences.push((0..tokenizer.vocab() as u32).rev().collect());
    for ids in sequences {
        let mut stream = tokenizer.stream();
        let mut streamed: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        streamed.push_str(&stream.finish().unwrap());
        assert_eq!(streamed, tokenizer.decode(&ids).unwrap(), "{ids:?}");
    }
}
