//! The HTTP of plugins: every hop checked against the rules, every address checked before it is connected to.
//!
//! Invariants (`plugins.md` section 16): no packet leaves before the checks of its hop; a name is resolved once a hop, and
//! the connection goes to an address of that answer; redirects are followed here and nowhere else; certificates are always
//! checked; a secret reaches hosts of its own grant by https or on this machine; at most 8 exchanges are under way; a
//! cancelled caller has its answer within a poll; an exchange's thread is behind a second wall where the system has one: it writes
//! no file and reaches no port that is not granted. With a proxy the last step of resolving is the proxy's: names and
//! addresses are checked, the address behind a name cannot be.

mod address;
mod authorize;
mod body;
mod exchange;
mod headers;
mod proxies;
mod secrets;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::{Cancel, Network, Wall};
use ureq::tls::TlsConfig;

use crate::client::{SettingError, tls};
pub use authorize::{Resolve, SystemResolver};
use exchange::Stop;
use proxies::Proxies;

/// Exchanges under way at one moment; further ones wait.
const IN_FLIGHT_MAX: usize = 8;
/// How often a waiting caller looks at its cancel flag.
const POLL: Duration = Duration::from_millis(20);

/// How guests reach the network; the default is directly, with the bundled root certificates.
#[derive(Clone, Default)]
pub struct GuestSettings {
    /// Proxy for https addresses (`HTTPS_PROXY`).
    pub https_proxy: Option<String>,
    /// Proxy for http addresses (`HTTP_PROXY`); it must let `CONNECT` through.
    pub http_proxy: Option<String>,
    /// Hosts that are asked directly (`NO_PROXY`). This machine always is.
    pub no_proxy: Option<String>,
    /// PEM root certificates that replace the bundled ones (the content of `SSL_CERT_FILE`).
    pub ca_pem: Option<Vec<u8>>,
    /// The switch that forbids connections, as the user set it (`--offline`); none when online.
    pub offline: Option<String>,
}

/// The `GuestHttp` port over real sockets.
#[derive(Clone)]
pub struct GuestClient(Arc<Inner>);

/// Without the proxies, whose addresses may hold passwords.
impl std::fmt::Debug for GuestClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GuestClient({:?})", self.0.resolver)
    }
}

struct Inner {
    tls: TlsConfig,
    proxies: Proxies,
    offline: Option<String>,
    resolver: Box<dyn Resolve>,
    slots: Arc<Slots>,
}

impl GuestClient {
    /// A client with the machine's own resolver; opens no connection.
    ///
    /// **Errors** on a bad proxy address, bad certificates.
    pub fn new(settings: &GuestSettings) -> Result<GuestClient, SettingError> {
        GuestClient::with_resolver(settings, Box::new(SystemResolver))
    }

    /// A client that asks `resolver` for the addresses of names.
    pub fn with_resolver(settings: &GuestSettings, resolver: Box<dyn Resolve>) -> Result<GuestClient, SettingError> {
        let proxies = Proxies::new(
            settings.https_proxy.as_deref(),
            settings.http_proxy.as_deref(),
            settings.no_proxy.as_deref(),
        )?;
        Ok(GuestClient(Arc::new(Inner {
            tls: tls(settings.ca_pem.as_deref())?,
            proxies,
            offline: settings.offline.clone(),
            resolver,
            slots: Arc::new(Slots::default()),
        })))
    }
}

