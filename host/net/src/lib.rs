//! The only crate that opens sockets: base models from the hub, and small requests to allowed hosts.
//!
//! Invariants: addresses, credentials, proxies, the offline switch and the cache directory come in as settings; nothing
//! here reads the environment or the home directory. Every answer has a limit of size and time, every retry is counted,
//! credentials never leave the host they were given for, and nothing knows what a model or a document is.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod client;
pub mod guest;
pub mod hub;
mod interrupt;
pub mod local;

pub use client::SettingError;
pub use guest::{GuestClient, GuestSettings, Resolve, SystemResolver};
pub use hub::{Hub, HubSettings};
pub use local::free_loopback_port;
