//! The import `secrets`: a guest holds a handle; it reads the text only with the grant `reveal:<NAME>`.

use dlm_packages::capability::{Capability, is_secret_name};
use dlm_core::inert::inert_line;
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

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

impl State {
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
                Ok(Secret { name, value })
            }
            Ok(None) => Err(WitError::NotFound(format!(
                "the secret {name} is not set: set the environment variable DLM_SECRET_{name}, or put it into \
                 ~/.dlm/secrets.toml"
            ))),
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
