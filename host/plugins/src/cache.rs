//! Compiled code on disk, so that a plugin is compiled once per machine and version of dlm.
//!
//! Invariants: code is loaded only from the cache's own directory, from a plain file that this user owns and nobody else can
//! write, and whose bytes have the hash that was recorded when it was written; anything else is compiled again. A file is
//! never changed in place. A compiler never runs in this process where another one is named, and one process compiles a
//! component at a time; the others wait and load what it made. The directory's name covers everything that the code depends
//! on: wasmtime, its settings, the processor.

mod kept;
mod outcome;

use std::borrow::Cow;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dlm_core::digest::Sha256;
use dlm_core::inert::{cut, inert};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::process::{Command, Process};
use dlm_core::{Cancel, Network, Wall};
use dlm_files::digest::sha256_of;
use dlm_files::{Access, Disk, DiskError, FileStamp, LockFile, mark_used, open_own, own_directory};
use dlm_packages::error::PackageError;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::{LoadError, OutputError, PluginError};
use crate::ports::Metering;

pub use kept::{CodeCache, KeptCode, RemovedCode};
pub use outcome::CompilerFailure;

/// Most processor time of the compiler, all its threads together. Its clock is no measure: a busy or slow machine compiles the
/// same file in any time.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a compiler may take by the clock before it is taken for stuck, such as on a disk that does not answer.
const COMPILE_CLOCK_MAX: Duration = Duration::from_secs(60 * 60);
/// Most memory of the compiler, in bytes.
pub(crate) const COMPILE_MEMORY_MAX: u64 = 4 << 30;
/// The compiler's message, cut to this.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Ends the names of code, of the record beside it, and of the lock that who makes them holds.
const CODE: &str = "cwasm";
const RECORD: &str = "json";
const LOCK: &str = "lock";

/// How components become code.
#[derive(Clone, Debug, Default)]
pub enum Compile {
    /// In this process, kept nowhere.
    #[default]
    InMemory,
    /// By such a process, kept nowhere.
    Apart { program: PathBuf },
    /// By a process of its own (`<program> __compile <component> <code>`), kept in `directory`.
    Cached { directory: PathBuf, program: PathBuf },
}

/// The record beside a piece of code.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Record {
    sha256: String,
    /// Which file it was when its hash was last checked.
    stamp: FileStamp,
    /// What the plugin called itself when it was compiled; for people.
    #[serde(default)]
    plugin: String,
}

/// Gives the compiled component, from the cache where it is there and sound, and else the time to compile it.
///
/// **Errors**: not a component, or the compiler passed a limit.
pub(crate) fn component(
    engine: &Engine,
    compile: &Compile,
    process: &dyn Process,
    cancel: &Cancel,
    plugin: &Plugin<'_>,
) -> Result<(Component, Option<Duration>), PluginError> {
    let started = Instant::now();
    let timed = |component| Ok((component, Some(started.elapsed())));
    let (program, kept) = match compile {
        Compile::InMemory => return in_memory(engine, plugin).and_then(timed),
        Compile::Apart { program } => (program, None),
        Compile::Cached { directory, program } => (program, own_directory(&directory.join(engine_key(engine)))),
    };
    // A directory that others can write to is no place for code; the plugin still runs, and is compiled anew each time.
    let passing;
    let directory = match kept {
        Some(directory) => directory,
        None => {
            passing = passing_directory(plugin.name)?;
            passing.path().to_owned()
        }
    };
    let code = directory.join(format!("{}.{CODE}", plugin.sha256));
    // A process that was killed while it renewed a record has left it half.
    let _left = Disk::new().sweep_beside(&record_path(&code));
    if let Some(component) = load(engine, &code) {
        return Ok((component, None));
    }
    let held = LockFile::take(&Disk::new(), &lock_path(&code), cancel, || ());
    let held = held.map_err(|error| OutputError::files("lock", &code)(error.into_io()))?;
    let _held = held.ok_or(PackageError::Cancelled)?;
    // Somebody else may have made it meanwhile.
    if let Some(component) = load(engine, &code) {
        return Ok((component, None));
    }
    // What lies there is replaced in one step and never removed: other processes may be loading it.
    timed(make(engine, program, process, cancel, plugin, &code)?)
}

/// The lock of a piece of code, by any of its files.
fn lock_path(code: &Path) -> PathBuf {
    code.with_extension(LOCK)
}

/// A directory of this user alone; the code that was mapped from it outlives it.
fn passing_directory(plugin: &str) -> Result<TempDir, PluginError> {
    let made = tempfile::Builder::new().prefix("dlm-code-").tempdir();
    made.map_err(|error| unready(plugin, &format!("no private directory: {error}")))
}

/// A component that is compiled before its first use.
pub struct Ahead<'a> {
    pub compile: &'a Compile,
    /// What its uses will measure: code that counts is other code.
    pub metering: Metering,
    pub name: &'a str,
    pub component: &'a [u8],
}

