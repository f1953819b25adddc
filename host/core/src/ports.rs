//! The ports: traits through which a use case reaches the world, each implemented in one edge crate and faked in tests.

pub mod base_source;
pub mod http;
pub mod process;
pub mod target;

pub use base_source::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
pub use http::{Http, HttpError, HttpMethod, HttpRequest, HttpResponse};
