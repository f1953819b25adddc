//! `dlm init`: a new document on a base that may be used, and the store that goes with it.
//!
//! Invariants: nothing is written before every check has passed; the document comes last, so that one that exists has a
//! store and its files; what fails half-way is taken back; a document that is replaced gets a new id and its old store
//! stays; a template's files replace no file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dlm_core::base::{AcceptedVia, BaseRecord, LicenseAcceptance};
use dlm_core::manifest::Manifest;
use dlm_core::shell::quoted_path;
use dlm_core::stamp::Stamp;
use dlm_core::units::{duration, size};
use dlm_core::{Subject, Ulid};
use dlm_model::base::open_base;
use dlm_plan::base::license::{LicenseDecision, LicenseMoment, decide, question};
use dlm_plan::base::registry::DEFAULT_BASE;
use dlm_plan::base::{BaseFacts, BaseLocation, ResolvedBase};
use dlm_plan::train::TrainPlan;
use dlm_plan::train::fit::fit_bases;
use dlm_plan::train::recipe::{QUICK_BASE, SECONDS_LONG};
use dlm_plan::{BaseError, TrainOptions};
use dlm_store::{Disk, LockWait, Store};
use serde::{Deserialize, Serialize};

use crate::base::{self, ExportProbes};
use crate::failure::Failure;
use crate::speed;
use crate::surroundings::Surroundings;
use crate::templates::CheckedTemplate;

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
    pub accepts_license: bool,
    /// `--force`.
    pub overwrites: bool,
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
    pub license: Option<LicenseAcceptance>,
    pub replaced: Option<ReplacedDocument>,
    /// The template that it was made from.
    pub template: Option<UsedTemplate>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What will likely go wrong later.
    pub warnings: Vec<String>,
    /// The base to choose instead where this machine cannot train the document's.
    pub better_base: Option<String>,
}

/// The template that a document was made from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsedTemplate {
    pub source: String,
    pub name: String,
    pub title: String,
    pub revision: String,
    pub license: Option<String>,
    /// Files that were put beside the document.
    pub files: Vec<PathBuf>,
}

/// The document that was overwritten.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplacedDocument {
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
    let Some(bytes) = dlm_files::read(&path, CHOICES_BYTES_MAX)? else {
        return Ok(false);
    };
    let choices: Choices = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::new(Subject::Store, format!("{} is damaged: {e}", path.display())).hint("delete the file")
    })?;
    Ok(choices.skip_export_probes)
}

/// Makes a document and its store, from a template or with the starter text; `ask` puts a question to the person at the
/// terminal.
///
/// **Errors:** the file exists, the base is unknown or cannot be used, its license is not accepted, the disk.
pub fn init(
    around: &Surroundings,
    options: &InitOptions,
    template: Option<&CheckedTemplate>,
    ask: &dyn Fn(&str) -> Result<bool, Failure>,
) -> Result<InitReport, Failure> {
    let replaced = check_place(around, options)?;
    let path = absolute(&options.path)?;
    let files = template.map_or(Ok(Vec::new()), |template| places(&path, template))?;
    let word = match (&options.base, template) {
        (Some(base), _) => base.as_str(),
        (None, Some(template)) => template.base.as_str(),
        (None, None) => DEFAULT_BASE,
    };
    let resolved = base::resolve(around, word).map_err(|failure| match failure.subject {
        Subject::BaseModel => failure.under(Subject::Init),
        _ => failure,
    })?;
    check_modality(&resolved.record)?;
    let license = accept(around, options, &resolved.record, ask)?;
    run_probes(around, options, &resolved)?;

    let mut random = [0; ID_RANDOM_BYTES];
    (around.random)(&mut random);
    let dlm_id = Ulid::mint(around.clock.unix_ms(), random);
    let text = text(template, &dlm_id, word)?;
    let now = around.now();
    Store::sweep_unborn(&around.home, &around.disk)?;
    let store = around.store(&dlm_id);
    let manifest = Manifest {
        base_model_revision: Some(resolved.record.revision.clone()),
        source_path: Some(path.display().to_string()),
        license_acceptance: license.clone(),
        ..Manifest::new(dlm_id.as_str(), word, now)
    };
    let mut made = TemplateFiles::default();
    let done = provision(around, options, &store, &manifest, now)
        .and_then(|()| made.write_files(&files))
        .and_then(|()| {
            let written = around.disk.write(&path, text.as_bytes());
            // What an `init` that was killed here left half.
            let _left = around.disk.sweep_beside(&path);
            written.map_err(|e| Failure::from(e).under(Subject::Init))
        });
    if let Err(failure) = done {
        // The id is a moment old, so nobody else's work can be in there.
        let _ = around.disk.remove_tree(store.paths().root());
        made.take_back();
        return Err(failure);
    }
    let misfit = misfit(around, &resolved);
    Ok(InitReport {
        path: options.path.clone(),
        dlm_id,
        base: word.to_owned(),
        base_revision: resolved.record.revision.clone(),
        store: store.paths().root().to_path_buf(),
        license,
        replaced,
        template: template.map(|template| UsedTemplate::new(template, &files)),
        warnings: warnings(misfit.as_ref(), template),
        better_base: misfit.and_then(|misfit| misfit.largest),
        notes: notes(&resolved, template, word),
    })
}

