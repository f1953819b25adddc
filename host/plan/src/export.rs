//! The plan of an export: quantization, merging, template, expected sizes, and the refusals that need no weights.
//!
//! **Source**: `spec/export.md` sections 1, 2 and 4.

mod mix;

use dlm_core::{FailureKind, Hints, Quant, Subject};
use serde::{Deserialize, Serialize};

use crate::base::BaseFacts;
use crate::knob::Knob;
use crate::train::PlanLine;
pub use mix::{MixError, parse_mix};

/// What the document and the command line ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExportOptions {
    /// `--quant`.
    pub quant: Option<Quant>,
    /// `export.default_quant`, when it is written.
    pub default_quant: Option<Quant>,
    pub target: Option<String>,
    pub is_merged: bool,
    pub is_dequantize_confirmed: bool,
    /// `--no-template`.
    pub without_template: bool,
    /// `--no-imatrix`.
    pub without_imatrix: bool,
    /// `--imatrix`: a file to take instead of the own matrix.
    pub imatrix_file: Option<String>,
    /// `--no-draft`.
    pub without_draft: bool,
    /// `--draft`: the tag of a model that writes ahead.
    pub draft: Option<String>,
    pub name: Option<String>,
    /// The adapter, or any of a mix, was trained on 4-bit weights.
    pub was_trained_quantized: bool,
    /// Several adapters are exported as one.
    pub is_mix: bool,
}

/// Where the weights of input columns come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImatrixChoice {
    /// All columns count alike.
    Off,
    /// Measured on the document's rows and general text.
    Own,
    /// Read from a file.
    File(String),
}

/// How an export is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportPlan {
    pub base: String,
    pub target: Knob<String>,
    pub quant: Knob<Quant>,
    pub merged: Knob<bool>,
    /// An adapter that was trained on 4-bit weights is merged into unquantized ones.
    pub dequantized: bool,
    pub include_template: Knob<bool>,
    /// Which columns matter in quantizing.
    pub imatrix: Knob<ImatrixChoice>,
    /// The tag of a smaller model that writes ahead.
    pub draft: Knob<Option<String>>,
    /// From the table of bytes a parameter; the written file's own size is shown beside it.
    pub size_estimate_bytes: u64,
    pub ollama_name: Option<String>,
}

/// Why there is no export plan.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExportPlanError {
    #[error("`--dequantize` without `--merged` changes nothing")]
    DequantizeWithoutMerged,
    #[error("the adapter was trained on 4-bit weights; merging them into full ones changes what it corrects")]
    MergeNeedsDequantize,
    #[error("an adapter of the mix was trained on 4-bit weights, and such a mix is exported merged alone")]
    MixNeedsDequantize,
    #[error("`{name}` is not a model name for ollama: [namespace/]name[:tag] of letters, digits, `.`, `_` and `-`")]
    DraftName { name: String },
    #[error("`--imatrix` changes nothing at {}, which weighs all columns alike", .quant.name())]
    ImatrixUnused { quant: Quant },
    #[error(
        "`{base}` keeps its model code in its repository (trust_remote_code), and there is no Python here to run it"
    )]
    RemoteCode { base: String },
}

impl Hints for ExportPlanError {
    fn subject(&self) -> Subject {
        match self {
            ExportPlanError::MergeNeedsDequantize | ExportPlanError::MixNeedsDequantize => Subject::Merge,
            _ => Subject::Export,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            ExportPlanError::DequantizeWithoutMerged
            | ExportPlanError::DraftName { .. }
            | ExportPlanError::ImatrixUnused { .. } => FailureKind::Misuse,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            ExportPlanError::DequantizeWithoutMerged => vec!["add `--merged`, or leave out `--dequantize`".into()],
            ExportPlanError::MergeNeedsDequantize => {
                vec!["leave out `--merged` to export the adapter beside its base, or add `--dequantize`".into()]
            }
            ExportPlanError::MixNeedsDequantize => {
                vec!["add `--merged --dequantize`, or export one of them: `--adapter NAME`".into()]
            }
            ExportPlanError::DraftName { .. } => vec!["for example: `--draft smollm2:360m`".into()],
            ExportPlanError::ImatrixUnused { .. } => {
                vec!["leave out `--imatrix`, or choose a level that uses one: `--quant Q4_K_M`".into()]
            }
            ExportPlanError::RemoteCode { .. } => vec!["choose another base: `dlm base list`".into()],
        }
    }
}

