//! `sway.yaml`: a suite of probes for `dlm-sway`, made of the document's own questions, prose and preferences.
//!
//! Invariants: written last and beside the export, so that what goes wrong here undoes nothing; texts are written as JSON strings,
//! which YAML reads alike.
//! **Source:** `spec/export.md` section 20; `dlm_sway.integrations.dlm.autogen` 0.1.0.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_doc::{Rows, SectionKind};

use super::describe::own_place;
use crate::failure::Failure;
use crate::inference::LocatedModel;
use crate::surroundings::Surroundings;

/// The file beside an export.
const FILE: &str = "sway.yaml";
/// Prompts of the probes, at most.
const DELTA_PROMPTS: usize = 16;
const REVERT_CASES: usize = 8;
const COLLAPSE_PROMPTS: usize = 4;
const INVARIANCE_CASES: usize = 6;
const ABLATION_PROMPTS: usize = 6;
/// Sections from which one can be told from another.
const SECTIONS_MIN: usize = 2;
/// Prompts that ask for a voice and for no fact.
const STYLE_PROMPTS: [&str; 6] = [
    "Write a short paragraph explaining your approach to a difficult problem.",
    "Describe what you find most interesting about a topic you know well.",
    "Summarize an important idea for a curious novice.",
    "Reflect on a small lesson you learned recently.",
    "Explain a concept using a concrete example.",
    "Tell a brief story that illustrates a single point.",
];

/// What of a document the probes ask about.
struct Material {
    pairs: Vec<(String, String)>,
    /// First sentences of prose.
    openings: Vec<String>,
    sections: usize,
    has_prose: bool,
    has_preferences: bool,
}

impl Material {
    fn of(located: &LocatedModel) -> Material {
        let sections = located.document.parsed.sections();
        let mut material = Material {
            pairs: Vec::new(),
            openings: Vec::new(),
            sections: sections.len(),
            has_prose: sections.iter().any(|s| s.kind == SectionKind::Prose),
            has_preferences: false,
        };
        for section in sections {
            match dlm_doc::rows(section) {
                Ok(Rows::Pairs(pairs)) => material.pairs.extend(pairs.into_iter().map(|p| (p.question, p.answer))),
                Ok(Rows::Triples(triples)) => material.has_preferences |= !triples.is_empty(),
                Ok(Rows::None) | Err(_) if section.kind == SectionKind::Prose => {
                    let first = section.content.split('.').next().unwrap_or_default().trim();
                    if !first.is_empty() {
                        material.openings.push(format!("{first}."));
                    }
                }
                Ok(Rows::None) | Err(_) => {}
            }
        }
        material
    }

