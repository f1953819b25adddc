//! Ceilings on what this process may use; for processes that dlm starts to read what strangers wrote.
//!
//! Invariants: a ceiling is lowered, never raised: where the user's own is lower it stays.

use std::io;
use std::time::Duration;

/// Lowers the address space of this process.
///
/// **Errors** where the system has such a ceiling and does not let it be set.
pub fn limit_memory(bytes: u64) -> io::Result<()> {
    lower(Resource::Memory, bytes)
}

/// The address space that this process may have; none where nothing limits it.
pub fn memory_limit() -> Option<u64> {
    current(Resource::Memory)
}

/// Lowers the processor time of this process, all its threads together; the signal [`OUT_OF_TIME`] ends it when that is used
/// up, however long that takes by the clock.
///
/// **Errors** as [`limit_memory`].
pub fn limit_time(time: Duration) -> io::Result<()> {
    let seconds = time.as_secs().max(1);
    // At the upper of the two the system kills without saying why.
    lower_to(Resource::Time, seconds, seconds.saturating_add(TIME_GRACE_SECONDS))
}

/// Ends a process that used up its processor time.
#[cfg(unix)]
pub const OUT_OF_TIME: i32 = rustix::process::Signal::XCPU.as_raw();
/// Systems without such ceilings end nothing so.
#[cfg(not(unix))]
pub const OUT_OF_TIME: i32 = i32::MAX;

/// Between the signal that can be told apart and the one that cannot be held.
const TIME_GRACE_SECONDS: u64 = 5;

/// Keeps this process from leaving a picture of its memory when it crashes.
///
/// **Errors** as [`limit_memory`].
pub fn limit_core() -> io::Result<()> {
    lower(Resource::Core, 0)
}

#[derive(Clone, Copy)]
enum Resource {
    Memory,
    Time,
    Core,
}

#[cfg(unix)]
impl Resource {
    fn kind(self) -> rustix::process::Resource {
        match self {
            Resource::Memory => rustix::process::Resource::As,
            Resource::Time => rustix::process::Resource::Cpu,
            Resource::Core => rustix::process::Resource::Core,
        }
    }
}

#[cfg(unix)]
fn current(resource: Resource) -> Option<u64> {
    rustix::process::getrlimit(resource.kind()).current
}

#[cfg(not(unix))]
fn current(_resource: Resource) -> Option<u64> {
    None
}

fn lower(resource: Resource, wanted: u64) -> io::Result<()> {
    lower_to(resource, wanted, wanted)
}

#[cfg(unix)]
fn lower_to(resource: Resource, wanted: u64, most: u64) -> io::Result<()> {
    use rustix::process::{Rlimit, getrlimit, setrlimit};
    let kind = resource.kind();
    let now = getrlimit(kind);
    let lower = |limit: Option<u64>, wanted: u64| limit.map_or(wanted, |limit| limit.min(wanted));
    let limit = Rlimit {
        current: Some(lower(now.current, wanted)),
        maximum: Some(lower(now.maximum, most)),
    };
    Ok(setrlimit(kind, limit)?)
}

/// Systems without such ceilings end a process when they have no more memory; its parent still has a clock.
#[cfg(not(unix))]
fn lower_to(_resource: Resource, _wanted: u64, _most: u64) -> io::Result<()> {
    Ok(())
}
