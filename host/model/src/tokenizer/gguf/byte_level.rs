//! Byte-level BPE (`gpt2`): tokens of GPT-2's alphabet, a list of merges, a label that names the pre-tokenizer.
//!
//! Invariant: every merge joins tokens of the vocabulary.

use std::collections::HashMap;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};

use super::keys::{Keys, MERGES, PRE, RoleDefaults};
use crate::tokenizer::pretokenize::{find_label, known_labels};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// The merges, each checked: the library trusts them.
fn merges(keys: &Keys<'_>, vocab: &HashMap<&str, u32>) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut merges = Vec::new();
    for (index, merge) in keys.texts(MERGES)?.into_iter().enumerate() {
        let pair = merge.split_once(' ').filter(|(left, right)| {
            let joined = format!("{left}{right}");
            vocab.contains_key(left) && vocab.contains_key(right) && vocab.contains_key(joined.as_str())
        });
        let (left, right) = pair.ok_or_else(|| TokenizerError::Merge {
            path: keys.path().to_owned(),
            index,
            merge: merge.to_owned(),
        })?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

/// Rebuilds a byte-level BPE tokenizer.
pub(super) fn tokenizer(keys: &Keys<'_>) -> Result<Tokenizer, TokenizerError> {
    let name = keys.text(PRE)?;
    let label =
        find_label(name).ok_or_else(|| keys.wrong(PRE, name, format!("one of {}", known_labels().join(", "))))?;
    let tokens = keys.tokens()?;
    let by_text: HashMap<&str, u32> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id as u32))
        .collect();
    let merges = merges(keys, &by_text)?;
    let types = keys.types(tokens.len())?;
    let defaults = RoleDefaults {
        adds_bos: label.adds_bos,
        ..RoleDefaults::default()
    };
    let specials = keys.specials(tokens.len(), defaults)?;
    let invalid = |cause| keys.invalid(cause);
    let vocab: Vocab = by_text.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect();
    let builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(label.ignore_merges);
    let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(invalid)?);
    inner.with_normalizer(label.normalizer()).map_err(invalid)?;
    inner.with_pre_tokenizer(Some(label.pre_tokenizer().map_err(invalid)?));
    inner.with_decoder(Some(ByteLevel::default()));
    keys.add_tokens(&mut inner, &tokens, &types, |_| false)?;
    Ok(Tokenizer::new(inner, specials))
}
