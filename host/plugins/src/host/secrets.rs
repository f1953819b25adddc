//! The import `secrets`: a guest holds a handle; it reads the text only with the grant `reveal:<NAME>`.

use std::collections::BTreeMap;

use dlm_core::inert::inert_line;
use dlm_core::ports::guest_http::SecretInUse;
use dlm_core::secret_form::SecretForm;
use dlm_packages::capability::{Capability, is_secret_name};
use wasmtime::component::Resource;

use super::wit::secrets;
use super::{State, WitError};

/// A secret that a guest may attach to requests or programs.
pub struct Secret {
    name: String,
    value: String,
}

impl Secret {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

/// A secret with the words that stand in its place.
pub(super) struct HiddenSecret {
    form: SecretForm,
    shown: String,
}

/// Bytes with other words in the place of secrets, wherever and however they stand.
pub(super) fn without(mut bytes: Vec<u8>, hidden: &[HiddenSecret]) -> Vec<u8> {
    for secret in hidden
        .iter()
        .filter(|secret| secret.form.is_in(&bytes))
        .collect::<Vec<_>>()
    {
        bytes = secret.form.hidden(&bytes, secret.shown.as_bytes());
    }
    bytes
}

/// The same of a text.
pub(super) fn without_text(text: String, hidden: &[HiddenSecret]) -> String {
    String::from_utf8_lossy(&without(text.into_bytes(), hidden)).into_owned()
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

/// The secrets that an instance has taken, by name. They stay in use when their handles are gone: a server may repeat one
/// later.
#[derive(Default)]
pub(crate) struct TakenSecrets(BTreeMap<String, String>);

impl TakenSecrets {
    pub fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }
}

impl State {
    /// The secrets in use, each with the hosts that may have it.
    pub(super) fn secrets_in_use(&self) -> Vec<SecretInUse> {
        let one = |(name, value): (&String, &String)| SecretInUse {
            name: name.clone(),
            value: value.clone(),
            hosts: self.new.grants.secret_hosts(name),
        };
        self.secrets.0.iter().map(one).collect()
    }

    /// What the guest must not read in what comes back to it: a server or a program may repeat a secret.
    pub(super) fn hidden(&self) -> Vec<HiddenSecret> {
        let is_revealed = |name: &str| self.new.grants.holds(&Capability::Reveal(name.to_owned()));
        let unread = self.secrets.0.iter().filter(|(name, _)| !is_revealed(name));
        let hidden = unread.filter_map(|(name, value)| {
            Some(HiddenSecret {
                form: SecretForm::of(value)?,
                shown: format!("[secret {name}]"),
            })
        });
        hidden.collect()
    }

    fn find_secret(&mut self, name: String) -> Result<Secret, WitError> {
        if !is_secret_name(&name) {
            let shown = inert_line(&name);
            return Err(WitError::InvalidInput(format!("`{shown}` is not the name of a secret")));
        }
        let capability = || format!("secret:{name}");
        self.check_outside(capability)?;
        if !self.new.grants.knows_secret(&name) {
            return Err(self.denied(capability(), "this secret is not granted"));
        }
        let found = self.in_host(|state| state.new.ports.secrets.find(&name));
        match found {
            Ok(Some(value)) => {
                *self.used.secrets.entry(name.clone()).or_default() += 1;
                self.secrets.insert(name.clone(), value.clone());
                Ok(Secret { name, value })
            }
            Ok(None) => {
                let variable = self.in_host(|state| state.new.ports.secrets.variable(&name));
                Err(WitError::NotFound(format!(
                    "the secret {name} is not set: set the environment variable {variable}, or put it into `secrets.toml` \
                     in dlm's home directory"
                )))
            }
            Err(cause) => Err(WitError::Unavailable(cause)),
        }
    }
}

impl secrets::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<Secret>, WitError>> {
        Ok(match self.find_secret(name) {
            Ok(secret) => Ok(self.table.push(secret)?),
            Err(error) => Err(error),
        })
    }
}

impl secrets::HostSecret for State {
    fn name(&mut self, secret: Resource<Secret>) -> wasmtime::Result<String> {
        Ok(self.table.get(&secret)?.name.clone())
    }

    fn reveal(&mut self, secret: Resource<Secret>) -> wasmtime::Result<Result<String, WitError>> {
        let secret = self.table.get(&secret)?;
        let wanted = Capability::Reveal(secret.name.clone());
        if self.new.grants.holds(&wanted) {
            return Ok(Ok(secret.value.clone()));
        }
        Ok(Err(
            self.denied(wanted.to_string(), "this secret can be attached, not read")
        ))
    }

    fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}
