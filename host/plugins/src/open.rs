//! A plugin that was found, checked and compiled, on its way to its first call.

use std::sync::Arc;

use dlm_core::ports::plugin::PluginIdentity;
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::engine::Pulse;
use crate::error::PluginError;
use crate::host::wit::types::Identity;
use crate::host::{NewState, State};
use crate::instance::Running;
use crate::limits::short;
use crate::load::Ready;

/// Everything that an instance starts from.
pub(crate) struct OpenPlugin<'a> {
    pub ready: Ready,
    pub pulse: &'a Arc<Pulse>,
    pub new: NewState,
    pub sha256: String,
    /// As its manifest says; for export targets.
    pub needs_registration: bool,
}

/// Which plugin it is, before it said its own name.
pub(crate) struct PluginOrigin {
    pub plugin: String,
    pub version: String,
    pub sha256: String,
    pub granted: Vec<String>,
}

impl OpenPlugin<'_> {
    pub fn argument(&self) -> &str {
        &self.new.argument
    }

    pub fn identity(&self) -> PluginOrigin {
        PluginOrigin {
            plugin: self.new.plugin.clone(),
            version: self.new.version.clone(),
            sha256: self.sha256.clone(),
            granted: self.new.grants.texts(),
        }
    }

    pub fn start<W>(
        self,
        bind: impl FnOnce(&mut Store<State>, &Instance) -> wasmtime::Result<W>,
    ) -> Result<Running<W>, PluginError> {
        Running::start(&self.ready, self.pulse, self.new, bind)
    }
}

impl PluginOrigin {
    /// Takes the name that the plugin gave itself.
    pub fn named(self, identity: Identity) -> PluginIdentity {
        PluginIdentity {
            name: short(&identity.name),
            plugin: self.plugin,
            version: self.version,
            sha256: self.sha256,
            detail: identity.detail.map(|text| short(&text)),
            granted: self.granted,
        }
    }
}
