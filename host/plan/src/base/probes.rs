//! The checks that a model outside the registry must pass, decided from facts that the caller gathered.
//!
//! **Source**: `spec/bases.md` section 5. Export probes mean "our writer and tokenizer tables cover this model".

use dlm_core::base::BaseRecord;
use dlm_core::{Hints, Subject};

/// What the caller found out about a base on disk.
#[derive(Clone, Debug, Default)]
pub struct ProbeFacts {
    /// First entry of `architectures` of the `config.json` that was fetched.
    pub config_class: String,
    pub has_chat_template: bool,
    /// How many tokens the media placeholder encodes to; for media bases only.
    pub media_token_ids: Option<usize>,
    /// Whether the GGUF writer has a tensor map for the architecture.
    pub is_gguf_writable: bool,
    /// Why the tokenizer cannot be written into a file that runtimes read as dlm does; none where it can.
    pub vocabulary_fault: Option<String>,
}

/// One failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedProbe {
    pub name: &'static str,
    pub detail: String,
}

/// Some checks failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{key}` failed {} of {total} probes: {}", failed.len(), details(failed))]
pub struct ProbeError {
    pub key: String,
    pub failed: Vec<FailedProbe>,
    pub total: usize,
}

fn details(failed: &[FailedProbe]) -> String {
    let lines: Vec<String> = failed
        .iter()
        .map(|probe| format!("{} ({})", probe.name, probe.detail))
        .collect();
    lines.join("; ")
}

impl Hints for ProbeError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn hints(&self) -> Vec<String> {
        let export_only = self.failed.iter().all(|probe| EXPORT_PROBES.contains(&probe.name));
        if export_only {
            vec!["to train without GGUF export, pass `--skip-export-probes`".into()]
        } else {
            vec!["choose a known base: `dlm base list`".into()]
        }
    }
}

const EXPORT_PROBES: [&str; 2] = ["gguf_arch", "pretokenizer_label"];

/// Runs every check that applies; `with_export` is false under `--skip-export-probes`.
pub fn probe(record: &BaseRecord, facts: &ProbeFacts, with_export: bool) -> Result<(), ProbeError> {
    let mut total = 0;
    let mut failed = Vec::new();
    let mut check = |name, passed: bool, detail: String| {
        total += 1;
        if !passed {
            failed.push(FailedProbe { name, detail });
        }
    };
    let found = if facts.config_class.is_empty() {
        "nothing"
    } else {
        &facts.config_class
    };
    check(
        "architecture",
        facts.config_class == record.architecture,
        format!("config.json names {found}, expected {}", record.architecture),
    );
    if record.modality.is_text() {
        check(
            "chat_template",
            facts.has_chat_template,
            "the tokenizer has no chat template".into(),
        );
        if with_export {
            let arch = record.gguf_arch.as_deref().unwrap_or("none");
            check(
                "gguf_arch",
                facts.is_gguf_writable,
                format!("no GGUF tensor map for `{arch}`"),
            );
            check(
                "pretokenizer_label",
                facts.vocabulary_fault.is_none(),
                facts.vocabulary_fault.clone().unwrap_or_default(),
            );
        }
    } else {
        let name = if record.image.is_some() {
            "vl_image_token"
        } else {
            "audio_token"
        };
        let ids = facts.media_token_ids;
        check(
            name,
            ids == Some(1),
            format!("the placeholder encodes to {} tokens, expected 1", ids.unwrap_or(0)),
        );
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(ProbeError {
            key: record.key.clone(),
            failed,
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::registry::Registry;

    fn good(record: &BaseRecord) -> ProbeFacts {
        ProbeFacts {
            config_class: record.architecture.clone(),
            has_chat_template: true,
            media_token_ids: Some(1),
            is_gguf_writable: true,
            vocabulary_fault: None,
        }
    }

    #[test]
    fn failures_are_counted_and_named() {
        let record = Registry::builtin().get("smollm2-135m").unwrap();
        assert_eq!(probe(record, &good(record), true), Ok(()));
        let facts = ProbeFacts {
            has_chat_template: false,
            is_gguf_writable: false,
            ..good(record)
        };
        let error = probe(record, &facts, true).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`smollm2-135m` failed 2 of 4 probes: chat_template"),
            "{error}"
        );
        let facts = ProbeFacts {
            is_gguf_writable: false,
            ..good(record)
        };
        assert!(probe(record, &facts, true).unwrap_err().hints()[0].contains("--skip-export-probes"));
        assert_eq!(probe(record, &facts, false), Ok(()));
    }

    #[test]
    fn media_bases_need_a_one_token_placeholder() {
        let record = Registry::builtin().get("paligemma-3b-mix-224").unwrap();
        assert_eq!(probe(record, &good(record), true), Ok(()));
        let facts = ProbeFacts {
            media_token_ids: Some(3),
            ..good(record)
        };
        assert!(
            probe(record, &facts, true)
                .unwrap_err()
                .to_string()
                .contains("3 tokens")
        );
    }
}
