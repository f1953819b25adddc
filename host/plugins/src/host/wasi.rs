//! WASI for guests whose language needs it: present so that a component links, empty of authority.
//!
//! Invariants: no directory, no variable, no argument, no socket; the wall clock stands at the start of the run and the
//! random stream follows from its seed, unless `clock` or `random` was granted; what is printed goes into the log.

use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dlm_core::digest::Sha256;
use dlm_packages::capability::Capability;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::State;

/// The interfaces of WASI 0.2 that a guest may import, without versions.
pub(crate) const ALLOWED: [&str; 29] = [
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:cli/environment",
    "wasi:cli/initial-cwd",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:sockets/network",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "wasi:clocks/timezone",
];

/// Bytes of printed text that are kept, both streams together, of a whole run.
const PRINTED_BYTES_MAX: usize = 256 * 1024;
/// Random bytes in one call.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// What one reading of the monotonic clock adds, in nanoseconds.
const READING_NS: u64 = 1_000;

/// The WASI side of an instance; made only for guests that import it.
#[derive(Default)]
pub(crate) struct Wasi {
    context: Option<WasiCtx>,
    printed: GuestOutput,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        if self.wasi.context.is_none() {
            self.wasi.context = Some(context(self));
        }
        WasiCtxView {
            ctx: self.wasi.context.get_or_insert_with(|| WasiCtx::builder().build()),
            table: &mut self.table,
        }
    }
}

/// Adds the inert interfaces.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

fn context(state: &State) -> WasiCtx {
    let new = &state.new;
    let mut builder = WasiCtx::builder();
    builder
        .stdout(state.wasi.printed.clone())
        .stderr(state.wasi.printed.clone())
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    if !new.grants.holds(&Capability::Clock) {
        builder.wall_clock(Frozen(Duration::from_millis(new.facts.unix_ms)));
        builder.monotonic_clock(Counting(AtomicU64::new(0)));
    }
    let seed = if new.grants.holds(&Capability::Random) {
        system_seed()
    } else {
        None
    };
    let seed = seed.unwrap_or_else(|| stream_seed(new.facts.seed, new.instance));
    builder.secure_random(StdRng::from_seed(seed));
    let mut other = seed;
    other.reverse();
    builder.insecure_random(StdRng::from_seed(other));
    let (half, _) = seed.split_at(16);
    builder.insecure_random_seed(half.iter().fold(0, |seed, byte| seed << 8 | u128::from(*byte)));
    builder.build()
}

/// The seed of one instance's random stream. `seed` is already different for each plugin.
fn stream_seed(seed: u64, instance: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(instance.to_le_bytes());
    hash.finish()
}

fn system_seed() -> Option<[u8; 32]> {
    let mut seed = [0u8; 32];
    let mut source = std::fs::File::open("/dev/urandom").ok()?;
    source.read_exact(&mut seed).ok()?;
    Some(seed)
}

struct Frozen(Duration);

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// Counts its own readings instead of time.
struct Counting(AtomicU64);

impl HostMonotonicClock for Counting {
    fn resolution(&self) -> u64 {
        READING_NS
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(READING_NS, Ordering::Relaxed)
    }
}

/// What a guest printed and the host has not yet moved to the log.
#[derive(Clone, Default)]
pub(crate) struct GuestOutput(Arc<Mutex<OutputBuffer>>);

#[derive(Default)]
struct OutputBuffer {
    waiting: Vec<u8>,
    taken: usize,
    dropped: u64,
}

impl GuestOutput {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = PRINTED_BYTES_MAX.saturating_sub(kept.taken).min(bytes.len());
        let (fits, rest) = bytes.split_at(room);
        kept.waiting.extend_from_slice(fits);
        kept.taken += fits.len();
        kept.dropped = kept.dropped.saturating_add(rest.len() as u64);
    }
}

impl Wasi {
    /// Takes what was printed since the last time, and the number of bytes that found no room.
    pub fn take_printed(&mut self) -> (String, u64) {
        if self.context.is_none() {
            return (String::new(), 0);
        }
        let mut kept = self.printed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&std::mem::take(&mut kept.waiting)).into_owned();
        (text, std::mem::take(&mut kept.dropped))
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.add(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
