//! `dlm prompt`: the plan and the figures of an answer, both with `--verbose`.

use dlm_core::units::{duration, size};
use dlm_flow::prompt::{PlannedPrompt, PromptReport};
use dlm_plan::knob::Knob;
use dlm_plan::prompt::PromptPlan;

use crate::console::Console;
use crate::memory;

/// What is about to be done.
pub fn plan(asked: &PlannedPrompt, console: &Console) {
    if console.is_verbose {
        plan_lines(&asked.plan).iter().for_each(|line| console.detail(line));
    }
    if let Some(adapter) = &asked.adapter {
        console.detail(&format!("adapter: {}", adapter.display()));
    }
}

/// How long it took and how much memory.
pub fn figures(report: &PromptReport, plan: &PromptPlan, console: &Console) {
    if !report.adapters.is_empty() {
        let shares = report
            .adapters
            .iter()
            .map(|share| format!("{} {:.2}", share.name, share.weight));
        console.detail(&format!("adapters: {}", shares.collect::<Vec<_>>().join(", ")));
    }
    console.detail(&format!(
        "read {} tokens in {}, wrote {} in {} ({})",
        report.prompt_tokens,
        duration(report.seconds_prompt),
        report.answer_tokens,
        duration(report.seconds_answer),
        report.reason
    ));
    memory_taken(plan.memory_bytes, console);
}

/// The most memory that the program took, beside what was planned.
pub fn memory_taken(planned_bytes: u64, console: &Console) {
    if let Some(peak) = memory::peak_bytes() {
        console.detail(&format!(
            "memory: at most {}; planned {}",
            size(peak),
            size(planned_bytes)
        ));
    }
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
        optional("seed", &plan.seed),
        format!(
            "{:<18}  {} of {}",
            "memory",
            size(plan.memory_bytes),
            size(plan.memory_budget_bytes)
        ),
    ]
}
