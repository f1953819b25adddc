//! The boundary between what is computed and where: a loaded base trains and reads behind three object-safe traits.
//!
//! Invariants: whoever trains or reads sees plain data only (tokens, targets, losses, logits, adapters in `f32`), never a
//! device, a weight or a kernel; what crosses the boundary is the same for every engine, so a run may start on one and
//! go on at another. The processor's engine is [`cpu`].

pub mod cpu;

use std::path::Path;

use dlm_core::Cancel;
use dlm_core::training::{Checkpointing, MixMethod, MomentType};
use dlm_kernels::PrecisionPath;
pub use dlm_kernels::{EightBit, Moments};

use crate::adapter::{Adapter, AdapterError, AdapterSpec};
use crate::batch::{Batch, BatchError, Target};
use crate::session::{PrecisionPaths, SessionError};

pub use cpu::{Cpu, CpuEngine, CpuOptions};

/// A base with its weights loaded, ready to train and to read.
pub trait Engine: Send + Sync {
    /// Returns what is known of the loaded base.
    fn facts(&self) -> &EngineFacts;

    /// Makes a fresh adapter that changes nothing yet; see [`Adapter::init`].
    ///
    /// **Errors:** numbers out of range, a target without module.
    fn fresh_adapter(&self, spec: &AdapterSpec, seed: u64) -> Result<Adapter, AdapterError>;

    /// Reads an adapter from a directory in PEFT's layout.
    ///
    /// **Errors:** files that are missing or damaged, or that belong to another base.
    fn read_adapter(&self, directory: &Path) -> Result<Adapter, AdapterError>;

    /// Makes the adapter that changes the base by the weighted sum of what each part changes; see [`Adapter::mix`] and, for
    /// [`MixMethod::Svd`], [`Adapter::truncated`].
    ///
    /// **Errors:** no part.
    /// **Panics:** `Svd` of a DoRA adapter.
    fn mix(&self, parts: &[(&Adapter, f32)], method: MixMethod) -> Result<Adapter, AdapterError>;

    /// Starts to train a copy of `adapter`, with moments of zero.
    ///
    /// **Errors:** no room on the device.
    fn trainer(&self, adapter: &Adapter, options: &TrainerOptions) -> Result<Box<dyn Trainer + '_>, EngineError>;

    /// Starts to read with `adapter`, or with the base alone.
    ///
    /// **Errors:** no room on the device.
    fn reader<'a>(
        &'a self,
        adapter: Option<&'a Adapter>,
        options: ReaderOptions,
    ) -> Result<Box<dyn Reader + 'a>, EngineError>;
}

/// What is known of a loaded base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFacts {
    /// Width of a row of logits.
    pub vocab: usize,
    /// Whether any product reads block-quantized weights.
    pub is_quantized: bool,
    /// Whether streamed products of quantized weights are of integers, the row rounded to eight bits.
    pub streams_integers: bool,
    /// Bytes of the weights in memory, copies that are laid out for products included.
    pub weights_bytes: u64,
    /// Bytes that a session keeps of each token.
    pub cache_bytes_per_token: u64,
    /// Tokens from which a sequence is read with other rotary frequencies (LongRope), so that it shares no keys with a
    /// shorter one.
    pub long_from: Option<usize>,
}

impl EngineFacts {
    /// Products in `f32` whatever the engine's precision, for greedy answers: what is said does not depend on how a base was
    /// loaded, nor on what is said beside it.
    pub fn exact_paths(&self) -> PrecisionPaths {
        PrecisionPaths {
            read: PrecisionPath::PackedF32,
            step: match self.streams_integers {
                true => PrecisionPath::PackedF32,
                false => PrecisionPath::Streamed,
            },
        }
    }

    /// How greedy answers are read, until `cancel` is raised.
    pub fn exact_reading(&self, cancel: &Cancel) -> ReaderOptions {
        ReaderOptions {
            precision_paths: self.exact_paths(),
            cancel: cancel.clone(),
        }
    }
}

/// A computation that an engine refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl EngineError {
    /// Says whether it ended because its flag was raised.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, EngineError::Session(SessionError::Cancelled))
    }
}

/// Gives log-probabilities of tokens, without training.
pub trait Logprobs {
    /// Returns `log p(token)` in nats at every pair of a row of the batch and the token that follows it.
    ///
    /// **Errors:** a batch that describes no sequences of this vocabulary.
    /// **Panics:** when a pair names a row or token that does not exist.
    fn logprobs(&mut self, batch: &Batch, pairs: &[(usize, u32)]) -> Result<Vec<f32>, EngineError>;
}

/// How an adapter is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainerOptions {
    pub optimizer: AdamWOptions,
    /// Largest global L2 norm of a gradient; `None` leaves gradients as they are.
    pub clip: Option<f64>,
    pub checkpointing: Checkpointing,
}

/// The settings of AdamW that hold for a whole run.
///
/// **Source:** Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    pub weight_decay: f64,
    /// How the moments are kept between two updates.
    pub moments: MomentType,
}

impl AdamWOptions {
    /// The usual decays and moments, without weight decay.
    pub const USUAL: AdamWOptions = AdamWOptions {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        moments: MomentType::F32,
    };
}

/// Everything that training changes, in the adapter's flat order: what a run keeps to go on elsewhere or later.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainTensors {
    /// [`Adapter::params`].
    pub params: Vec<f32>,
    /// Moments of the optimizer.
    pub moments: Moments,
    /// Updates taken so far.
    pub updates: u64,
}

