//! The parts of the `show` report that come from the sections, the metrics database, the cache and the registry.

use std::collections::BTreeMap;

use dlm_doc::Parsed;
use dlm_plan::base::{Registry, Resolution, resolve_base};
use dlm_store::metrics::{GateRow, MiningRow, TokenizationRow};
use dlm_store::{Delta, Home, Store};
use serde::Serialize;

use crate::base::local_bases;
use crate::failure::Failure;

/// Deepest directory of the cache that is counted; the layout has three levels.
const CACHE_DEPTH_MAX: usize = 8;

/// One section of the document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownSection {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub adapter: Option<String>,
    pub start_line: usize,
    /// `body`, or the path of the directive that brought it.
    pub source: String,
    pub tags: BTreeMap<String, String>,
    /// `new` or `unchanged` since the last run.
    pub status: &'static str,
}

/// The cache of tokenized sections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingCache {
    pub path: std::path::PathBuf,
    pub entry_count: u64,
    pub bytes: u64,
    pub last_run_hit_rate: Option<f64>,
    pub last_run_id: Option<u64>,
}

/// The learned gate of the last run that had one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    pub mode: Option<String>,
    pub adapter_names: Vec<String>,
    pub last_run_id: u64,
    pub per_adapter: Vec<GatePart>,
}

/// One adapter's part in the gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatePart {
    pub adapter_name: String,
    pub mean_weight: Option<f64>,
    pub sample_count: Option<u64>,
    pub mode: Option<String>,
}

/// Mined preferences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mining {
    pub preference_mining: Vec<MiningRow>,
    pub preference_mining_runs: usize,
    pub total_auto_mined_pairs: u64,
}

/// Whether the base runs code of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Security {
    pub base_model: String,
    pub architecture: String,
    pub trust_remote_code: bool,
}

/// Lists the sections with their state since the last run.
pub(super) fn sections(parsed: &Parsed, delta: &Delta) -> Vec<ShownSection> {
    let shown = |section: &dlm_core::Section| {
        let id = section.id();
        let status = if delta.unchanged.contains(&id) {
            "unchanged"
        } else {
            "new"
        };
        ShownSection {
            id: id.to_string(),
            kind: section.kind.as_str(),
            adapter: section.adapter.clone(),
            start_line: section.start_line,
            source: "body".to_owned(),
            tags: section.tags.clone(),
            status,
        }
    };
    parsed.sections().iter().map(shown).collect()
}

/// What the metrics database knows that `show` tells.
#[derive(Default)]
pub(super) struct Metrics {
    pub tokenization: Option<TokenizationRow>,
    pub gate: Option<Gate>,
    pub mining: Option<Mining>,
}

/// Reads the database; one that cannot be read is a line of the report, not the end of it.
pub(super) fn metrics(store: &Store) -> (Metrics, Option<String>) {
    let read = || -> Result<Metrics, dlm_store::metrics::MetricsError> {
        let Some(reader) = store.metrics_reader()? else {
            return Ok(Metrics::default());
        };
        let mined = reader.mining(None)?;
        Ok(Metrics {
            tokenization: reader.last_tokenization()?,
            gate: reader.last_gate()?.map(|(run_id, rows)| gate(run_id, rows)),
            mining: (!mined.is_empty()).then(|| mining(mined)),
        })
    };
    match read() {
        Ok(metrics) => (metrics, None),
        Err(error) => (Metrics::default(), Some(error.to_string())),
    }
}

fn gate(run_id: u64, rows: Vec<GateRow>) -> Gate {
    let parts: Vec<GatePart> = rows
        .into_iter()
        .map(|row| GatePart {
            adapter_name: row.adapter_name,
            mean_weight: row.mean_weight,
            sample_count: row.sample_count,
            mode: row.mode,
        })
        .collect();
    Gate {
        mode: parts.first().and_then(|part| part.mode.clone()),
        adapter_names: parts.iter().map(|part| part.adapter_name.clone()).collect(),
        last_run_id: run_id,
        per_adapter: parts,
    }
}

fn mining(rows: Vec<MiningRow>) -> Mining {
    let mut runs: Vec<u64> = rows.iter().map(|row| row.run_id).collect();
    runs.dedup();
    Mining {
        preference_mining_runs: runs.len(),
        total_auto_mined_pairs: rows.iter().filter_map(|row| row.mined_pairs).sum(),
        preference_mining: rows,
    }
}

/// Describes the cache when its directory exists.
pub(super) fn cache(store: &Store, last: Option<TokenizationRow>) -> Result<Option<TrainingCache>, Failure> {
    let path = store.paths().tokenized_cache();
    if !path.is_dir() {
        return Ok(None);
    }
    Ok(Some(TrainingCache {
        entry_count: count_files(&path.join("entries"), CACHE_DEPTH_MAX),
        bytes: dlm_files::tree_size(&path)?,
        last_run_hit_rate: last.as_ref().map(TokenizationRow::hit_rate),
        last_run_id: last.map(|row| row.run_id),
        path,
    }))
}

/// Counts files; a directory that vanishes meanwhile counts nothing.
fn count_files(directory: &std::path::Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() && depth > 0 => count_files(&entry.path(), depth - 1),
        Ok(kind) if kind.is_file() => 1,
        _ => 0,
    };
    entries.flatten().map(count).sum()
}

/// The revision of a base of the registry or of this machine; none for one that only the hub knows.
pub(super) fn revision(home: &Home, base_model: &str) -> Option<String> {
    let locals = local_bases(home).unwrap_or_default();
    match resolve_base(base_model, Registry::builtin(), &locals) {
        Ok(Resolution::Ready(base)) => Some(base.record.revision),
        _ => None,
    }
}

/// Says whether the base runs code of its own; none for a base that only the hub knows.
pub(super) fn security(home: &Home, base_model: &str) -> Option<Security> {
    let locals = local_bases(home).unwrap_or_default();
    match resolve_base(base_model, Registry::builtin(), &locals) {
        Ok(Resolution::Ready(base)) => Some(Security {
            base_model: base_model.to_owned(),
            architecture: base.record.architecture,
            trust_remote_code: base.record.trust_remote_code,
        }),
        _ => None,
    }
}
