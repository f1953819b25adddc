//! Several sessions in one pass over the weights.
//!
//! Invariants: a refusal changes nothing; rows of one session see that session's cache and no other's.

use std::ops::Range;

use dlm_kernels::{CachedRows, KvCache, attention_cached_rows, attention_decode, attention_forward};

use super::{CHUNK, Session, SessionError, cache, final_norm, run_blocks, tables};
use crate::arena::Buffer;
use crate::batch::Batch;
use crate::model::Model;
use crate::pass::block::{self, AttentionOut, Qkv};

/// Takes one token into each session and writes the logits after them: `[sessions, vocab]`.
///
/// The weights are read once for all sessions.
///
/// **Errors:** sessions of different models or adapters, a token that one of them cannot take; nothing has changed then.
pub fn step_batch(
    sessions: &mut [&mut Session<'_>],
    tokens: &[u32],
    logits: &mut Vec<f32>,
) -> Result<(), SessionError> {
    let Some(model) = belonging(sessions, tokens.len())? else {
        logits.clear();
        return Ok(());
    };
    for (session, token) in sessions.iter().zip(tokens) {
        session.check(&[*token])?;
    }
    let mut starts = Vec::with_capacity(sessions.len());
    for (session, token) in sessions.iter_mut().zip(tokens) {
        let len = session.len();
        let from = session.begin(1);
        session.tokens.push(*token);
        if from < len {
            // The factors changed: all earlier keys again.
            drop(session.run(0, len));
        }
        starts.push((len as u32, session.is_long, 1));
    }
    let x = run_batch(sessions, tokens, &starts);
    logits.resize(sessions.len() * model.config.vocab, 0.0);
    let normed = final_norm(model, &x);
    model.logits_on(sessions[0].precision_paths.step, &normed, logits);
    Ok(())
}

/// Takes a prompt into each of several empty sessions in one pass and writes the logits after them: `[sessions, vocab]`.
///
/// **Cost:** the products see the rows of all prompts at once, so short prompts are read as fast as one long one; memory
/// of that many rows.
/// **Errors:** sessions that are not empty or do not belong together, an empty prompt, one that does not fit; nothing has
/// changed then.
pub fn prefill_batch<T: AsRef<[u32]>>(
    sessions: &mut [&mut Session<'_>],
    prompts: &[T],
    logits: &mut Vec<f32>,
) -> Result<(), SessionError> {
    let model = belonging(sessions, prompts.len())?;
    let Some(model) = model else {
        logits.clear();
        return Ok(());
    };
    for (session, prompt) in sessions.iter().zip(prompts) {
        match prompt.as_ref() {
            [] => return Err(SessionError::Empty),
            _ if !session.is_empty() => return Err(SessionError::Mixed),
            prompt => session.check(prompt)?,
        }
    }
    let batch = Batch::packed(prompts);
    let rotary = model.rotary.tables(&model.arena, &batch.segments, &batch.positions);
    let width = model.config.kv_width();
    let mut caches = take_caches(sessions);
    let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
        for ((k, v), segment) in caches.iter_mut().zip(&batch.segments) {
            let rows = segment.q.start * width..segment.q.end * width;
            k[index][..rows.len()].copy_from_slice(&qkv.k[rows.clone()]);
            v[index][..rows.len()].copy_from_slice(&qkv.v[rows]);
        }
        let shape = block::attention_shape(&model.config, model.layers[index].kind);
        let (segments, positions) = (&batch.segments, &batch.positions);
        attention_forward(
            &model.ctx, &shape, segments, positions, qkv.q, qkv.k, qkv.v, out.out, out.lse,
        );
    };
    let x = model.embed_tokens(&batch.tokens);
    let pass = sessions[0].pass(batch.len(), sessions[0].precision_paths.read);
    let x = run_blocks(pass, x, batch.len(), &rotary, &mut attend);
    give_caches(sessions, caches);
    let d = model.config.d_model;
    let mut last = model.arena.take(sessions.len() * d);
    for ((session, segment), to) in sessions.iter_mut().zip(&batch.segments).zip(last.chunks_exact_mut(d)) {
        to.copy_from_slice(&x[(segment.q.end - 1) * d..segment.q.end * d]);
        let _ = session.begin(segment.q.len());
        session.tokens.extend_from_slice(&batch.tokens[segment.q.clone()]);
    }
    logits.resize(sessions.len() * model.config.vocab, 0.0);
    let normed = final_norm(model, &last);
    model.logits_on(sessions[0].precision_paths.step, &normed, logits);
    Ok(())
}

/// Takes tokens into each of several sessions, whatever they hold already, and writes the logits after them: `[sessions,
/// vocab]`.
///
/// Rows of all sessions are read in passes of a fixed size, so memory stays bounded whatever the prompts' lengths.
///
/// **Errors:** sessions that do not belong together, no tokens for one, tokens that do not fit; nothing has changed then.
pub fn read_batch<T: AsRef<[u32]>>(
    sessions: &mut [&mut Session<'_>],
    tokens: &[T],
    logits: &mut Vec<f32>,
) -> Result<(), SessionError> {
    let Some(model) = belonging(sessions, tokens.len())? else {
        logits.clear();
        return Ok(());
    };
    for (session, tokens) in sessions.iter().zip(tokens) {
        if tokens.as_ref().is_empty() {
            return Err(SessionError::Empty);
        }
        session.check(tokens.as_ref())?;
    }
    let d = model.config.d_model;
    let mut last = model.arena.take(sessions.len() * d);
    let mut pieces = Vec::new();
    let mut rows = 0;
    for index in 0..sessions.len() {
        let session = &mut sessions[index];
        let tokens = tokens[index].as_ref();
        let mut from = session.begin(tokens.len());
        session.tokens.extend_from_slice(tokens);
        let len = session.len();
        while from < len {
            let end = len.min(from + CHUNK - rows);
            pieces.push(Piece {
                session: index,
                positions: from..end,
            });
            rows += end - from;
            from = end;
            if rows == CHUNK {
                run_pieces(sessions, &pieces, &mut last);
                pieces.clear();
                rows = 0;
            }
        }
    }
    if rows > 0 {
        run_pieces(sessions, &pieces, &mut last);
    }
    logits.resize(sessions.len() * model.config.vocab, 0.0);
    let normed = final_norm(model, &last);
    model.logits_on(sessions[0].precision_paths.step, &normed, logits);
    Ok(())
}

/// Successive tokens of one session that are read in one pass.
struct Piece {
    session: usize,
    positions: Range<usize>,
}

/// Runs pieces through the blocks; the hidden row of each session's last token goes to its row of `last`.
fn run_pieces(sessions: &mut [&mut Session<'_>], pieces: &[Piece], last: &mut [f32]) {
    let model = sessions[0].model;
    let (d, width) = (model.config.d_model, model.config.kv_width());
    let of = |piece: &Piece| {
        (
            piece.positions.start as u32,
            sessions[piece.session].is_long,
            piece.positions.len(),
        )
    };
    let tables = tables(model, &pieces.iter().map(of).collect::<Vec<_>>());
    let tokens: Vec<u32> = pieces
        .iter()
        .flat_map(|piece| sessions[piece.session].tokens[piece.positions.clone()].iter().copied())
        .collect();
    let mut caches = take_caches(sessions);
    let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
        let mut row = 0;
        for piece in pieces {
            let (k, v) = &mut caches[piece.session];
            let new = piece.positions.start * width..piece.positions.end * width;
            let rows = row * width..row * width + new.len();
            k[index][new.clone()].copy_from_slice(&qkv.k[rows.clone()]);
            v[index][new].copy_from_slice(&qkv.v[rows]);
            row += piece.positions.len();
        }
        let mut row = 0;
        let views: Vec<CachedRows<'_>> = pieces
            .iter()
            .map(|piece| {
                let (k, v) = &caches[piece.session];
                let first = row;
                row += piece.positions.len();
                CachedRows {
                    rows: first..row,
                    cache: cache(model, &k[index], &v[index], piece.positions.end),
                }
            })
            .collect();
        let shape = block::attention_shape(&model.config, model.layers[index].kind);
        attention_cached_rows(&model.ctx, &shape, qkv.q, &views, out.out);
    };
    let x = model.embed_tokens(&tokens);
    let pass = sessions[0].pass(tokens.len(), sessions[0].precision_paths.read);
    let x = run_blocks(pass, x, tokens.len(), &tables, &mut attend);
    give_caches(sessions, caches);
    let mut row = 0;
    for piece in pieces {
        row += piece.positions.len();
        if piece.positions.end == sessions[piece.session].len() {
            last[piece.session * d..][..d].copy_from_slice(&x[(row - 1) * d..row * d]);
        }
    }
}

/// The model of sessions that share it and their adapter, one input each; `None` when there are none.
fn belonging<'m>(sessions: &[&mut Session<'m>], inputs: usize) -> Result<Option<&'m Model>, SessionError> {
    if sessions.len() != inputs {
        return Err(SessionError::Mixed);
    }
    let Some(first) = sessions.first() else {
        return Ok(None);
    };
    let adapter = first.adapter.map(std::ptr::from_ref);
    let is_same = |session: &&mut Session<'m>| {
        std::ptr::eq(session.model, first.model)
            && session.adapter.map(std::ptr::from_ref) == adapter
            && session.precision_paths == first.precision_paths
    };
    match sessions.iter().all(is_same) {
        true => Ok(Some(first.model)),
        false => Err(SessionError::Mixed),
    }
}

