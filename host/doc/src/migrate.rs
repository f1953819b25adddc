//! Migration of the YAML tree from the declared schema version to the current one, in memory.
//!
//! Invariants: nodes keep their places, so that an error about a migrated key points at the line the author wrote;
//! only the step from 1 to 2 changes anything.

use crate::error::{ErrorClass, ParseError, Warning, WarningKind};
use crate::findings::Findings;
use crate::frontmatter::SCHEMA_VERSION;
use crate::yaml::{Kind, Node, Pos, Value, resolve};

/// The version before `dpo` became `preference`.
pub(crate) const DPO_VERSION: u32 = 1;
/// Keys of the old block that stay in the new one.
pub(crate) const KEPT_KEYS: [&str; 3] = ["enabled", "loss_type", "reference"];
/// Keys of the old block that go into `hyperparams`.
pub(crate) const HYPER_KEYS: [&str; 3] = ["beta", "learning_rate", "num_epochs"];

/// The versions passed, for messages: `v1 → v2 → … → v15`.
pub fn chain(from: u32) -> String {
    (from..=SCHEMA_VERSION)
        .map(|version| format!("v{version}"))
        .collect::<Vec<_>>()
        .join(" → ")
}

/// Reads `dlm_version`; absent means 1.
///
/// **Errors**: `VersionError` when too new or too old, `SchemaValidationError` when not an integer.
pub(crate) fn declared_version(root: &Node) -> Result<u32, ParseError> {
    let Some((key, value)) = entry(root, "dlm_version") else {
        return Ok(1);
    };
    let Pos { line, col } = key.pos;
    match resolve(value) {
        Value::Int(version) if version > i128::from(SCHEMA_VERSION) => {
            let message =
                format!("dlm_version {version} is newer than {SCHEMA_VERSION}, the newest that this program reads");
            Err(ParseError::new(ErrorClass::Version, line, col, message).with_hint("upgrade dlm"))
        }
        Value::Int(version) if version < 1 => {
            let message = format!("dlm_version {version} is too old: versions run from 1 to {SCHEMA_VERSION}");
            let hint = format!("write `dlm_version: {SCHEMA_VERSION}`");
            Err(ParseError::new(ErrorClass::Version, line, col, message).with_hint(hint))
        }
        Value::Int(version) => Ok(version as u32),
        _ => {
            let reason = format!(
                "expected an integer from 1 to {SCHEMA_VERSION}, found {}",
                value.describe()
            );
            let mut error = ParseError::new(
                ErrorClass::SchemaValidation,
                line,
                col,
                format!("dlm_version: {reason}"),
            );
            error.problems = Findings::from(crate::error::Problem {
                path: "dlm_version".to_owned(),
                line,
                col,
                message: reason,
                hint: None,
            });
            Err(error)
        }
    }
}

/// Takes the tree from `version` to the current one.
pub(crate) fn migrate(root: &mut Node, version: u32, warnings: &mut Findings<Warning>) {
    if version <= DPO_VERSION {
        dpo_to_preference(root, warnings);
    }
}

pub(crate) fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n (Node, Node)> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find(|(key, _)| key.as_key() == Some(name)),
        _ => None,
    }
}

/// The entry `training.dpo`, if any.
pub(crate) fn dpo_entry(root: &Node) -> Option<&(Node, Node)> {
    entry(&entry(root, "training")?.1, "dpo")
}

fn dpo_to_preference(root: &mut Node, warnings: &mut Findings<Warning>) {
    let Kind::Map(top) = &mut root.kind else { return };
    let Some((_, training)) = top.iter_mut().find(|(key, _)| key.as_key() == Some("training")) else {
        return;
    };
    let Kind::Map(entries) = &mut training.kind else { return };
    let Some(at) = entries.iter().position(|(key, _)| key.as_key() == Some("dpo")) else {
        return;
    };
    let (key, value) = entries.remove(at);
    if resolve(&value) == Value::Null {
        return;
    }
    if let Some(old) = entries.iter().position(|(key, _)| key.as_key() == Some("preference")) {
        let (old, _) = entries.remove(old);
        let message = "`training.preference` is replaced by the migrated `training.dpo`";
        warnings.push(Warning::new(WarningKind::DroppedKey, old.pos.line, message));
    }
    let new_key = scalar_like(&key, "preference");
    let new_value = match value.kind {
        Kind::Map(old) => preference_of(old, &key, warnings),
        _ => value,
    };
    let at = at.min(entries.len());
    entries.insert(at, (new_key, new_value));
}

fn preference_of(old: Vec<(Node, Node)>, dpo: &Node, warnings: &mut Findings<Warning>) -> Node {
    let mut kept = vec![(scalar_like(dpo, "method"), scalar_like(dpo, "dpo"))];
    let mut hyper = Vec::new();
    for (key, value) in old {
        let name = key.as_key().map(str::to_owned);
        match name.as_deref() {
            Some("reference") if resolve(&value) == Value::Str("pre_dpo_adapter".to_owned()) => {
                let value = scalar_like(&value, "pre_adapter");
                kept.push((key, value));
            }
            Some(name) if KEPT_KEYS.contains(&name) => kept.push((key, value)),
            Some(name) if HYPER_KEYS.contains(&name) => hyper.push((key, value)),
            _ => {
                let what = match &key.kind {
                    Kind::Scalar { text, .. } => text.clone(),
                    _ => key.describe(),
                };
                let message = format!("`training.dpo.{what}` is unknown and dropped by the migration from version 1");
                warnings.push(Warning::new(WarningKind::DroppedKey, key.pos.line, message));
            }
        }
    }
    if !hyper.is_empty() {
        let mut block = scalar_like(dpo, "");
        block.kind = Kind::Map(hyper);
        kept.push((scalar_like(dpo, "hyperparams"), block));
    }
    let mut block = scalar_like(dpo, "");
    block.kind = Kind::Map(kept);
    block
}

/// A plain scalar at the place of another node.
fn scalar_like(node: &Node, text: &str) -> Node {
    Node {
        pos: node.pos,
        chars: node.chars.clone(),
        kind: Kind::Scalar {
            text: text.to_owned(),
            is_plain: true,
            tag: None,
        },
        is_shared: node.is_shared,
    }
}
