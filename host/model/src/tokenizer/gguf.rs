//! Rebuilding a tokenizer from GGUF metadata.
//!
//! Invariants: tokens are distinct, role ids lie in the vocabulary, ids come out as llama.cpp gives them. One file per
//! kind of vocabulary: `byte_level` (`gpt2`), `pieces` (`llama`: SentencePiece BPE) and `unigram` (`t5`). WordPiece is
//! refused: no decoder uses it.

mod byte_level;
mod keys;
mod pieces;
mod spaces;
mod unigram;

use std::cell::RefCell;

use super::{Tokenizer, TokenizerError};
use crate::gguf::GgufFile;
use keys::{Keys, MODEL};

/// Rebuilds the tokenizer of a GGUF file.
///
/// **Errors:** a kind of vocabulary or a pre-tokenizer label that is not known, tokens, scores or merges that contradict
/// each other. **Cost:** tens of milliseconds for 50,000 tokens, under a second for 262,000.
pub fn tokenizer_from_gguf(file: &GgufFile) -> Result<Tokenizer, TokenizerError> {
    let keys = Keys {
        file,
        notes: RefCell::default(),
    };
    let mut tokenizer = match keys.text(MODEL)? {
        "gpt2" => byte_level::tokenizer(&keys),
        "llama" => pieces::tokenizer(&keys),
        "t5" => unigram::tokenizer(&keys),
        other => Err(keys.wrong(
            MODEL,
            other,
            "gpt2 (byte-level BPE), llama (SentencePiece BPE) or t5 (Unigram)",
        )),
    }?;
    tokenizer.notes = keys.notes.into_inner();
    Ok(tokenizer)
}