impl GuestClient {
    /// The rules that count now: offline only those of a server that dlm itself started.
    fn reachable<'a>(&self, rules: &'a [HttpRule]) -> Result<Cow<'a, [HttpRule]>, GuestHttpError> {
        let Some(switch) = &self.0.offline else {
            return Ok(Cow::Borrowed(rules));
        };
        let own: Vec<HttpRule> = rules.iter().filter(|rule| rule.is_own_server).cloned().collect();
        if own.is_empty() {
            return Err(offline(switch));
        }
        Ok(Cow::Owned(own))
    }

    /// What an exchange may do: it reads what a stranger's server sends, and needs no file and no other port.
    fn wall(&self, rules: &[HttpRule]) -> Wall {
        let ports: BTreeSet<u16> = rules
            .iter()
            .map(|rule| rule.port)
            .chain(self.0.proxies.ports())
            .collect();
        Wall {
            folders: Vec::new(),
            network: Network::Ports(ports.into_iter().collect()),
        }
    }

    /// A hop that no rule of [`GuestClient::reachable`] covers is refused because of the switch, and no grant lifts that.
    fn explained(&self, result: Result<GuestResponse, GuestHttpError>) -> Result<GuestResponse, GuestHttpError> {
        match (&self.0.offline, result) {
            (Some(switch), Err(GuestHttpError::Denied { .. })) => Err(offline(switch)),
            (_, result) => result,
        }
    }
}

fn offline(switch: &str) -> GuestHttpError {
    GuestHttpError::Denied {
        capability: String::new(),
        message: format!("{switch} forbids connections; without it they are allowed"),
    }
}

impl GuestHttp for GuestClient {
    fn send(
        &self,
        request: &GuestRequest,
        rules: &[HttpRule],
        cancel: &Cancel,
    ) -> Result<GuestResponse, GuestHttpError> {
        let rules = self.reachable(rules)?;
        let slot = self.0.slots.take(cancel).ok_or(GuestHttpError::Cancelled)?;
        let stop = Arc::new(Stop::at(Instant::now() + request.timeout.min(TIMEOUT_MAX)));
        let (done, result) = mpsc::sync_channel(1);
        let (inner, asked, allowed, stopped) = (self.0.clone(), request.clone(), rules.into_owned(), stop.clone());
        let wall = self.wall(&allowed);
        let work = move || {
            let result = match dlm_files::wall::raise(&wall) {
                Ok(()) => exchange::run(&inner, &asked, &allowed, &stopped),
                Err(error) => Err(GuestHttpError::Unreachable {
                    url: shown(&asked),
                    reason: format!("its thread cannot be kept to the granted ports: {error}"),
                }),
            };
            // A caller that has left no longer listens.
            let _unheard = done.send(result);
            drop(slot);
        };
        let thread = std::thread::Builder::new().name("guest-http".into()).spawn(work);
        thread.map_err(|e| GuestHttpError::Unreachable {
            url: shown(request),
            reason: format!("no thread for the request: {e}"),
        })?;
        loop {
            let left = stop.deadline.saturating_duration_since(Instant::now());
            match result.recv_timeout(POLL.min(left)) {
                Ok(result) => return self.explained(result),
                Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                    stop.stop();
                    return Err(GuestHttpError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    stop.stop();
                    return Err(exchange::timed_out(&shown(request), request));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(GuestHttpError::Unreachable {
                        url: shown(request),
                        reason: "the request's thread has failed".into(),
                    });
                }
            }
        }
    }
}

/// Longer times are this long; it is above every ceiling of the limits, and an instant can hold it.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The request's address for messages.
fn shown(request: &GuestRequest) -> String {
    match dlm_core::http_rule::ParsedUrl::parse(&request.url) {
        Ok(url) => url.to_string(),
        Err(error) => error.url,
    }
}

/// How many exchanges are under way.
#[derive(Debug, Default)]
struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// One of the slots, until it is dropped.
struct Slot(Arc<Slots>);

impl Slots {
    /// Waits for a free slot; none when the caller is cancelled.
    fn take(self: &Arc<Slots>, cancel: &Cancel) -> Option<Slot> {
        let mut taken = self.lock();
        loop {
            if cancel.is_cancelled() {
                return None;
            }
            if *taken < IN_FLIGHT_MAX {
                *taken += 1;
                return Some(Slot(self.clone()));
            }
            let woken = self.freed.wait_timeout(taken, POLL);
            taken = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.freed.notify_one();
    }
}
