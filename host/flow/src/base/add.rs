//! `dlm base add`: copies a model's files into the home directory and proves that they can be used.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dlm_core::base::{LocalBase, LocalBaseFormat};
use dlm_core::units::size;
use dlm_core::{Cancel, Event, Progress, Subject};
use dlm_files::sha256_file_until;
use dlm_model::base::{BaseForm, OpenedFacts, fingerprint, form_of, is_classifier, open_base, refuse_pointers};
use dlm_model::chat::{ChatError, Ending, Message, Thinking};
use dlm_model::open_ranker;
use dlm_model::safetensors_dir::{INDEX_FILE, SINGLE_FILE, weight_files};
use dlm_model::text::TextError;
use dlm_model::tokenizer::TEMPLATE_FILE;
use dlm_store::sums::{self, SUMS_FILE};
use dlm_store::{BaseStore, PendingBase};

use super::wheel::Wheel;
use super::{RECORD, read_record};
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// Files of a model directory that are taken beside weights and tokenizer; nothing that runs code is.
const SETTINGS: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    TEMPLATE_FILE,
    INDEX_FILE,
];
/// Most files that a model directory may bring: the largest published models have some 200 shards.
const FILES_MAX: usize = 2048;
/// Bytes that are copied between two looks at the cancellation.
const COPY_BYTES: usize = 1 << 20;

/// Makes a local base from a directory of safetensors, a GGUF file, or a wheel that holds a GGUF file.
///
/// **Errors:** the name is taken or unfit, the source is no model that can be opened, or there is no room; nothing of
/// it stays then.
pub fn add(around: &Surroundings, name: &str, from: &Path) -> Result<LocalBase, Failure> {
    let store = BaseStore::new(&around.home, around.disk.clone());
    store.free_place(name)?;
    if !from.exists() {
        return Err(Failure::new(
            Subject::Base,
            format!("{} does not exist", from.display()),
        ));
    }
    // The whole source is judged before anything is made.
    refuse_pointers(from).map_err(of_base)?;
    let source = Source::of(from)?;
    if !matches!(source, Source::Wheel(_)) {
        // Where it lies, so that nothing is copied that is refused; a wheel must be unpacked first.
        judge(around, from).map_err(|failure| refused(from, from, failure))?;
    }
    let pending = store.begin(name, &around.cancel, || {
        around.note(format!("waiting for another process that adds `{name}`"));
    })?;
    check_space(&source, pending.directory())?;
    let inside = source.copy(&pending, around)?;
    let opened_path = pending.directory().join(&inside);
    // What was judged may have changed since, and a copy may be damaged; what was tried before is not tried again.
    let facts = judge(around, &opened_path).map_err(|failure| refused(from, pending.directory(), failure))?;
    let mut sums = String::new();
    let sha256 = fingerprint(&opened_path, &mut |file| {
        let digest = sha256_file_until(file, &around.cancel)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        sums.push_str(&sums::line(&name, &digest));
        Ok(digest)
    });
    if around.cancel.is_cancelled() {
        return Err(Failure::interrupted("nothing was added"));
    }
    let sha256 = sha256?;
    for note in &facts.notes {
        around.warn(format!("{}: {note}", from.display()));
    }
    let record = LocalBase {
        name: name.to_owned(),
        format: source.format(),
        location: inside,
        added_from: absolute(from),
        sha256,
        bytes: facts.bytes,
        storage: facts.storage,
        architecture: facts.architecture,
        params: facts.params,
        template: facts.template,
        context_length: facts.context_length,
        shape: facts.shape,
        tokenizer_pre: facts.tokenizer_pre,
        gguf_arch: facts.gguf_arch,
        license_spdx: facts.license_spdx,
    };
    pending.write_with(SUMS_FILE, sums.len() as u64, |file| file.write_all(sums.as_bytes()))?;
    let text = serde_json::to_string_pretty(&record).expect("a record is plain data") + "\n";
    pending.write_with(RECORD, text.len() as u64, |file| file.write_all(text.as_bytes()))?;
    pending.commit()?;
    read_record(&store, name)
}