/// Keys and values of every layer of one session.
type Caches = (Vec<Vec<f32>>, Vec<Vec<f32>>);

fn take_caches(sessions: &mut [&mut Session<'_>]) -> Vec<Caches> {
    let take = |session: &mut &mut Session<'_>| (std::mem::take(&mut session.k), std::mem::take(&mut session.v));
    sessions.iter_mut().map(take).collect()
}

fn give_caches(sessions: &mut [&mut Session<'_>], caches: Vec<Caches>) {
    for (session, (k, v)) in sessions.iter_mut().zip(caches) {
        (session.k, session.v) = (k, v);
    }
}

fn run_batch(sessions: &mut [&mut Session<'_>], tokens: &[u32], starts: &[(u32, bool, usize)]) -> Buffer {
    let model = sessions[0].model;
    let tables = tables(model, starts);
    let width = model.config.kv_width();
    let mut caches = take_caches(sessions);
    let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
        for (row, ((k, v), (at, ..))) in caches.iter_mut().zip(starts).enumerate() {
            let new = *at as usize * width..(*at as usize + 1) * width;
            k[index][new.clone()].copy_from_slice(&qkv.k[row * width..][..width]);
            v[index][new].copy_from_slice(&qkv.v[row * width..][..width]);
        }
        let views: Vec<KvCache<'_>> = caches
            .iter()
            .zip(starts)
            .map(|((k, v), (at, ..))| cache(model, &k[index], &v[index], *at as usize + 1))
            .collect();
        let shape = block::attention_shape(&model.config, model.layers[index].kind);
        attention_decode(&model.ctx, &shape, qkv.q, &views, out.out);
    };
    let x = model.embed_tokens(tokens);
    let pass = sessions[0].pass(tokens.len(), sessions[0].precision_paths.step);
    let x = run_blocks(pass, x, tokens.len(), &tables, &mut attend);
    give_caches(sessions, caches);
    x
}
