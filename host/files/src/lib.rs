//! Files: atomic writes, bounded reads, digests, free space and locks, and every question that only the platform answers.
//!
//! Invariants: the only crate that changes a file outside tests (the list in `clippy.toml` refuses it elsewhere); every
//! error names its path; nothing is read without a limit. Knows no format: what the bytes mean is the caller's business.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod ceiling;
pub mod digest;
pub mod disk;
pub mod error;
pub mod exclusive;
mod lock_file;
pub mod own;
pub mod parent;
pub mod partial;
pub mod platform;
pub mod pointer;
pub mod read;
pub mod staging;
pub mod stamp;
mod temporary;
pub mod wall;

pub use ceiling::{OUT_OF_TIME, limit_core, limit_memory, limit_time, memory_limit};
pub use digest::{sha256_file, sha256_file_until};
pub use disk::{Disk, Operation};
pub use error::DiskError;
pub use exclusive::{ExclusiveError, ExclusiveLock, Holder, LockWait};
pub use lock_file::LockFile;
pub use own::{mark_used, open_own, own_directory};
pub use parent::end_with_parent;
pub use partial::Partial;
pub use platform::{Access, free_bytes, open_ordinary};
pub use pointer::is_lfs_pointer;
pub use read::{
    Entry, file_size, list, read, read_at, read_ordinary, read_required, read_text, read_text_required, tree_size,
};
pub use staging::{Staging, sweep_aside};
pub use stamp::FileStamp;
