//! Base models from the Hugging Face hub, or anything that speaks its protocol.
//!
//! The role that the design gives to the `hf-hub` crate is played by this module: hf-hub 1.0 brings an async client
//! stack (reqwest, hyper, tokio, a chunk-store protocol) of some hundred crates, while what is needed is one listing
//! and ranged GETs. This module speaks the same protocol over the crate's one blocking client, and shares the common
//! cache layout (`models--org--name/blobs|refs|snapshots`), so downloads of other tools are reused and ours by them.
//!
//! Invariants: only files of the allow-list are fetched (never a pickle); what is renamed into place has the size and the
//! digest that the hub's listing names (SHA-256 of large files, git's of small ones); a cut download is continued, not begun
//! again; one process fetches a repository at a time; a raised flag ends the waiting; offline means that no socket is opened.

mod cache;
mod download;
mod listing;

use std::path::PathBuf;
use std::time::Duration;

use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::{Cancel, Event, Progress};
use dlm_files::Disk;
use ureq::Agent;

use crate::client::{self, Origin};
use cache::RepoCache;
pub use listing::{Listing, RemoteFile, shards};

/// Where the hub is when no other address is configured.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How the hub is reached and what may be fetched from it.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Web root without a slash at the end (`HF_ENDPOINT`); https, or http on this machine.
    pub endpoint: String,
    /// Access token (`HF_TOKEN`), sent to the endpoint's host only.
    pub token: Option<String>,
    /// The switch that forbids connections, as the user set it (`HF_HUB_OFFLINE=1`); none when online.
    pub offline: Option<String>,
    /// The hub cache (`$HF_HOME/hub`).
    pub cache_dir: PathBuf,
    /// Access to the cache's files.
    pub disk: Disk,
    /// Address of a proxy.
    pub proxy: Option<String>,
    /// PEM root certificates that replace the bundled ones (the content of `SSL_CERT_FILE`).
    pub ca_pem: Option<Vec<u8>>,
    /// Tries of one request, or of one file without progress, before giving up.
    pub attempts: u32,
    /// Pause before the second try; doubles with each further one.
    pub retry_pause: Duration,
    /// The largest weight file.
    pub weight_bytes_max: u64,
    /// The largest of the other files.
    pub text_bytes_max: u64,
}

impl HubSettings {
    /// The usual settings for a cache directory.
    pub fn new(cache_dir: PathBuf) -> Self {
        HubSettings {
            endpoint: DEFAULT_ENDPOINT.into(),
            token: None,
            offline: None,
            cache_dir,
            disk: Disk::new(),
            proxy: None,
            ca_pem: None,
            attempts: 4,
            retry_pause: Duration::from_millis(500),
            // Shards of published models stay under 50 GB, the hub's own limit for one file.
            weight_bytes_max: 64 << 30,
            // The largest tokenizers in use have 35 MB.
            text_bytes_max: 128 << 20,
        }
    }
}

/// The hub as a source of bases.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    agent: Agent,
}

impl Hub {
    /// Checks the settings; opens no connection.
    ///
    /// **Errors** on an endpoint that is not https (nor http on this machine), a bad proxy address, bad certificates.
    pub fn new(settings: HubSettings) -> Result<Hub, BaseSourceError> {
        let mut settings = settings;
        settings.endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let bad = |reason: String| BaseSourceError::BadEndpoint {
            value: settings.endpoint.clone(),
            reason,
        };
        let origin = Origin::parse(&settings.endpoint).ok_or_else(|| bad("expected https://<host>".into()))?;
        if origin.scheme != "https" && !origin.is_loopback() {
            return Err(bad("plain http is for this machine only".into()));
        }
        let proxy = settings.proxy.as_deref().filter(|_| !origin.is_loopback());
        let agent = client::agent(proxy, settings.ca_pem.as_deref()).map_err(|e| BaseSourceError::BadSetting {
            setting: e.setting,
            reason: e.reason,
        })?;
        Ok(Hub { settings, agent })
    }

    /// The web root in use, which `{hub}` in license addresses stands for.
    pub fn endpoint(&self) -> &str {
        &self.settings.endpoint
    }

    fn cache(&self, request: &BaseRequest) -> RepoCache {
        RepoCache::new(&self.settings, &request.hf_id)
    }

