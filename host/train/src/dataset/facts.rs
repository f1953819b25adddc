//! Counts examples and tokens for the plan.

use dlm_plan::train::RowFacts;

use super::{Dataset, Split};
use crate::rows::RowKind;

impl Dataset {
    /// Counts the rows and tokens of both sides; what only the document knows (its sections, its preferences) is left 0.
    ///
    /// A beginning that all pairs share is counted once, as packing keeps it once.
    pub fn facts(&self) -> RowFacts {
        let mut facts = RowFacts::default();
        let mut shared: Option<&[u32]> = None;
        let mut replayed: Vec<&[u32]> = Vec::new();
        for entry in &self.entries {
            let (example, ids) = (&entry.example, entry.tokens.ids.as_slice());
            let len = ids.len() as u64;
            match (example.split, example.kind()) {
                (Split::Validation, _) => facts.validation_rows += 1,
                (Split::Train, _) if example.origin.is_replay() => replayed.push(ids),
                (Split::Train, RowKind::Sft) => {
                    facts.instruction_rows += 1;
                    facts.instruction_tokens += len;
                    facts.answer_tokens += entry.tokens.loss.len() as u64;
                    facts.instruction_tokens_max = facts.instruction_tokens_max.max(len);
                    shared = Some(shared.map_or(ids, |shared| &ids[..common(shared, ids)]));
                }
                (Split::Train, RowKind::Cpt) => {
                    facts.prose_sections += 1;
                    facts.prose_tokens += len;
                }
            }
        }
        let shared = shared.filter(|_| facts.instruction_rows > 1).unwrap_or_default();
        facts.shared_prefix_tokens = shared.len() as u64;
        facts.instruction_tokens -= facts.shared_prefix_tokens * facts.instruction_rows;
        facts.instruction_tokens_max -= facts.shared_prefix_tokens;
        facts.replay_rows = replayed.len() as u64;
        facts.replay_tokens = replayed
            .iter()
            .map(|ids| (ids.len() - common(shared, ids)) as u64)
            .sum();
        facts
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
