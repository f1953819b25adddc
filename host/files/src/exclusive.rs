//! A lock file: one writer at a time, on this machine or another.
//!
//! Invariants: the file appears under its name with its content and already locked against others, so no reader ever
//! sees it half made; a holder that died on this machine is replaced and the caller is told; any other holder is
//! respected. The advisory lock of the system proves that a holder of ours lives or died, whatever process has its number
//! by now; the number alone counts for the reference implementation, which takes no advisory lock and writes its time with
//! a fraction.

#![expect(
    clippy::disallowed_methods,
    reason = "it opens the lock file of a dead holder without changing it"
)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dlm_core::stamp::Stamp;
use dlm_core::{Cancel, FailureKind, Hints, Subject};

use crate::disk::Disk;
use crate::error::DiskError;
use crate::platform::{host_name, is_alive, is_same_file, open_ordinary};
use crate::read::read;

/// Pause between two tries while another holds the lock.
const POLL: Duration = Duration::from_millis(100);
/// How often, and after what pause, a dead holder's lock is tried again: whoever looks at it holds it for a moment.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(5);
/// Largest lock file that is read; ours has about 40 bytes.
const LOCK_BYTES_MAX: u64 = 4096;
/// How often a lock that vanishes or changes hands during the look at it is looked at again without a pause.
const RACES_MAX: u32 = 100;

/// How to wait for the lock.
#[derive(Clone, Debug)]
pub struct LockWait {
    /// How long to wait for another holder; zero gives up at once.
    pub timeout: Duration,
    /// Ends the waiting early.
    pub cancel: Cancel,
    /// The present, written into the file.
    pub now: Stamp,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the machine.
    pub host: String,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    #[error("`{}`: already locked by PID {}", path.display(), holder.pid)]
    Held { path: PathBuf, holder: Holder },
    #[error(
        "`{}`: already locked by PID {} on host `{}` (whether it still runs cannot be seen from here)",
        path.display(),
        holder.pid,
        holder.host
    )]
    HeldElsewhere { path: PathBuf, holder: Holder },
    #[error("`{}`: stale lock: PID {pid} does not run any more", path.display())]
    Stale { path: PathBuf, pid: u32 },
    #[error("`{}`: stale lock: its content names no holder", path.display())]
    Unreadable { path: PathBuf },
    #[error("`{}`: interrupted while waiting for the lock", path.display())]
    Cancelled { path: PathBuf },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Hints for ExclusiveError {
    fn subject(&self) -> Subject {
        match self {
            ExclusiveError::Disk(error) => error.subject(),
            _ => Subject::Store,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            ExclusiveError::Cancelled { .. } => FailureKind::Interrupted,
            _ => FailureKind::Runtime,
        }
    }

    fn hints(&self) -> Vec<String> {
        let delete = |path: &Path| format!("rm {}", dlm_core::shell_quoted(&path.to_string_lossy()));
        match self {
            ExclusiveError::Held { path, holder } => vec![format!(
                "wait until process {} ends; if that is not a dlm process, break the lock: `{}`",
                holder.pid,
                delete(path)
            )],
            ExclusiveError::HeldElsewhere { path, holder } => vec![format!(
                "if nothing on `{}` uses this store, break the lock: `{}`",
                holder.host,
                delete(path)
            )],
            ExclusiveError::Stale { path, .. } | ExclusiveError::Unreadable { path } => {
                vec![format!("break the lock: `{}`", delete(path))]
            }
            ExclusiveError::Cancelled { .. } => Vec::new(),
            ExclusiveError::Disk(error) => error.hints(),
        }
    }
}

/// The held lock; dropping it releases.
#[derive(Debug)]
pub struct ExclusiveLock {
    disk: Disk,
    path: PathBuf,
    /// Holds the advisory lock until closed.
    file: Option<File>,
    /// The dead holder that was replaced, if any.
    pub replaced: Option<Holder>,
}

/// What one try gave.
enum Try {
    Taken(File, Option<Holder>),
    /// Look again at once: the file changed meanwhile.
    Raced,
    /// Wait, or fail with this.
    Busy(ExclusiveError),
    /// Waiting cannot help.
    Hopeless(ExclusiveError),
}

impl ExclusiveLock {
    /// Takes the lock at `path`, whose directory exists.
    ///
    /// **Errors** name the holder.
    pub fn acquire(disk: &Disk, path: &Path, wait: &LockWait) -> Result<Self, ExclusiveError> {
        let host = host_name();
        let polls_max = wait.timeout.as_millis().div_ceil(POLL.as_millis());
        let mut polls = 0;
        let mut races = 0;
        loop {
            let busy = match try_once(disk, path, &host, wait.now)? {
                Try::Taken(file, replaced) => {
                    return Ok(Self {
                        disk: disk.clone(),
                        path: path.to_owned(),
                        file: Some(file),
                        replaced,
                    });
                }
                Try::Hopeless(error) => return Err(error),
                Try::Raced if races < RACES_MAX => {
                    races += 1;
                    continue;
                }
                Try::Raced => ExclusiveError::Unreadable { path: path.to_owned() },
                Try::Busy(error) => error,
            };
            if polls >= polls_max {
                return Err(busy);
            }
            if wait.cancel.is_cancelled() {
                return Err(ExclusiveError::Cancelled { path: path.to_owned() });
            }
            polls += 1;
            thread::sleep(POLL);
        }
    }

    /// Gives the lock back and says whether it was still ours.
    ///
    /// **Errors** name the path.
    pub fn release(mut self) -> Result<bool, DiskError> {
        self.release_once()
    }