/// Bases whose smaller relative writes ahead for them: the base, the relative, and what Ollama calls it.
///
/// **Source**: `spec/export.md` section 13.
const DRAFTS: [(&str, &str, &str); 4] = [
    ("qwen2.5-3b", "qwen2.5-0.5b", "qwen2.5:0.5b"),
    ("qwen2.5-coder-1.5b", "qwen2.5-0.5b", "qwen2.5:0.5b"),
    ("llama-3.2-3b", "llama-3.2-1b", "llama3.2:1b"),
    ("smollm2-1.7b", "smollm2-360m", "smollm2:360m"),
];
/// Longest name that Ollama takes.
const MODEL_NAME_LEN_MAX: usize = 128;

/// Says whether Ollama takes a model's name: `[namespace/]name[:tag]`.
fn is_model_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let (path, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let (namespace, last) = path.split_once('/').unwrap_or(("library", path));
    name.len() <= MODEL_NAME_LEN_MAX && !name.contains("..") && [namespace, last, tag].into_iter().all(is_part)
}

/// Decides which model writes ahead.
fn draft(base: &str, options: &ExportOptions) -> Result<Knob<Option<String>>, ExportPlanError> {
    if options.without_draft {
        return Ok(Knob::flag(None, "--no-draft"));
    }
    if let Some(name) = &options.draft {
        return match is_model_name(name) {
            true => Ok(Knob::flag(Some(name.clone()), "--draft")),
            false => Err(ExportPlanError::DraftName { name: name.clone() }),
        };
    }
    Ok(match DRAFTS.iter().find(|(of, ..)| *of == base) {
        Some((_, relative, tag)) => Knob::chosen(
            Some((*tag).to_owned()),
            format!("`{relative}` has the same tokens and is faster"),
        ),
        None => Knob::chosen(None, format!("no smaller relative of `{base}` is known")),
    })
}

/// Decides which columns matter.
fn imatrix(quant: Quant, options: &ExportOptions) -> Result<Knob<ImatrixChoice>, ExportPlanError> {
    Ok(match (options.without_imatrix, &options.imatrix_file) {
        (true, _) => Knob::flag(ImatrixChoice::Off, "--no-imatrix"),
        (false, Some(_)) if !quant.is_k_quant() => return Err(ExportPlanError::ImatrixUnused { quant }),
        (false, Some(file)) => Knob::flag(ImatrixChoice::File(file.clone()), "--imatrix"),
        (false, None) if quant.is_k_quant() => Knob::chosen(
            ImatrixChoice::Own,
            "what the document and general text use most is rounded least",
        ),
        (false, None) => Knob::chosen(ImatrixChoice::Off, format!("{} does not use one", quant.name())),
    })
}

/// Plans an export; everything that needs no weights is refused here.
pub fn plan_export(base: &BaseFacts, options: &ExportOptions) -> Result<ExportPlan, ExportPlanError> {
    if options.is_dequantize_confirmed && !options.is_merged {
        return Err(ExportPlanError::DequantizeWithoutMerged);
    }
    if base.trust_remote_code {
        return Err(ExportPlanError::RemoteCode { base: base.key.clone() });
    }
    let quant = match (options.quant, options.default_quant) {
        (Some(quant), _) => Knob::flag(quant, "--quant"),
        (None, Some(quant)) => Knob::written(quant),
        (None, None) => Knob::chosen(
            Quant::Q4_K_M,
            "it keeps most of the quality at under a third of the size",
        ),
    };
    if options.was_trained_quantized && !options.is_dequantize_confirmed {
        match (options.is_mix, options.is_merged) {
            (true, _) => return Err(ExportPlanError::MixNeedsDequantize),
            (false, true) => return Err(ExportPlanError::MergeNeedsDequantize),
            (false, false) => {}
        }
    }
    let imatrix = imatrix(quant.value, options)?;
    let draft = draft(&base.key, options)?;
    Ok(ExportPlan {
        base: base.key.clone(),
        target: match &options.target {
            Some(target) => Knob::flag(target.clone(), "--target"),
            None => Knob::chosen("ollama".into(), "it is the default"),
        },
        merged: match options.is_merged {
            true => Knob::flag(true, "--merged"),
            false => Knob::chosen(false, "an adapter beside its base can be exchanged alone"),
        },
        dequantized: options.is_merged && options.was_trained_quantized,
        include_template: match options.without_template {
            true => Knob::flag(false, "--no-template"),
            false => Knob::chosen(true, "a server needs the frame that the adapter was trained in"),
        },
        imatrix,
        draft,
        size_estimate_bytes: (base.params as f64 * quant.value.bytes_per_parameter()) as u64,
        quant,
        ollama_name: options.name.clone(),
    })
}

