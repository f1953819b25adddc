//! The hub as the environment describes it, made at its first use.

use std::path::PathBuf;
use std::sync::OnceLock;

use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::{Cancel, Progress};
use dlm_net::hub::{DEFAULT_ENDPOINT, Hub, HubSettings};

use crate::environment;
use crate::origin::{Origin, Setting};

/// Largest file of root certificates; all public ones together have a quarter of a megabyte.
const CERTIFICATES_BYTES_MAX: u64 = 16 << 20;

/// A hub whose client, certificates and cache are only touched when a base is asked for.
pub struct LazyHub {
    root: Setting<String>,
    hub: OnceLock<Hub>,
}

impl LazyHub {
    /// Reads `HF_ENDPOINT`; everything else is read at the first use.
    pub fn from_environment() -> Self {
        let root = environment::text("HF_ENDPOINT").unwrap_or_else(|| Setting::default(DEFAULT_ENDPOINT.to_owned()));
        Self {
            root: root.map(|root| root.trim_end_matches('/').to_owned()),
            hub: OnceLock::new(),
        }
    }

    /// The hub's web root.
    pub fn root(&self) -> &str {
        &self.root.value
    }

    /// The hub and who named it, for `--verbose`.
    pub fn line(&self) -> String {
        let origin = match self.root.origin {
            Origin::Default => "by default".to_owned(),
            origin => format!("given by {origin}"),
        };
        format!("{:<18}  {}  ({origin})", "hub", self.root.value)
    }

    fn hub(&self) -> Result<&Hub, BaseSourceError> {
        if let Some(hub) = self.hub.get() {
            return Ok(hub);
        }
        let hub = Hub::new(self.settings()?)?;
        Ok(self.hub.get_or_init(|| hub))
    }

    fn settings(&self) -> Result<HubSettings, BaseSourceError> {
        Ok(HubSettings {
            endpoint: self.root.value.clone(),
            token: environment::text("HF_TOKEN").map(|token| token.value),
            offline: who_is_offline("DLM_OFFLINE").or_else(|| who_is_offline("HF_HUB_OFFLINE")),
            proxy: ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
                .into_iter()
                .find_map(environment::text)
                .map(|proxy| proxy.value),
            ca_pem: certificates()?,
            ..HubSettings::new(cache()?)
        })
    }
}

/// `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else the common place in the user's cache directory.
fn cache() -> Result<PathBuf, BaseSourceError> {
    let path = |name| environment::path(name).map(|path| path.value);
    if let Some(cache) = path("HF_HUB_CACHE") {
        return Ok(cache);
    }
    let home = path("HF_HOME")
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(path("HOME")?.join(".cache/huggingface")));
    match home {
        Some(home) => Ok(home.join("hub")),
        None => Err(BaseSourceError::BadSetting {
            setting: "hub cache",
            reason: "neither HF_HOME nor HOME is set".to_owned(),
        }),
    }
}

pub(super) fn certificates() -> Result<Option<Vec<u8>>, BaseSourceError> {
    let Some(Setting { value: file, .. }) = environment::path("SSL_CERT_FILE") else {
        return Ok(None);
    };
    let bad = |reason: String| BaseSourceError::BadSetting {
        setting: "certificate file SSL_CERT_FILE",
        reason: format!("{}: {reason}", file.display()),
    };
    match dlm_files::read(&file, CERTIFICATES_BYTES_MAX) {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        Ok(None) => Err(bad("there is no such file".to_owned())),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// The name of the switch that keeps this run off the network, where it is on.
pub(super) fn who_is_offline(switch: &'static str) -> Option<String> {
    let offline = environment::switch(switch);
    offline.value.then(|| offline.origin.to_string())
}

impl BaseSource for LazyHub {
    fn inspect(&self, request: &BaseRequest, cancel: &Cancel) -> Result<RemoteBase, BaseSourceError> {
        self.hub()?.inspect(request, cancel)
    }

    fn cached(&self, request: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError> {
        self.hub()?.cached(request)
    }

    fn fetch(
        &self,
        request: &BaseRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Snapshot, BaseSourceError> {
        self.hub()?.fetch(request, progress, cancel)
    }
}
