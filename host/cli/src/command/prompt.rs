//! `dlm prompt`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PathBufValueParser;
use clap::{Args, ValueHint};
use dlm_core::Subject;
use dlm_core::training::GateChoice;
use dlm_flow::Failure;
use dlm_flow::prompt::{PromptCommand, answer, ask};
use dlm_plan::prompt::PromptOptions;

use super::choice::choice;
use super::sampling::{Backend, backend_detail, parse_share, parse_temperature};
use crate::console::{Console, say};
use crate::settings::Settings;
use crate::unbuilt::{NotBuilt, not_built};
use crate::{render, wiring};

/// `dlm prompt`.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Document whose model answers
    #[arg(value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
    /// Question; read from standard input when left out
    pub query: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Temperature; 0 always takes the likeliest token [default: 0.7]
    #[arg(long, value_name = "F", value_parser = parse_temperature)]
    pub temp: Option<f32>,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "F", value_parser = parse_share)]
    pub top_p: Option<f32>,
    /// Seed of the sampling [default: different each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Ask the base alone, without the trained adapter
    #[arg(long)]
    pub base_only: bool,
    /// Named adapter of a multi-adapter document
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Adapter in a directory of PEFT's, in the place of the document's own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["adapter", "base_only", "gate"], value_hint = ValueHint::DirPath)]
    pub adapter_dir: Option<PathBuf>,
    /// Learned gate between the adapters of a multi-adapter document [default: auto]
    #[arg(long, value_name = "auto|off", value_parser = choice::<GateChoice>(), hide_possible_values = true)]
    pub gate: Option<GateChoice>,
    /// Attach a picture (not built yet)
    #[arg(long, value_name = "PATH", value_parser = not_built(PathBufValueParser::new()))]
    pub image: Vec<NotBuilt>,
    /// Attach a sound (not built yet)
    #[arg(long, value_name = "PATH", conflicts_with = "image", value_parser = not_built(PathBufValueParser::new()))]
    pub audio: Vec<NotBuilt>,
    /// Back end; `pytorch` names the native one
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
}

/// Largest query that is read from standard input.
const QUERY_BYTES_MAX: u64 = 4 << 20;

/// Asks the model and prints the answer as it comes.
pub fn run(args: &PromptArgs, settings: &Settings, console: &Console) -> Result<ExitCode, Failure> {
    check_choices(args)?;
    let query = match &args.query {
        Some(query) => query.clone(),
        None => read_query()?,
    };
    let world = wiring::World::new(settings, console)?;
    let around = &world.around;
    let command = PromptCommand {
        path: args.path.clone(),
        query,
        options: PromptOptions {
            max_tokens: Some(args.max_tokens),
            temperature: args.temp.map(f64::from),
            top_p: args.top_p.map(f64::from),
            seed: args.seed,
            threads: settings.threads.value,
            ..PromptOptions::default()
        },
        is_base_only: args.base_only,
        adapter: args.adapter.clone(),
        adapter_directory: args.adapter_dir.clone(),
        gate: args.gate,
    };
    backend_detail(args.backend, console);
    let asked = ask(around, &command)?;
    render::prompt::plan(&asked, console);
    let mut ends_with_newline = false;
    let report = answer(around, &asked, &mut |text| {
        ends_with_newline = text.ends_with('\n');
        console.answer(text);
    });
    if !ends_with_newline {
        console.answer("\n");
    }
    let report = report?;
    render::prompt::figures(&report, &asked.plan, console);
    Ok(ExitCode::SUCCESS)
}

fn check_choices(args: &PromptArgs) -> Result<(), Failure> {
    if args.backend == Backend::Mlx {
        return Err(Failure::misuse(
            Subject::Prompt,
            format!(
                "the MLX back end needs Apple Silicon; this machine is {}/{}",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        )
        .hint("leave out `--backend`, or give `auto` or `pytorch` (the native back end)"));
    }
    Ok(())
}

fn read_query() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        say("reading the question from standard input; end it with Ctrl-D");
    }
    let mut text = String::new();
    stdin
        .lock()
        .take(QUERY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| Failure::new(Subject::Prompt, format!("standard input cannot be read as text: {e}")))?;
    Ok(text.trim().to_owned())
}
