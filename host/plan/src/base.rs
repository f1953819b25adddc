//! Base models: the registry, the words a document may name one by, synthesis from `config.json`, probes, licenses.

mod defaults;
pub mod facts;
pub mod license;
pub mod probes;
pub mod registry;
pub mod resolve;
pub mod shape;
pub mod synth;

pub use facts::BaseFacts;
pub use license::{LicenseDecision, LicenseError, LicenseMoment};
pub use probes::{ProbeError, ProbeFacts, probe};
pub use registry::{DEFAULT_AUDIO_BASE, DEFAULT_BASE, DEFAULT_VISION_BASE, Registry};
pub use resolve::{BaseError, BaseLocation, BaseSpec, Resolution, ResolvedBase, resolve_base};
pub use synth::{HubAnswer, synthesize};
