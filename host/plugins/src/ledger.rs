//! What the plugins of a run used, added up as their instances end.

use std::sync::{Mutex, PoisonError};

use dlm_core::ports::plugin::PluginUse;

/// The uses of every plugin of a run, in the order in which their first instances ended.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<PluginUse>>);

impl Ledger {
    /// Adds what one instance used.
    pub fn add(&self, used: PluginUse) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &&mut PluginUse| {
            known.plugin == used.plugin && known.sha256 == used.sha256 && known.kind == used.kind
        };
        match all.iter_mut().find(is_same) {
            Some(known) => known.add(&used),
            None => all.push(used),
        }
    }

    pub fn all(&self) -> Vec<PluginUse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
