//! What only the operating system knows: free space, processes, the machine's name, and whether two names are one file.
//!
//! Invariants: every question has an answer on every platform; where a system cannot be asked, the function says what it
//! answers instead.

#![expect(clippy::disallowed_methods, reason = "part of the place where files change")]

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Who may do what with a new file, as far as the system knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// What the user's mask says.
    Usual,
    /// A program, whatever the user's mask says of the run bit.
    Program,
    /// This user alone reads it and nobody changes it.
    OwnReadOnly,
}

/// Bytes that this user may still write on the file system of `path`; none when the system does not say.
#[cfg(unix)]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let figures = rustix::fs::statvfs(path).ok()?;
    Some(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Bytes that this user may still write on the file system of `path`; none when the system does not say.
#[cfg(not(unix))]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Opens a file to read it, and does not wait for the other end of a pipe.
///
/// **Errors** as of opening; a pipe, a socket or a device is one. A directory is told by whoever reads it.
#[cfg(unix)]
pub fn open_ordinary(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    // Means nothing for a file. Opening a pipe would wait for its writer, and so would reading it.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    ordinary(options.read(true).custom_flags(flags).open(path)?)
}

/// Opens a file to read it.
///
/// **Errors** as of opening; a device is one.
#[cfg(not(unix))]
pub fn open_ordinary(path: &Path) -> io::Result<File> {
    ordinary(File::open(path)?)
}

fn ordinary(file: File) -> io::Result<File> {
    let found = file.metadata()?;
    match found.is_file() || found.is_dir() {
        true => Ok(file),
        false => Err(io::Error::other("it is a pipe, a socket or a device, not a file")),
    }
}

/// Flushes a directory, so that the names in it survive a power cut.
#[cfg(unix)]
pub(crate) fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Flushes a directory, so that the names in it survive a power cut.
#[cfg(not(unix))]
pub(crate) fn flush_directory(_directory: &Path) -> io::Result<()> {
    // A directory cannot be opened for flushing here; the file system journals names by itself.
    Ok(())
}

/// Makes a file that must not be there, so that nothing is followed.
#[cfg(unix)]
pub(crate) fn create_file(path: &Path, access: Access) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    let file = match access {
        Access::Usual => options.open(path)?,
        Access::Program => options.mode(0o755).open(path)?,
        Access::OwnReadOnly => options.mode(0o400).open(path)?,
    };
    if access == Access::Program {
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    Ok(file)
}

/// Makes a file that must not be there; who may do what is not known here.
#[cfg(not(unix))]
pub(crate) fn create_file(path: &Path, _access: Access) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a temporary that must not be there, and lets the same people at it as at the file `like` that it will replace.
#[cfg(unix)]
pub(crate) fn open_temporary(temporary: &Path, like: &Path, is_private: bool) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    if is_private {
        return options.mode(0o600).open(temporary);
    }
    let file = options.open(temporary)?;
    if let Ok(found) = fs::metadata(like)
        && found.is_file()
    {
        // A file of somebody else has a mode that may not be given away; the usual one stays then.
        let _ = file.set_permissions(fs::Permissions::from_mode(found.permissions().mode() & 0o777));
    }
    Ok(file)
}

/// Opens a temporary that must not be there; who may do what is not known here.
#[cfg(not(unix))]
pub(crate) fn open_temporary(temporary: &Path, _like: &Path, _is_private: bool) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).open(temporary)
}

/// Opens a file to write at its end, and makes it where it is missing.
#[cfg(unix)]
pub(crate) fn open_to_append(path: &Path, is_private: bool) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mode = if is_private { 0o600 } else { 0o666 };
    fs::OpenOptions::new().create(true).append(true).mode(mode).open(path)
}

/// Opens a file to write at its end, and makes it where it is missing.
#[cfg(not(unix))]
pub(crate) fn open_to_append(path: &Path, _is_private: bool) -> io::Result<File> {
    fs::OpenOptions::new().create(true).append(true).open(path)
}

/// Makes a directory that must not be there.
#[cfg(unix)]
pub(crate) fn make_directory(path: &Path, is_private: bool) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mode = if is_private { 0o700 } else { 0o777 };
    fs::DirBuilder::new().mode(mode).create(path)
}

/// Makes a directory that must not be there.
#[cfg(not(unix))]
pub(crate) fn make_directory(path: &Path, _is_private: bool) -> io::Result<()> {
    fs::create_dir(path)
}

/// Makes a directory of this user be for this user alone.
#[cfg(unix)]
pub(crate) fn close_to_others(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let found = fs::metadata(directory)?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    match is_own && found.mode() & 0o077 != 0 {
        true => fs::set_permissions(directory, fs::Permissions::from_mode(0o700)),
        false => Ok(()),
    }
}

/// Makes a directory of this user be for this user alone; who may do what is not known here.
#[cfg(not(unix))]
pub(crate) fn close_to_others(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// What a rename does with what has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    /// It fails.
    IfFree,
    /// Gives it the other name.
    Exchange,
}

/// Renames in one step. Systems that cannot answer `Unsupported` or `InvalidInput`.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(crate) fn swap_names(from: &Path, to: &Path, swap: Swap) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let flags = match swap {
        Swap::IfFree => RenameFlags::NOREPLACE,
        Swap::Exchange => RenameFlags::EXCHANGE,
    };
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

/// Renames in one step, which this system cannot.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(crate) fn swap_names(_from: &Path, _to: &Path, _swap: Swap) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a symbolic link; `target` is relative to the directory of `name`.
#[cfg(unix)]
pub(crate) fn link_file(target: &Path, name: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, name)
}

/// Makes another name for a file, or a copy of it; a symbolic link needs a right here that few users have.
#[cfg(not(unix))]
pub(crate) fn link_file(target: &Path, name: &Path) -> io::Result<()> {
    let target = name.parent().unwrap_or(Path::new(".")).join(target);
    fs::hard_link(&target, name).or_else(|_| fs::copy(&target, name).map(|_| ()))
}

/// Says whether an open file is the one that `path` names now.
#[cfg(unix)]
pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

/// Says whether an open file is the one that `path` names now.
#[cfg(not(unix))]
pub(crate) fn is_same_file(_file: &File, path: &Path) -> bool {
    // An open file keeps its name here, so it cannot have been replaced.
    fs::metadata(path).is_ok()
}

/// Says whether a process of this machine runs; one that may not be signalled does.
#[cfg(unix)]
pub fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Says whether a process of this machine runs. Without a way to ask, the advisory lock alone decides.
#[cfg(not(unix))]
pub fn is_alive(_pid: u32) -> bool {
    false
}

/// The name of this machine.
#[cfg(unix)]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of this machine.
#[cfg(not(unix))]
pub fn host_name() -> String {
    "this-host".to_owned()
}

/// The directory that a path lies in; the current one for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}
