//! SentencePiece BPE (`llama`): pieces with scores. Of all neighbors that form a piece, those with the highest score are
//! joined first, the leftmost of equals; characters without a piece become bytes.
//!
//! The library joins by a list of merges instead, so the scores are turned into one. The two orders agree unless two ways
//! to make the same piece overlap in a text and the shorter left half comes first, or different pieces have the same score.
//! **Source:** llama.cpp's `llm_tokenizer_spm_session`.

use std::borrow::Cow;
use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Vocab};

use super::keys::{Keys, RoleDefaults, TokenType};
use super::spaces::Spaces;
use crate::gguf::Value;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Bytes of a piece. The longest of real vocabularies, runs of spaces, have 93; the time to find the ways to make a piece
/// grows with the square of its length.
const PIECE_BYTES_MAX: usize = 1024;

/// What llama.cpp takes for granted of such a file.
const DEFAULTS: RoleDefaults = RoleDefaults {
    bos: Some(1),
    eos: Some(2),
    pad: None,
    unk: Some(0),
    adds_bos: true,
};

/// Tokens of Phi-3 that leave the spaces after them alone; all its other special tokens take them.
const PHI3_KEEPS: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// Rebuilds a SentencePiece BPE tokenizer.
pub(super) fn tokenizer(keys: &Keys<'_>) -> Result<Tokenizer, TokenizerError> {
    let tokens = named(keys.tokens()?);
    let types = keys.types(tokens.len())?;
    let scores = keys.scores(tokens.len())?;
    let specials = keys.specials(tokens.len(), DEFAULTS)?;
    let spaces = Spaces {
        adds_prefix: keys.flag("tokenizer.ggml.add_space_prefix", true)?,
        has_bytes: types.contains(&TokenType::Byte),
        ..Spaces::default()
    };
    if let Some(token) = tokens.iter().find(|token| token.len() > PIECE_BYTES_MAX) {
        let bytes = token.len();
        return Err(keys.invalid(format!(
            "it has a token of {bytes} bytes, expected at most {PIECE_BYTES_MAX}"
        )));
    }
    let invalid = |cause| keys.invalid(cause);
    let vocab: Vocab = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone().into_owned(), id as u32))
        .collect();
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges(&tokens, &types, &scores))
        .fuse_unk(true)
        .byte_fallback(spaces.has_bytes);
    if let Some(unk) = specials.unk {
        builder = builder.unk_token(tokens[unk as usize].clone().into_owned());
    }
    let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(invalid)?);
    inner
        .with_normalizer(Some(spaces.normalizer().map_err(invalid)?))
        .map_err(invalid)?;
    inner.with_decoder(Some(spaces.decoder().map_err(invalid)?));
    let is_phi3 = is_phi3(keys);
    keys.add_tokens(&mut inner, &tokens, &types, |token| {
        is_phi3 && !PHI3_KEEPS.contains(&token)
    })?;
    Ok(Tokenizer::new(inner, specials))
}

/// Gives tokens without a text one, as llama.cpp does: an empty piece would match everywhere.
pub(super) fn named(tokens: Vec<&str>) -> Vec<Cow<'_, str>> {
    let name = |(id, token): (usize, _)| match token {
        "" => Cow::Owned(format!("[EMPTY_{id}]")),
        token => Cow::Borrowed(token),
    };
    tokens.into_iter().enumerate().map(name).collect()
}

/// Says whether a file is of the one family whose special tokens take the spaces after them, which no key states.
///
/// **Source:** llama.cpp goes by the model's name, too.
fn is_phi3(keys: &Keys<'_>) -> bool {
    let name = keys.file.value("general.name").and_then(Value::as_str);
    let name = name.unwrap_or_default().to_lowercase();
    name.contains("phi-3") || name.contains("phi3")
}

/// Turns scores into merges: for every piece, highest score first, every way to make it out of two others.
///
/// The longer left half comes first: in a run of one character, merging from the left leaves the longer piece there.
/// **Source:** `generate_merges` of transformers' converters.
fn merges(tokens: &[Cow<'_, str>], types: &[TokenType], scores: &[f32]) -> Vec<(String, String)> {
    // The user's own tokens count: one that is written with U+2581 is no text that could be found as it stands.
    let joins = |kind: TokenType| matches!(kind, TokenType::Normal | TokenType::UserDefined | TokenType::Unused);
    let mut order: Vec<usize> = (0..tokens.len()).filter(|id| joins(types[*id])).collect();
    let pieces: HashSet<&str> = order.iter().map(|id| &*tokens[*id]).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut merges = Vec::new();
    for id in order {
        let token = &*tokens[id];
        for (middle, _) in token.char_indices().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let (left, right) = token.split_at(middle);
            if pieces.contains(left) && pieces.contains(right) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
    }
    merges
}
