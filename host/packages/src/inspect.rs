//! Everything about a plugin that can be told without running it.
//!
//! Invariant: a broken or refused file is described as far as it can be read, with what is wrong.

use std::path::Path;

use dlm_core::digest::sha256_hex;
use serde::Serialize;

use crate::ask::{self, Power};
use crate::check;
use crate::component::{Item, Part, Shape};
use crate::discover::{Finder, FoundPlugin, Origin, place_of, read_file};
use crate::disk;
use crate::error::{ComponentError, Diagnose, PackageError, SignatureError};
use crate::imports::Wasi;
use crate::keys::{self, TEXT_BYTES_MAX};
use crate::kind::Kind;
use crate::lockfile::LockEntry;
use crate::manifest::COMPONENT_BYTES_MAX;
use crate::manifest::{Manifest, ManifestError};
use crate::selector::Selector;
use crate::signature::{self, SignatureStatus, signature_path};
use dlm_core::foreign::caught;
use dlm_core::inert::inert_line;

/// What is known about a plugin.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub name: String,
    pub version: String,
    pub kinds: Vec<Kind>,
    pub origin: &'static str,
    pub path: Option<String>,
    pub sha256: String,
    pub bytes: u64,
    /// Version of the contract that it was built for; nothing where its exports name none that is supported.
    pub api: Option<String>,
    pub wasi: &'static str,
    /// Nothing where the file has none, or a broken one.
    pub manifest: Option<Manifest>,
    /// What is wrong with a broken manifest.
    pub manifest_flaw: Option<String>,
    pub imports: Vec<Item>,
    pub exports: Vec<Item>,
    pub parts: Vec<Part>,
    pub producers: Vec<String>,
    /// What the signature beside it is worth, in words.
    pub signature: String,
    pub lock: Option<LockEntry>,
    /// In effect without flags.
    pub granted: Vec<String>,
    /// Why it would not be installed or run, as code and message.
    pub problem: Option<(String, String)>,
    pub remarks: Vec<String>,
    /// Lines of `--audit`.
    pub risks: Vec<String>,
}

/// Describes what was typed: a file (anything with a separator or ending in `.wasm`), else a name.
///
/// **Errors**: it is not there, or is no component at all.
pub fn inspect(finder: &Finder, typed: &str) -> Result<(Inspection, Vec<u8>), PackageError> {
    described(finder, typed).map_err(|error| finder.explain(typed, error))
}

fn described(finder: &Finder, typed: &str) -> Result<(Inspection, Vec<u8>), PackageError> {
    if is_file_name(typed) {
        return of_file(finder, typed);
    }
    let found = finder.find(&Selector::parse(typed)?, None)?;
    let bytes = found.read()?.into_owned();
    let inspection = of_found(finder, &found, &bytes)?;
    Ok((inspection, bytes))
}

/// Says whether what was typed means a file and not a name.
pub fn is_file_name(typed: &str) -> bool {
    typed.ends_with(".wasm") || typed.contains('/') || typed.contains('\\')
}

fn of_file(finder: &Finder, typed: &str) -> Result<(Inspection, Vec<u8>), PackageError> {
    let path = finder.resolve(typed);
    let bytes = read_file(&path)?;
    let lock = finder.lock()?;
    let hash = sha256_hex(&bytes);
    let entry = lock.at(&place_of(&path)).filter(|entry| entry.sha256 == hash).cloned();
    let manifest = Manifest::of_component(&bytes);
    let problem = check::check(&path, &bytes).err();
    let seen = PluginPlace {
        origin: Origin::Path,
        path: Some(path.as_path()),
        granted: entry.as_ref().map(LockEntry::granted).unwrap_or_default(),
        entry,
    };
    let flaw = match &manifest {
        Err(ManifestError::Wrong(cause)) => Some(inert_line(cause)),
        _ => None,
    };
    let mut inspection = describe(finder, seen, manifest.ok(), &bytes, &path)?;
    if let Some(flaw) = flaw {
        // Such a file does not run at all, not even by path.
        inspection.risks.retain(|risk| risk != NO_MANIFEST);
        inspection.risks.insert(0, format!("broken manifest: {flaw}"));
        inspection.manifest_flaw = Some(flaw);
    }
    inspection.problem = problem.map(|error| (error.code().to_owned(), dlm_core::inert::inert(&error.to_string())));
    Ok((inspection, bytes))
}

