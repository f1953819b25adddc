//! `dlm score`.

use dlm_flow::score::ScoreReport;

use super::prompt::memory_taken;
use crate::console::Console;

/// Counts, wrong answers and losses.
pub fn report(report: &ScoreReport, is_json: bool, console: &Console) {
    memory_taken(report.memory_bytes, console);
    match is_json {
        true => console.json(report),
        false => console.result(&text(report)),
    }
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
