//! The decoder architectures that this program runs, a row each: what files call them, and which chat frame to expect.
//!
//! Invariants: a row is all that planning needs and all by which a file is recognized; the numbers of an architecture (norms,
//! windows, scales, tensor names) are in one file of `dlm-model`, `arch/<architecture>.rs`.

use TemplateDialect::{Gemma2, Llama3, Mistral, Olmo2, Phi3, Phi4Mini, SmolLm3};

use crate::base::TemplateDialect;

/// How the class names of models that predict tokens end.
pub const TOKENS_CLASS: &str = "ForCausalLM";

/// An architecture of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    Llama,
    Smollm3,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    Phi3,
    Olmo2,
    Mistral,
    Mixtral,
}

/// What is known of an architecture without its tensors.
#[derive(Clone, Copy, Debug)]
pub struct ArchitectureFacts {
    pub architecture: Architecture,
    /// As its makers write it: `Gemma-2`.
    pub name: &'static str,
    /// The family's part of the class names in `config.json`: `Llama` of `LlamaForCausalLM`.
    pub hub_class: &'static str,
    /// `general.architecture` of its GGUF files.
    pub gguf: &'static str,
    /// Other values of `general.architecture` that are read as this one.
    pub gguf_aliases: &'static [&'static str],
    /// Files and adapters hold `qkv_proj` and `gate_up_proj` instead of the separate projections.
    pub is_fused: bool,
    /// The feed-forward part is a mixture of experts; tells apart what shares a GGUF name.
    pub has_experts: bool,
    /// Signs of the chat frame of a base that nobody has curated.
    pub dialects: &'static [DialectHint],
}

/// A sign by which a chat frame is told.
#[derive(Clone, Copy, Debug)]
pub struct DialectHint {
    sign: Sign,
    dialect: TemplateDialect,
}

