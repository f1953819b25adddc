//! A tokenizer in SentencePiece's manner, with a blank in front of every text it encodes and Mistral's chat template.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

const MISTRAL: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}\
                       {% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";

/// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` with 283 tokens to a directory.
pub fn write_sentencepiece(dir: &Path) -> io::Result<()> {
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
    let write = |name: &str, value: Value| std::fs::write(dir.join(name), value.to_string());
    write("tokenizer.json", tokenizer)?;
    write("tokenizer_config.json", settings)?;
    write("generation_config.json", json!({"eos_token_id": [2, 7, 100_000]}))
}
