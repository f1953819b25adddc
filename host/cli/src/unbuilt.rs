//! Refuses what the surface promises but this version does not do yet: a flag never does nothing.

use dlm_flow::Failure;

use crate::args::build::{ExportUnbuilt, Init, Prompt, TrainUnbuilt};

/// A refusal with exit 2 that names the flag or command.
fn refuse(what: &str) -> Failure {
    Failure::misuse("error", format!("`{what}` is not built yet in this version"))
        .hint("what works: `dlm --help`, where everything that is not built yet is marked")
}

/// Refuses a whole command.
pub fn command(name: &str) -> Failure {
    refuse(&format!("dlm {name}"))
}

/// Refuses the first flag of a list that was given.
fn first_given(command: &str, flags: &[(&str, bool)]) -> Result<(), Failure> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(refuse(&format!("dlm {command} {flag}"))),
        None => Ok(()),
    }
}

/// Checks the flags of `dlm init`.
pub fn init(args: &Init) -> Result<(), Failure> {
    let flags = [("--multimodal", args.multimodal), ("--audio", args.audio)];
    first_given("init", &flags)
}

/// Checks the flags of `dlm train`.
pub fn train(args: &TrainUnbuilt) -> Result<(), Failure> {
    let flags = [
        ("--gpus", args.gpus.is_some()),
        ("--watch", args.watch),
        ("--watch-max-steps", args.watch_max_steps.is_some()),
        ("--watch-debounce-ms", args.watch_debounce_ms.is_some()),
        ("--repl", args.repl),
        ("--base", args.base.is_some()),
        ("--include", !args.include.is_empty()),
        ("--exclude", !args.exclude.is_empty()),
        ("--recursive", args.recursive),
        ("--no-recursive", args.no_recursive),
        ("--name", args.name.is_some()),
        ("--policy", args.policy.is_some()),
        ("--rescaffold", args.rescaffold),
        ("--no-cache", args.no_cache),
        ("--no-mined", args.no_mined),
        ("--listen-rpc", args.listen_rpc.is_some()),
        ("--max-cycles", args.max_cycles.is_some()),
    ];
    first_given("train", &flags)
}

/// Checks the flags of `dlm prompt`.
pub fn prompt(args: &Prompt) -> Result<(), Failure> {
    let flags = [("--image", !args.image.is_empty()), ("--audio", !args.audio.is_empty())];
    first_given("prompt", &flags)
}

/// Checks the flags of `dlm export`.
pub fn export(args: &ExportUnbuilt) -> Result<(), Failure> {
    let flags = [
        ("--dequantize", args.dequantize),
        ("--no-imatrix", args.no_imatrix),
        ("--draft", args.draft.is_some()),
        ("--no-draft", args.no_draft),
        ("--adapter-mix", args.adapter_mix.is_some()),
        ("--adapter-mix-method", args.adapter_mix_method.is_some()),
        ("--emit-sway-json", args.emit_sway_json),
    ];
    first_given("export", &flags)
}
