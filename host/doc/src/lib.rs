//! The `.dlm` document: parsing with every error and its place, the frontmatter schema and its migrations, the row
//! grammar, lossless edits and the canonical writer, and the `check` report.
//!
//! Invariants: pure functions of text and supplied values. This crate reads no file, clock or environment, prints
//! nothing, and knows no model, store or plugin.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod body;
pub mod check;
mod code_block;
mod document;
pub mod edit;
mod error;
pub mod fence;
mod findings;
mod frontmatter;
pub mod grammar;
pub mod guard;
mod limits;
pub mod marker;
mod migrate;
mod probes;
pub mod render;
mod rows;
pub mod scaffold;
pub mod template;
mod text;
pub mod write;
mod yaml;

pub use check::{CheckReport, TrainingProblem, check, training_problems};
pub use dlm_core::{AutoMined, AutoSynth, Media, Section, SectionId, SectionKind, Ulid};
pub use document::{Document, NO_ID, Parsed, parse, parse_bytes, parse_template, parse_with};
pub use edit::{
    EditError, MigratedText, append_sections, insert_sections, migrate_text, remove_sections, replace_base, replace_id,
};
pub use error::{ErrorClass, ParseError, ParseErrors, Problem, Warning, WarningKind};
pub use findings::Findings;
pub use frontmatter::{
    AdapterConfig, AudioConfig, CacheConfig, CptConfig, ExportConfig, Frontmatter, GateConfig, PreferenceConfig,
    PreferenceHyperparams, SCHEMA_VERSION, SourceDirective, TrainingConfig, WrittenKeys,
};
pub use guard::guard;
pub use limits::{FINDINGS_MAX, Limits};
pub use migrate::chain;
pub use probes::{PROBES_MIN, Probe, explicit_probes, probes};
pub use rows::{Pair, RowError, RowProblem, Rows, Triple, rows};
pub use scaffold::{minimal_document, starter_document};
pub use text::decode;
pub use write::{WriteError, write, write_frontmatter};