impl ExportPlan {
    /// All knobs, each with its reason: what `-v` shows.
    pub fn lines(&self) -> Vec<PlanLine> {
        fn line<T>(name: &'static str, knob: &Knob<T>, value: impl Into<String>) -> PlanLine {
            PlanLine {
                name,
                value: value.into(),
                why: knob.why(),
            }
        }
        let on = |is_on: bool| if is_on { "on" } else { "off" };
        vec![
            line("target", &self.target, self.target.value.as_str()),
            line("quant", &self.quant, self.quant.value.name()),
            line("merged", &self.merged, on(self.merged.value)),
            line("template", &self.include_template, on(self.include_template.value)),
            line(
                "imatrix",
                &self.imatrix,
                match &self.imatrix.value {
                    ImatrixChoice::Off => "off",
                    ImatrixChoice::Own => "own",
                    ImatrixChoice::File(path) => path,
                },
            ),
            line("draft", &self.draft, self.draft.value.as_deref().unwrap_or("none")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tests::smollm2;

    #[test]
    fn the_strongest_source_of_the_quantization_wins() {
        let check = |options: ExportOptions| {
            let plan = plan_export(&smollm2(), &options).unwrap();
            (plan.quant.value, plan.quant.why(), plan.imatrix.why())
        };
        let (quant, why, imatrix) = check(ExportOptions::default());
        assert_eq!(quant, Quant::Q4_K_M);
        assert!(imatrix.contains("is rounded least"), "{imatrix}");
        assert!(why.starts_with("chosen because"));
        let written = ExportOptions {
            default_quant: Some(Quant::Q8_0),
            ..ExportOptions::default()
        };
        assert_eq!(
            check(written.clone()),
            (
                Quant::Q8_0,
                "written in the document".into(),
                "chosen because Q8_0 does not use one".into()
            )
        );
        let flag = ExportOptions {
            quant: Some(Quant::F16),
            without_imatrix: true,
            ..written
        };
        assert_eq!(
            check(flag),
            (Quant::F16, "given by --quant".into(), "given by --no-imatrix".into())
        );
    }

    #[test]
    fn a_draft_is_typed_or_a_relative_with_the_same_tokens() {
        use crate::base::registry::Registry;
        for (of, relative, tag) in DRAFTS {
            let of = Registry::builtin().get(of).unwrap();
            let relative = Registry::builtin().get(relative).unwrap();
            assert!(relative.params < of.params, "{tag}");
            assert_eq!(
                (relative.template, &relative.tokenizer_pre),
                (of.template, &of.tokenizer_pre),
                "{tag}"
            );
            assert!(is_model_name(tag));
        }
        let of = |base: &str, typed: Option<&str>, without_draft: bool| {
            let options = ExportOptions {
                draft: typed.map(str::to_owned),
                without_draft,
                ..ExportOptions::default()
            };
            draft(base, &options).map(|knob| knob.value)
        };
        assert_eq!(of("smollm2-1.7b", None, false), Ok(Some("smollm2:360m".to_owned())));
        assert_eq!(of("smollm2-1.7b", None, true), Ok(None));
        assert_eq!(of("smollm2-135m", None, false), Ok(None));
        assert_eq!(
            of("smollm2-135m", Some("me/x.1:q8"), false),
            Ok(Some("me/x.1:q8".to_owned()))
        );
        for bad in ["", "a b", "a:b:c", "a/b/c", "-x", "a..b", "x:", &"a".repeat(129)] {
            assert!(of("smollm2-135m", Some(bad), false).is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals_come_with_code_and_remedy() {
        let check = |options: ExportOptions| plan_export(&smollm2(), &options).unwrap_err();
        let error = check(ExportOptions {
            is_dequantize_confirmed: true,
            ..ExportOptions::default()
        });
        assert_eq!(error, ExportPlanError::DequantizeWithoutMerged);
        assert_eq!(error.kind().exit_code(), 2);
        assert_eq!(error.hints(), ["add `--merged`, or leave out `--dequantize`"]);
        let merged = ExportOptions {
            is_merged: true,
            was_trained_quantized: true,
            ..ExportOptions::default()
        };
        assert_eq!(check(merged.clone()).subject().as_str(), "merge");
        for is_merged in [false, true] {
            let mix = ExportOptions {
                is_merged,
                is_mix: true,
                ..merged.clone()
            };
            assert_eq!(check(mix), ExportPlanError::MixNeedsDequantize);
        }
        assert!(
            plan_export(
                &smollm2(),
                &ExportOptions {
                    is_dequantize_confirmed: true,
                    ..merged
                }
            )
            .is_ok()
        );
    }
}