/// Tries and opens a base or a reward model without its weights, and returns its facts.
fn judge(around: &Surroundings, path: &Path) -> Result<OpenedFacts, Failure> {
    super::trial::vet(around, path)?;
    if is_classifier(path)? {
        return Ok(open_ranker(path)?.facts());
    }
    let opened = open_base(path)?;
    opened.check()?;
    // A template that cannot render one question would fail at the first use.
    let question = [Message::user("Who keeps the lamp?")];
    let rendered = opened
        .text()
        .conversation_ids(&question, Ending::GenerationPrompt, Thinking::default());
    match rendered {
        Err(TextError::Chat(ChatError::TurnChanged { .. })) => Err(Failure::new(
            Subject::BaseModel,
            "the chat template of this base drops or changes the text of a plain question",
        )
        .hint("put a template that takes text into the model's directory as `chat_template.jinja`, or choose another base")),
        rendered => {
            rendered?;
            Ok(opened.facts())
        }
    }
}

/// Refuses a model that the disk has no room for.
fn check_space(source: &Source, directory: &Path) -> Result<(), Failure> {
    let (needed, free) = (source.bytes()?, dlm_files::free_bytes(directory));
    match free {
        Some(free) if needed > free => Err(Failure::new(
            Subject::Disk,
            format!(
                "{} needs {} and its disk has {} free",
                directory.parent().unwrap_or(directory).display(),
                size(needed),
                size(free)
            ),
        )
        .hint("free some space, or keep the bases elsewhere: `DLM_HOME=<dir>`")),
        _ => Ok(()),
    }
}

/// Says whose fault it is: the copy is about to vanish, so the message must name what the user gave.
fn refused(from: &Path, copy: &Path, failure: Failure) -> Failure {
    let copied = copy.join(from.file_name().unwrap_or_default()).display().to_string();
    let named = from.display().to_string();
    let renamed = |message: &str| {
        message
            .replace(&copied, &named)
            .replace(&copy.display().to_string(), &named)
    };
    failure
        .reworded(|message| format!("{named} cannot be used as a base: {}", renamed(message)))
        .under(Subject::Base)
}

/// A failure to read what was given to `--from`.
fn of_base(error: impl Into<Failure>) -> Failure {
    error.into().under(Subject::Base)
}

fn absolute(path: &Path) -> String {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    full.display().to_string()
}

/// What `--from` turned out to be.
enum Source {
    Directory { files: Vec<PathBuf> },
    Gguf { file: PathBuf, name: String },
    Wheel(Wheel),
}

impl Source {
    fn of(from: &Path) -> Result<Source, Failure> {
        if from.is_dir() {
            return Ok(Source::Directory {
                files: model_files(from)?,
            });
        }
        let is_wheel = from.extension().is_some_and(|e| e.eq_ignore_ascii_case("whl"));
        match form_of(from).map_err(of_base)? {
            BaseForm::Gguf => Ok(Source::Gguf {
                file: from.to_owned(),
                name: plain_name(from)?,
            }),
            _ if is_wheel => Ok(Source::Wheel(Wheel::open(from)?)),
            _ => Err(Failure::new(
                Subject::Base,
                format!(
                    "{} is neither a directory of safetensors nor a GGUF file or a wheel",
                    from.display()
                ),
            )),
        }
    }

    fn format(&self) -> LocalBaseFormat {
        match self {
            Source::Directory { .. } => LocalBaseFormat::Safetensors,
            Source::Gguf { .. } | Source::Wheel(_) => LocalBaseFormat::Gguf,
        }
    }

    /// Bytes that a copy takes.
    fn bytes(&self) -> Result<u64, Failure> {
        match self {
            Source::Directory { files } => files
                .iter()
                .try_fold(0u64, |sum, file| Ok(sum + dlm_files::file_size(file)?)),
            Source::Gguf { file, .. } => Ok(dlm_files::file_size(file)?),
            Source::Wheel(wheel) => wheel.model_bytes(),
        }
    }

