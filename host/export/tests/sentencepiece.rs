//! Bases with SentencePiece tokenizers: what is written reads back to the same ids, and is a base itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use dlm_core::{Cancel, Quant, Quiet};
use dlm_export::{
    GgufWriter, Identity, ModelExport, TokenType, VerifyAgainst, Vocabulary, VocabularyModel, WriteOptions, plan_model,
    verify_model, write_model,
};
use dlm_kernels::{Ctx, Simd};
use dlm_model::config::parse_config;
use dlm_model::gguf::{GgufFile, Value};
use dlm_model::open_base;
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::tokenizer::{Tokenizer, read_tokenizer_dir, tokenizer_from_gguf};
use dlm_testkit::sentencepiece::{Family, write_family};

/// Rows of the tiny model's embedding.
const ROWS: usize = 320;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

fn tokenizer(family: Family) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    write_family(dir.path(), family).unwrap();
    read_tokenizer_dir(dir.path()).unwrap().tokenizer
}

/// Writes the tiny llama with a vocabulary and returns what its check says.
fn exported(path: &Path, tokenizer: &Tokenizer, vocabulary: &Vocabulary) -> Result<usize, String> {
    let ctx = Ctx::new(1, Simd::detect());
    let model = golden("arch/llama");
    let config = parse_config(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    let weights = SafetensorsDir::open(&model).unwrap();
    let template = std::fs::read_to_string(model.join("tokenizer_config.json")).unwrap();
    let template: serde_json::Value = serde_json::from_str(&template).unwrap();
    let identity = Identity {
        name: "Notes".to_owned(),
        ..Identity::default()
    };
    let plan = plan_model(&ModelExport {
        config: &config,
        weights: &weights,
        vocabulary,
        chat_template: template["chat_template"].as_str(),
        identity: &identity,
        quant: Quant::F16,
        is_weighted: false,
    })
    .unwrap();
    let options = WriteOptions {
        importance: None,
        progress: &Quiet,
        cancel: &Cancel::new(),
    };
    write_model(&ctx, &plan, &weights, path, &options).unwrap();
    let against = VerifyAgainst {
        config: &config,
        weights: &weights,
        tokenizer: Some(tokenizer),
    };
    let report = verify_model(&ctx, path, &plan, &against).map_err(|error| error.to_string())?;
    Ok(report.tokens_equal.unwrap())
}

#[test]
fn exports_of_every_family_pass_their_check_and_are_bases() {
    let dir = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let tokenizer = tokenizer(family);
        let vocabulary = Vocabulary::new(&tokenizer, ROWS).unwrap();
        let path = dir.path().join("model.gguf");
        let equal = exported(&path, &tokenizer, &vocabulary).unwrap_or_else(|error| panic!("{family:?}: {error}"));
        assert!(equal > 300, "{family:?}: {equal} tokens");
        let base = open_base(&path).unwrap_or_else(|error| panic!("{family:?}: {error}"));
        assert_eq!(base.config().vocab, ROWS);
        // The file's own tokenizer goes into the next file as it is.
        let again = Vocabulary::new(&base.text().tokenizer, ROWS).unwrap();
        assert_eq!(
            (&again.tokens, &again.model),
            (&vocabulary.tokens, &vocabulary.model),
            "{family:?}"
        );
        assert_eq!(exported(&path, &tokenizer, &again), Ok(equal), "{family:?}");
    }
}

#[test]
fn a_file_says_what_its_family_does() {
    let says = |family| {
        let vocabulary = Vocabulary::new(&tokenizer(family), ROWS).unwrap();
        (vocabulary.model, vocabulary.add_space_prefix, vocabulary.notes.len())
    };
    assert_eq!(says(Family::Llama), (VocabularyModel::Pieces, true, 0));
    assert_eq!(says(Family::Mistral), (VocabularyModel::Pieces, false, 1));
    assert_eq!(says(Family::Gemma), (VocabularyModel::Pieces, false, 0));
    assert_eq!(says(Family::Unigram), (VocabularyModel::Unigram, true, 1));
    let gemma = Vocabulary::new(&tokenizer(Family::Gemma), ROWS).unwrap();
    let run = gemma.tokens.iter().position(|token| token == "   ").unwrap();
    assert_eq!(gemma.types[run], TokenType::UserDefined);
}

#[test]
fn the_name_says_that_special_tokens_take_spaces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let tokenizer = tokenizer(Family::Phi3);
    let mut vocabulary = Vocabulary::new(&tokenizer, ROWS).unwrap();
    exported(&path, &tokenizer, &vocabulary).unwrap();
    let name = |path: &Path| GgufFile::open(path).unwrap().value("general.name").cloned();
    assert_eq!(name(&path), Some(Value::String("Notes (Phi-3)".to_owned())));
    vocabulary.strips_as_phi3 = false;
    let error = exported(&path, &tokenizer, &vocabulary).unwrap_err();
    assert!(error.contains("became the tokens"), "{error}");
}

#[test]
fn a_wrong_token_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(Family::Llama);
    let mut vocabulary = Vocabulary::new(&tokenizer, ROWS).unwrap();
    let [with, without] = ["\u{2581}world", "world"].map(|token| tokenizer.id(token).unwrap() as usize);
    vocabulary.tokens.swap(with, without);
    let error = exported(&dir.path().join("model.gguf"), &tokenizer, &vocabulary).unwrap_err();
    assert!(error.contains("became the tokens"), "{error}");
}

#[test]
fn vocabularies_of_files_are_written_as_they_were_read() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> =
        serde_json::from_slice(&std::fs::read(golden("sentencepiece/texts.json")).unwrap()).unwrap();
    for name in ["llama", "gemma", "unigram", "t5"] {
        let file = GgufFile::open(&golden(&format!("sentencepiece/{name}.gguf"))).unwrap();
        let first = tokenizer_from_gguf(&file).unwrap();
        let vocabulary = Vocabulary::new(&first, first.vocab()).unwrap();
        let path = dir.path().join(format!("{name}.gguf"));
        let writer = GgufWriter::create(&path, &vocabulary.metadata(None), &[]).unwrap();
        writer.finish().unwrap();
        let second = tokenizer_from_gguf(&GgufFile::open(&path).unwrap()).unwrap();
        for text in &texts {
            assert_eq!(
                first.encode(text).unwrap(),
                second.encode(text).unwrap(),
                "{name}: {text:?}"
            );
        }
        assert_eq!(first.specials, second.specials, "{name}");
    }
}