#[derive(Clone, Copy, Debug)]
enum Sign {
    /// The repository's name, in lower case, contains this.
    Id(&'static str),
    /// The class name starts with this.
    Class(&'static str),
}

const fn id(part: &'static str, dialect: TemplateDialect) -> DialectHint {
    let sign = Sign::Id(part);
    DialectHint { sign, dialect }
}

const fn class(prefix: &'static str, dialect: TemplateDialect) -> DialectHint {
    let sign = Sign::Class(prefix);
    DialectHint { sign, dialect }
}

/// Every architecture. Dialect hints are tried from the top; of rows that share a GGUF name the first one is meant.
///
/// **Source:** `spec/bases.md` section 5.
pub const TABLE: &[ArchitectureFacts] = &[
    ArchitectureFacts {
        architecture: Architecture::Gemma2,
        name: "Gemma-2",
        hub_class: "Gemma2",
        gguf: "gemma2",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        dialects: &[id("gemma-2", Gemma2), class("Gemma2", Gemma2)],
    },
    ArchitectureFacts {
        architecture: Architecture::Gemma3,
        name: "Gemma-3",
        hub_class: "Gemma3",
        gguf: "gemma3",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        // Its frame is that of Gemma-2.
        dialects: &[id("gemma-3", Gemma2), class("Gemma3", Gemma2)],
    },
    ArchitectureFacts {
        architecture: Architecture::Smollm3,
        name: "SmolLM3",
        hub_class: "SmolLM3",
        gguf: "smollm3",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        dialects: &[id("smollm3", SmolLm3), class("SmolLM3", SmolLm3)],
    },
    ArchitectureFacts {
        architecture: Architecture::Olmo2,
        name: "OLMo-2",
        hub_class: "Olmo2",
        gguf: "olmo2",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        dialects: &[id("olmo-2", Olmo2), class("Olmo2", Olmo2)],
    },
    ArchitectureFacts {
        architecture: Architecture::Llama,
        name: "Llama",
        hub_class: "Llama",
        gguf: "llama",
        gguf_aliases: &["mistral3"],
        is_fused: false,
        has_experts: false,
        dialects: &[id("llama-3", Llama3), id("llama3", Llama3)],
    },
    ArchitectureFacts {
        architecture: Architecture::Phi3,
        name: "Phi-3",
        hub_class: "Phi3",
        gguf: "phi3",
        gguf_aliases: &[],
        is_fused: true,
        has_experts: false,
        dialects: &[id("phi-4-mini-reasoning", Phi4Mini), class("Phi", Phi3)],
    },
    ArchitectureFacts {
        architecture: Architecture::Mistral,
        name: "Mistral",
        hub_class: "Mistral",
        gguf: "llama",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        dialects: &[class("Mistral", Mistral)],
    },
    ArchitectureFacts {
        architecture: Architecture::Mixtral,
        name: "Mixtral",
        hub_class: "Mixtral",
        gguf: "llama",
        gguf_aliases: &["mistral3"],
        is_fused: false,
        has_experts: true,
        dialects: &[class("Mixtral", Mistral)],
    },
    ArchitectureFacts {
        architecture: Architecture::Qwen2,
        name: "Qwen2",
        hub_class: "Qwen2",
        gguf: "qwen2",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        dialects: &[],
    },
    ArchitectureFacts {
        architecture: Architecture::Qwen3,
        name: "Qwen3",
        hub_class: "Qwen3",
        gguf: "qwen3",
        gguf_aliases: &[],
        is_fused: false,
        has_experts: false,
        dialects: &[],
    },
];

impl Architecture {
    /// Returns the row of an architecture.
    pub fn facts(self) -> &'static ArchitectureFacts {
        let row = TABLE.iter().find(|row| row.architecture == self);
        row.expect("every architecture has a row")
    }

    /// Finds the architecture of a class name without its task, such as `Llama`.
    pub fn of_hub_class(class: &str) -> Option<Architecture> {
        let row = TABLE.iter().find(|row| row.hub_class == class)?;
        Some(row.architecture)
    }

    /// Finds the architecture of a GGUF file by its `general.architecture` and whether it has experts.
    pub fn of_gguf(name: &str, has_experts: bool) -> Option<Architecture> {
        let rows = || TABLE.iter().filter(|row| row.is_called(name));
        let row = rows()
            .find(|row| row.has_experts == has_experts)
            .or_else(|| rows().next())?;
        Some(row.architecture)
    }

    /// Lists the names of all architectures, for people: `Llama, Qwen2 or Qwen3`.
    pub fn names() -> String {
        let names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }
}

impl ArchitectureFacts {
    fn is_called(&self, gguf: &str) -> bool {
        self.gguf == gguf || self.gguf_aliases.contains(&gguf)
    }
}

/// Returns `general.architecture` of a GGUF file of a class: that of the row, or else the class in lower case without its
/// task.
pub fn gguf_name(class: &str) -> String {
    let class = class.to_lowercase();
    let family = class.strip_suffix(&TOKENS_CLASS.to_lowercase()).unwrap_or(&class);
    let row = TABLE.iter().find(|row| row.hub_class.eq_ignore_ascii_case(family));
    row.map_or(family, |row| row.gguf).to_owned()
}

/// Says whether the files of a class hold joined projections.
pub fn is_fused(class: &str) -> bool {
    TABLE.iter().any(|row| row.is_fused && class.starts_with(row.hub_class))
}

/// Returns the chat frame to expect of a repository, by its name and its class; ChatML where nothing says otherwise.
pub fn dialect(hf_id: &str, class: &str) -> TemplateDialect {
    let id = hf_id.to_lowercase();
    let shows = |hint: &&DialectHint| match hint.sign {
        Sign::Id(part) => id.contains(part),
        Sign::Class(prefix) => class.starts_with(prefix),
    };
    let found = TABLE.iter().flat_map(|row| row.dialects).find(shows);
    found.map_or(TemplateDialect::ChatMl, |hint| hint.dialect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_found_by_its_own_names() {
        for row in TABLE {
            assert_eq!(row.architecture.facts().name, row.name);
            assert_eq!(Architecture::of_hub_class(row.hub_class), Some(row.architecture));
            let found = Architecture::of_gguf(row.gguf, row.has_experts).unwrap();
            assert_eq!(found.facts().gguf, row.gguf);
            assert_eq!(found.facts().has_experts, row.has_experts);
        }
        assert_eq!(Architecture::of_gguf("mistral3", false), Some(Architecture::Llama));
        assert_eq!(Architecture::of_gguf("mistral3", true), Some(Architecture::Mixtral));
        assert_eq!(Architecture::of_gguf("mamba", false), None);
        assert_eq!(Architecture::of_hub_class("Falcon"), None);
    }

    #[test]
    fn dialects_follow_the_order_of_the_table() {
        assert_eq!(dialect("google/gemma-2-2b-it", "Gemma2ForCausalLM"), Gemma2);
        assert_eq!(dialect("x/Llama-3.2-1B", "LlamaForCausalLM"), Llama3);
        assert_eq!(dialect("x/Phi-4-mini-reasoning", "Phi3ForCausalLM"), Phi4Mini);
        assert_eq!(dialect("x/phi", "Phi3ForCausalLM"), Phi3);
        assert_eq!(dialect("x/y", "MixtralForCausalLM"), Mistral);
        assert_eq!(dialect("x/y", "LlamaForCausalLM"), TemplateDialect::ChatMl);
    }

    #[test]
    fn class_names_become_gguf_names() {
        assert_eq!(gguf_name("SmolLM3ForCausalLM"), "smollm3");
        assert_eq!(gguf_name("MixtralForCausalLM"), "llama");
        assert_eq!(gguf_name("GemmaForCausalLM"), "gemma");
        assert_eq!(gguf_name("FalconForCausalLM"), "falcon");
    }

    #[test]
    fn joined_projections_are_told_by_the_class() {
        assert!(is_fused("Phi3ForCausalLM"));
        assert!(!is_fused("LlamaForCausalLM"));
    }
}
