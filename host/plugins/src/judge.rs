//! A plugin as a judge: the port of `dlm-core` on one side, the contract's types on the other.

use bindings::JudgeExport;
use bindings::exports::dlm::plugin::judge as wire;
use dlm_core::inert::{cut, inert};
use dlm_core::ports::judge::{Judge, JudgeInfo, JudgeItem, JudgeMode, JudgeVerdict};
use dlm_core::ports::plugin::PluginFailure;

use crate::error::PluginError;
use crate::host::Phase;
use crate::instance::Running;
use crate::limits::TEXT_BYTES_MAX;
use crate::open::OpenPlugin;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package dlm:host-judge; world judge-export { export dlm:plugin/judge@1.0.0; }",
        world: "dlm:host-judge/judge-export",
        exports: { default: async },
        with: { "dlm:plugin/types": crate::host::wit::types },
    });
}

/// Most items that a judge may ask for in one call.
const BATCH_MAX: u32 = 1024;

/// An opened judge.
pub(crate) struct PluginJudge {
    running: Running<JudgeExport>,
    argument: String,
    info: JudgeInfo,
}

fn call_open(running: &mut Running<JudgeExport>, argument: &str) -> Result<wire::Info, PluginError> {
    running.call(Phase::Open, async |world, store| {
        world.dlm_plugin_judge().call_open(store, argument).await
    })
}

impl PluginJudge {
    pub fn open(opened: OpenPlugin<'_>) -> Result<PluginJudge, PluginError> {
        let (identity, argument) = (opened.identity(), opened.argument().to_owned());
        let mut running = opened.start(|store, instance| JudgeExport::new(store, instance))?;
        let info = call_open(&mut running, &argument)?;
        let threshold = info.suggested_threshold;
        if !(threshold.is_finite() && threshold >= 0.0) {
            let rule = format!("its suggested threshold is {threshold}, a finite number of 0 or more was expected");
            return Err(running.bad_result(rule));
        }
        if !(1..=BATCH_MAX).contains(&info.max_batch) {
            let rule = format!("its largest batch is {}, 1 to {BATCH_MAX} was expected", info.max_batch);
            return Err(running.bad_result(rule));
        }
        Ok(PluginJudge {
            info: JudgeInfo {
                identity: identity.named(info.identity),
                mode: match info.mode {
                    wire::Mode::Pointwise => JudgeMode::Pointwise,
                    wire::Mode::Pairwise => JudgeMode::Pairwise,
                },
                suggested_threshold: threshold,
                is_deterministic: info.deterministic,
                batch_max: usize::try_from(info.max_batch).unwrap_or(1),
            },
            argument,
            running,
        })
    }

    fn score_items(&mut self, items: &[JudgeItem]) -> Result<Vec<JudgeVerdict>, PluginError> {
        if self.running.revive()? {
            call_open(&mut self.running, &self.argument)?;
        }
        let pairs_only = self.info.mode == JudgeMode::Pairwise;
        if let Some(item) = items.iter().find(|item| pairs_only && item.candidates.len() != 2) {
            let rule = format!("it compares pairs and was given {} candidates", item.candidates.len());
            return Err(self.running.bad_result(rule));
        }
        let mut verdicts = Vec::with_capacity(items.len());
        for batch in items.chunks(self.info.batch_max) {
            let wire: Vec<wire::Item> = batch.iter().map(wire_item).collect();
            let scored = self.running.call(Phase::Score, async |world, store| {
                world.dlm_plugin_judge().call_score(store, &wire).await
            })?;
            self.check(batch, &scored)?;
            verdicts.extend(scored.into_iter().map(verdict));
        }
        Ok(verdicts)
    }

    /// Holds the answer against the rules of `plugins.md` section 5 before it is used.
    fn check(&self, items: &[JudgeItem], verdicts: &[wire::Verdict]) -> Result<(), PluginError> {
        if verdicts.len() != items.len() {
            let rule = format!("it gave {} verdicts for {} items", verdicts.len(), items.len());
            return Err(self.running.bad_result(rule));
        }
        for (number, (item, verdict)) in items.iter().zip(verdicts).enumerate() {
            let wrong = |rule: String| {
                self.running
                    .bad_result(format!("item {} of {}: {rule}", number + 1, items.len()))
            };
            let (scores, candidates) = (verdict.scores.len(), item.candidates.len());
            if scores != candidates {
                return Err(wrong(format!("it gave {scores} scores for {candidates} candidates")));
            }
            if let Some(score) = verdict.scores.iter().find(|score| !score.is_finite()) {
                return Err(wrong(format!("the score {score} is not finite")));
            }
        }
        Ok(())
    }
}

fn wire_item(item: &JudgeItem) -> wire::Item {
    wire::Item {
        system: item.system.clone(),
        prompt: item.prompt.clone(),
        candidates: item.candidates.clone(),
        reference: item.reference.clone(),
    }
}

fn verdict(verdict: wire::Verdict) -> JudgeVerdict {
    JudgeVerdict {
        scores: verdict.scores,
        reasoning: verdict.reasoning.map(|text| inert(&cut(&text, TEXT_BYTES_MAX))),
    }
}

impl Judge for PluginJudge {
    fn info(&self) -> &JudgeInfo {
        &self.info
    }

    fn score(&mut self, items: &[JudgeItem]) -> Result<Vec<JudgeVerdict>, PluginFailure> {
        Ok(self.score_items(items)?)
    }
}
