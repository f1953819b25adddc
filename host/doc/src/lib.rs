//! The `.dlm` document: parsing with every error and its place, the frontmatter schema and its migrations, the row
//! grammar, lossless edits and the canonical writer, and the `check` report.
//!
//! Invariants: pure functions of text and supplied values. This crate reads no file, clock or environment, prints
//! nothing, and knows no model, store or plugin.

mod body;
mod code_block;
mod document;
mod error;
pub mod fence;
mod frontmatter;
mod limits;
pub mod marker;
mod migrate;
mod rows;
mod text;
mod yaml;

pub use dlm_core::{AutoMined, AutoSynth, Media, Section, SectionId, SectionKind, Ulid};
pub use document::{Document, Parsed, parse, parse_bytes, parse_with};
pub use error::{ErrorClass, ParseError, ParseErrors, Warning, WarningKind};
pub use frontmatter::{
    AdapterConfig, AdapterKind, AudioConfig, AutoOr, CacheConfig, CptConfig, CptSchedule, ExportConfig, Frontmatter,
    GateConfig, LrScheduler, Optimizer, Precision, PreferenceConfig, PreferenceHyperparams, PreferenceLoss,
    PreferenceMethod, PreferenceReference, Problem, Quant, SCHEMA_VERSION, SourceDirective, SourcesPolicy,
    TargetModules, TrainingConfig, WrittenKeys, WrittenKnobs,
};
pub use limits::Limits;
pub use migrate::chain;
pub use rows::{Pair, RowError, RowProblem, Rows, Triple, rows};
pub use text::decode;