fn of_found(finder: &Finder, found: &FoundPlugin, bytes: &[u8]) -> Result<Inspection, PackageError> {
    let entry = match found.origin {
        Origin::Builtin | Origin::Path => None,
        Origin::User => finder.lock()?.installed(&found.manifest.name).cloned(),
        Origin::Project | Origin::System => {
            let lock = finder.lock()?;
            found
                .path
                .as_deref()
                .map(place_of)
                .and_then(|path| lock.at(&path))
                .cloned()
        }
    };
    let place = found.path.clone().unwrap_or_else(|| found.manifest.name.clone().into());
    let seen = PluginPlace {
        origin: found.origin,
        path: found.path.as_deref(),
        entry,
        granted: found.granted.clone(),
    };
    describe(finder, seen, Some(found.manifest.clone()), bytes, &place)
}

/// Where a plugin was seen.
struct PluginPlace<'a> {
    origin: Origin,
    path: Option<&'a Path>,
    entry: Option<LockEntry>,
    granted: Vec<String>,
}

fn describe(
    finder: &Finder,
    seen: PluginPlace<'_>,
    manifest: Option<Manifest>,
    bytes: &[u8],
    place: &Path,
) -> Result<Inspection, PackageError> {
    let shape = Shape::read(place, bytes)?;
    let stem = place.file_stem().unwrap_or_default().to_string_lossy();
    let known = manifest
        .clone()
        .unwrap_or_else(|| Manifest::absent(&stem, shape.kinds()));
    let api = check::check_shape(place, &known.name, &known.version, &shape);
    let beside = match seen.path {
        Some(path) => disk::read(&signature_path(path), TEXT_BYTES_MAX)?,
        None => None,
    };
    let keys = keys::trusted_keys(&finder.places().home)?;
    let signed = signature::check(&keys, beside.as_deref(), bytes, &known.name, &known.version);
    let wasi = Wasi::of(&shape.imports);
    Ok(Inspection {
        origin: seen.origin.name(),
        path: seen.path.map(|path| path.display().to_string()),
        sha256: sha256_hex(bytes),
        bytes: bytes.len() as u64,
        risks: risks(&seen, manifest.as_ref(), &shape, &signed),
        signature: match &signed {
            _ if seen.origin == Origin::Builtin => "part of dlm".to_owned(),
            Ok(SignatureStatus::No) => "none".to_owned(),
            Ok(SignatureStatus::Stranger) => "by a key that is not trusted".to_owned(),
            Ok(SignatureStatus::By { key, .. }) => format!("by {key}"),
            Err(error) => format!("wrong: {}", dlm_core::inert::inert(&error.to_string())),
        },
        problem: api
            .as_ref()
            .err()
            .map(|error| (error.code().to_owned(), dlm_core::inert::inert(&error.to_string()))),
        remarks: remarks(&known, &shape),
        name: known.name,
        version: known.version,
        kinds: shape.kinds(),
        api: api.ok(),
        wasi: wasi.name(),
        manifest,
        manifest_flaw: None,
        imports: shape.imports,
        exports: shape.exports,
        parts: shape.parts,
        producers: shape.producers,
        lock: seen.entry,
        granted: seen.granted,
    })
}

/// The line about a file without a manifest.
const NO_MANIFEST: &str = "no manifest: runs by path only, and says nothing about itself";

fn remarks(manifest: &Manifest, shape: &Shape) -> Vec<String> {
    let mut remarks: Vec<String> = manifest
        .unknown_keys
        .iter()
        .map(|key| format!("its manifest has the key `{key}`, which this dlm does not know"))
        .collect();
    if manifest
        .requests
        .iter()
        .any(|request| request.capability.starts_with("http:"))
    {
        remarks.push("behind HTTPS_PROXY the final address of a request cannot be checked, only its name".to_owned());
    }
    for import in &shape.imports {
        if import.name.chars().any(char::is_control) {
            remarks.push(format!(
                "an import has a name with control characters: {}",
                inert_line(&import.name)
            ));
        }
    }
    remarks
}

