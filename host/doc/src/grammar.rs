//! The grammar as data: the tables that the parser itself reads, and for each error that it can give a text that gives it.
//!
//! Invariants: nothing here decides anything; a test fails when an error of a fence, a marker or a row has no text here.

use dlm_core::SectionKind;

pub use crate::marker::MarkerRule;

/// What one section type may look like.
pub struct SectionRule {
    pub kind: SectionKind,
    /// Attributes that its fence must have.
    pub required: &'static [&'static str],
    /// Attributes that its fence may have.
    pub optional: &'static [&'static str],
    /// Headers of one row, in order; empty when the type has no rows.
    pub headers: &'static [&'static str],
    /// The fence as one would write it.
    pub example: &'static str,
}

/// A text that gives an error or a warning.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Where `text` stands.
    pub place: Place,
    pub text: &'static str,
}

/// Where the text of a [`Sample`] stands in a document that is fine otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the whole file.
    File,
    /// Lines of the frontmatter, behind `dlm_id`, `dlm_version` and `base_model`.
    Frontmatter,
    /// All lines of the frontmatter.
    WholeFrontmatter,
    /// The body.
    Body,
}

/// What the name of an adapter must match.
pub const ADAPTER_NAME_PATTERN: &str = crate::frontmatter::read::ADAPTER_NAME_PATTERN;
/// The header of a question that is asked again after every run.
pub const PROBE: &str = crate::rows::PROBE;

/// The rules of every section type, in the order in which messages list them.
pub fn sections() -> Vec<SectionRule> {
    let rule = |kind| {
        let attributes = crate::fence::rule(kind);
        SectionRule {
            kind,
            required: attributes.required,
            optional: attributes.optional,
            headers: crate::rows::headers(kind),
            example: crate::fence::example(kind),
        }
    };
    SectionKind::ALL.map(rule).into()
}

/// The markers that tools write under a fence.
pub fn markers() -> [MarkerRule; 3] {
    crate::marker::rules()
}

/// An id for the documents around a [`Sample`].
const ID: &str = "01HF7YAT0004106R0430MG2000";

impl Sample {
    /// The whole document.
    pub fn document(&self) -> String {
        let head = format!("dlm_id: {ID}\ndlm_version: 15\nbase_model: smollm2-135m\n");
        match self.place {
            Place::File => self.text.to_owned(),
            Place::Frontmatter => format!("---\n{head}{}\n---\n", self.text),
            Place::WholeFrontmatter => format!("---\n{}\n---\n", self.text),
            Place::Body => format!("---\n{head}---\n{}\n", self.text),
        }
    }

    /// Lines of the document above the text.
    pub fn lines_above(&self) -> usize {
        match self.place {
            Place::File => 0,
            Place::WholeFrontmatter => 1,
            Place::Frontmatter => 4,
            Place::Body => 5,
        }
    }
}

const fn body(text: &'static str) -> Sample {
    Sample {
        place: Place::Body,
        text,
    }
}

const fn key(text: &'static str) -> Sample {
    Sample {
        place: Place::Frontmatter,
        text,
    }
}

const fn head(text: &'static str) -> Sample {
    Sample {
        place: Place::WholeFrontmatter,
        text,
    }
}

const fn file(text: &'static str) -> Sample {
    Sample {
        place: Place::File,
        text,
    }
}

/// Texts that are no documents, or that training refuses; by the part of the document that is wrong.
pub const ERRORS: &[Sample] = &[
    // The layout of the file.
    file(""),
    file("# Notes"),
    file("---\nbase_model: smollm2-135m"),
    // YAML.
    head("just words"),
    head("# only a comment"),
    head("training: {seed: 1"),
    head("training:\n\tseed: 1"),
    key("system_prompt: a\nsystem_prompt: b"),
    key("? [a, b]\n: 1"),
    key("training: &a {seed: *a}"),
    key("training:\n  <<: 1"),
    key("system_prompt: !secret x"),
    // The version.
    head("dlm_version: 99"),
    head("dlm_version: 0"),
    // The schema.
    head("dlm_version: 15\nbase_model: smollm2-135m"),
    head("dlm_id: 01HF7YAT0004106R0430MG2000"),
    head("dlm_id: 1\nbase_model: smollm2-135m"),
    head("dlm_id: 01HF7YAT0004106R0430MG2000\nbase_model: \"\""),
    key("sytem_prompt: Be brief."),
    key("training:\n  lora_r: 999"),
    key("training:\n  adapter: lorra"),
    key("training: 8"),
    key("1: a"),
    key("system_prompt: 42"),
    key("training:\n  adapters: {}"),
    key("training:\n  adapters:\n    Tone: {}"),
    key("training:\n  adapters:\n    current: {}"),
    key("training:\n  lora_r: 4\n  adapters:\n    tone: {}"),
    key("training:\n  sources:\n    - include: [\"*.md\"]"),
    key("training:\n  gate:\n    enabled: true"),
    // Fences.
    body("::note::"),
    body("::Instruction::"),
    body("::instruction#::"),
    body("::instruction#House-Style::"),
    body("::image::"),
    body("::video path=\"a.mp4\"::"),
    body("::prose path=\"a.txt\"::"),
    body("::image path=\"a.png\" path=\"b.png\"::"),
    body("::image path=\"a.png\" width=\"3\"::"),
    body("::image path=\"é.png\"::"),
    body("::audio path=\"a.wav\"::"),
    body("::image path=\" \"::"),
    body("```\n::prose::"),
    // Markers.
    body("::instruction::\n<!-- dlm-auto-synth: by me -->"),
    body("::instruction::\n<!-- dlm-auto-synth: synth_teacher=\"a\" synth_teacher=\"b\" -->"),
    body("::instruction::\n<!-- dlm-auto-synth: teacher=\"a\" -->"),
    body("::instruction::\n<!-- dlm-auto-synth: synth_teacher=\"a\" -->"),
    body(
        "::preference::\n<!-- dlm-auto-mined: judge_name=\"sway\" judge_score_chosen=\"high\" judge_score_rejected=\"0\" mined_at=\"2026-01-31\" mined_run_id=\"1\" -->",
    ),
    // Rows.
    body("::instruction::"),
    body("::preference::"),
    body("::instruction::\nWhat is it?"),
    body("::instruction::\n### Q: What is it?\n### A\nThis."),
    body("::instruction::\n### Q\n### A\nThis."),
    body("::instruction::\n### Q\nWhat is it?"),
    body("::preference::\n### Prompt\nHello?\n### Rejected\nWhat?\n### Chosen\nHello."),
    // Adapters.
    body("::prose#tone::\nKindly."),
    key("training:\n  adapters:\n    tone: {}\n---\n::prose#tune::\nKindly."),
];

/// Texts that are read, but likely not as they were meant.
pub const WARNINGS: &[Sample] = &[
    file("\u{feff}---\ndlm_id: 01HF7YAT0004106R0430MG2000\nbase_model: smollm2-135m\n---"),
    body(":: instruction ::"),
    body("::instruction::\n\n<!-- dlm-auto-synth: synth_teacher=\"a\" -->"),
    body("::image path=\"/a.png\"::"),
    head(
        "dlm_id: 01HF7YAT0004106R0430MG2000\nbase_model: smollm2-135m\ntraining:\n  dpo: {enabled: true, label_smoothing: 0.1}",
    ),
];

#[cfg(test)]
#[path = "grammar/tests.rs"]
mod tests;
