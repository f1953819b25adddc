//! Asks the judge: items in batches, one more try where a failure may pass.

use dlm_core::ports::judge::{Judge, JudgeItem, JudgeMode, JudgeVerdict};
use dlm_core::ports::plugin::PluginFailure;

use super::choose::{Candidate, ScoredPair};

/// One prompt with what is to be scored.
pub(super) struct JudgeRequest<'a> {
    pub system: Option<&'a str>,
    pub prompt: &'a str,
    pub reference: Option<&'a str>,
    pub candidates: &'a [Candidate],
    /// At least one.
    pub pairs: &'a [(usize, usize)],
}

/// The opened judge.
pub(super) struct Scorer {
    pub judge: Box<dyn Judge>,
}

impl Scorer {
    /// Scores the pairs of several prompts.
    ///
    /// **Errors**: the judge failed twice, or once in a way that does not pass.
    pub(super) fn score(&mut self, asked: &[JudgeRequest<'_>]) -> Result<Vec<Vec<ScoredPair>>, PluginFailure> {
        let mode = self.judge.info().mode;
        let laid_out: Vec<Vec<JudgeItem>> = asked.iter().map(|asked| items(asked, mode)).collect();
        let flat: Vec<JudgeItem> = laid_out.iter().flatten().cloned().collect();
        let mut verdicts = self.verdicts(&flat)?.into_iter();
        Ok(asked
            .iter()
            .zip(&laid_out)
            .map(|(asked, items)| {
                let own: Vec<JudgeVerdict> = verdicts.by_ref().take(items.len()).collect();
                match mode {
                    JudgeMode::Pointwise => pointwise(asked, &own),
                    JudgeMode::Pairwise => pairwise(asked, own),
                }
            })
            .collect())
    }

    fn verdicts(&mut self, items: &[JudgeItem]) -> Result<Vec<JudgeVerdict>, PluginFailure> {
        let size = self.judge.info().batch_max.max(1);
        let mut verdicts = Vec::with_capacity(items.len());
        for batch in items.chunks(size) {
            let scored = match self.judge.score(batch) {
                Err(failure) if may_pass(&failure) => self.judge.score(batch)?,
                other => other?,
            };
            verdicts.extend(scored);
        }
        Ok(verdicts)
    }
}

/// A timeout, a busy far side, or a process that ended with an error status.
fn may_pass(failure: &PluginFailure) -> bool {
    failure.is_transient() || failure.detail.as_ref().is_some_and(|detail| detail.status.is_some())
}

/// The candidates that stand in a pair, in order: nothing else is scored.
fn wanted(asked: &JudgeRequest<'_>) -> Vec<usize> {
    (0..asked.candidates.len())
        .filter(|index| asked.pairs.iter().any(|(a, b)| a == index || b == index))
        .collect()
}

fn items(asked: &JudgeRequest<'_>, mode: JudgeMode) -> Vec<JudgeItem> {
    let item = |indices: &[usize]| JudgeItem {
        system: asked.system.map(str::to_owned),
        prompt: asked.prompt.to_owned(),
        candidates: indices.iter().map(|i| asked.candidates[*i].text.clone()).collect(),
        reference: asked.reference.map(str::to_owned),
    };
    match mode {
        JudgeMode::Pointwise => vec![item(&wanted(asked))],
        JudgeMode::Pairwise => asked.pairs.iter().map(|(a, b)| item(&[*a, *b])).collect(),
    }
}

fn pointwise(asked: &JudgeRequest<'_>, verdicts: &[JudgeVerdict]) -> Vec<ScoredPair> {
    let verdict = verdicts.first().expect("a pointwise item has a verdict");
    let wanted = wanted(asked);
    let score = |index: usize| {
        let at = wanted.iter().position(|known| *known == index);
        verdict.scores[at.expect("only candidates of pairs are asked for")]
    };
    asked
        .pairs
        .iter()
        .map(|(first, second)| ScoredPair {
            first: *first,
            second: *second,
            score_first: score(*first),
            score_second: score(*second),
            reasoning: verdict.reasoning.clone(),
        })
        .collect()
}

fn pairwise(asked: &JudgeRequest<'_>, verdicts: Vec<JudgeVerdict>) -> Vec<ScoredPair> {
    asked
        .pairs
        .iter()
        .zip(verdicts)
        .map(|((first, second), verdict)| ScoredPair {
            first: *first,
            second: *second,
            score_first: verdict.scores[0],
            score_second: verdict.scores[1],
            reasoning: verdict.reasoning,
        })
        .collect()
}
