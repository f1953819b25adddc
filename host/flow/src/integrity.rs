//! Whether the files that answer are those that were written, added or fetched: held against their digests at every use, at
//! the cost of a look where nobody touched them since.
//!
//! Invariants: nothing answers from a file that is known to be damaged; a message names the file and what is whole.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_core::digest::{Sha1, is_hex};
use dlm_core::shell::quoted_path;
use dlm_core::units::size;
use dlm_files::{DiskError, sha256_file, sha256_file_until};
use dlm_model::base::{fingerprint, model_files};
use dlm_plan::base::{BaseLocation, ResolvedBase};
use dlm_store::sums::read_sums;
use dlm_store::{AdapterSlot, CurrentVersion, Home, Seen, Store};

use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// A base of which so much must be read is worth a word; about a second's work.
const TOLD_BYTES: u64 = 1 << 30;

/// Refuses a version whose files are not those that were written.
///
/// **Errors** name the file, the versions that are whole, and how to go back to one.
pub(crate) fn check_adapter(
    around: &Surroundings,
    store: &Store,
    slot: &AdapterSlot,
    version: &CurrentVersion,
    document: &Path,
) -> Result<(), Failure> {
    let mut seen = Seen::of(&around.home, &version.directory);
    let mut hash = |file: &Path| seen.digest(file, &mut |file| sha256_file_until(file, &around.cancel));
    let checked = store.check_version(slot, &version.directory, version.number, &mut hash);
    seen.keep();
    let Err(damage) = checked else {
        return Ok(());
    };
    if around.cancel.is_cancelled() {
        return Err(Failure::interrupted(""));
    }
    let mut failure = Failure::new(Subject::Adapter, damage);
    if let Some(whole) = store.whole_versions(slot).first() {
        failure = failure.hint(format!(
            "{whole} is whole; to go back to it: `echo {whole} > {}`",
            quoted_path(&store.paths().pointer(slot))
        ));
    }
    Err(failure.hint(format!("train again: `dlm train {} --fresh`", quoted_path(document))))
}

/// What is wrong with the files of a version; writes nothing.
pub(crate) fn adapter_problem(
    home: &Home,
    store: &Store,
    slot: &AdapterSlot,
    version: &CurrentVersion,
) -> Option<String> {
    let mut seen = Seen::of(home, &version.directory);
    let mut hash = |file: &Path| seen.digest(file, &mut sha256_file);
    let damage = store
        .check_version(slot, &version.directory, version.number, &mut hash)
        .err()?;
    let whole = store.whole_versions(slot);
    Some(match whole.first() {
        Some(whole) => format!("{damage}; {whole} is whole"),
        None => damage.to_string(),
    })
}

/// Refuses a base whose files are not those that were added or fetched.
///
/// **Errors** name the base and how to get it anew.
pub(crate) fn check_base(around: &Surroundings, base: &ResolvedBase, path: &Path) -> Result<(), Failure> {
    check_base_with(around, base, path, Seen::of(&around.home, path))
}

/// As [`check_base`], and reads all of it, whatever is known of its files.
pub(crate) fn verify_base(around: &Surroundings, base: &ResolvedBase, path: &Path) -> Result<(), Failure> {
    check_base_with(around, base, path, Seen::nothing_of(&around.home, path))
}

fn check_base_with(around: &Surroundings, base: &ResolvedBase, path: &Path, seen: Seen) -> Result<(), Failure> {
    match &base.location {
        BaseLocation::Local(local) => check_local(around, seen, &local.name, &local.sha256, path),
        BaseLocation::Hub { hf_id, .. } => check_snapshot(around, seen, hf_id, path),
    }
}

