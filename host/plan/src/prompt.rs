//! The plan of one answer: sampling, context, precision and memory, with reasons, before a weight is read.
//!
//! **Source**: `spec/inference.md` sections 1, 3 and 4.

use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::training::Precision;
use dlm_core::units::size;
use dlm_core::{FailureKind, Hints, Subject};
use serde::{Deserialize, Serialize};

use crate::base::BaseFacts;
use crate::knob::Knob;
use crate::memory::kv_cache_bytes;
use crate::train::Budget;

/// New tokens when none are asked for.
pub const MAX_TOKENS: u32 = 256;
/// Temperature when none is asked for.
pub const TEMPERATURE: f64 = 0.7;
/// The same for bases that were tuned to reason.
pub const TEMPERATURE_REASONING: f64 = 0.6;
/// The program, the tokenizer's tables and one token's working set.
const FIXED_BYTES: u64 = 96 << 20;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptOptions {
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub seed: Option<u64>,
    pub threads: Option<u32>,
    pub memory_limit_bytes: Option<u64>,
}

/// How one answer is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptPlan {
    pub base: String,
    pub backend: Knob<Backend>,
    /// Of products with more than a few rows (the prompt); single rows follow the stored type.
    pub precision: Knob<Precision>,
    pub threads: Knob<u32>,
    pub max_tokens: Knob<u32>,
    /// Positions of the cache: prompt and answer.
    pub context: Knob<u32>,
    pub temperature: Knob<f64>,
    /// Off when none.
    pub top_p: Knob<Option<f64>>,
    pub seed: Knob<Option<u64>>,
    pub memory_bytes: u64,
    pub memory_budget_bytes: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum PromptError {
    #[error("`{flag}` is {value}, expected {range}")]
    OutOfRange {
        flag: &'static str,
        value: String,
        range: &'static str,
    },
    #[error(
        "the prompt has {prompt} tokens and the answer may have {answer}, more than the {context} that `{base}` reads"
    )]
    TooLong {
        base: String,
        prompt: u64,
        answer: u32,
        context: u32,
    },
    #[error("`{base}` does not fit: an answer needs {} and {} of memory may be used", size(*needed_bytes), size(*budget_bytes))]
    Memory {
        base: String,
        needed_bytes: u64,
        budget_bytes: u64,
    },
    #[error(
        "`{base}` keeps its model code in its repository (trust_remote_code), and there is no Python here to run it"
    )]
    RemoteCode { base: String },
}

impl Hints for PromptError {
    fn subject(&self) -> Subject {
        match self {
            PromptError::Memory { .. } | PromptError::RemoteCode { .. } => Subject::Inference,
            _ => Subject::Prompt,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            PromptError::Memory { .. } | PromptError::RemoteCode { .. } => FailureKind::Runtime,
            _ => FailureKind::Misuse,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            PromptError::OutOfRange { .. } => Vec::new(),
            PromptError::TooLong { .. } => vec!["shorten the query, or lower `--max-tokens`".into()],
            PromptError::Memory { .. } => vec!["close other programs, or train on a smaller base".into()],
            PromptError::RemoteCode { .. } => vec!["choose another base: `dlm base list`".into()],
        }
    }
}

/// Plans an answer to a prompt of `prompt_tokens`.
pub fn plan_prompt(
    prompt_tokens: u64,
    base: &BaseFacts,
    hardware: &Hardware,
    options: &PromptOptions,
) -> Result<PromptPlan, PromptError> {
    check_ranges(options)?;
    if base.trust_remote_code {
        return Err(PromptError::RemoteCode { base: base.key.clone() });
    }
    let max_tokens = given(options.max_tokens, "--max-tokens", MAX_TOKENS, "it is the default");
    let needed = prompt_tokens + u64::from(max_tokens.value);
    if needed > u64::from(base.context_usable) {
        return Err(PromptError::TooLong {
            base: base.key.clone(),
            prompt: prompt_tokens,
            answer: max_tokens.value,
            context: base.context_usable,
        });
    }
    let (temperature, why) = match base.reasoning_tuned {
        true => (TEMPERATURE_REASONING, "the base is tuned to reason"),
        false => (TEMPERATURE, "it is the default"),
    };
    let budget = Budget::new(hardware, options.memory_limit_bytes).hard;
    let memory_bytes = base.weights_bytes + kv_cache_bytes(&base.shape, needed) + FIXED_BYTES;
    if memory_bytes > budget {
        return Err(PromptError::Memory {
            base: base.key.clone(),
            needed_bytes: memory_bytes,
            budget_bytes: budget,
        });
    }
    Ok(PromptPlan {
        base: base.key.clone(),
        backend: Knob::chosen(
            hardware.backend,
            format!("this machine offers {}", hardware.device_name),
        ),
        precision: precision(options, hardware),
        threads: given(
            options.threads,
            "--threads",
            hardware.cpu_cores.max(1),
            "every core helps",
        ),
        max_tokens,
        context: Knob::chosen(u32::try_from(needed).unwrap_or(u32::MAX), "prompt and answer fit in it"),
        temperature: given(options.temperature, "--temp", temperature, why),
        top_p: optional(options.top_p, "--top-p"),
        seed: optional(options.seed, "--seed"),
        memory_bytes,
        memory_budget_bytes: budget,
    })
}

