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

/// Families whose tokenizers differ in what they do to spaces and special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A space in front of every text between special tokens (Llama-2, Mistral 0.1, Mixtral).
    Llama,
    /// A space in front of the first text alone (Mistral 0.3).
    Mistral,
    /// No space in front; runs of spaces and line ends are tokens of the user's own (Gemma).
    Gemma,
    /// As Llama; special tokens take the spaces behind them (Phi-3.5).
    Phi3,
    /// Cut by likelihood instead of merges, with bytes (llm-jp).
    Unigram,
}

impl Family {
    /// Every one of them.
    pub const ALL: [Family; 5] = [
        Family::Llama,
        Family::Mistral,
        Family::Gemma,
        Family::Phi3,
        Family::Unigram,
    ];

    /// Tokens that are added to the pieces: text, whether it is special, whether it takes the spaces behind it.
    fn added(self) -> Vec<(&'static str, bool, bool)> {
        let mut added = vec![("<unk>", true, false), ("<s>", true, false), ("</s>", true, false)];
        match self {
            Family::Phi3 => {
                added[2] = ("</s>", false, true);
                added.push(("<|endoftext|>", true, false));
                added.extend([("<|user|>", true, true), ("<|end|>", true, true)]);
            }
            Family::Gemma => {
                added.extend([("<turn>", true, false), ("<end>", true, false)]);
                let runs = ["▁▁", "▁▁▁", "▁▁▁▁", "▁▁▁▁▁", "▁▁▁▁▁▁", "▁▁▁▁▁▁▁", "▁▁▁▁▁▁▁▁"];
                let own = ["\n", "\n\n", "<tag>"].into_iter().chain(runs);
                added.extend(own.map(|token| (token, false, false)));
            }
            _ => added.extend([("<turn>", true, false), ("<end>", true, false)]),
        }
        added
    }

    fn normalizer(self) -> Value {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        match self {
            Family::Mistral => Value::Null,
            Family::Gemma => replace,
            _ => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}),
        }
    }

    fn pre_tokenizer(self) -> Value {
        match self {
            Family::Mistral => {
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false})
            }
            Family::Gemma => json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                "invert": false}),
            _ => Value::Null,
        }
    }
}

/// Pieces, best first. Each of several characters can be made out of two others.
const PIECES: [&str; 24] = [
    "he",
    "in",
    "th",
    "▁t",
    "▁a",
    "the",
    "▁th",
    "▁the",
    "er",
    "re",
    "▁▁",
    "▁▁▁",
    "▁▁▁▁",
    "ad",
    "ing",
    "▁in",
    "or",
    "▁w",
    "wor",
    "ld",
    "▁wor",
    "▁world",
    "world",
    "..",
];

/// Writes `tokenizer.json` and `tokenizer_config.json` of a family to a directory, with about 310 tokens and a chat
/// template in ChatML's manner.
pub fn write_family(dir: &Path, family: Family) -> io::Result<()> {
    let added = family.added();
    let mut tokens: Vec<String> = added.iter().map(|(token, ..)| (*token).to_owned()).collect();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let letters = "▁abcdeghilnorstw.'";
    let pieces = PIECES.iter().map(|piece| (*piece).to_owned());
    for piece in pieces.chain(letters.chars().map(String::from)) {
        if !tokens.contains(&piece) {
            tokens.push(piece);
        }
    }
    let added: Vec<Value> = (0..)
        .zip(&added)
        .map(|(id, (token, special, rstrip)): (u32, _)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": rstrip,
                   "normalized": false, "special": special})
        })
        .collect();
    let model = match family {
        Family::Unigram => {
            let scored: Vec<Value> = tokens
                .iter()
                .zip(0..)
                .map(|(token, rank)| json!([token, -0.05 * f64::from(rank)]))
                .collect();
            json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": scored})
        }
        _ => {
            let vocab: serde_json::Map<String, Value> = tokens.iter().cloned().zip((0u32..).map(Value::from)).collect();
            json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges(&tokens)})
        }
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": family.normalizer(), "pre_tokenizer": family.pre_tokenizer(), "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": model
    });
    let settings = json!({
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": null, "add_bos_token": true,
        "chat_template": CHATML
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string())?;
    std::fs::write(dir.join("tokenizer_config.json"), settings.to_string())
}

const CHATML: &str = "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Every way to make each piece out of two tokens, in the order of the pieces.
fn merges(tokens: &[String]) -> Vec<[&str; 2]> {
    // Runs of spaces come first, as those of Gemma do.
    let runs = tokens
        .iter()
        .filter(|token| token.chars().count() > 1 && token.chars().all(|c| c == '▁'));
    let pieces = PIECES.iter().copied().filter(|piece| !piece.starts_with("▁▁"));
    let mut merges = Vec::new();
    for piece in runs.map(String::as_str).chain(pieces) {
        for (middle, _) in piece.char_indices().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let (left, right) = piece.split_at(middle);
            if tokens.iter().any(|token| token == left) && tokens.iter().any(|token| token == right) {
                merges.push([left, right]);
            }
        }
    }
    merges
}
