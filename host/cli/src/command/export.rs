//! `dlm export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::{BoolValueParser, PossibleValuesParser, StringValueParser};
use clap::{ArgAction, Args, ValueHint};
use dlm_core::Quant;
use dlm_core::ports::model::NoModels;
use dlm_flow::Failure;
use dlm_flow::export::{ExportCommand, export};
use dlm_plan::export::ExportOptions;

use super::choice::choice;
use crate::console::Console;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::Settings;
use crate::unbuilt::{self, NotBuilt, not_built};
use crate::wiring;
use crate::wiring::plugins::{Setup, close, plugins};

/// `dlm export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
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
    /// Quantize without an importance matrix: all columns count alike
    #[arg(long)]
    pub no_imatrix: bool,
    /// Take the importance matrix from a GGUF file of llama.cpp's `llama-imatrix` [default: measured on the document and general text]
    #[arg(long, value_name = "FILE", conflicts_with = "no_imatrix", value_hint = ValueHint::FilePath)]
    pub imatrix: Option<PathBuf>,
    /// No speculative decoding (there are no draft models yet, so no export has it)
    #[arg(long)]
    pub no_draft: bool,
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
#[command(next_help_heading = unbuilt::HEADING)]
pub struct ExportUnbuilt {
    /// Merge a QLoRA adapter
    #[arg(long, action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub dequantize: NotBuilt,
    /// Draft model for speculative decoding
    #[arg(long, value_name = "TAG", conflicts_with = "no_draft", value_parser = not_built(StringValueParser::new()))]
    pub draft: Option<NotBuilt>,
    /// Weighted mix of named adapters
    #[arg(long, value_name = "SPEC", value_parser = not_built(StringValueParser::new()))]
    pub adapter_mix: Option<NotBuilt>,
    /// How adapters are mixed; only with --adapter-mix
    #[arg(long, value_name = "METHOD", requires = "adapter_mix", value_parser = not_built(PossibleValuesParser::new(["linear", "svd"])))]
    pub adapter_mix_method: Option<NotBuilt>,
    /// Write a sway.yaml beside the export
    #[arg(long, action = ArgAction::SetTrue, value_parser = not_built(BoolValueParser::new()))]
    pub emit_sway_json: NotBuilt,
}

/// Exports, checks, hands over to the target, and prints what was made.
pub fn run(args: &ExportArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    let world = wiring::World::new(settings, console)?;
    let around = &world.around;
    let targets = plugins(
        &world,
        console,
        Setup {
            flags: args.plugins.grants(),
            record: args.plugins.record.as_deref(),
            models: Arc::new(NoModels),
            document: Some(&args.path),
            seed: 0,
            is_dry_run: false,
        },
    )?;
    let command = ExportCommand {
        path: args.path.clone(),
        options: ExportOptions {
            quant: args.quant,
            target: Some(args.target.clone()),
            is_merged: args.merged,
            without_template: args.no_template,
            without_imatrix: args.no_imatrix,
            imatrix_file: args.imatrix.as_ref().map(|path| path.display().to_string()),
            without_draft: args.no_draft,
            name: args.name.clone(),
            ..ExportOptions::default()
        },
        adapter: args.adapter.clone(),
        is_smoked: !args.no_smoke,
        is_registered: !args.skip_ollama,
        threads: settings.threads.value,
    };
    let report = export(around, &targets, &command);
    if let Ok(report) = &report {
        render::export::report(report, args.json, console);
    }
    close(&world, console, &targets, Some((args.path.as_path(), "export")));
    report.map(|_| ExitCode::SUCCESS)
}