fn check_local(around: &Surroundings, mut seen: Seen, name: &str, expected: &str, path: &Path) -> Result<(), Failure> {
    let files = match path.is_dir() {
        true => model_files(path)?.into_iter().map(|name| path.join(name)).collect(),
        false => vec![path.to_owned()],
    };
    tell(around, name, &seen, files.iter().map(|file| &**file));
    let found = fingerprint(path, &mut |file| {
        seen.digest(file, &mut |file| sha256_file_until(file, &around.cancel))
    });
    if around.cancel.is_cancelled() {
        return Err(Failure::interrupted(""));
    }
    seen.keep_so_far();
    if found.as_ref().is_ok_and(|found| found == expected) {
        return Ok(());
    }
    let what = match guilty_file(&mut seen, path) {
        Some((file, flaw)) => format!("`{}` of the base `{name}` {flaw}", file.display()),
        // A base of before its files had digests of their own.
        None => format!(
            "the files of the base `{name}` are damaged or were changed: their fingerprint is {}, when the base was \
             added it was {expected}",
            found?
        ),
    };
    Err(Failure::new(Subject::BaseModel, what).hint(format!(
        "add it again: `dlm base remove {name}`, then `dlm base add {name} --from <path>`"
    )))
}

/// The first file of a base that is not what was added, and what is wrong with it.
fn guilty_file(seen: &mut Seen, path: &Path) -> Option<(PathBuf, String)> {
    let directory = if path.is_dir() { path } else { path.parent()? };
    let sums = read_sums(directory).ok().flatten()?;
    sums.into_iter().find_map(|(name, expected)| {
        let file = directory.join(name);
        if !file.is_file() {
            return Some((file, "is missing".to_owned()));
        }
        let found = seen.digest(&file, &mut sha256_file).ok()?;
        let flaw = format!("is damaged: its SHA-256 is {found}, when the base was added it was {expected}");
        (found != expected).then_some((file, flaw))
    })
}

/// The files of a snapshot are links to contents whose names are their digests: SHA-256 of large ones, git's of small ones.
fn check_snapshot(around: &Surroundings, mut seen: Seen, hf_id: &str, directory: &Path) -> Result<(), Failure> {
    let mut blobs = Vec::new();
    for entry in dlm_files::list(directory)? {
        let link = directory.join(&entry.name);
        let blob = link.canonicalize().ok().filter(|_| link.is_symlink());
        let name = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        // What other tools copied into the cache has no digest for a name.
        if let (Some(blob), Some(name)) = (&blob, name)
            && (is_hex(name, 64) || is_hex(name, 40))
        {
            blobs.push((entry.name, blob.clone(), name.to_owned()));
        }
    }
    tell(around, hf_id, &seen, blobs.iter().map(|(_, blob, _)| &**blob));
    let mut damaged = None;
    for (name, blob, expected) in &blobs {
        let found = seen.digest(blob, &mut |blob| match expected.len() {
            64 => sha256_file_until(blob, &around.cancel),
            _ => blob_id(blob),
        });
        match found {
            _ if around.cancel.is_cancelled() => return Err(Failure::interrupted("")),
            Ok(found) if found == *expected => {}
            Ok(found) => damaged = damaged.or(Some((name, blob, found, expected))),
            Err(error) => return Err(error.into()),
        }
    }
    seen.keep();
    let Some((name, blob, found, expected)) = damaged else {
        return Ok(());
    };
    let what = format!("`{name}` of `{hf_id}` is damaged: its digest is {found}, the hub said {expected}");
    Err(Failure::new(Subject::BaseModel, what).hint(format!(
        "delete it, and the next `dlm train` fetches it again: `rm {} {}`",
        quoted_path(blob),
        quoted_path(&directory.join(name))
    )))
}

/// The name that git gives to a small file.
fn blob_id(file: &Path) -> Result<String, DiskError> {
    /// Small files are those below the hub's limit for ordinary ones, 10 MB; tokenizers of some repositories are larger.
    const BYTES_MAX: u64 = 256 << 20;
    let bytes = dlm_files::read_required(file, BYTES_MAX)?;
    let mut digest = Sha1::of_blob(bytes.len() as u64);
    digest.update(&bytes);
    Ok(digest.finish_hex())
}

fn tell<'f>(around: &Surroundings, name: &str, seen: &Seen, files: impl Iterator<Item = &'f Path>) {
    let unknown = files.filter(|file| !seen.knows(file));
    let bytes: u64 = unknown.map(|file| dlm_files::file_size(file).unwrap_or(0)).sum();
    if bytes >= TOLD_BYTES {
        around.note(format!(
            "checking the {} of `{name}` against their digest, once until they are touched again",
            size(bytes)
        ));
    }
}
