//! Any `tokenizer.json` is a tokenizer or an error.
//!
//! What is checked: nothing panics that is not caught, ids lie below the size of the vocabulary, spans lie inside the text,
//! and what is written beside an adapter is read back and gives the same ids.

use dlm_model::text::TextModel;

#[path = "scratch.rs"]
mod scratch;

const TEXTS: [&str; 6] = [
    "",
    "Hello, world!",
    "  The mast is 34 m high.\r\n\tWho keeps the lamp?  ",
    "<s><|im_start|>user\nab ba aab</s>",
    "Ünïcode \u{1f469}\u{200d}\u{1f680} 日本語 नमस्ते \u{0}\u{1b}\u{301}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Panics when one of the promises is broken.
pub fn check(bytes: &[u8]) {
    let place = scratch::Scratch::new("tokenizer");
    place.write("tokenizer.json", bytes);
    let Ok(text) = TextModel::from_dir(place.path(), None) else {
        return;
    };
    let tokenizer = &text.tokenizer;
    let encoded = TEXTS.map(|sample| tokenizer.encode(sample).ok());
    for (sample, ids) in TEXTS.iter().zip(&encoded) {
        let Some(ids) = ids else { continue };
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab()), "{ids:?}");
        // What fails for a text is an error like any other.
        let _ = (tokenizer.decode_all(ids), tokenizer.decode(ids));
        if let Ok((spanned, spans)) = tokenizer.encode_with_spans(sample) {
            assert_eq!(spanned, *ids);
            assert_eq!(spans.len(), ids.len());
        }
        if let Ok(row) = text.prose_row(sample) {
            assert!(row.loss.end <= row.ids.len() && row.loss.start <= row.loss.end);
        }
        let _ = text.prose_row_after(sample, sample.len() / 2);
        let mut stream = tokenizer.stream();
        for id in ids {
            let _ = stream.push(*id);
        }
    }
    for id in [0, 1, 2, tokenizer.vocab() as u32, u32::MAX] {
        let _ = (tokenizer.piece(id), tokenizer.is_special(id));
    }
    let Ok(files) = text.files() else { return };
    let again = scratch::Scratch::new("tokenizer-again");
    for (name, content) in files {
        again.write(name, content.as_bytes());
    }
    let again = TextModel::from_dir(again.path(), None).expect("what was written is read back");
    let ids = TEXTS.map(|sample| again.tokenizer.encode(sample).ok());
    assert_eq!(ids, encoded, "what was written gives other ids");
}