/// Compiles a component into the cache where its code is not there yet, so that its first use does not wait.
///
/// **Returns** the time it took; none where there was nothing to do.
///
/// **Errors**: as of the first use.
pub fn compile_ahead(
    ahead: &Ahead<'_>,
    process: &dyn Process,
    cancel: &Cancel,
) -> Result<Option<Duration>, PluginFailure> {
    // Where nothing is kept there is nothing to do ahead.
    if !matches!(ahead.compile, Compile::Cached { .. }) {
        return Ok(None);
    }
    let sha256 = dlm_core::digest::sha256_hex(ahead.component);
    let plugin = Plugin {
        name: ahead.name,
        sha256: &sha256,
        is_counting: ahead.metering.counts_instructions(),
        read: &|| Ok(Cow::Borrowed(ahead.component)),
    };
    let engine = crate::engine::engine(ahead.metering).map_err(PluginError::from)?;
    let (_, time) = component(&engine, ahead.compile, process, cancel, &plugin)?;
    Ok(time)
}

/// Reads the bytes of a component.
pub(crate) type Bytes<'a> = &'a dyn Fn() -> Result<Cow<'a, [u8]>, PluginError>;

/// A component to compile.
pub(crate) struct Plugin<'a> {
    pub name: &'a str,
    /// Lower-case hex.
    pub sha256: &'a str,
    /// Its code counts instructions, as that of `engine` does.
    pub is_counting: bool,
    /// Reads its bytes; not called when code is at hand.
    pub read: Bytes<'a>,
}

fn malformed(name: &str, cause: &str) -> PluginError {
    let malformed = LoadError::Malformed {
        plugin: name.to_owned(),
        cause: inert(&cut(cause.trim(), MESSAGE_BYTES_MAX)),
    };
    malformed.into()
}

/// What around a plugin keeps it from being compiled; it says nothing about the plugin.
fn unready(name: &str, cause: &str) -> PluginError {
    let unready = LoadError::Unready {
        what: format!("plugin `{name}`"),
        cause: format!("compiling it: {}", inert(&cut(cause.trim(), MESSAGE_BYTES_MAX))),
    };
    unready.into()
}

fn in_memory(engine: &Engine, plugin: &Plugin<'_>) -> Result<Component, PluginError> {
    let bytes = readable(plugin)?;
    Component::from_binary(engine, &bytes).map_err(|error| malformed(plugin.name, &format!("{error:#}")))
}

/// The bytes of a component that is not made to be large.
fn readable<'a>(plugin: &Plugin<'a>) -> Result<Cow<'a, [u8]>, PluginError> {
    let bytes = (plugin.read)()?;
    match dlm_packages::instances::is_too_many(&bytes) {
        false => Ok(bytes),
        true => Err(malformed(plugin.name, dlm_packages::instances::TOO_MANY)),
    }
}

/// Sixteen hex digits over everything that compiled code depends on.
fn engine_key(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    std::env::consts::ARCH.hash(&mut hasher);
    std::env::consts::OS.hash(&mut hasher);
    hasher.0.finish_hex().chars().take(16).collect()
}

/// Feeds a hash into SHA-256, so that the key is the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn stamp(file: &fs::File) -> Option<FileStamp> {
    FileStamp::of(&file.metadata().ok()?)
}

/// Loads code whose bytes are the recorded ones.
fn load(engine: &Engine, code: &Path) -> Option<Component> {
    let file = open_own(code)?;
    let record_path = record_path(code);
    let record_file = open_own(&record_path)?;
    let written = stamp(&record_file)?;
    let mut text = String::new();
    (&record_file).take(4096).read_to_string(&mut text).ok()?;
    let record: Record = serde_json::from_str(&text).ok()?;
    let now = stamp(&file)?;
    if record.stamp != now || !now.is_settled(written) {
        // Just made, copied, or restored from a backup: the bytes decide.
        if hash_of(&file)? != record.sha256 {
            return None;
        }
        let record = Record { stamp: now, ..record };
        write_record(&record_path, &record).ok()?;
    } else {
        // Only a record that already vouches for its file may look younger than it is.
        mark_used(&record_file);
    }
    mapped(engine, code, &file)
}

/// Maps code whose bytes were checked through `file`.
fn mapped(engine: &Engine, code: &Path, file: &fs::File) -> Option<Component> {
    // The open file and the path must still be one file, since the code is mapped by path.
    let again = stamp(&open_own(code)?)?;
    if again != stamp(file)? {
        return None;
    }
    // SAFETY: the file lies in a directory of this user that nobody else can write to, is a plain file of this user, and its
    // bytes are the ones that our own compiler wrote (hash, or unchanged device, inode, size and time since the hash was
    // checked). wasmtime itself refuses code of another version or other settings.
    let loaded = unsafe { Component::deserialize_file(engine, code) };
    loaded.ok()
}

fn hash_of(file: &fs::File) -> Option<String> {
    sha256_of(file).ok().map(|(sha256, _)| sha256)
}

fn record_path(code: &Path) -> PathBuf {
    code.with_extension(RECORD)
}

