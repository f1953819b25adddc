//! `dlm prompt`.

use std::borrow::Cow;
use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_flow::prompt::{PromptCommand, answer, ask};
use dlm_plan::knob::Knob;
use dlm_plan::prompt::{PromptOptions, PromptPlan};

use crate::args::Global;
use crate::args::build::{Backend, Gate, Prompt};
use crate::console::{Console, deliver, say};
use crate::{memory, render, unbuilt, wiring};

/// Largest query that is read from standard input.
const QUERY_BYTES_MAX: u64 = 4 << 20;

/// Asks the model and prints the answer as it comes.
pub fn run(args: &Prompt, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    unbuilt::prompt(args)?;
    check_choices(args)?;
    let query = match &args.query {
        Some(query) => query.clone(),
        None => read_query()?,
    };
    let world = wiring::World::new(global, console)?;
    let around = world.around();
    let command = PromptCommand {
        path: args.path.clone(),
        query,
        options: PromptOptions {
            max_tokens: Some(args.max_tokens),
            temperature: args.temp.map(f64::from),
            top_p: args.top_p.map(f64::from),
            seed: args.seed,
            threads: global.threads,
            ..PromptOptions::default()
        },
        is_base_only: args.base_only,
        hub_root: world.hub_root().to_owned(),
    };
    let asked = ask(&around, &command)?;
    if console.is_verbose {
        plan_lines(&asked.plan).iter().for_each(|line| console.detail(line));
    }
    if let Some(adapter) = &asked.adapter {
        console.detail(&format!("adapter: {}", adapter.display()));
    }
    let is_terminal = std::io::stdout().is_terminal();
    let mut ends_with_newline = false;
    let report = answer(&around, &asked, &mut |text| {
        ends_with_newline = text.ends_with('\n');
        deliver(&shown(text, is_terminal));
    });
    if !ends_with_newline {
        deliver("\n");
    }
    let report = report?;
    console.detail(&format!(
        "read {} tokens in {:.2} s, wrote {} in {:.2} s ({})",
        report.prompt_tokens, report.seconds_prompt, report.answer_tokens, report.seconds_answer, report.reason
    ));
    if let Some(peak) = memory::peak_bytes() {
        console.detail(&format!(
            "memory: at most {}, mapped files of the base included; planned {}",
            render::size(peak),
            render::size(asked.plan.memory_bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Every knob of the plan with the reason for its value.
fn plan_lines(plan: &PromptPlan) -> Vec<String> {
    fn line<T: ToString>(name: &str, knob: &Knob<T>) -> String {
        format!("{name:<18}  {}  ({})", knob.value.to_string(), knob.why())
    }
    fn optional<T: ToString + Clone>(name: &str, knob: &Knob<Option<T>>) -> String {
        let value = knob.value.as_ref().map_or("off".to_owned(), T::to_string);
        format!("{name:<18}  {value}  ({})", knob.why())
    }
    vec![
        format!("{:<18}  {}", "base", plan.base),
        format!(
            "{:<18}  {}  ({})",
            "backend",
            plan.backend.value.name(),
            plan.backend.why()
        ),
        format!(
            "{:<18}  {}  ({})",
            "precision",
            plan.precision.value.name(),
            plan.precision.why()
        ),
        line("threads", &plan.threads),
        line("max_tokens", &plan.max_tokens),
        line("context", &plan.context),
        line("temperature", &plan.temperature),
        optional("top_p", &plan.top_p),
        optional("top_k", &plan.top_k),
        optional("repetition_penalty", &plan.repetition_penalty),
        optional("seed", &plan.seed),
        format!(
            "{:<18}  {} of {}",
            "memory",
            render::size(plan.memory_bytes),
            render::size(plan.memory_budget_bytes)
        ),
    ]
}

/// What a model writes goes raw into a pipe or a file, and harmless to a terminal.
fn shown(text: &str, is_terminal: bool) -> Cow<'_, str> {
    match is_terminal {
        true => Cow::Owned(dlm_packages::inert(text)),
        false => Cow::Borrowed(text),
    }
}

fn check_choices(args: &Prompt) -> Result<(), Failure> {
    if args.backend == Backend::Mlx {
        return Err(Failure::misuse(
            "prompt",
            format!(
                "the MLX back end needs Apple Silicon; this machine is {}/{}",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        )
        .hint("leave out `--backend`, or give `auto` or `pytorch` (the native back end)"));
    }
    if args.adapter.is_some() {
        return Err(Failure::misuse(
            "prompt",
            "`--adapter` is only valid on documents with several adapters",
        ));
    }
    if args.gate == Gate::Off {
        return Err(Failure::misuse(
            "prompt",
            "`--gate off` is only valid on documents with several adapters",
        ));
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
        .map_err(|e| Failure::new("prompt", format!("standard input cannot be read as text: {e}")))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_written_to_by_the_model() {
        let text = "one\n\ttwo\u{1b}]52;c;eA==\u{7}\u{202e}";
        assert_eq!(shown(text, false), text);
        assert_eq!(shown(text, true), "one\n\ttwo\\u{1b}]52;c;eA==\\u{7}\\u{202e}");
    }
}
