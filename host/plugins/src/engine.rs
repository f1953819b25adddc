//! The wasmtime engine and the pulse that interrupts guests.
//!
//! Invariant: made when the first plugin is opened, never before; one per [`crate::Plugins`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Engine, WasmBacktraceDetails};

use crate::error::LoadError;
use crate::limits::STACK_BYTES_MAX;
use crate::ports::Metering;

/// The version of wasmtime that this program holds; a test holds it against the lock file of the build.
pub const RUNTIME_VERSION: &str = "48.0.8";
/// Time between two looks at a running guest. A guest is stopped within two ticks of its limit.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Ticks without any guest after which the pulse sleeps. Waking it costs more than a short call, so it stays awake between
/// the calls of one run.
const IDLE_TICKS: u32 = 20;
/// Stack of the fibre on which a guest runs: its own stack and room for the host functions that it calls.
const FIBRE_BYTES: usize = STACK_BYTES_MAX + (1 << 20);

/// The settings of the engine, pinned by a test.
///
/// They make a guest's answer depend on its input alone (canonical NaN, deterministic relaxed SIMD, no threads) and leave
/// out what the contract does not need (64-bit memories, component-model async). Guests run on fibres, so that one that
/// sleeps can be stopped.
pub(crate) fn settings() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    config.max_wasm_stack(STACK_BYTES_MAX);
    config.async_stack_size(FIBRE_BYTES);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.wasm_memory64(false);
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.memory_init_cow(true);
    config
}

/// Least address space in which every memory of a guest may reserve the 4 GiB that it could address, several guests at a time.
const WIDE_BYTES: u64 = 64 << 30;

/// For `ulimit -v` and the like: a memory takes what it has. Its bounds are then checked at every access, which costs time; the code
/// is other code, and lies in the cache under another key.
fn narrow(settings: &mut Config) {
    settings.memory_reservation(0);
    settings.memory_reservation_for_growth(1 << 20);
    settings.memory_guard_size(0);
}

/// Makes the engine.
pub(crate) fn engine(metering: Metering) -> Result<Engine, LoadError> {
    with(metering, settings())
}

/// Makes the engine of the compiler's process. Its code is that of [`engine`]; where the system gives no threads it is made on
/// one, since the compiler's own pool ends the process then.
pub(crate) fn compiling_engine(metering: Metering) -> Result<Engine, LoadError> {
    let mut settings = settings();
    settings.parallel_compilation(has_threads());
    with(metering, settings)
}

/// Says whether the system gives as many threads as the compiler would take.
fn has_threads() -> bool {
    let wanted = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let gate = Mutex::new(());
    let wait = || drop(gate.lock());
    std::thread::scope(|scope| {
        // All are there at once.
        let closed = gate.lock();
        let started = |_| std::thread::Builder::new().spawn_scoped(scope, wait).is_ok();
        let is_enough = (0..wanted).all(started);
        drop(closed);
        is_enough
    })
}

fn with(metering: Metering, mut settings: Config) -> Result<Engine, LoadError> {
    // Counting costs time in every block of code, so that only those who ask for it pay.
    settings.consume_fuel(metering.counts_instructions());
    if dlm_files::memory_limit().is_some_and(|limit| limit < WIDE_BYTES) {
        narrow(&mut settings);
    }
    Engine::new(&settings).map_err(|error| LoadError::engine(format!("{error:#}")))
}

/// Ticks an engine's epoch while any guest is running.
pub(crate) struct Pulse {
    shared: Arc<PulseState>,
    thread: Thread,
}

struct PulseState {
    running: AtomicUsize,
    is_asleep: AtomicBool,
    is_done: AtomicBool,
}

/// While it lives, the epoch advances.
pub(crate) struct Beat<'a>(&'a Pulse);

impl Pulse {
    /// Starts the thread that ticks.
    ///
    /// **Errors**: the system has no thread left; without it no guest could be stopped.
    pub fn new(engine: &Engine) -> Result<Pulse, LoadError> {
        let shared = Arc::new(PulseState {
            running: AtomicUsize::new(0),
            is_asleep: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
        });
        let (engine, of_thread) = (engine.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("plugin-pulse".into())
            .spawn(move || tick(&engine, &of_thread));
        let thread = thread
            .map_err(|error| LoadError::engine(format!("no thread for the clock that stops plugins ({error})")))?;
        Ok(Pulse {
            shared,
            thread: thread.thread().clone(),
        })
    }

    /// Keeps the epoch advancing until the returned value is dropped.
    pub fn beat(&self) -> Beat<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Beat(self)
    }

    fn wake(&self) {
        self.thread.unpark();
    }
}

fn tick(engine: &Engine, shared: &PulseState) {
    let mut idle = 0;
    while !shared.is_done.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > IDLE_TICKS {
            shared.is_asleep.store(true, Ordering::SeqCst);
            // A guest that started before the line above is seen here; one that starts after it wakes this thread.
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.is_done.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.is_asleep.store(false, Ordering::SeqCst);
            idle = 0;
            continue;
        }
        std::thread::park_timeout(TICK);
        engine.increment_epoch();
    }
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        self.0.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Pulse {
    /// Tells the thread to end and does not wait: on busy cores its turn may be milliseconds away, it holds no lock, and
    /// there is nothing to learn from its end.
    fn drop(&mut self) {
        self.shared.is_done.store(true, Ordering::SeqCst);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::RUNTIME_VERSION;

    #[test]
    fn the_version_that_is_shown_is_the_one_that_is_built_in() {
        let lock: toml::Table = include_str!("../../../Cargo.lock").parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let runtime = packages
            .iter()
            .find(|package| package["name"].as_str() == Some("wasmtime"));
        assert_eq!(runtime.unwrap()["version"].as_str(), Some(RUNTIME_VERSION));
    }
}
