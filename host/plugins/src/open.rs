//! A plugin that was found, checked and compiled, on its way to its first call.

use std::sync::Arc;

use dlm_core::ports::plugin::PluginIdentity;
use dlm_packages::discover::Origin;
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
    pub origin: Origin,
    /// As its manifest says; for export targets.
    pub needs_registration: bool,
}

/// Which plugin it is, before it said its own name.
pub(crate) struct PluginOrigin {
    pub plugin: String,
    pub version: String,
    pub sha256: String,
    pub granted: Vec<String>,
    /// The name that results carry, where it is not for the plugin to choose.
    traced: Option<String>,
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
            traced: self.traced(),
        }
    }

    /// What marks the work of a plugin that is not inside dlm. The name that such a plugin gives itself proves nothing: its
    /// name and version, what the user typed after them, where it was found, and its hash do.
    fn traced(&self) -> Option<String> {
        let (name, version, argument) = (&self.new.plugin, &self.new.version, self.argument());
        let colon = if argument.is_empty() { "" } else { ":" };
        let (origin, sha256) = (self.origin.name(), &self.sha256);
        (self.origin != Origin::Builtin)
            .then(|| format!("{name}@{version}{colon}{argument} ({origin}, sha256 {sha256})"))
    }

    pub fn start<W>(
        self,
        bind: fn(&mut Store<State>, &Instance) -> wasmtime::Result<W>,
    ) -> Result<Running<W>, PluginError> {
        Running::start(self.ready, self.pulse, self.new, bind)
    }
}

impl PluginOrigin {
    /// Takes the name that a plugin inside dlm gave itself.
    pub fn named(self, identity: Identity) -> PluginIdentity {
        PluginIdentity {
            name: self.traced.unwrap_or_else(|| short(&identity.name)),
            plugin: self.plugin,
            version: self.version,
            sha256: self.sha256,
            detail: identity.detail.map(|text| short(&text)),
            granted: self.granted,
        }
    }
}
