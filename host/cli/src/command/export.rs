//! `dlm export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueHint};
use dlm_core::Quant;
use dlm_core::ports::model::NoModels;
use dlm_core::training::MixMethod;
use dlm_flow::Failure;
use dlm_flow::export::{ExportCommand, export, preview, quant_report};
use dlm_plan::export::ExportOptions;

use super::choice::choice;
use crate::console::Console;
use crate::plugin_flags::PluginFlags;
use crate::render;
use crate::settings::Settings;
use crate::wiring;
use crate::wiring::plugins::{Setup, close, plugins};

/// `dlm export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Document whose model is exported
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Where the model will run: ollama, llama-server, vllm, mlx-serve, or an installed target plugin
    #[arg(long, value_name = "NAME", default_value = "ollama", value_delimiter = ',')]
    pub target: Vec<String>,
    /// Quantization [default: the document's export.default_quant, else Q4_K_M]
    #[arg(long, value_parser = choice::<Quant>(), value_name = "Q", ignore_case = true, value_delimiter = ',')]
    pub quant: Vec<Quant>,
    /// Show what would be written and refuse what would be refused, without reading a weight
    #[arg(long)]
    pub dry_run: bool,
    /// Merge the adapter into the base
    #[arg(long)]
    pub merged: bool,
    /// Merge an adapter that was trained on 4-bit weights (QLoRA) into unquantized ones; only with --merged
    #[arg(long)]
    pub dequantize: bool,
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
    /// Name no model that writes ahead in the Modelfile
    #[arg(long)]
    pub no_draft: bool,
    /// Model in Ollama that writes ahead (speculative decoding) [default: a smaller relative of the base, where one is known]
    #[arg(long, value_name = "TAG", conflicts_with = "no_draft")]
    pub draft: Option<String>,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME", conflicts_with = "adapter_mix")]
    pub adapter: Option<String>,
    /// Adapter in a directory of PEFT's, in the place of the document's own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["adapter", "adapter_mix"], value_hint = ValueHint::DirPath)]
    pub adapter_dir: Option<PathBuf>,
    /// Several named LoRA adapters as one, each with its weight: knowledge:1.0,tone:0.5
    #[arg(long, value_name = "SPEC")]
    pub adapter_mix: Option<String>,
    /// How they are mixed: linear (exact; ranks add up) or svd (nearest of the largest rank) [default: linear]
    #[arg(long, value_name = "METHOD", requires = "adapter_mix", value_parser = choice::<MixMethod>(), hide_possible_values = true)]
    pub adapter_mix_method: Option<MixMethod>,
    /// Write sway.yaml beside the export: probes for `dlm-sway` made of the document
    #[arg(long)]
    pub emit_sway_json: bool,
    /// Export nothing: measure size, perplexity and divergence at every level, or at those of --quant
    #[arg(long, conflicts_with_all = ["dry_run", "merged"])]
    pub quant_report: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
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
            is_dry_run: args.dry_run,
        },
    )?;
    let command = ExportCommand {
        path: args.path.clone(),
        options: ExportOptions {
            is_merged: args.merged,
            is_dequantize_confirmed: args.dequantize,
            without_template: args.no_template,
            without_imatrix: args.no_imatrix,
            imatrix_file: args.imatrix.as_ref().map(|path| path.display().to_string()),
            without_draft: args.no_draft,
            draft: args.draft.clone(),
            name: args.name.clone(),
            ..ExportOptions::default()
        },
        adapter: args.adapter.clone(),
        adapter_directory: args.adapter_dir.clone(),
        mix: args
            .adapter_mix
            .clone()
            .map(|spec| (spec, args.adapter_mix_method.unwrap_or_default())),
        targets: args.target.clone(),
        quants: args.quant.clone(),
        is_smoked: !args.no_smoke,
        emits_sway: args.emit_sway_json,
        is_registered: !args.skip_ollama,
        threads: settings.threads.value,
    };
    if args.quant_report {
        let measured = quant_report(around, &command);
        close(&world, console, &targets, None);
        render::export::quality(&measured?, args.json, console);
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        let planned = preview(around, &targets, &command);
        close(&world, console, &targets, None);
        render::export::preview(&planned?, args.json, console);
        return Ok(ExitCode::SUCCESS);
    }
    let reports = export(around, &targets, &command);
    if let Ok(reports) = &reports {
        render::export::reports(reports, args.json, console);
    }
    close(&world, console, &targets, Some((args.path.as_path(), "export")));
    reports.map(|_| ExitCode::SUCCESS)
}