    fn listing(&self, request: &BaseRequest, cancel: &Cancel) -> Result<Listing, BaseSourceError> {
        check_id(&request.hf_id)?;
        if let Some(switch) = &self.settings.offline {
            return Err(BaseSourceError::Offline {
                hf_id: request.hf_id.clone(),
                switch: switch.clone(),
            });
        }
        let revision = request.revision.as_deref().unwrap_or("main");
        let url = format!(
            "{}/api/models/{}/revision/{revision}?blobs=true",
            self.settings.endpoint, request.hf_id
        );
        let what = download::FileRequest {
            request,
            what: "the file list",
            limit: listing::LISTING_BYTES_MAX,
            cancel,
        };
        let mut listing = Listing::parse(&request.hf_id, &self.small(&url, &what)?)?;
        if listing.needs_index() {
            self.keep_named(request, &mut listing, cancel)?;
        }
        match &request.revision {
            Some(wanted) if *wanted != listing.commit => Err(BaseSourceError::Revision {
                hf_id: request.hf_id.clone(),
                wanted: wanted.clone(),
                found: listing.commit,
            }),
            _ => Ok(listing),
        }
    }

    /// Leaves out the weights that the repository's index does not name.
    fn keep_named(&self, request: &BaseRequest, listing: &mut Listing, cancel: &Cancel) -> Result<(), BaseSourceError> {
        let url = self.file_url(request, &listing.commit, listing::INDEX);
        let what = download::FileRequest {
            request,
            what: "the weight index",
            limit: cache::INDEX_BYTES_MAX,
            cancel,
        };
        let index = self.small(&url, &what)?;
        let named = shards(&index).ok_or_else(|| BaseSourceError::BadAnswer {
            hf_id: request.hf_id.clone(),
            reason: "its weight index has no readable weight_map".into(),
        })?;
        listing.keep_named(&named);
        Ok(())
    }

    fn file_url(&self, request: &BaseRequest, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{name}", self.settings.endpoint, request.hf_id)
    }
}

/// The name becomes part of addresses and paths, so it must be exactly `<org>/<name>` of harmless characters.
fn check_id(hf_id: &str) -> Result<(), BaseSourceError> {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.len() <= 96
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match hf_id.split_once('/') {
        Some((org, name)) if good(org) && good(name) => Ok(()),
        _ => Err(BaseSourceError::BadAnswer {
            hf_id: hf_id.to_owned(),
            reason: "the name is not <org>/<name>".into(),
        }),
    }
}

impl BaseSource for Hub {
    fn inspect(&self, request: &BaseRequest, cancel: &Cancel) -> Result<RemoteBase, BaseSourceError> {
        let listing = self.listing(request, cancel)?;
        let url = self.file_url(request, &listing.commit, "config.json");
        let what = download::FileRequest {
            request,
            what: "config.json",
            limit: listing::CONFIG_BYTES_MAX,
            cancel,
        };
        let config = self.small(&url, &what)?;
        let config_json = String::from_utf8(config).map_err(|_| BaseSourceError::BadAnswer {
            hf_id: request.hf_id.clone(),
            reason: "config.json is not UTF-8".into(),
        })?;
        let files = listing
            .files
            .iter()
            .map(|file| (file.name.clone(), file.size))
            .collect();
        Ok(RemoteBase {
            commit: listing.commit,
            files,
            config_json,
        })
    }

    fn cached(&self, request: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError> {
        check_id(&request.hf_id)?;
        self.cache(request).snapshot(request.revision.as_deref())
    }

    fn fetch(
        &self,
        request: &BaseRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Snapshot, BaseSourceError> {
        let is_settled = request.revision.is_some() || self.settings.offline.is_some();
        if is_settled && let Some(snapshot) = self.cached(request)? {
            return Ok(snapshot);
        }
        let listing = self.listing(request, cancel)?;
        self.check_sizes(request, &listing)?;
        let cache = self.cache(request);
        cache.create()?;
        let lock = cache.lock(cancel, || {
            let what = format!("waiting for another process that downloads {}", request.hf_id);
            progress.event(Event::Note(what));
        })?;
        let cancelled = || BaseSourceError::Cancelled {
            hf_id: request.hf_id.clone(),
        };
        let _held = lock.ok_or_else(cancelled)?;
        let bytes_fetched = self.download_all(request, &listing, &cache, progress, cancel)?;
        cache.check_index(&request.hf_id, &listing.commit)?;
        if request.revision.is_none() {
            cache.write_ref("main", &listing.commit)?;
        }
        let mut files: Vec<String> = listing.files.into_iter().map(|file| file.name).collect();
        files.sort();
        Ok(Snapshot {
            dir: cache.snapshot_dir(&listing.commit),
            commit: listing.commit,
            files,
            bytes_fetched,
        })
    }
}
