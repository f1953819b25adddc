//! `dlm score`.

use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_flow::score::{ScoreCommand, ScoreReport, score};

use crate::args::Global;
use crate::args::build::Score;
use crate::console::Console;
use crate::wiring;

/// Asks the questions, reads the text, prints counts and losses.
pub fn run(args: &Score, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let world = wiring::World::new(global, console)?;
    let command = ScoreCommand {
        path: args.path.clone(),
        questions: args.questions.clone(),
        text: args.text.clone(),
        is_base_only: args.base_only,
        threads: global.threads,
        hub_root: world.hub_root().to_owned(),
    };
    let report = score(&world.around(), &command)?;
    if args.json {
        console.json(&report);
    } else {
        console.result(&text(&report));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &ScoreReport) -> String {
    let mut out = String::new();
    for (group, count) in &report.groups {
        out.push_str(&format!("{group}: {} of {} accepted\n", count.accepted, count.asked));
    }
    for answer in report.answers.iter().filter(|a| !a.is_accepted) {
        out.push_str(&format!(
            "  {} [{}]\n    {}\n",
            answer.question,
            answer.group,
            answer.answer.replace('\n', " ")
        ));
    }
    if let Some(loss) = report.text_loss {
        out.push_str(&format!("mean loss on the text: {loss:.4} nats per token\n"));
    }
    out
}
