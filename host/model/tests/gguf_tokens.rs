//! Tokenizers that are rebuilt from GGUF files give the ids that llama.cpp gives: tiny vocabularies of every kind with ids
//! by llama.cpp (`tests/golden/sentencepiece`), a real one when it is there, and a plain twin of the algorithm on vocabularies
//! made up here.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use dlm_model::gguf::GgufFile;
use dlm_model::tokenizer::{Tokenizer, tokenizer_from_gguf};
use dlm_testkit::gguf::GgufBytes;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/sentencepiece")
        .join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

fn read(path: &Path) -> Tokenizer {
    tokenizer_from_gguf(&GgufFile::open(path).unwrap()).unwrap()
}

fn ids(row: &Value) -> Vec<u32> {
    let ids = row.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Blanks alone get one more in front of them from SentencePiece and from this program, not from llama.cpp's Unigram.
const BLANKS_ALONE: [&str; 3] = [" ", "   ", "<turn>\n\nthe<end> "];

/// Compares texts with the ids that llama.cpp gave, and says which differ.
fn compare(name: &str, tokenizer: &Tokenizer, texts: &Value, expected: &Value) {
    let (texts, expected) = (texts.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(texts.len(), expected.len());
    let mut wrong = Vec::new();
    for (text, expected) in texts.iter().zip(expected) {
        let (text, expected) = (text.as_str().unwrap(), ids(expected));
        if name == "unigram" && BLANKS_ALONE.contains(&text) {
            continue;
        }
        let found = tokenizer.encode(text).unwrap();
        if found != expected {
            wrong.push(format!("{text:?}: {found:?}, llama.cpp says {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} texts\n{}",
        wrong.len(),
        texts.len(),
        wrong.join("\n")
    );
}

#[test]
fn tiny_vocabularies_give_the_ids_of_llama_cpp() {
    let (texts, expected) = (json("texts.json"), json("ids.json"));
    for name in ["llama", "gemma", "phi3", "unigram", "t5"] {
        let tokenizer = read(&golden(&format!("{name}.gguf")));
        compare(name, &tokenizer, &texts, &expected[name]);
    }
}

#[test]
#[ignore = "needs the real Gemma-3 270M: DLM_TEST_GEMMA"]
fn the_vocabulary_of_the_real_gemma_gives_the_ids_of_llama_cpp() {
    let path = std::env::var_os("DLM_TEST_GEMMA")
        .map(PathBuf::from)
        .expect("DLM_TEST_GEMMA names gemma-3-270m-q4_k_m.gguf");
    let golden = json("gemma3-270m.json");
    compare("gemma-3-270m", &read(&path), &golden["texts"], &golden["ids"]);
}

#[test]
fn what_was_encoded_comes_back() {
    let texts = json("texts.json");
    for name in ["llama", "gemma"] {
        let tokenizer = read(&golden(&format!("{name}.gguf")));
        for text in texts.as_array().unwrap() {
            let text = text.as_str().unwrap();
            // The mark is a space once it is decoded, and a special token takes the blank behind it.
            if text.contains(['\u{2581}', '<']) {
                continue;
            }
            let decoded = tokenizer.decode_all(&tokenizer.encode(text).unwrap()).unwrap();
            assert_eq!(decoded, text, "{name}");
        }
    }
}

#[test]
fn roles_come_from_the_keys_or_from_what_the_kind_assumes() {
    let tokenizer = read(&golden("llama.gguf"));
    let specials = &tokenizer.specials;
    assert_eq!(
        (specials.bos, specials.eos, specials.pad, specials.unk),
        (Some(1), Some(2), None, Some(0))
    );
    assert!(specials.add_bos);
    assert!(tokenizer.is_special(3) && !tokenizer.is_special(300));
    let silent = rebuilt(&Made::new(&["a", "b"])).unwrap();
    assert_eq!(
        (silent.specials.bos, silent.specials.eos, silent.specials.unk),
        (Some(1), Some(2), Some(0))
    );
    let unigram = read(&golden("t5.gguf"));
    assert_eq!((unigram.specials.pad, unigram.specials.add_bos), (Some(0), false));
}

/// A vocabulary in the making: `<unk>`, `<s>`, `</s>`, 256 bytes, then pieces from the best score down.
struct Made {
    model: &'static str,
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
    prefix: bool,
}

impl Made {
    fn new(pieces: &[&str]) -> Made {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend(pieces.iter().map(|piece| (*piece).to_owned()));
        let mut types = vec![2, 3, 3];
        types.extend([6; 256]);
        types.extend(pieces.iter().map(|_| 1));
        let mut scores = vec![0.0; 259];
        scores.extend((0..pieces.len()).map(|rank| -(rank as f32)));
        Made {
            model: "llama",
            tokens,
            types,
            scores,
            prefix: true,
        }
    }

    fn gguf(&self) -> GgufBytes {
        let tokens: Vec<&str> = self.tokens.iter().map(String::as_str).collect();
        let list = |kind: u32, values: Vec<[u8; 4]>| {
            let mut bytes = kind.to_le_bytes().to_vec();
            bytes.extend((values.len() as u64).to_le_bytes());
            bytes.extend(values.concat());
            bytes
        };
        let types = list(5, self.types.iter().map(|kind| kind.to_le_bytes()).collect());
        let scores = list(6, self.scores.iter().map(|score| score.to_le_bytes()).collect());
        GgufBytes::default()
            .string("tokenizer.ggml.model", self.model)
            .strings("tokenizer.ggml.tokens", &tokens)
            .value("tokenizer.ggml.token_type", 9, &types)
            .value("tokenizer.ggml.scores", 9, &scores)
            .value("tokenizer.ggml.add_space_prefix", 7, &[u8::from(self.prefix)])
    }
}

fn opened(gguf: &GgufBytes) -> GgufFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, gguf.bytes()).unwrap();
    // The map outlives the name.
    GgufFile::open(&path).unwrap()
}

fn rebuilt(made: &Made) -> Result<Tokenizer, String> {
    tokenizer_from_gguf(&opened(&made.gguf())).map_err(|error| error.to_string())
}

/// Joins neighbors as llama.cpp does, slowly: each time the pair with the best score, the leftmost of equals.
fn joined(made: &Made, text: &str) -> Vec<u32> {
    let by_text: HashMap<&str, usize> = made.tokens.iter().enumerate().map(|(id, t)| (t.as_str(), id)).collect();
    let prefix = if made.prefix && !text.is_empty() {
        "\u{2581}"
    } else {
        ""
    };
    let text = format!("{prefix}{}", text.replace(' ', "\u{2581}"));
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 1..symbols.len() {
            let Some(id) = by_text.get(format!("{}{}", symbols[at - 1], symbols[at]).as_str()) else {
                continue;
            };
            if best.is_none_or(|(score, _)| made.scores[*id] > score) {
                best = Some((made.scores[*id], at));
            }
        }
        let Some((_, at)) = best else { break };
        let right = symbols.remove(at);
        symbols[at - 1].push_str(&right);
    }
    let mut ids = Vec::new();
    for symbol in symbols {
        match by_text.get(symbol.as_str()) {
            Some(id) => ids.push(*id as u32),
            None => ids.extend(symbol.bytes().map(|byte| 3 + u32::from(byte))),
        }
    }
    ids
}

/// Small numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn merges_from_scores_join_what_the_scores_join() {
    let mut numbers = Numbers(7);
    let mut compared = 0;
    for _ in 0..60 {
        // Pieces as training makes them: each out of two that are there already.
        let mut pieces: Vec<String> = Vec::new();
        let letters = ["\u{2581}", "a", "b", "c", "ä", "日"];
        while pieces.len() < 40 {
            let part = |numbers: &mut Numbers| match numbers.below(2) {
                0 if !pieces.is_empty() => pieces[numbers.below(pieces.len())].clone(),
                _ => letters[numbers.below(letters.len())].to_owned(),
            };
            let piece = part(&mut numbers) + &part(&mut numbers);
            if !pieces.contains(&piece) && piece.chars().count() < 9 {
                pieces.push(piece);
            }
        }
        pieces.extend(letters.map(str::to_owned));
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let made = Made {
            prefix: numbers.below(2) == 0,
            ..Made::new(&pieces)
        };
        let tokenizer = rebuilt(&made).unwrap();
        for _ in 0..20 {
            let chars = [' ', 'a', 'b', 'c', 'ä', '日', 'x', '\n', '🚢'];
            let text: String = (0..numbers.below(30))
                .map(|_| chars[numbers.below(chars.len())])
                .collect();
            assert_eq!(
                tokenizer.encode(&text).unwrap(),
                joined(&made, &text),
                "{text:?} {pieces:?}"
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 1200);
}

#[test]
fn byte_pieces_of_a_unigram_vocabulary_stand_for_unknown_characters() {
    let made = Made {
        model: "t5",
        ..Made::new(&["\u{2581}a", "\u{2581}", "a"])
    };
    let mut complete = made.gguf();
    complete = complete.u32("tokenizer.ggml.unknown_token_id", 0);
    let tokenizer = tokenizer_from_gguf(&opened(&complete)).unwrap();
    let a = tokenizer.id("\u{2581}a").unwrap();
    assert_eq!(tokenizer.encode("aé").unwrap(), [a, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(tokenizer.decode_all(&[a, 3 + 0xC3, 3 + 0xA9]).unwrap(), "aé");
    // Without one of the bytes none is used.
    let mut lacking = made;
    lacking.types[3] = 5;
    let lacking = lacking.gguf().u32("tokenizer.ggml.unknown_token_id", 0);
    let tokenizer = tokenizer_from_gguf(&opened(&lacking)).unwrap();
    assert_eq!(tokenizer.encode("aé").unwrap(), [a, 0]);
}

#[test]
fn tables_that_contradict_each_other_are_refused() {
    let refused = |change: &dyn Fn(&mut Made), part: &str| {
        let mut made = Made::new(&["a", "b", "ab"]);
        change(&mut made);
        let error = rebuilt(&made).unwrap_err();
        assert!(error.contains(part), "`{error}` does not say `{part}`");
    };
    refused(
        &|made| made.scores.truncate(261),
        "`tokenizer.ggml.scores` is something else, expected 262 finite numbers",
    );
    refused(&|made| made.scores[7] = f32::NAN, "finite");
    refused(&|made| made.types.truncate(9), "one per token");
    refused(
        &|made| made.tokens[260] = "a".to_owned(),
        "tokens 259 and 260 are both `a`",
    );
    refused(&|made| made.tokens[261] = "x".repeat(5000), "a token of 5000 bytes");
    refused(
        &|made| made.model = "bert",
        "`tokenizer.ggml.model` is bert, expected gpt2",
    );
    let damaged = Made {
        model: "t5",
        ..Made::new(&["a"])
    };
    let map = [0u32.to_le_bytes().as_slice(), &8u64.to_le_bytes(), &[255; 8]].concat();
    let damaged = damaged.gguf().value("tokenizer.ggml.precompiled_charsmap", 9, &map);
    let error = tokenizer_from_gguf(&opened(&damaged)).unwrap_err().to_string();
    assert!(error.contains("precompiled_charsmap"), "{error}");
}

#[test]
fn tokens_without_a_text_match_nothing() {
    let mut made = Made::new(&["", "a"]);
    made.prefix = false;
    assert_eq!(rebuilt(&made).unwrap().encode("aa").unwrap().len(), 2);
    made.model = "t5";
    let gguf = made.gguf().u32("tokenizer.ggml.unknown_token_id", 0);
    let tokenizer = tokenizer_from_gguf(&opened(&gguf)).unwrap();
    assert_eq!(tokenizer.encode("aa").unwrap().len(), 2);
}
