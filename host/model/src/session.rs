//! Inference: a sequence that grows, its keys and values cached.
//!
//! Invariants: the cache is allocated once, for the whole context; a step reuses the buffers of the one before. What a
//! session says after any order of prefill, step and truncate equals a pass over its tokens from the start (with LongRope
//! the cache is computed again when the length crosses the border between the two sets of factors).

use std::sync::{Arc, OnceLock};

use dlm_kernels::{KvCache, KvData, attention_cached, attention_decode, attention_forward, rmsnorm_forward};

use crate::adapter::{Adapter, Gains};
use crate::batch::Batch;
use crate::block::{self, AttentionOut, Qkv, Rows};
use crate::decoder::arena::Buffer;
use crate::decoder::rotary::Tables;
use crate::lora::{FewRows, Pass};
use crate::model::Model;

/// Rows that a prompt is read in at once: enough for the products' peak and for decoding quantised blocks once per many
/// rows, few enough for small buffers (10 MB for a width of 576).
const CHUNK: usize = 512;

/// A sequence on a model, with or without an adapter.
#[derive(Debug)]
pub struct Session<'m> {
    model: &'m Model,
    adapter: Option<&'m Adapter>,
    prepared: Arc<Prepared>,
    context: usize,
    tokens: Vec<u32>,
    is_long: bool,
    /// Per layer `[context, kv_width]`.
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
    logits: Vec<f32>,
}

/// Rows up to which the adapter's factors are read as streams.
const FEW_ROWS: usize = 4;

/// What is computed from the adapter once, for all sessions that start from one another.
#[derive(Debug)]
struct Prepared {
    gains: Option<Gains>,
    few: OnceLock<FewRows>,
}

/// A token that cannot be taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the context of {context} tokens is full: {len} are there, {more} more were given")]
    ContextFull { context: usize, len: usize, more: usize },
    #[error("token {token} is outside the vocabulary of {vocab}")]
    Token { token: u32, vocab: usize },
    #[error("no token was given")]
    Empty,
    #[error("the sessions of a batch must share model and adapter, and get one token each")]
    Mixed,
}

impl<'m> Session<'m> {
    /// Starts an empty sequence of at most `context` tokens.
    ///
    /// **Cost:** memory of `2 * layers * context * kv_width` values of 4 bytes, touched as the sequence grows.
    pub fn new(model: &'m Model, adapter: Option<&'m Adapter>, context: usize) -> Session<'m> {
        let prepared = Prepared {
            gains: adapter.and_then(|adapter| adapter.gains(model)),
            few: OnceLock::new(),
        };
        Session::with(model, adapter, context, Arc::new(prepared))
    }

    /// Starts an empty sequence on the same model and adapter; what depends on the adapter alone is shared.
    pub fn sibling(&self, context: usize) -> Session<'m> {
        Session::with(self.model, self.adapter, context, Arc::clone(&self.prepared))
    }

    fn with(model: &'m Model, adapter: Option<&'m Adapter>, context: usize, prepared: Arc<Prepared>) -> Session<'m> {
        let width = model.config.kv_width();
        let cache = || (0..model.config.n_layers).map(|_| vec![0.0; context * width]).collect();
        Session {
            model,
            adapter,
            prepared,
            context,
            tokens: Vec::with_capacity(context),
            is_long: false,
            k: cache(),
            v: cache(),
            logits: vec![0.0; model.config.vocab],
        }
    }

    /// Returns the number of tokens taken in.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Says whether no token was taken in.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns the tokens taken in.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the most tokens that the session can hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Returns the model of the session.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// Forgets every token after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Starts another session with the same tokens and cache; it may have another context length.
    ///
    /// **Errors:** a context too short for the tokens.
    pub fn fork(&self, context: usize) -> Result<Session<'m>, SessionError> {
        if context < self.len() {
            return Err(SessionError::ContextFull {
                context,
                len: 0,
                more: self.len(),
            });
        }
        let used = self.len() * self.model.config.kv_width();
        let mut fork = self.sibling(context);
        for (to, from) in fork.k.iter_mut().zip(&self.k).chain(fork.v.iter_mut().zip(&self.v)) {
            to[..used].copy_from_slice(&from[..used]);
        }
        fork.tokens.extend_from_slice(&self.tokens);
        fork.is_long = self.is_long;
        Ok(fork)
    }

    /// Takes tokens in and returns the logits after the last one.
    ///
    /// **Errors:** no tokens, too many for the context, or one outside the vocabulary; nothing has changed then.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], SessionError> {
        if tokens.is_empty() {
            return Err(SessionError::Empty);
        }
        self.check(tokens)?;
        let mut done = self.begin(tokens.len());
        self.tokens.extend_from_slice(tokens);
        let mut last = None;
        while done < self.tokens.len() {
            let rows = CHUNK.min(self.tokens.len() - done);
            last = Some(self.run(done, rows));
            done += rows;
        }
        if let Some(hidden) = last {
            let d = self.model.config.d_model;
            self.finish(&hidden[hidden.len() - d..]);
        }
        Ok(&self.logits)
    }

    /// Takes one token in and returns the logits after it.
    ///
    /// **Errors:** as [`Session::prefill`].
    pub fn step(&mut self, token: u32) -> Result<&[f32], SessionError> {
        self.prefill(&[token])
    }

    fn check(&self, tokens: &[u32]) -> Result<(), SessionError> {
        let vocab = self.model.config.vocab;
        if let Some(&token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(SessionError::Token { token, vocab });
        }
        if self.len() + tokens.len() > self.context {
            return Err(SessionError::ContextFull {
                context: self.context,
                len: self.len(),
                more: tokens.len(),
            });
        }
        Ok(())
    }

    /// Returns the first token whose keys must be computed when `more` tokens come.
    fn begin(&mut self, more: usize) -> usize {
        let is_long = self.model.rotary.is_long(self.len() + more);
        if is_long == self.is_long {
            return self.len();
        }
        self.is_long = is_long;
        0
    }

    fn pass(&self, rows: usize) -> Pass<'_> {
        let adapter = self.adapter.filter(|_| rows <= FEW_ROWS);
        let few = adapter.map(|adapter| self.prepared.few.get_or_init(|| adapter.few_rows(self.model)));
        Pass {
            model: self.model,
            adapter: self.adapter,
            gains: self.prepared.gains.as_ref(),
            few,
            dropout_seed: None,
            is_training: false,
        }
    }

    /// Runs rows `done..done + rows` through the blocks, their keys and values into the cache.
    fn run(&mut self, done: usize, rows: usize) -> Buffer {
        let model = self.model;
        let width = model.config.kv_width();
        let tables = tables(model, &[(done as u32, self.is_long)], rows);
        let (mut keys, mut values) = (std::mem::take(&mut self.k), std::mem::take(&mut self.v));
        let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
            let new = done * width..(done + rows) * width;
            keys[index][new.clone()].copy_from_slice(qkv.k);
            values[index][new].copy_from_slice(qkv.v);
            let shape = block::attention_shape(&model.config, model.layers[index].kind);
            let cache = cache(model, &keys[index], &values[index], done + rows);
            attention_cached(&model.ctx, &shape, qkv.q, rows, &cache, out.out);
        };
        let x = model.embed_tokens(&self.tokens[done..done + rows]);
        let x = run_blocks(self.pass(rows), x, rows, &tables, &mut attend);
        (self.k, self.v) = (keys, values);
        x
    }

    /// Final norm and head of one row.
    fn finish(&mut self, hidden: &[f32]) {
        let normed = final_norm(self.model, hidden);
        self.model.logits_into(&normed, &mut self.logits);
    }
}

