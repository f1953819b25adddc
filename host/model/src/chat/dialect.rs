//! The families of chat frames: what ends a turn, what else stops a generation, how a template is recognized.
//!
//! **Source:** `spec/training.md` section 1.7 and `spec/bases.md` section 8.

use dlm_core::base::TemplateDialect;

/// What the mask finder and the stop rules know about a dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectFacts {
    /// The token that ends a turn.
    pub end_of_turn: &'static str,
    /// Texts that end a generation, the end of turn among them.
    pub stops: &'static [&'static str],
}

/// Returns the facts about a dialect.
pub fn dialect_facts(dialect: TemplateDialect) -> DialectFacts {
    let (end_of_turn, stops): (&str, &[&str]) = match dialect {
        TemplateDialect::ChatMl
        | TemplateDialect::Qwen3Thinking
        | TemplateDialect::Qwen2Audio
        | TemplateDialect::Qwen2Vl
        | TemplateDialect::InternVl2 => ("<|im_end|>", &["<|im_end|>", "<|endoftext|>", "<|im_start|>"]),
        TemplateDialect::SmolLm3 => (
            "<|im_end|>",
            &["<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|end_of_text|>"],
        ),
        TemplateDialect::Llama3 => (
            "<|eot_id|>",
            &["<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|eom_id|>"],
        ),
        TemplateDialect::Gemma2 => ("<end_of_turn>", &["<end_of_turn>", "<start_of_turn>", "<eos>"]),
        TemplateDialect::PaliGemma => ("<eos>", &["<eos>"]),
        TemplateDialect::Phi3 | TemplateDialect::Phi4Mini => (
            "<|end|>",
            &["<|end|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"],
        ),
        TemplateDialect::Mistral => ("</s>", &["</s>", "[INST]", "[/INST]"]),
        TemplateDialect::Olmo2 => (
            "<|endoftext|>",
            &["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"],
        ),
    };
    DialectFacts { end_of_turn, stops }
}

/// The dialects that [`detect_dialect`] tells.
pub const RECOGNIZED: [TemplateDialect; 8] = [
    TemplateDialect::ChatMl,
    TemplateDialect::SmolLm3,
    TemplateDialect::Llama3,
    TemplateDialect::Gemma2,
    TemplateDialect::Phi3,
    TemplateDialect::Phi4Mini,
    TemplateDialect::Mistral,
    TemplateDialect::Olmo2,
];

/// Recognizes the dialect of a template by the frame that it writes; nothing when none fits.
///
/// Qwen3's thinking variant writes the same frame as ChatML and is told apart by the registry only.
pub fn detect_dialect(template: &str) -> Option<TemplateDialect> {
    let has = |text: &str| template.contains(text);
    if has("<|im_start|>") {
        let smollm3 = has("## Metadata") || has("Knowledge Cutoff Date");
        return Some(if smollm3 {
            TemplateDialect::SmolLm3
        } else {
            TemplateDialect::ChatMl
        });
    }
    if has("<|start_header_id|>") {
        return Some(TemplateDialect::Llama3);
    }
    if has("<start_of_turn>") {
        return Some(TemplateDialect::Gemma2);
    }
    if has("<|end|>") {
        let phi4 = has("Your name is Phi");
        return Some(if phi4 {
            TemplateDialect::Phi4Mini
        } else {
            TemplateDialect::Phi3
        });
    }
    if has("[INST]") {
        return Some(TemplateDialect::Mistral);
    }
    (has("<|assistant|>") && has("<|user|>")).then_some(TemplateDialect::Olmo2)
}