    /// Copies the model; returns what is to be opened, relative to the base's directory.
    fn copy(&self, pending: &PendingBase, around: &Surroundings) -> Result<String, Failure> {
        match self {
            Source::Directory { files } => {
                for file in files {
                    copy_file(file, &plain_name(file)?, pending, around)?;
                }
                Ok(String::new())
            }
            Source::Gguf { file, name } => {
                copy_file(file, name, pending, around)?;
                // Read only where the file itself has no template.
                let template = file.with_file_name(TEMPLATE_FILE);
                if template.is_file() {
                    copy_file(&template, TEMPLATE_FILE, pending, around)?;
                }
                Ok(name.clone())
            }
            Source::Wheel(wheel) => {
                wheel.with_model(|from, name, size, reader| copy_stream(reader, size, from, name, pending, around))?;
                Ok(wheel.model_name().to_owned())
            }
        }
    }
}

fn plain_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Failure::new(
            Subject::Base,
            format!("{} has no name that can be kept", path.display()),
        )
    })
}

/// The files of a model directory: settings, tokenizer, template and safetensors.
fn model_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: io::Error| Failure::new(Subject::Base, format!("{} cannot be read: {e}", directory.display()));
    let weights = weight_files(directory).map_err(of_base)?;
    // An index that is not read would be stale in the copy, too.
    let is_whole = weights.iter().any(|name| name == SINGLE_FILE);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let is_wanted = SETTINGS.contains(&name.as_str()) || name.starts_with("tokenizer") || weights.contains(&name);
        if is_wanted && path.is_file() && !(is_whole && name == INDEX_FILE) {
            files.push(path);
        }
    }
    if files.len() > FILES_MAX {
        let what = format!(
            "{} has {} model files, at most {FILES_MAX} are taken",
            directory.display(),
            files.len()
        );
        return Err(Failure::new(Subject::Base, what));
    }
    files.sort();
    Ok(files)
}

fn copy_file(from: &Path, name: &str, pending: &PendingBase, around: &Surroundings) -> Result<(), Failure> {
    let unreadable = |e: io::Error| Failure::new(Subject::Base, format!("{} cannot be read: {e}", from.display()));
    let mut file = dlm_files::open_ordinary(from).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    copy_stream(&mut file, size, from, name, pending, around)
}

fn copy_stream(
    reader: &mut dyn Read,
    size: u64,
    from: &Path,
    name: &str,
    pending: &PendingBase,
    around: &Surroundings,
) -> Result<(), Failure> {
    let mut copy = Copy {
        reader,
        size,
        phase: format!("copying {name}"),
        flaw: None,
    };
    around.progress.event(Event::PhaseStarted {
        phase: copy.phase.clone(),
        total: Some(size),
        unit: "bytes",
    });
    let copied = pending.write_with(name, size, |file| copy.run(file, &*around.progress, &around.cancel));
    around.progress.event(Event::PhaseEnded {
        phase: copy.phase.clone(),
    });
    if around.cancel.is_cancelled() {
        return Err(Failure::interrupted("nothing was added"));
    }
    match copy.flaw {
        Some(flaw) => Err(Failure::new(
            Subject::Base,
            format!("{} cannot be read: {flaw}", from.display()),
        )),
        None => Ok(copied?),
    }
}

/// One file on its way.
struct Copy<'r> {
    reader: &'r mut dyn Read,
    /// What the source announced.
    size: u64,
    phase: String,
    /// What is wrong with the source, as opposed to the place it is copied to.
    flaw: Option<String>,
}

impl Copy<'_> {
    /// Copies until the end, at most `size` bytes: a source that gives more than it announced is not trusted.
    fn run(&mut self, to: &mut File, progress: &dyn Progress, cancel: &Cancel) -> io::Result<()> {
        let mut chunk = vec![0; COPY_BYTES];
        let mut done = 0u64;
        loop {
            if cancel.is_cancelled() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let read = match self.reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.blame(error.to_string())),
            };
            done += read as u64;
            if done > self.size {
                return Err(self.blame(format!("it has more than the {} bytes it announces", self.size)));
            }
            to.write_all(&chunk[..read])?;
            progress.event(Event::PhaseAdvanced {
                phase: self.phase.clone(),
                done,
            });
        }
        if done < self.size {
            return Err(self.blame(format!("it ends after {done} of {} bytes", self.size)));
        }
        Ok(())
    }

    fn blame(&mut self, flaw: String) -> io::Error {
        self.flaw = Some(flaw.clone());
        io::Error::other(flaw)
    }
}