/// One line per finding of `--audit`.
fn risks(
    seen: &PluginPlace<'_>,
    manifest: Option<&Manifest>,
    shape: &Shape,
    signed: &Result<SignatureStatus, SignatureError>,
) -> Vec<String> {
    let mut risks = Vec::new();
    let requests = manifest
        .map(|manifest| manifest.requests.as_slice())
        .unwrap_or_default();
    for request in requests {
        let text = inert_line(&request.capability);
        let (kind, rest) = request.capability.split_once(':').unwrap_or((&request.capability, ""));
        match kind {
            "http" if rest.contains('*') => risks.push(format!("wildcard host: {text}")),
            "secret" if rest.contains('*') => risks.push(format!("secret for a wildcard host: {text}")),
            "secret" if rest.contains("@exec:") => risks.push(format!("secret for a program: {text}")),
            "reveal" => risks.push(format!("reads a secret: {text}")),
            "exec" if rest.split(' ').any(|word| word == "**") => risks.push(format!("any arguments: {text}")),
            "exec" if rest == "arg" => risks.push(format!("runs what is typed: {text}")),
            "exec" => risks.push(format!("runs a program outside the sandbox: {text}")),
            "limit" if rest.starts_with("memory=") => risks.push(format!("memory above the default: {text}")),
            _ => {}
        }
    }
    if manifest.is_none() {
        risks.push(NO_MANIFEST.to_owned());
    }
    if Wasi::of(&shape.imports) != Wasi::None {
        risks.push("imports WASI, where every supported language can do without".to_owned());
    }
    if seen.origin != Origin::Builtin {
        match signed {
            Ok(SignatureStatus::By { .. }) => {}
            Ok(SignatureStatus::No) => risks.push("not signed".to_owned()),
            Ok(SignatureStatus::Stranger) => risks.push("signed by a key that is not trusted".to_owned()),
            Err(_) => risks.push("its signature is wrong".to_owned()),
        }
    }
    for (import, start) in ask::imports_unasked(&shape.imports, requests) {
        risks.push(format!("imports {} and requests no {start}", inert_line(&import)));
    }
    for unused in ask::requests_unused(&shape.imports, requests) {
        risks.push(format!(
            "requests {} and imports nothing that could use it",
            inert_line(unused)
        ));
    }
    if ask::most(requests).is_err() {
        risks.push("requests a capability of no known kind".to_owned());
    } else if ask::most(requests).is_ok_and(|power| power == Power::Act) && seen.granted.is_empty() {
        risks.push("asks for far-reaching power, of which nothing is granted".to_owned());
    }
    risks
}

/// The world of a component as WIT text.
///
/// **Errors**: its types cannot be written as WIT.
pub fn wit(path: &Path, bytes: &[u8]) -> Result<String, ComponentError> {
    let malformed = |cause: String| ComponentError::Malformed {
        path: path.to_owned(),
        cause: inert_line(&cause),
    };
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(malformed("it is larger than 64 MiB".to_owned()));
    }
    Shape::read(path, bytes)?;
    // The library takes it for granted that every type it meets was made by its own tools.
    let text = caught(|| wit_text(bytes)).map_err(|panic| malformed(panic.to_string()))?;
    text.map(|text| dlm_core::inert::inert(&text)).map_err(malformed)
}

fn wit_text(bytes: &[u8]) -> Result<String, String> {
    let decoded = wit_component::decode(bytes).map_err(|error| format!("{error:#}"))?;
    let mut printer = wit_component::WitPrinter::default();
    let package = decoded.package();
    let nested: Vec<wit_parser::PackageId> = decoded
        .resolve()
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != package)
        .collect();
    printer
        .print(decoded.resolve(), package, &nested)
        .map_err(|error| format!("{error:#}"))?;
    Ok(printer.output.to_string())
}