/// Removes a file that may stay where it cannot be removed: it is overwritten, or not trusted.
fn remove(path: &Path) {
    let _gone = Disk::new().remove_file(path);
}

/// Writes a file of this user alone under a name that only the holder of the code's lock uses.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    remove(path);
    match Disk::new().create(path, bytes, Access::OwnReadOnly) {
        Ok(true) => Ok(()),
        Ok(false) => Err(std::io::ErrorKind::AlreadyExists.into()),
        Err(error) => Err(error.into_io()),
    }
}

fn write_record(path: &Path, record: &Record) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(record).expect("a record is plain data");
    Disk::new().private().write(path, &bytes).map_err(DiskError::into_io)
}

/// Runs the compiler in a process of its own, loads what it made, and leaves it in the cache with its record.
///
/// The code is loaded under the name that the holder of its lock alone uses: under the other one, another process may replace
/// it meanwhile.
fn make(
    engine: &Engine,
    program: &Path,
    process: &dyn Process,
    cancel: &Cancel,
    plugin: &Plugin<'_>,
    code: &Path,
) -> Result<Component, PluginError> {
    let files = OutputError::files("write", code);
    let (input, made) = (code.with_extension("wasm.tmp"), code.with_extension("cwasm.tmp"));
    remove(&made);
    write_new(&input, &readable(plugin)?).map_err(&files)?;
    let directory = code.parent().unwrap_or(Path::new("/"));
    let command = Command {
        program: program.to_owned(),
        arguments: [
            "__compile".to_owned(),
            input.to_string_lossy().into_owned(),
            made.to_string_lossy().into_owned(),
        ]
        .into_iter()
        .chain(plugin.is_counting.then(|| COUNTING.to_owned()))
        .collect(),
        env: Vec::new(),
        directory: Some(directory.to_owned()),
        is_inheriting: false,
        stdin: Vec::new(),
        // It raises its own.
        wall: None,
    };
    let ran = process.run(&command, COMPILE_CLOCK_MAX, cancel);
    remove(&input);
    if let Err(error) = outcome::judge(plugin.name, ran) {
        remove(&made);
        return Err(error);
    }
    let opened = || open_own(&made).and_then(|file| Some((hash_of(&file)?, file)));
    let (sha256, file) = opened().ok_or_else(|| unready(plugin.name, "the compiler left no code behind"))?;
    let component = mapped(engine, &made, &file);
    let component = component.ok_or_else(|| unready(plugin.name, "its code cannot be loaded"))?;
    let placed = Disk::new().rename(&made, code);
    placed.map_err(|error| files(error.into_io()))?;
    // A rename changes the time that the system keeps, so that the stamp is taken after it. Code without a record is
    // compiled again.
    let stamp = stamp(&file).ok_or_else(|| unready(plugin.name, "its code cannot be looked at"))?;
    let record = Record {
        sha256,
        stamp,
        plugin: plugin.name.to_owned(),
    };
    write_record(&record_path(code), &record).map_err(&files)?;
    Ok(component)
}

/// The word that asks the compiler process for code that counts its instructions.
pub const COUNTING: &str = "counting";

/// The compiler process: reads a component, writes its code. Limits its own memory and processor time first.
///
/// **Errors**: in words, for the parent to pass on with [`CompilerFailure::status`].
pub fn compile_file(component: &Path, code: &Path, metering: Metering) -> Result<(), CompilerFailure> {
    let unable = |what: &str, error: &dyn std::fmt::Display| CompilerFailure::Unable(format!("{what}: {error}"));
    // Made under the limits of the user, as that of the process which will run the code.
    let engine = crate::engine::compiling_engine(metering).map_err(|error| unable("the compiler", &error))?;
    dlm_files::limit_memory(COMPILE_MEMORY_MAX)
        .and_then(|()| dlm_files::limit_time(COMPILE_TIME_MAX))
        .and_then(|()| dlm_files::limit_core())
        .map_err(|error| unable("limiting the compiler", &error))?;
    let folders = code.parent().map(Path::to_owned).into_iter().collect();
    let network = Network::None;
    dlm_files::wall::raise(&Wall { folders, network })
        .map_err(|error| unable("keeping the compiler from files and sockets", &error))?;
    let bytes = fs::read(component).map_err(|error| unable(&component.display().to_string(), &error))?;
    let compiled = engine
        .precompile_component(&bytes)
        .map_err(|error| CompilerFailure::Refused(format!("{error:#}")))?;
    write_new(code, &compiled).map_err(|error| unable(&code.display().to_string(), &error))
}

/// The keys of the code that this dlm makes on this machine: the names of its directories in the cache.
///
/// **Errors**: the engine does not start.
pub fn current_keys() -> Result<Vec<String>, PluginFailure> {
    let key = |metering| {
        let engine = crate::engine::engine(metering).map_err(PluginError::from)?;
        Ok(engine_key(&engine))
    };
    [Metering::Time, Metering::Counted].into_iter().map(key).collect()
}