    fn release_once(&mut self) -> Result<bool, DiskError> {
        let Some(file) = self.file.take() else {
            return Ok(true);
        };
        let is_ours = match read_holder(&self.path)? {
            Content::Holder(holder, _) => holder.pid == std::process::id() && holder.host == host_name(),
            Content::Unreadable | Content::Missing => false,
        };
        if is_ours {
            self.disk.remove_file(&self.path)?;
        }
        drop(file);
        Ok(is_ours)
    }
}

impl Drop for ExclusiveLock {
    fn drop(&mut self) {
        // A lock that cannot be deleted here is replaced by the next writer, because its holder is dead by then.
        let _ = self.release_once();
    }
}

fn try_once(disk: &Disk, path: &Path, host: &str, now: Stamp) -> Result<Try, ExclusiveError> {
    if let Some(file) = create(disk, path, host, now)? {
        return Ok(Try::Taken(file, None));
    }
    let owned = || path.to_owned();
    let (holder, has_lock) = match read_holder(path)? {
        Content::Missing => return Ok(Try::Raced),
        Content::Unreadable => return Ok(Try::Busy(ExclusiveError::Unreadable { path: owned() })),
        Content::Holder(holder, has_lock) => (holder, has_lock),
    };
    if holder.host != host {
        return Ok(Try::Busy(ExclusiveError::HeldElsewhere { path: owned(), holder }));
    }
    if !has_lock && is_alive(holder.pid) {
        return Ok(Try::Busy(ExclusiveError::Held { path: owned(), holder }));
    }
    replace_dead(disk, path, host, now, holder)
}

/// Makes the file under a temporary name, locks it, and gives it its real name if that is free.
fn create(disk: &Disk, path: &Path, host: &str, now: Stamp) -> Result<Option<File>, ExclusiveError> {
    if path.exists() {
        return Ok(None);
    }
    let (temporary, file) = prepare(disk, path, host, now)?;
    Ok(disk.claim(&temporary, path)?.then_some(file))
}

fn prepare(disk: &Disk, path: &Path, host: &str, now: Stamp) -> Result<(PathBuf, File), ExclusiveError> {
    let content = format!("{}\n{host}\n{}\n", std::process::id(), now.unix_seconds());
    let (temporary, file) = disk.temporary(path, content.as_bytes())?;
    // A file system without advisory locks is used without: the content alone then keeps others out.
    match file.try_lock() {
        Ok(()) | Err(TryLockError::Error(_)) => Ok((temporary, file)),
        Err(TryLockError::WouldBlock) => {
            disk.remove_file(&temporary)?;
            Err(ExclusiveError::Unreadable { path: temporary })
        }
    }
}

/// Takes over from a dead holder of this machine.
fn replace_dead(disk: &Disk, path: &Path, host: &str, now: Stamp, holder: Holder) -> Result<Try, ExclusiveError> {
    let old = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Try::Raced),
        Err(source) => {
            return Err(ExclusiveError::Disk(DiskError::Io {
                path: path.to_owned(),
                action: "open",
                source,
            }));
        }
    };
    let owned = path.to_owned();
    match try_lock(&old) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Ok(Try::Busy(ExclusiveError::Held { path: owned, holder }));
        }
        // Without such locks the number is all there is.
        Err(TryLockError::Error(_)) if holder.pid != std::process::id() && is_alive(holder.pid) => {
            return Ok(Try::Busy(ExclusiveError::Held { path: owned, holder }));
        }
        Err(TryLockError::Error(_)) => {
            return Ok(Try::Hopeless(ExclusiveError::Stale {
                path: owned,
                pid: holder.pid,
            }));
        }
    }
    // Another writer may have replaced the file between the look at it and the lock on it.
    if !is_same_file(&old, path) {
        return Ok(Try::Raced);
    }
    let (temporary, file) = prepare(disk, path, host, now)?;
    disk.rename(&temporary, path)?;
    Ok(Try::Taken(file, Some(holder)))
}

fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
            other => return other,
        }
    }
    file.try_lock()
}

/// Says whether somebody holds the lock at `path`, as far as it can be seen from here; takes and changes nothing.
///
/// A holder of another machine, or a file that names none, counts as somebody: writers respect both.
pub fn is_held(path: &Path) -> bool {
    match read_holder(path) {
        Ok(Content::Missing) => false,
        Ok(Content::Holder(holder, _)) if holder.host != host_name() => true,
        Ok(Content::Holder(holder, false)) => is_alive(holder.pid),
        Ok(Content::Holder(holder, true)) => match open_ordinary(path).map(|file| file.try_lock_shared()) {
            Ok(Ok(())) => false,
            Ok(Err(TryLockError::WouldBlock)) => true,
            // It is gone meanwhile, or there are no such locks.
            Ok(Err(TryLockError::Error(_))) | Err(_) => is_alive(holder.pid),
        },
        Ok(Content::Unreadable) | Err(_) => true,
    }
}

enum Content {
    Missing,
    Unreadable,
    /// And whether a holder of its kind takes the advisory lock.
    Holder(Holder, bool),
}

fn read_holder(path: &Path) -> Result<Content, DiskError> {
    let Some(bytes) = read(path, LOCK_BYTES_MAX)? else {
        return Ok(Content::Missing);
    };
    let parsed = String::from_utf8(bytes).ok().and_then(|text| {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let host = lines.next()?.trim().to_owned();
        let time = lines.next()?.trim();
        time.parse::<f64>().ok()?;
        Some((Holder { pid, host }, time.parse::<u64>().is_ok()))
    });
    Ok(parsed.map_or(Content::Unreadable, |(holder, has_lock)| {
        Content::Holder(holder, has_lock)
    }))
}