impl TrainTensors {
    /// How the moments are kept.
    pub fn moment_type(&self) -> MomentType {
        match self.moments {
            Moments::Full { .. } => MomentType::F32,
            Moments::EightBit { .. } => MomentType::EightBit,
        }
    }

    /// Says whether there are two moments for every parameter.
    pub fn is_whole(&self) -> bool {
        self.moments.parameters() == Some(self.params.len())
    }
}

/// What the gradient of one tensor looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorGradient {
    /// Exactly zero everywhere.
    Zero,
    Finite,
    /// Holds an infinity or no number.
    NotFinite,
}

/// An adapter that is being trained. Its evaluation ([`Logprobs`]) is under the present parameters, without dropout.
pub trait Trainer: Logprobs {
    /// Runs a batch forward and backward and adds to the gradient; returns the unweighted loss of every target, in nats.
    ///
    /// `dropout_seed` decides what is dropped, with the adapter's rate. Where a loss is not finite nothing is added.
    ///
    /// **Errors:** a batch that describes no sequences of this vocabulary.
    fn pass(&mut self, batch: &Batch, targets: &[Target], dropout_seed: u64) -> Result<Vec<f32>, EngineError>;

    /// [`Trainer::pass`] where the targets' weights depend on their losses: `weigh` is handed the loss of every target, in nats,
    /// and returns the weight of each; those of the targets are ignored.
    ///
    /// **Cost:** the head's product of the target rows once more than a pass of fixed weights.
    /// **Errors:** as [`Trainer::pass`].
    /// **Panics:** when a target is no token, or `weigh` returns another number of weights.
    fn pass_weighed(
        &mut self,
        batch: &Batch,
        targets: &[Target],
        dropout_seed: u64,
        weigh: &mut dyn FnMut(&[f32]) -> Vec<f32>,
    ) -> Result<Vec<f32>, EngineError>;

    /// Looks at the gradient that the passes since the last update have summed, tensor by tensor, in the order of
    /// [`Adapter::tensors`].
    fn gradients(&mut self) -> Result<Vec<TensorGradient>, EngineError>;

    /// Clips the gradient, changes the parameters at rate `lr`, clears the gradient, and returns its norm before clipping.
    fn update(&mut self, lr: f64) -> Result<f64, EngineError>;

    /// Copies the parameters and moments out.
    fn read(&mut self) -> Result<TrainTensors, EngineError>;

    /// Replaces parameters and moments.
    ///
    /// **Panics:** when a length is not that of the adapter's parameters, or the moments are not of the options' type.
    fn write(&mut self, tensors: &TrainTensors) -> Result<(), EngineError>;
}

/// How a reader computes.
#[derive(Clone, Debug, Default)]
pub struct ReaderOptions {
    /// The products of prompts and of single tokens. Fixed ones give a sequence the same bits alone and in any batch; the
    /// default is the fastest for one sequence.
    pub precision_paths: PrecisionPaths,
    /// Looked at between the blocks of every pass. Once it is raised every call ends with [`EngineError::is_cancelled`], and
    /// the sessions that it was for hold nothing of use.
    pub cancel: Cancel,
}

/// Names an open session of one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) usize);

/// Reads whole batches, and sequences that grow, whose keys and values are cached in sessions. Closing one gives its memory
/// back.
pub trait Reader: Logprobs {
    /// Returns what is known of the loaded base.
    fn facts(&self) -> &EngineFacts;

    /// Returns the final hidden states at rows of a batch: `[rows, d_model]`.
    ///
    /// **Errors:** a batch that describes no sequences of this vocabulary.
    /// **Panics:** when a row does not exist.
    fn hidden(&mut self, batch: &Batch, rows: &[usize]) -> Result<Vec<f32>, EngineError>;

    /// Returns the logits at rows of a batch: `[rows, vocab]`.
    ///
    /// **Errors:** as [`Reader::hidden`].
    /// **Panics:** as [`Reader::hidden`].
    fn logits(&mut self, batch: &Batch, rows: &[usize]) -> Result<Vec<f32>, EngineError>;

    /// Calls `work(0)` to `work(parts - 1)`, each once, on the host's threads: what is done with logits takes its share of a
    /// step too.
    fn on_threads(&self, parts: usize, work: &(dyn Fn(usize) + Sync));

    /// Opens an empty session of at most `context` tokens.
    ///
    /// **Errors:** no room on the device.
    fn open(&mut self, context: usize) -> Result<SessionId, EngineError>;

    /// Opens a session that holds the tokens of another, which goes on as it was.
    ///
    /// **Errors:** a context too short for the tokens, a session that is not open.
    fn fork(&mut self, session: SessionId, context: usize) -> Result<SessionId, EngineError>;

    /// Closes a session; one that is not open is none of this reader's business.
    fn close(&mut self, session: SessionId);

    /// Takes tokens into each session and writes the logits after the last of each: `[sessions, vocab]`.
    ///
    /// **Errors:** no tokens for one, too many for its context, one outside the vocabulary, a session that is not open or
    /// is named twice; nothing has changed then.
    fn read(&mut self, sessions: &[SessionId], tokens: &[&[u32]], logits: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Takes one token into each session and writes the logits after it: `[sessions, vocab]`.
    ///
    /// **Errors:** as [`Reader::read`].
    fn step(&mut self, sessions: &[SessionId], tokens: &[u32], logits: &mut Vec<f32>) -> Result<(), EngineError>;
}