fn cache<'a>(model: &Model, k: &'a [f32], v: &'a [f32], len: usize) -> KvCache<'a> {
    KvCache {
        k: KvData::F32(k),
        v: KvData::F32(v),
        len,
        row_stride: model.config.kv_width(),
        head_stride: model.config.head_dim,
    }
}

fn final_norm(model: &Model, hidden: &[f32]) -> Buffer {
    let mut normed = model.arena.take(hidden.len());
    let mut inv_rms = model.arena.take(hidden.len() / model.config.d_model);
    rmsnorm_forward(
        &model.ctx,
        hidden,
        &model.final_norm,
        0.0,
        model.config.norm_eps,
        &mut normed,
        &mut inv_rms,
    );
    normed
}

/// Tables of `rows` successive positions after each start.
fn tables(model: &Model, starts: &[(u32, bool)], rows: usize) -> Tables {
    let half = model.rotary.half();
    let mut tables = Tables {
        cos: model.arena.take(starts.len() * rows * half),
        sin: model.arena.take(starts.len() * rows * half),
    };
    for (index, (start, is_long)) in starts.iter().enumerate() {
        for row in 0..rows {
            let at = (index * rows + row) * half..(index * rows + row + 1) * half;
            let (cos, sin) = (&mut tables.cos[at.clone()], &mut tables.sin[at]);
            model.rotary.write(start + row as u32, *is_long, cos, sin);
        }
    }
    tables
}

fn run_blocks(
    pass: Pass<'_>,
    mut x: Buffer,
    t: usize,
    tables: &Tables,
    attend: &mut dyn FnMut(usize, Qkv<'_>, AttentionOut<'_>),
) -> Buffer {
    for index in 0..pass.model.config.n_layers {
        x = block::forward(pass, index, Rows { t, tables }, &x, attend).0;
    }
    x
}

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
        starts.push((len as u32, session.is_long));
    }
    let x = run_batch(sessions, tokens, &starts);
    logits.resize(sessions.len() * model.config.vocab, 0.0);
    let normed = final_norm(model, &x);
    model.logits_into(&normed, logits);
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
    let x = run_blocks(sessions[0].pass(batch.len()), x, batch.len(), &rotary, &mut attend);
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
    model.logits_into(&normed, logits);
    Ok(())
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
        std::ptr::eq(session.model, first.model) && session.adapter.map(std::ptr::from_ref) == adapter
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

fn run_batch(sessions: &mut [&mut Session<'_>], tokens: &[u32], starts: &[(u32, bool)]) -> Buffer {
    let model = sessions[0].model;
    let tables = tables(model, starts, 1);
    let width = model.config.kv_width();
    let mut caches = take_caches(sessions);
    let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
        for (row, ((k, v), (at, _))) in caches.iter_mut().zip(starts).enumerate() {
            let new = *at as usize * width..(*at as usize + 1) * width;
            k[index][new.clone()].copy_from_slice(&qkv.k[row * width..][..width]);
            v[index][new].copy_from_slice(&qkv.v[row * width..][..width]);
        }
        let views: Vec<KvCache<'_>> = caches
            .iter()
            .zip(starts)
            .map(|((k, v), (at, _))| cache(model, &k[index], &v[index], *at as usize + 1))
            .collect();
        let shape = block::attention_shape(&model.config, model.layers[index].kind);
        attention_decode(&model.ctx, &shape, qkv.q, &views, out.out);
    };
    let x = model.embed_tokens(tokens);
    let x = run_blocks(sessions[0].pass(tokens.len()), x, tokens.len(), &tables, &mut attend);
    give_caches(sessions, caches);
    x
}
