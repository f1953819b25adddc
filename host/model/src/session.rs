//! Inference: a sequence that grows, its keys and values cached.
//!
//! Invariants: the cache is allocated once, for the whole context; a step reuses the buffers of the one before. What a
//! session says after any order of prefill, step and truncate equals a pass over its tokens from the start (with LongRope
//! the cache is computed again when the length crosses the border between the two sets of factors). A session with fixed
//! [`PrecisionPaths`] says the same bits alone and in any batch.

mod batch;

use std::sync::{Arc, OnceLock};

use dlm_core::Cancel;
use dlm_kernels::{
    CachedRows, KvCache, KvData, PrecisionPath, attention_cached, attention_cached_rows, rmsnorm_forward,
};

use crate::adapter::{Adapter, FewRows, Gains};
use crate::arena::Buffer;
use crate::model::Model;
use crate::pass::Pass;
use crate::pass::block::{self, AttentionOut, Qkv, Rows};
use crate::rotary::Tables;

pub use batch::{prefill_batch, read_batch, step_batch};

/// Rows that a prompt is read in at once: enough for the products' peak and for decoding quantized blocks once per many
/// rows, few enough for small buffers (10 MB for a width of 576).
const CHUNK: usize = 512;

/// Which products read a prompt, and which take single tokens and the head.
///
/// The default chooses by the number of rows: fastest for one sequence, but the last bits of its numbers then depend on how
/// many rows went through together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrecisionPaths {
    pub read: PrecisionPath,
    pub step: PrecisionPath,
}

impl PrecisionPaths {
    /// Prompts by exact packed products, tokens by streaming the stored weights (as integers where they are quantized and
    /// prepared for it).
    pub const STREAMED: PrecisionPaths = PrecisionPaths {
        read: PrecisionPath::Packed,
        step: PrecisionPath::Streamed,
    };
    /// Exact packed products for everything.
    pub const PACKED: PrecisionPaths = PrecisionPaths {
        read: PrecisionPath::Packed,
        step: PrecisionPath::Packed,
    };
}

/// A sequence on a model, with or without an adapter.
#[derive(Debug)]
pub struct Session<'m> {
    model: &'m Model,
    adapter: Option<&'m Adapter>,
    prepared: Arc<AdapterTables>,
    precision_paths: PrecisionPaths,
    /// Ends a pass early; what it gives means nothing then.
    stop: Cancel,
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
struct AdapterTables {
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
    #[error("session {session} is not open, or is named twice")]
    NotOpen { session: usize },
    #[error("cancelled")]
    Cancelled,
}

