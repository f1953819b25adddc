//! `dlm init`: a new document on a base that may be used, and the store that goes with it.
//!
//! Invariants: nothing is written before every check has passed; the document comes last, so that one that exists has a
//! store; a document that is replaced gets a new id and its old store stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dlm_core::base::{AcceptedVia, BaseRecord, LicenseAcceptance};
use dlm_core::manifest::Manifest;
use dlm_core::stamp::Stamp;
use dlm_core::{Event, Ulid};
use dlm_model::base::open_base;
use dlm_plan::base::licence::{LicenceDecision, LicenceInput, LicenceMoment, decide, question};
use dlm_plan::base::registry::DEFAULT_BASE;
use dlm_plan::base::{BaseFacts, BaseLocation, ResolvedBase};
use dlm_plan::train::fit::{fit_bases, plan_typical};
use dlm_plan::{BaseError, TrainOptions};
use dlm_store::{Disk, LockWait, Store, disk};
use serde::{Deserialize, Serialize};

use crate::base::{self, ExportProbes};
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// The sidecar with what was decided at init and holds for later commands; the manifest's keys are fixed by contract.
const CHOICES: &str = "init.json";
/// The sidecar has a few words.
const CHOICES_BYTES_MAX: u64 = 64 << 10;
/// Random bytes of an id.
const ID_RANDOM_BYTES: usize = 10;
/// How long another writer of a store that was made a moment ago is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// What is to be made.
#[derive(Clone, Debug)]
pub struct InitOptions {
    pub path: PathBuf,
    /// The base; the default one when none is named.
    pub base: Option<String>,
    /// Left out under `--skip-export-probes` or its variable.
    pub export_probes: ExportProbes,
    /// `--i-accept-license`.
    pub accepts_licence: bool,
    /// `--force`.
    pub overwrites: bool,
    /// The web root that `{hub}` in licence addresses stands for.
    pub hub_root: String,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InitReport {
    pub path: PathBuf,
    pub dlm_id: Ulid,
    /// The word that the document has for it.
    pub base: String,
    pub base_revision: String,
    pub store: PathBuf,
    pub licence: Option<LicenseAcceptance>,
    pub replaced: Option<Replaced>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What will likely go wrong later.
    pub warnings: Vec<String>,
}

/// The document that was overwritten.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replaced {
    /// None when the old file did not parse.
    pub dlm_id: Option<Ulid>,
    /// Its store, where there is one.
    pub store: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Choices {
    #[serde(default)]
    skip_export_probes: bool,
}

/// Says whether the document was made with `--skip-export-probes`.
///
/// **Errors** when the note cannot be read; a missing one means no.
pub fn skips_export_probes(store: &Store) -> Result<bool, Failure> {
    let path = store.paths().root().join(CHOICES);
    let Some(bytes) = disk::read(&path, CHOICES_BYTES_MAX)? else {
        return Ok(false);
    };
    let choices: Choices = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new("store", format!("{} is damaged: {e}", path.display())).hint("delete the file"))?;
    Ok(choices.skip_export_probes)
}

/// Makes a document and its store; `ask` puts a question to the person at the terminal.
///
/// **Errors:** the file exists, the base is unknown or cannot be used, its licence is not accepted, the disk.
pub fn init(
    around: &Surroundings<'_>,
    options: &InitOptions,
    ask: &dyn Fn(&str) -> Result<bool, Failure>,
) -> Result<InitReport, Failure> {
    let replaced = check_place(around, options)?;
    let word = options.base.as_deref().unwrap_or(DEFAULT_BASE);
    let resolved = base::resolve(around, word).map_err(|failure| match failure.subject.as_str() {
        "base_model" => failure.under("init"),
        _ => failure,
    })?;
    check_modality(&resolved.record)?;
    let licence = accept(around, options, &resolved.record, ask)?;
    run_probes(around, options, &resolved)?;

    let mut random = [0; ID_RANDOM_BYTES];
    (around.random)(&mut random);
    let dlm_id = Ulid::mint(around.clock.unix_ms(), random);
    let text = dlm_doc::starter_document(&dlm_id, word).map_err(|e| Failure::of("init", &e))?;
    let path = absolute(&options.path)?;
    let now = Stamp::from_unix_ms(around.clock.unix_ms() as i64);
    let store = Store::new(&around.home, &dlm_id);
    let manifest = Manifest {
        base_model_revision: Some(resolved.record.revision.clone()),
        source_path: Some(path.display().to_string()),
        license_acceptance: licence.clone(),
        ..Manifest::new(dlm_id.as_str(), word, now)
    };
    let made = provision(around, options, &store, &manifest, now).and_then(|()| {
        Disk::new()
            .write(&path, text.as_bytes())
            .map_err(|e| Failure::from(e).under("init"))
    });
    if let Err(failure) = made {
        // The id is a moment old, so nobody else's work can be in there.
        let _ = std::fs::remove_dir_all(store.paths().root());
        return Err(failure);
    }
    Ok(InitReport {
        path: options.path.clone(),
        dlm_id,
        base: word.to_owned(),
        base_revision: resolved.record.revision.clone(),
        store: store.paths().root().to_path_buf(),
        licence,
        replaced,
        warnings: fit_warning(around, &resolved).into_iter().collect(),
        notes: resolved.notes,
    })
}

