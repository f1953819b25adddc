//! Keys of the frontmatter that are read and change nothing, so that nobody waits for what they promise.
//!
//! Invariants: a key that asks for what happens anyway (`cache.enabled: false`) is not told of; a key is told of by its whole
//! path, with the reason.

use dlm_core::training::PreferenceMethod;
use dlm_doc::{Frontmatter, Parsed, Rows, SectionKind};
use dlm_train::dataset::SPLIT_PAIRS_MIN;

/// Keys that wait for the same thing.
struct Idle {
    /// What their paths begin with.
    prefix: &'static str,
    /// Whether the document leaves the whole thing off, which is what happens.
    is_off: fn(&Parsed) -> bool,
    why: &'static str,
}

const IDLE: [Idle; 5] = [
    Idle {
        prefix: "training.sources_policy",
        is_off: |parsed| parsed.frontmatter().training.sources.is_some(),
        why: "the document has no `training.sources`",
    },
    Idle {
        prefix: "training.preference.",
        is_off: |parsed| {
            let is_written_off =
                parsed.frontmatter().wrote("training.preference.enabled") && !parsed.preference_enabled();
            is_written_off
                || parsed
                    .sections()
                    .iter()
                    .any(|section| section.kind == SectionKind::Preference)
        },
        why: "the document has no preference section",
    },
    Idle {
        prefix: "training.gate.",
        is_off: |parsed| {
            let front = parsed.frontmatter();
            front.wrote("training.gate.enabled") && !front.training.gate.enabled || front.training.adapters.is_some()
        },
        why: "the document has no `training.adapters` to choose from",
    },
    Idle {
        prefix: "training.cache.",
        is_off: |parsed| !parsed.frontmatter().training.cache.enabled,
        why: "the cache of tokenized sections is not built yet in this version",
    },
    Idle {
        prefix: "training.audio.",
        is_off: |parsed| !parsed.frontmatter().training.audio.auto_resample,
        why: "the document has no sound",
    },
];

/// Says of every written key that changes nothing that it does not.
pub(crate) fn remarks(parsed: &Parsed) -> Vec<String> {
    let front = parsed.frontmatter();
    let mut remarks = Vec::new();
    for idle in IDLE.iter().filter(|idle| !(idle.is_off)(parsed)) {
        let keys: Vec<String> = front
            .written
            .iter()
            .filter(|path| path.starts_with(idle.prefix))
            .map(|path| format!("`{path}`"))
            .collect();
        match keys.as_slice() {
            [] => {}
            [key] => remarks.push(format!("{key} changes nothing: {}", idle.why)),
            keys => remarks.push(format!("{} change nothing: {}", keys.join(", "), idle.why)),
        }
    }
    remarks.extend(unread_preference_keys(front));
    let pairs = pairs(parsed);
    if front.training.holdout && pairs < SPLIT_PAIRS_MIN {
        remarks.push(format!(
            "`training.holdout` changes nothing: pairs are held out from {SPLIT_PAIRS_MIN} on, and the document has {pairs}"
        ));
    }
    remarks
}

/// Says of every written number of the method that is not taken that it changes nothing.
fn unread_preference_keys(front: &Frontmatter) -> Vec<String> {
    let (keys, why): (&[&str], &str) = match front.training.preference.method {
        PreferenceMethod::Orpo => (
            &["loss_type", "reference", "hyperparams.beta"],
            "`orpo` has no reference",
        ),
        PreferenceMethod::Dpo => (&["hyperparams.alpha"], "it is of `orpo`"),
    };
    let paths = keys.iter().map(|key| format!("training.preference.{key}"));
    paths
        .filter(|path| front.wrote(path))
        .map(|path| format!("`{path}` changes nothing: {why}"))
        .collect()
}

/// The question-answer pairs of a document.
fn pairs(parsed: &Parsed) -> usize {
    let count = |section| match dlm_doc::rows(section) {
        Ok(Rows::Pairs(pairs)) => pairs.len(),
        Ok(_) | Err(_) => 0,
    };
    parsed.sections().iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(training: &str, expected: &[&str]) {
        let head = "dlm_id: 01HF7YAT0004106R0430MG2000\ndlm_version: 15\nbase_model: tiny";
        let text = format!("---\n{head}\ntraining:\n  {training}\n---\nProse.\n");
        assert_eq!(remarks(&dlm_doc::parse(&text).unwrap()), expected, "{training}");
    }

    #[test]
    fn what_waits_is_told_and_what_is_off_is_not() {
        check("lora_r: 4", &[]);
        check(
            "cache: {max_bytes: 1, prune_older_than_days: 2}",
            &[
                "`training.cache.max_bytes`, `training.cache.prune_older_than_days` change nothing: \
               the cache of tokenized sections is not built yet in this version",
            ],
        );
        check("cache: {enabled: false, max_bytes: 1}", &[]);
        check("preference: {enabled: false}", &[]);
        check(
            "preference: {method: orpo}",
            &["`training.preference.method` changes nothing: the document has no preference section"],
        );
        check("gate: {enabled: false}", &[]);
        check(
            "sources_policy: strict",
            &["`training.sources_policy` changes nothing: the document has no `training.sources`"],
        );
        check(
            "holdout: true",
            &["`training.holdout` changes nothing: pairs are held out from 64 on, and the document has 0"],
        );
    }
}