impl<'m> Session<'m> {
    /// Starts an empty sequence of at most `context` tokens.
    ///
    /// **Cost:** memory of `2 * layers * context * kv_width` values of 4 bytes, touched as the sequence grows.
    pub fn new(model: &'m Model, adapter: Option<&'m Adapter>, context: usize) -> Session<'m> {
        Session::on_precision_paths(model, adapter, context, PrecisionPaths::default())
    }

    /// Starts an empty sequence whose products take the given precision paths, as do its siblings and forks.
    pub fn on_precision_paths(
        model: &'m Model,
        adapter: Option<&'m Adapter>,
        context: usize,
        precision_paths: PrecisionPaths,
    ) -> Session<'m> {
        let prepared = AdapterTables {
            gains: adapter.and_then(|adapter| adapter.gains(model)),
            few: OnceLock::new(),
        };
        let stop = Cancel::new();
        Session::with((model, adapter), context, Arc::new(prepared), precision_paths, stop)
    }

    /// Ends passes between two blocks once `stop` is raised, as those of siblings and forks. What a session that was stopped
    /// holds and says means nothing: the caller looks at the flag after each call.
    pub(crate) fn until(mut self, stop: Cancel) -> Session<'m> {
        self.stop = stop;
        self
    }

    /// Starts an empty sequence on the same model and adapter; what depends on the adapter alone is shared.
    pub fn sibling(&self, context: usize) -> Session<'m> {
        let weights = (self.model, self.adapter);
        let (prepared, stop) = (Arc::clone(&self.prepared), self.stop.clone());
        Session::with(weights, context, prepared, self.precision_paths, stop)
    }

    fn with(
        (model, adapter): (&'m Model, Option<&'m Adapter>),
        context: usize,
        prepared: Arc<AdapterTables>,
        precision_paths: PrecisionPaths,
        stop: Cancel,
    ) -> Session<'m> {
        let width = model.config.kv_width();
        let cache = || (0..model.config.n_layers).map(|_| vec![0.0; context * width]).collect();
        Session {
            model,
            adapter,
            prepared,
            precision_paths,
            stop,
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
        if self.precision_paths.step == PrecisionPath::ByRows {
            return self.prefill(&[token]);
        }
        let mut logits = std::mem::take(&mut self.logits);
        let stepped = step_batch(&mut [self], &[token], &mut logits);
        self.logits = logits;
        stepped.map(|()| &self.logits[..])
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

    fn pass(&self, rows: usize, precision_path: PrecisionPath) -> Pass<'_> {
        let is_few = match precision_path {
            PrecisionPath::ByRows => rows <= FEW_ROWS,
            PrecisionPath::Streamed => true,
            PrecisionPath::Packed | PrecisionPath::PackedF32 => false,
        };
        let adapter = self.adapter.filter(|_| is_few);
        let few = adapter.map(|adapter| self.prepared.few.get_or_init(|| FewRows::new(adapter, self.model)));
        Pass {
            model: self.model,
            adapter: self.adapter,
            gains: self.prepared.gains.as_ref(),
            few,
            dropout_seed: None,
            is_training: false,
            precision_path,
            stop: Some(&self.stop),
            watch: None,
        }
    }

    /// Runs rows `done..done + rows` through the blocks, their keys and values into the cache.
    fn run(&mut self, done: usize, rows: usize) -> Buffer {
        let model = self.model;
        let width = model.config.kv_width();
        let tables = tables(model, &[(done as u32, self.is_long, rows)]);
        let precision_path = self.precision_paths.read;
        let (mut keys, mut values) = (std::mem::take(&mut self.k), std::mem::take(&mut self.v));
        let mut attend = |index: usize, qkv: Qkv<'_>, out: AttentionOut<'_>| {
            let new = done * width..(done + rows) * width;
            keys[index][new.clone()].copy_from_slice(qkv.k);
            values[index][new].copy_from_slice(qkv.v);
            let shape = block::attention_shape(&model.config, model.layers[index].kind);
            let cache = cache(model, &keys[index], &values[index], done + rows);
            if precision_path == PrecisionPath::ByRows {
                attention_cached(&model.ctx, &shape, qkv.q, rows, &cache, out.out);
            } else {
                attention_cached_rows(
                    &model.ctx,
                    &shape,
                    qkv.q,
                    &[CachedRows { rows: 0..rows, cache }],
                    out.out,
                );
            }
        };
        let x = model.embed_tokens(&self.tokens[done..done + rows]);
        let x = run_blocks(self.pass(rows, precision_path), x, rows, &tables, &mut attend);
        (self.k, self.v) = (keys, values);
        x
    }

    /// Final norm and head of one row.
    fn finish(&mut self, hidden: &[f32]) {
        let normed = final_norm(self.model, hidden);
        self.model
            .logits_on(self.precision_paths.step, &normed, &mut self.logits);
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

/// Tables of runs of successive positions: first position, whether the sequence is long, number of rows.
fn tables(model: &Model, runs: &[(u32, bool, usize)]) -> Tables {
    let total = runs.iter().map(|(_, _, rows)| rows).sum();
    let mut tables = model.rotary.table(&model.arena, total);
    let mut row = 0;
    for &(start, is_long, rows) in runs {
        for position in start..start + rows as u32 {
            model.rotary.write(&mut tables, row, position, is_long);
            row += 1;
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
        if pass.is_stopped() {
            break;
        }
        x = block::forward(pass, index, Rows { t, tables }, &x, attend).0;
    }
    x
}
