//! The ports: traits through which a use case reaches the world, each implemented in one edge crate and faked in tests.

pub mod base_source;
pub mod destination;
pub mod guest_http;
pub mod judge;
pub mod model;
pub mod plugin;
pub mod process;
pub mod secrets;
pub mod target;
pub mod teacher;
pub mod templates;
pub mod text_trial;

pub use base_source::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
