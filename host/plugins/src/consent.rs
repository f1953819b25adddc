//! What is settled about a plugin before any of it is compiled: that the flags of the command are for it, and that it holds
//! what its manifest cannot do without.
//!
//! Invariants: a required capability that was not granted is asked for or refused here, before a model is loaded or a file
//! written; what the command line itself takes away is the user's own word and no question; an answer holds for this run
//! and for these very bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dlm_packages::capability::Capability;
use dlm_packages::discover::{FoundPlugin, Origin};
use dlm_packages::{Grants, Kind};

use crate::error::{FlagError, LoadError, MissingGrants, OutputError, PluginError};

/// A capability that a plugin needs and was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantQuestion {
    pub kind: Kind,
    pub plugin: String,
    pub version: String,
    /// In grant syntax.
    pub capability: String,
    /// Why its manifest asks for it; the author's words.
    pub reason: String,
}

/// Asks the person at the terminal; yes is true.
pub type AskGrant = dyn Fn(&GrantQuestion) -> std::io::Result<bool> + Send + Sync;

/// One flag that names a plugin, as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct NamingFlag {
    /// Such as `--grant`.
    pub flag: &'static str,
    pub plugin: String,
    pub text: String,
}

/// What was agreed to in this run, and who may be asked.
#[derive(Default)]
pub(crate) struct Consent {
    ask: Option<Arc<AskGrant>>,
    flags: Vec<NamingFlag>,
    /// Yes, by hash of the component. Held while a question is open, so that no other one comes between.
    agreed: Mutex<BTreeMap<String, Vec<Capability>>>,
}

impl Consent {
    pub fn of(flags: Vec<NamingFlag>) -> Consent {
        Consent {
            flags,
            ..Consent::default()
        }
    }

    pub fn with_asker(&mut self, ask: Arc<AskGrant>) {
        self.ask = Some(ask);
    }

    /// What was said yes to for a component.
    pub fn agreed(&self, sha256: &str) -> Vec<Capability> {
        let agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.get(sha256).cloned().unwrap_or_default()
    }

    /// Refuses a flag for another plugin than the one that this command uses: it would change nothing.
    pub fn check_flags(&self, kind: Kind, used: &str) -> Result<(), FlagError> {
        match self.flags.iter().find(|flag| flag.plugin != used) {
            None => Ok(()),
            Some(other) => Err(FlagError::Unused {
                flag: other.flag,
                text: dlm_core::inert::inert_line(&other.text),
                plugin: dlm_core::inert::inert_line(&other.plugin),
                kind,
                used: used.to_owned(),
            }),
        }
    }

    /// Makes sure that a plugin holds all that it cannot do without; `grants` is what it holds by now.
    ///
    /// **Errors**: something is missing, and there is nobody to ask or the answer was no.
    pub fn settle(&self, kind: Kind, found: &FoundPlugin, grants: &Grants) -> Result<(), PluginError> {
        let mut missing = missing(kind, found, grants)?;
        let Some(ask) = &self.ask else {
            return refused(kind, found, grants, missing, false);
        };
        while let Some((capability, reason)) = missing.first().cloned() {
            let question = GrantQuestion {
                kind,
                plugin: found.manifest.name.clone(),
                version: found.manifest.version.clone(),
                capability: capability.to_string(),
                reason,
            };
            let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
            let terminal = OutputError::files("read the answer from", Path::new("the terminal"));
            if !ask(&question).map_err(terminal)? {
                drop(agreed);
                return refused(kind, found, grants, missing, true);
            }
            agreed.entry(found.sha256.clone()).or_default().push(capability);
            missing.remove(0);
        }
        Ok(())
    }
}

/// What the manifest asks for without calling it optional, is of use to this kind, and is neither held nor taken away by a flag.
fn missing(kind: Kind, found: &FoundPlugin, grants: &Grants) -> Result<Vec<(Capability, String)>, PluginError> {
    let manifest = &found.manifest;
    let mut missing = Vec::new();
    for request in manifest.requests.iter().filter(|request| !request.optional) {
        let wanted = Capability::parse(&request.capability).map_err(PluginError::package)?;
        let is_needed = wanted.fits(kind) && !grants.satisfies(&wanted);
        if is_needed && grants.taken_by(&wanted, &manifest.name).is_none() {
            missing.push((wanted, request.reason.clone()));
        }
    }
    Ok(missing)
}

fn refused(
    kind: Kind,
    found: &FoundPlugin,
    grants: &Grants,
    missing: Vec<(Capability, String)>,
    is_answered: bool,
) -> Result<(), PluginError> {
    if missing.is_empty() {
        return Ok(());
    }
    let (name, path) = (&found.manifest.name, found.path.as_deref());
    let path = path.map(dlm_core::shell::quoted_path).unwrap_or_default();
    Err(LoadError::NotGranted(Box::new(MissingGrants {
        kind,
        plugin: name.clone(),
        version: found.manifest.version.clone(),
        missing: missing.iter().map(|(capability, _)| capability.to_string()).collect(),
        granted: grants.texts(),
        always: match found.origin {
            Origin::Path => format!("dlm plugin install {path}"),
            Origin::Project | Origin::System => format!("dlm plugin trust {path}"),
            Origin::User | Origin::Builtin => format!("dlm plugin trust {name}"),
        },
        is_answered,
    }))
    .into())
}
