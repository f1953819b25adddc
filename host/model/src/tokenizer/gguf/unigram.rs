//! Unigram (`t5`): pieces with log probabilities; of all ways to cut a text the most likely one is taken.
//!
//! Invariant: a token that text does not reach scores no higher than the least likely piece, so that it changes neither
//! the cut nor the price of an unknown character.
//! **Source:** llama.cpp's `llm_tokenizer_ugm`. Characters without a piece become bytes where the vocabulary has all 256,
//! as SentencePiece has it; llama.cpp gave the unknown token instead up to 2026.

use tokenizers::models::unigram::Unigram;

use super::keys::{Keys, RoleDefaults, TokenType};
use super::pieces::named;
use super::spaces::Spaces;
use crate::tokenizer::{Tokenizer, TokenizerError};

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// What llama.cpp takes for granted of such a file.
const DEFAULTS: RoleDefaults = RoleDefaults {
    bos: None,
    eos: Some(1),
    pad: Some(0),
    unk: Some(2),
    adds_bos: false,
};

/// Rebuilds a Unigram tokenizer.
pub(super) fn tokenizer(keys: &Keys<'_>) -> Result<Tokenizer, TokenizerError> {
    let tokens = named(keys.tokens()?);
    let types = keys.types(tokens.len())?;
    let scores = keys.scores(tokens.len())?;
    let specials = keys.specials(tokens.len(), DEFAULTS)?;
    let merges_runs = keys.flag("tokenizer.ggml.remove_extra_whitespaces", false)?;
    let spaces = Spaces {
        charsmap: keys.bytes(CHARSMAP)?,
        merges_runs,
        // Merging puts a space in front of every word, the first one too.
        adds_prefix: merges_runs || keys.flag("tokenizer.ggml.add_space_prefix", false)?,
        has_bytes: types.iter().filter(|kind| **kind == TokenType::Byte).count() == 256,
    };
    let pieces = types
        .iter()
        .zip(&scores)
        .filter(|(kind, _)| **kind == TokenType::Normal);
    let lowest = pieces.map(|(_, score)| *score).fold(f32::INFINITY, f32::min);
    if lowest == f32::INFINITY {
        return Err(keys.invalid("it has no pieces"));
    }
    let vocab = tokens
        .iter()
        .zip(types.iter().zip(&scores))
        .map(|(token, (kind, score))| {
            let score = match kind {
                TokenType::Normal => *score,
                TokenType::UserDefined => 0.0,
                _ => lowest,
            };
            (token.clone().into_owned(), f64::from(score))
        });
    let invalid = |cause| keys.invalid(cause);
    let unk = specials.unk.map(|id| id as usize);
    let model = Unigram::from(vocab.collect(), unk, spaces.has_bytes).map_err(invalid)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner
        .with_normalizer(Some(spaces.normalizer().map_err(invalid)?))
        .map_err(invalid)?;
    inner.with_decoder(Some(spaces.decoder().map_err(invalid)?));
    keys.add_tokens(&mut inner, &tokens, &types, |_| false)?;
    Ok(Tokenizer::new(inner, specials))
}