/// Refuses a place that is taken or cannot be; describes what `--force` will replace.
fn check_place(around: &Surroundings<'_>, options: &InitOptions) -> Result<Option<Replaced>, Failure> {
    let path = &options.path;
    let shown = path.display();
    if path.is_dir() {
        return Err(Failure::new(
            "init",
            format!("{shown} is a folder, expected a file to write"),
        ));
    }
    let folder = absolute(path)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return Err(
            Failure::new("init", format!("the folder {} does not exist", folder.display()))
                .hint(format!("make it first: `mkdir -p {}`", folder.display())),
        );
    }
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    if !options.overwrites {
        return Err(Failure::new("init", format!("{shown} exists already"))
            .hint("choose another name, or pass `--force` to replace it by a new document with a new id"));
    }
    let old = crate::document::load(path)
        .ok()
        .map(|old| old.parsed.frontmatter().dlm_id.clone());
    let store = old
        .as_ref()
        .map(|id| around.home.store_root(id))
        .filter(|root| root.is_dir());
    Ok(Some(Replaced { dlm_id: old, store }))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new("init", format!("{}: {e}", path.display())))
}

/// Only text is trained yet; a base that takes more would be scaffolded with media.
fn check_modality(record: &BaseRecord) -> Result<(), Failure> {
    if record.modality.is_text() {
        return Ok(());
    }
    let what = format!(
        "`{}` is a {} base, which this version cannot train yet",
        record.key,
        record.modality.name()
    );
    Err(Failure::misuse("init", what).hint("choose a text base: `dlm base list`"))
}

fn accept(
    around: &Surroundings<'_>,
    options: &InitOptions,
    record: &BaseRecord,
    ask: &dyn Fn(&str) -> Result<bool, Failure>,
) -> Result<Option<LicenseAcceptance>, Failure> {
    let input = LicenceInput {
        moment: LicenceMoment::Init,
        stored: None,
        is_flag_given: options.accepts_licence,
        has_terminal: around.has_terminal,
        hub_root: &options.hub_root,
    };
    let (url, spdx, via) = match decide(record, &input)? {
        LicenceDecision::NotNeeded | LicenceDecision::AlreadyAccepted => return Ok(None),
        LicenceDecision::Record { url, spdx, via } => (url, spdx, via),
        LicenceDecision::Ask { url, spdx } => {
            if !ask(&question(&record.key, &spdx, &url))? {
                let what = format!("the licence of `{}` was not accepted; nothing was written", record.key);
                return Err(Failure::new("license", what).hint("choose a base without a gate: `dlm base list`"));
            }
            (url, spdx, AcceptedVia::Interactive)
        }
    };
    Ok(Some(LicenseAcceptance {
        accepted_at: Stamp::from_unix_ms(around.clock.unix_ms() as i64).naive(),
        license_url: url,
        license_spdx: spdx,
        via,
    }))
}

/// Probes a base from outside the registry, getting it first where it must come from the hub.
fn run_probes(around: &Surroundings<'_>, options: &InitOptions, resolved: &ResolvedBase) -> Result<(), Failure> {
    if !base::is_probed(resolved) {
        return Ok(());
    }
    if matches!(resolved.location, BaseLocation::Hub { .. }) {
        around.progress.event(Event::Note(format!(
            "{} is not in the registry: getting it to probe it",
            resolved.record.key
        )));
    }
    let opened = open_base(&base::locate(around, resolved, true)?)?;
    base::check_probes(resolved, &opened, options.export_probes).map_err(|e| e.under("init"))
}

fn provision(
    around: &Surroundings<'_>,
    options: &InitOptions,
    store: &Store,
    manifest: &Manifest,
    now: Stamp,
) -> Result<(), Failure> {
    let wait = LockWait {
        timeout: LOCK_WAIT,
        cancel: around.cancel.clone(),
        now,
    };
    let guard = store.lock(&wait)?;
    if options.export_probes == ExportProbes::Skip {
        let choices = Choices {
            skip_export_probes: true,
        };
        let text = serde_json::to_string_pretty(&choices).expect("choices are plain data") + "\n";
        guard
            .disk()
            .write(&store.paths().root().join(CHOICES), text.as_bytes())?;
    }
    guard.initialize(manifest)?;
    guard.release()?;
    Ok(())
}

/// Says that this machine cannot train the base, and which is the largest that it can.
fn fit_warning(around: &Surroundings<'_>, resolved: &ResolvedBase) -> Option<String> {
    let key = &resolved.record.key;
    let options = TrainOptions {
        is_forced: around.is_forced,
        ..TrainOptions::default()
    };
    if resolved.record.trust_remote_code {
        return Some(BaseError::RemoteCode { key: key.clone() }.to_string());
    }
    let facts = BaseFacts::new(resolved).ok()?;
    let refusal = plan_typical(&facts, &around.hardware, &options).err()?;
    let fits = fit_bases(&around.hardware, &options);
    let largest = fits.iter().filter(|base| base.fits()).max_by_key(|base| base.params);
    let advice = match largest {
        Some(base) => format!("; the largest base that it can train is `{}`", base.key),
        None => String::new(),
    };
    Some(format!("this machine cannot train `{key}`: {refusal}{advice}"))
}
