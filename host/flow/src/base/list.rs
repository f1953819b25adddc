//! What is known about bases: the registry's and the local ones, with what this machine can do with them.

use dlm_core::Subject;
use dlm_core::base::{BaseRecord, LocalBase};
use dlm_plan::TrainOptions;
use dlm_plan::base::{BaseFacts, BaseLocation, Registry, Resolution, ResolvedBase, resolve_base};
use dlm_plan::train::fit::plan_typical;
use serde::Serialize;

use super::{is_here, local_bases};
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// One base, short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaseRow {
    /// What a document writes.
    pub key: String,
    pub params: u64,
    pub modality: &'static str,
    pub context_length: u32,
    pub license_spdx: String,
    /// Whether the license must be accepted before use.
    pub requires_acceptance: bool,
    /// Whether the weights are on this machine.
    pub is_here: bool,
    /// Bytes of memory that training a typical document takes; none when this machine cannot.
    pub train_memory_bytes: Option<u64>,
    /// Why it cannot, in a few words.
    pub train_refusal: Option<&'static str>,
}

/// All bases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaseList {
    pub local: Vec<BaseRow>,
    pub registry: Vec<BaseRow>,
}

/// Lists every base; opens no connection.
///
/// **Errors:** a local base whose record cannot be read, or a setting of the hub that cannot be used.
pub fn list(around: &Surroundings) -> Result<BaseList, Failure> {
    let locals = local_bases(&around.home)?;
    let rows = |words: Vec<&str>| -> Result<Vec<BaseRow>, Failure> {
        let resolved = words.into_iter().filter_map(|word| ready(word, &locals));
        resolved.map(|base| row(around, &base?)).collect()
    };
    let local_words: Vec<String> = locals.iter().map(|local| format!("local:{}", local.name)).collect();
    Ok(BaseList {
        local: rows(local_words.iter().map(String::as_str).collect())?,
        registry: rows(Registry::builtin().keys().collect())?,
    })
}

fn ready(word: &str, locals: &[LocalBase]) -> Option<Result<ResolvedBase, Failure>> {
    match resolve_base(word, Registry::builtin(), locals) {
        Ok(Resolution::Ready(base)) => Some(Ok(*base)),
        Ok(Resolution::AskHub { .. }) => None,
        Err(error) => Some(Err(error.into())),
    }
}

fn row(around: &Surroundings, base: &ResolvedBase) -> Result<BaseRow, Failure> {
    let record = &base.record;
    let options = TrainOptions {
        is_forced: around.is_forced,
        ..TrainOptions::default()
    };
    let plan = match BaseFacts::new(base) {
        Ok(facts) => plan_typical(&facts, &around.hardware, &options).map_err(|error| error.brief()),
        Err(_) => Err("its sizes are not known"),
    };
    Ok(BaseRow {
        key: record.key.clone(),
        params: record.params,
        modality: record.modality.name(),
        context_length: record.context_length,
        license_spdx: record.license_spdx.clone(),
        requires_acceptance: record.requires_acceptance,
        is_here: is_here(around, base)?,
        train_memory_bytes: plan.as_ref().ok().map(|plan| plan.memory.total),
        train_refusal: plan.err(),
    })
}

/// Everything that is known about one base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaseDetail {
    pub record: BaseRecord,
    /// Where the license is read.
    pub license_link: Option<String>,
    pub is_here: bool,
    /// Why this machine cannot train it; none when it can.
    pub train_refusal: Option<String>,
    pub train_memory_bytes: Option<u64>,
    /// The local files, when there are any.
    pub local: Option<LocalBase>,
    pub notes: Vec<String>,
}

/// Describes one base of the registry or of this machine; opens no connection.
///
/// **Errors:** an unknown name, with the nearest ones.
pub fn detail(around: &Surroundings, name: &str) -> Result<BaseDetail, Failure> {
    let locals = local_bases(&around.home)?;
    let base = match ready(name, &locals) {
        Some(base) => base.map_err(|failure| failure.under(Subject::Base))?,
        None => {
            return Err(Failure::misuse(
                Subject::Base,
                format!("`{name}` is known to the hub only, not to this machine"),
            )
            .hint("name a registry key or a local base: `dlm base list`"));
        }
    };
    let options = TrainOptions {
        is_forced: around.is_forced,
        ..TrainOptions::default()
    };
    let plan = match BaseFacts::new(&base) {
        Ok(facts) => plan_typical(&facts, &around.hardware, &options).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Ok(BaseDetail {
        license_link: base.record.license_link(&around.hub_root),
        is_here: is_here(around, &base)?,
        train_memory_bytes: plan.as_ref().ok().map(|plan| plan.memory.total),
        train_refusal: plan.err(),
        local: match base.location {
            BaseLocation::Local(local) => Some(*local),
            BaseLocation::Hub { .. } => None,
        },
        record: base.record,
        notes: base.notes,
    })
}