/// The document's text: the template's, or the starter's.
fn text(template: Option<&CheckedTemplate>, dlm_id: &Ulid, word: &str) -> Result<String, Failure> {
    match template {
        Some(template) => dlm_doc::replace_id(&template.document, dlm_id)
            .and_then(|text| match word == template.base {
                true => Ok(text),
                false => dlm_doc::replace_base(&text, word),
            })
            .map_err(|e| Failure::from(e).under(Subject::Init)),
        None => dlm_doc::starter_document(dlm_id, word).map_err(|e| Failure::new(Subject::Init, e)),
    }
}

impl UsedTemplate {
    fn new(template: &CheckedTemplate, files: &[(PathBuf, &[u8])]) -> UsedTemplate {
        UsedTemplate {
            source: template.source.clone(),
            name: template.meta.name.clone(),
            title: template.meta.title.clone(),
            revision: template.meta.revision.clone(),
            license: template.meta.license.clone(),
            files: files.iter().map(|(path, _)| path.clone()).collect(),
        }
    }
}

/// What the base's resolution noted, and the base that a template was written for where another one was chosen.
fn notes(resolved: &ResolvedBase, template: Option<&CheckedTemplate>, word: &str) -> Vec<String> {
    let mut notes = resolved.notes.clone();
    if let Some(template) = template.filter(|template| template.base != word) {
        notes.push(format!(
            "template `{}` was written for the base `{}`; the document names `{word}`",
            template.meta.name, template.base
        ));
    }
    notes
}

/// A base that this machine cannot train, and a template whose listing names another base than its document.
fn warnings(misfit: Option<&Misfit>, template: Option<&CheckedTemplate>) -> Vec<String> {
    let mut warnings: Vec<String> = misfit.iter().map(|misfit| misfit.warning.clone()).collect();
    if let Some(template) = template.filter(|template| template.meta.recommended_base != template.base) {
        warnings.push(format!(
            "the template is listed for base `{}`, its document was written for `{}`",
            template.meta.recommended_base, template.base
        ));
    }
    warnings
}

/// Where the files of a template go; none may be there yet, nor may a link stand in for a directory.
fn places<'a>(document: &Path, template: &'a CheckedTemplate) -> Result<Vec<(PathBuf, &'a [u8])>, Failure> {
    let directory = document.parent().unwrap_or(Path::new("/"));
    let mut places = Vec::new();
    for (name, bytes) in &template.files {
        let path = directory.join(name);
        if path.symlink_metadata().is_ok() || path == *document {
            return Err(Failure::new(
                Subject::Init,
                format!("{} exists already; the template would replace it", path.display()),
            )
            .hint("put the document into a new directory"));
        }
        let below = path.ancestors().skip(1).take_while(|parent| *parent != directory);
        if let Some(parent) = below.filter(|p| p.symlink_metadata().is_ok_and(|m| !m.is_dir())).last() {
            return Err(Failure::new(
                Subject::Init,
                format!(
                    "{} is in the way: the template needs a directory there",
                    parent.display()
                ),
            )
            .hint("put the document into a new directory"));
        }
        places.push((path, bytes.as_slice()));
    }
    Ok(places)
}

/// What was made for a template, so that it can be taken back.
#[derive(Default)]
struct TemplateFiles {
    files: Vec<PathBuf>,
    /// Outermost first.
    directories: Vec<PathBuf>,
}

impl TemplateFiles {
    fn write_files(&mut self, files: &[(PathBuf, &[u8])]) -> Result<(), Failure> {
        let disk = Disk::new();
        for (path, bytes) in files {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let missing: Vec<&Path> = parent.ancestors().take_while(|directory| !directory.exists()).collect();
            self.directories
                .extend(missing.into_iter().rev().map(Path::to_path_buf));
            disk.create_directories(parent)
                .map_err(|e| Failure::from(e).under(Subject::Init))?;
            self.files.push(path.clone());
            disk.write(path, bytes)
                .map_err(|e| Failure::from(e).under(Subject::Init))?;
        }
        Ok(())
    }

    /// Removes what was made; a directory that somebody else uses by now stays.
    fn take_back(&self) {
        let disk = Disk::new();
        for file in &self.files {
            let _ = disk.remove_file(file);
        }
        for directory in self.directories.iter().rev() {
            let _ = disk.remove_empty_directory(directory);
        }
    }
}

