//! Tokenizers in SentencePiece's manner (Gemma, Mistral, Phi-3.5): blanks as `▁`, bytes as `<0x0A>`, one blank dropped in
//! front. The directory is written by the test kit; the ids follow from its vocabulary.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use dlm_model::chat::{Ending, Message, Thinking};
use dlm_model::text::TextModel;
use dlm_testkit::sentencepiece::write_sentencepiece;

fn model() -> (tempfile::TempDir, TextModel) {
    let dir = tempfile::tempdir().unwrap();
    write_sentencepiece(dir.path()).unwrap();
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
        // A token that is left out, or that does not exist, does not end a run of bytes.
        vec![
            byte(0x41),
            byte(0xE6),
            1,
            byte(0x97),
            byte(0xA5),
            tokenizer.id("a").unwrap(),
        ],
        vec![
            tokenizer.id("a").unwrap(),
            byte(0xC6),
            99_999,
            byte(0xA2),
            2,
            tokenizer.id("▁a").unwrap(),
        ],
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
