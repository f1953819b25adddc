//! Arguments of `preference`, `synth` and `templates`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::build::{Backend, parse_share, parse_temperature};
use super::plugin_flags::PluginFlags;

/// `dlm preference`.
#[derive(Debug, Subcommand)]
pub enum Preference {
    /// Sample answers, judge them and stage the preferences that are found
    Mine(Box<Mine>),
    /// Write the staged preferences into the document
    Apply(Place),
    /// Take every mined preference out of the document
    Revert(Place),
    /// List mined preferences, in the document and staged
    List(Place),
}

/// `dlm preference mine` and `dlm synth preferences`.
#[derive(Debug, Args)]
pub struct Mine {
    /// Document whose questions are asked
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Answers drawn per question, at least 2
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub samples: u32,
    /// Judge: sway, sway:ft, hf:<model>, cli:<cmd>, or a plugin's name or .wasm file
    #[arg(long, value_name = "J", default_value = "sway")]
    pub judge: String,
    /// Smallest margin that counts [default: the judge's own]
    #[arg(long, value_name = "F")]
    pub threshold: Option<f64>,
    /// Keep at most this many pairs
    #[arg(long, value_name = "N")]
    pub max_pairs: Option<u32>,
    /// Sampling temperature, over 0
    #[arg(long, value_name = "F", default_value_t = 0.7, value_parser = parse_temperature, allow_negative_numbers = true)]
    pub temp: f32,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", value_parser = parse_share)]
    pub top_p: Option<f32>,
    /// Back end; `pytorch` names the native one
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Seed of the sampling [default: the document's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<i64>,
    /// Mine questions that are marked `!probe` too
    #[arg(long)]
    pub include_probes: bool,
    /// Leave out a question whose judge fails instead of stopping
    #[arg(long)]
    pub keep_going: bool,
    /// Write into the document at once instead of staging
    #[arg(long)]
    pub apply: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// A document, and whether to answer as JSON.
#[derive(Debug, Args)]
pub struct Place {
    /// Document
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm synth`.
#[derive(Debug, Subcommand)]
pub enum Synth {
    /// Let a teacher write question-answer pairs from the document's prose
    Instructions(Box<Instructions>),
    /// Mine preferences: the same as `dlm preference mine`
    Preferences(Box<Mine>),
    /// Write the staged pairs into the document
    Apply(SynthApply),
    /// Take every synthesized pair out of the document
    Revert(Place),
    /// List synthesized pairs, in the document and staged
    List(Place),
    /// Throw the staged pairs away
    Drop(Place),
}

/// `dlm synth apply`.
#[derive(Debug, Args)]
pub struct SynthApply {
    #[command(flatten)]
    pub place: Place,
    /// Put each pair right after the section it was made from
    #[arg(long)]
    pub inline: bool,
}

/// `--strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    Extraction,
    Expansion,
    Both,
}

/// `--filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Filter {
    Sway,
    None,
    DedupOnly,
}

/// `dlm synth instructions`.
#[derive(Debug, Args)]
pub struct Instructions {
    /// Document whose prose is read
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Teacher: self, base, hf:<model>, openai:<model>, anthropic:<model>, vllm-server:<url>, or a plugin
    #[arg(long, value_name = "T", default_value = "self")]
    pub teacher: String,
    /// Pairs asked for per prose section
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub per_section: u32,
    /// What is asked: facts of the prose, questions beyond it, or both
    #[arg(long, value_enum, default_value_t = Strategy::Extraction)]
    pub strategy: Strategy,
    /// What passes: pairs that the prose supports, everything, or everything but near duplicates [default: sway]
    #[arg(long, value_enum)]
    pub filter: Option<Filter>,
    /// Smallest grounding, nats per token; only with --filter sway [default: 0.1]
    #[arg(long, value_name = "F")]
    pub threshold: Option<f64>,
    /// Accept at most this many pairs
    #[arg(long, value_name = "N")]
    pub max_pairs: Option<u32>,
    /// Longest answer of the teacher, in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_new_tokens: u32,
    /// Temperature of the teacher; 0 always takes the likeliest token
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = parse_temperature, allow_negative_numbers = true)]
    pub temp: f32,
    /// Teacher samples from the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", value_parser = parse_share)]
    pub top_p: Option<f32>,
    /// Seed of the teacher's sampling
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Teachers that work side by side, where the teacher allows it
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub concurrency: u32,
    /// Ask a remote teacher again for what it answered before
    #[arg(long)]
    pub no_kept_answers: bool,
    /// Write accepted pairs into the document at once
    #[arg(long)]
    pub apply: bool,
    /// With --apply: put each pair right after the section it was made from
    #[arg(long)]
    pub inline: bool,
    /// Show the plan, stage and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// `dlm templates`.
#[derive(Debug, Subcommand)]
pub enum Templates {
    /// List the templates of the bundled gallery or of another source
    List(TemplatesList),
}

/// `dlm templates list`.
#[derive(Debug, Args)]
pub struct TemplatesList {
    /// Only templates that match this text
    pub query: Option<String>,
    /// Source of templates: bundled, or one that is configured
    #[arg(long, value_name = "NAME", default_value = "bundled")]
    pub source: String,
    /// Print everything that is known of each template as JSON
    #[arg(long)]
    pub json: bool,
    /// Refresh from the upstream gallery (there is none yet: the bundled one is shown)
    #[arg(long)]
    pub refresh: bool,
    /// Take an upstream gallery without a signature (reserved)
    #[arg(long, requires = "refresh")]
    pub accept_unsigned: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}