    /// What the distribution of the next token is compared on.
    fn prompts(&self) -> Vec<&str> {
        match self.pairs.is_empty() {
            true => self.openings.iter().map(String::as_str).collect(),
            false => self.pairs.iter().map(|(question, _)| question.as_str()).collect(),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// Entries of the suite.
#[derive(Default)]
struct Suite(String);

impl Suite {
    fn probe(&mut self, name: &str, kind: &str, fields: &[(&str, String)]) {
        self.0.push_str(&format!("- name: {name}\n  kind: {kind}\n"));
        for (key, value) in fields {
            let gap = if value.starts_with('\n') { "" } else { " " };
            self.0.push_str(&format!("  {key}:{gap}{value}\n"));
        }
    }

    fn list(texts: &[&str], limit: usize) -> String {
        texts
            .iter()
            .take(limit)
            .map(|text| format!("\n  - {}", quoted(text)))
            .collect()
    }

    fn cases(pairs: &[(String, String)], limit: usize) -> String {
        let case = |(question, answer): &(String, String)| {
            let plain = question.trim_end_matches(['?', '.', ' ']);
            let paraphrases = [
                format!("Could you explain: {plain}?"),
                format!("I'd like to know \u{2014} {plain}."),
                format!("Please describe: {plain}."),
            ];
            let paraphrases: String = paraphrases
                .iter()
                .map(|text| format!("\n    - {}", quoted(text)))
                .collect();
            format!(
                "\n  - prompt: {}\n    gold: {}\n    paraphrases:{paraphrases}",
                quoted(question),
                quoted(answer)
            )
        };
        pairs.iter().take(limit).map(case).collect()
    }
}

/// The probes in their order: what is measured against itself first, the dearest last.
fn suite(material: &Material) -> String {
    let prompts = material.prompts();
    let mut suite = Suite::default();
    suite.probe("null_baseline", "null_adapter", &[("runs", "3".to_owned())]);
    if !prompts.is_empty() {
        let fields = [
            ("prompts", Suite::list(&prompts, DELTA_PROMPTS)),
            ("assert_mean_gte", "0.02".to_owned()),
        ];
        suite.probe("delta_kl_doc", "delta_kl", &fields);
    }
    if !material.pairs.is_empty() {
        let fields = [
            ("cases", Suite::cases(&material.pairs, REVERT_CASES)),
            ("assert_revert_rate_lt", "0.3".to_owned()),
        ];
        suite.probe("revert_check", "adapter_revert", &fields);
    }
    if !prompts.is_empty() {
        let fields = [
            ("prompts", Suite::list(&prompts, COLLAPSE_PROMPTS)),
            ("context_lengths", "[0, 256, 512, 1024]".to_owned()),
            ("assert_half_life_tokens", "300".to_owned()),
        ];
        suite.probe("prompt_collapse", "prompt_collapse", &fields);
    }
    if material.sections >= SECTIONS_MIN {
        let fields = [("per_section_threshold", "0.05".to_owned())];
        suite.probe("section_attribution", "section_internalization", &fields);
    }
    if !material.pairs.is_empty() {
        let fields = [("cases", Suite::cases(&material.pairs, INVARIANCE_CASES))];
        suite.probe("paraphrase_invariance", "paraphrase_invariance", &fields);
    }
    if material.has_preferences {
        let fields = [("assert_flip_rate_gte", "0.7".to_owned())];
        suite.probe("preference_flip", "preference_flip", &fields);
    }
    let style = [("prompts", Suite::list(&STYLE_PROMPTS, STYLE_PROMPTS.len()))];
    suite.probe("style_shift", "style_fingerprint", &style);
    suite.probe("general_knowledge", "calibration_drift", &[]);
    if material.has_prose {
        let fields = [
            ("prefix_chars", "128".to_owned()),
            ("continuation_chars", "256".to_owned()),
        ];
        suite.probe("verbatim_leak", "leakage", &fields);
    }
    if !prompts.is_empty() {
        let fields = [
            ("prompts", Suite::list(&prompts, ABLATION_PROMPTS)),
            ("lambdas", "[0.0, 0.25, 0.5, 0.75, 1.0, 1.25]".to_owned()),
        ];
        suite.probe("adapter_ablation", "adapter_ablation", &fields);
    }
    suite.0
}

fn failed(cause: impl std::fmt::Display) -> Failure {
    Failure::new(Subject::Runtime("sway-json".to_owned()), cause.to_string())
}

/// Writes the suite beside the export in `directory`.
///
/// **Errors:** a base that Hugging Face's loader cannot open, no adapter, a failed write.
pub(super) fn write(around: &Surroundings, located: &LocatedModel, directory: &Path) -> Result<PathBuf, Failure> {
    let record = &located.base.resolved.record;
    let named = own_place(&located.base.resolved).0;
    let base = named.or_else(|| Some(record.hf_id.clone()).filter(|id| id.contains('/')));
    let base = base.ok_or_else(|| {
        failed(format!("`{}` is a GGUF file alone, which sway cannot load", record.key))
            .hint("add the base from a directory of safetensors: `dlm base add`")
    })?;
    let (adapter, _) = located.adapter.as_ref().ok_or_else(|| failed("there is no adapter"))?;
    let place = |path: &Path| {
        let whole = path
            .canonicalize()
            .map_err(|e| failed(format!("{}: {e}", path.display())))?;
        Ok::<String, Failure>(quoted(&whole.to_string_lossy()))
    };
    let (base, adapter) = (quoted(&base), place(adapter)?);
    let text = format!(
        "version: 1\nmodels:\n  base:\n    kind: hf\n    base: {base}\n  ft:\n    kind: hf\n    base: {base}\n    adapter: {adapter}\n\
         defaults:\n  seed: 0\n  differential: true\nsuite:\n{}dlm_source: {}\n",
        suite(&Material::of(located)),
        place(&located.document.path)?,
    );
    let path = directory.join(FILE);
    around.private_disk().write(&path, text.as_bytes()).map_err(failed)?;
    Ok(path)
}
