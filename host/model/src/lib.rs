//! Models: what a decoder is (data), its weights, adapters on top, training forward and backward, inference; tokenizer,
//! chat template, sampling and generation.
//!
//! Must not know: optimizers, stores, plugins, documents. Nothing here prints, reads the environment or the clock.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod adapter;
pub mod arch;
mod arena;
pub mod base;
pub mod batch;
pub mod chat;
pub mod config;
pub mod device;
pub mod engine;
pub mod foreign;
pub mod generate;
pub mod gguf;
mod input_squares;
pub mod layout;
mod mapped;
pub mod model;
mod pass;
pub mod rank;
mod rotary;
pub mod safetensors_dir;
pub mod sampling;
pub mod score;
pub mod session;
pub mod text;
pub mod tokenizer;
pub mod trial;
pub mod weights;

pub use adapter::{Adapter, AdapterError, AdapterKind, AdapterSpec, MergedSource, PeftFacts, PeftMeta};
pub use base::{OpenedBase, open_base};
pub use batch::{Batch, BatchError, Segment, Target, TargetKind};
pub use config::DecoderConfig;
pub use engine::{
    Cpu, CpuEngine, CpuOptions, Engine, EngineError, EngineFacts, Logprobs, Reader, ReaderOptions, SessionId,
    TrainTensors, Trainer,
};
pub use generate::{
    GenerateJob, GenerateOptions, Generation, ManyOptions, Sequence, StopReason, Watch, generate, generate_many,
};
pub use input_squares::InputSquares;
pub use model::{LoadError, LoadOptions, Model, ModuleInfo, Prepare, WeightStorage};
pub use pass::{Forward, HeadLoss, StepOptions};
pub use rank::{OpenedRanker, RankError, RankInput, Ranker, open_ranker};
pub use sampling::Sampling;
pub use score::{ScoreError, ScoreJob, next_many, score_many};
pub use session::{PrecisionPaths, Session, SessionError, prefill_batch, read_batch, step_batch};
pub use text::TextModel;