/// Refuses a place that is taken or cannot be; describes what `--force` will replace.
fn check_place(around: &Surroundings, options: &InitOptions) -> Result<Option<ReplacedDocument>, Failure> {
    let path = &options.path;
    let shown = path.display();
    if path.is_dir() {
        return Err(Failure::new(
            Subject::Init,
            format!("{shown} is a directory, expected a file to write"),
        ));
    }
    let directory = absolute(path)?;
    let directory = directory.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        return Err(Failure::new(
            Subject::Init,
            format!("the directory {} does not exist", directory.display()),
        )
        .hint(format!("make it first: `mkdir -p {}`", quoted_path(directory))));
    }
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    if !options.overwrites {
        return Err(Failure::new(Subject::Init, format!("{shown} exists already"))
            .hint("choose another name, or pass `--force` to replace it with a new document with a new id"));
    }
    let old = crate::document::load(path)
        .ok()
        .map(|old| old.parsed.frontmatter().dlm_id.clone());
    let store = old
        .as_ref()
        .map(|id| around.home.store_root(id))
        .filter(|root| root.is_dir());
    Ok(Some(ReplacedDocument { dlm_id: old, store }))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(Subject::Init, format!("{}: {e}", path.display())))
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
    Err(Failure::misuse(Subject::Init, what).hint("choose a text base: `dlm base list`"))
}

fn accept(
    around: &Surroundings,
    options: &InitOptions,
    record: &BaseRecord,
    ask: &dyn Fn(&str) -> Result<bool, Failure>,
) -> Result<Option<LicenseAcceptance>, Failure> {
    let moment = LicenseMoment::Init {
        accepts_license: options.accepts_license,
        has_terminal: around.has_terminal,
    };
    let (url, spdx, via) = match decide(record, None, moment, &around.hub_root)? {
        LicenseDecision::NotNeeded | LicenseDecision::AlreadyAccepted => return Ok(None),
        LicenseDecision::Record { url, spdx, via } => (url, spdx, via),
        LicenseDecision::Ask { url, spdx } => {
            if !ask(&question(&record.key, &spdx, &url))? {
                let what = format!("the license of `{}` was not accepted; nothing was written", record.key);
                return Err(Failure::new(Subject::License, what).hint("choose a base without a gate: `dlm base list`"));
            }
            (url, spdx, AcceptedVia::Interactive)
        }
    };
    Ok(Some(LicenseAcceptance {
        accepted_at: around.now().naive(),
        license_url: url,
        license_spdx: spdx,
        via,
    }))
}

/// Probes a base from outside the registry, getting it first where it must come from the hub.
fn run_probes(around: &Surroundings, options: &InitOptions, resolved: &ResolvedBase) -> Result<(), Failure> {
    if !base::is_probed(resolved) {
        return Ok(());
    }
    if matches!(resolved.location, BaseLocation::Hub { .. }) {
        around.note(format!(
            "{} is not in the registry: getting it to probe it",
            resolved.record.key
        ));
    }
    let opened = open_base(&base::locate(around, resolved, true)?)?;
    base::check_probes(resolved, &opened, options.export_probes).map_err(|e| e.under(Subject::Init))
}

fn provision(
    around: &Surroundings,
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

/// Why this machine does not train a base.
struct Misfit {
    warning: String,
    /// Key of the largest base that it does train.
    largest: Option<String>,
}

/// Says what a training on a base costs that keeps somebody waiting, where another base would not.
fn costly(key: &str, plan: &TrainPlan) -> Option<Misfit> {
    let seconds = plan.seconds();
    (seconds > SECONDS_LONG && key != QUICK_BASE).then(|| Misfit {
        warning: format!(
            "training thirty questions on `{key}` takes about {} on this machine and {} of memory; on `{QUICK_BASE}` it takes minutes",
            duration(seconds),
            size(plan.memory.total)
        ),
        largest: Some(QUICK_BASE.to_owned()),
    })
}

/// Says that this machine cannot train the base, and which is the largest that it can.
fn misfit(around: &Surroundings, resolved: &ResolvedBase) -> Option<Misfit> {
    let key = &resolved.record.key;
    let options = TrainOptions {
        is_forced: around.is_forced,
        ..TrainOptions::default()
    };
    if resolved.record.trust_remote_code {
        return Some(Misfit {
            warning: BaseError::RemoteCode { key: key.clone() }.to_string(),
            largest: None,
        });
    }
    let facts = BaseFacts::new(resolved).ok()?;
    let refusal = match speed::typical(around, &facts, &options) {
        Ok(plan) => return costly(key, &plan),
        Err(refusal) => refusal,
    };
    let fits = fit_bases(&around.hardware, &options);
    let largest = fits.iter().filter(|base| base.fits()).max_by_key(|base| base.params);
    let largest = largest.map(|base| base.key.clone());
    let advice = match &largest {
        Some(base) => format!("; the largest base that it can train is `{base}`"),
        None => String::new(),
    };
    Some(Misfit {
        warning: format!("this machine cannot train `{key}`: {refusal}{advice}"),
        largest,
    })
}