/// A greedy answer is a promise; one that is drawn is as good from narrow products.
fn precision(options: &PromptOptions, hardware: &Hardware) -> Knob<Precision> {
    if options.temperature == Some(0.0) {
        return Knob::chosen(
            Precision::Fp32,
            "a greedy answer must not depend on the processor's narrow products",
        );
    }
    match hardware.backend == Backend::Cpu && hardware.simd >= SimdLevel::Avx512Bf16 {
        true => Knob::chosen(
            Precision::Bf16,
            "the processor reads prompts at least twice as fast with bf16 products; `--temp 0` keeps to fp32",
        ),
        false => Knob::chosen(Precision::Fp32, "the device has no faster narrow products"),
    }
}

fn given<T>(value: Option<T>, flag: &str, default: T, reason: &str) -> Knob<T> {
    match value {
        Some(value) => Knob::flag(value, flag),
        None => Knob::chosen(default, reason),
    }
}

fn optional<T>(value: Option<T>, flag: &str) -> Knob<Option<T>> {
    match value {
        Some(value) => Knob::flag(Some(value), flag),
        None => Knob::chosen(None, format!("{flag} is not given")),
    }
}

fn check_ranges(options: &PromptOptions) -> Result<(), PromptError> {
    let out = |flag, value: String, range| Err(PromptError::OutOfRange { flag, value, range });
    match options {
        PromptOptions {
            max_tokens: Some(0), ..
        } => out("--max-tokens", "0".into(), "1 and more"),
        PromptOptions {
            temperature: Some(t), ..
        } if !(*t >= 0.0 && t.is_finite()) => out("--temp", t.to_string(), "0 and more"),
        PromptOptions { top_p: Some(p), .. } if !(*p > 0.0 && *p <= 1.0) => {
            out("--top-p", p.to_string(), "above 0, at most 1")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tests::{hardware, smollm2};

    #[test]
    fn defaults_follow_the_base_and_flags_win() {
        let plan = plan_prompt(40, &smollm2(), &hardware(), &PromptOptions::default()).unwrap();
        assert_eq!(
            (plan.max_tokens.value, plan.temperature.value, plan.top_p.value),
            (256, 0.7, None)
        );
        assert_eq!(plan.precision.value, Precision::Bf16, "the machine of the tests has it");
        let reasoning = BaseFacts {
            reasoning_tuned: true,
            ..smollm2()
        };
        assert_eq!(
            plan_prompt(40, &reasoning, &hardware(), &PromptOptions::default())
                .unwrap()
                .temperature
                .value,
            0.6
        );
        let greedy = PromptOptions {
            temperature: Some(0.0),
            max_tokens: Some(8),
            ..PromptOptions::default()
        };
        let plan = plan_prompt(40, &reasoning, &hardware(), &greedy).unwrap();
        assert_eq!((plan.temperature.value, plan.context.value), (0.0, 48));
        assert_eq!(plan.precision.value, Precision::Fp32);
        assert_eq!(plan.temperature.why(), "given by --temp");
    }

    #[test]
    fn refusals_carry_their_exit_code() {
        let check = |tokens, options: PromptOptions| {
            let error = plan_prompt(tokens, &smollm2(), &hardware(), &options).unwrap_err();
            (error.kind().exit_code(), error.to_string())
        };
        let (code, text) = check(8000, PromptOptions::default());
        assert_eq!(code, 2);
        assert!(
            text.contains("8000") && text.contains("256") && text.contains("8192"),
            "{text}"
        );
        let (code, text) = check(
            10,
            PromptOptions {
                memory_limit_bytes: Some(1 << 20),
                ..PromptOptions::default()
            },
        );
        assert_eq!(code, 1);
        assert!(text.contains("may be used"), "{text}");
        for options in [
            PromptOptions {
                max_tokens: Some(0),
                ..PromptOptions::default()
            },
            PromptOptions {
                temperature: Some(-0.1),
                ..PromptOptions::default()
            },
            PromptOptions {
                temperature: Some(f64::NAN),
                ..PromptOptions::default()
            },
            PromptOptions {
                top_p: Some(0.0),
                ..PromptOptions::default()
            },
            PromptOptions {
                top_p: Some(1.1),
                ..PromptOptions::default()
            },
        ] {
            assert_eq!(check(10, options).0, 2);
        }
    }
}
