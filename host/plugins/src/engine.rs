//! The wasmtime engine and the clock that interrupts guests.
//!
//! Invariant: made when the first plugin is opened, never before; one per [`crate::Targets`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Engine};

use crate::error::PluginError;
use crate::limits::STACK_BYTES_MAX;

/// Time between two looks at a running guest. A guest is stopped within two ticks of its limit.
const TICK: Duration = Duration::from_millis(10);

/// Makes the engine.
///
/// The settings make a guest's answer depend on its input alone (canonical NaN, deterministic relaxed SIMD, no threads)
/// and leave out what the contract does not need (64-bit memories, component-model async).
pub(crate) fn engine() -> Result<Engine, PluginError> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK_BYTES_MAX);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.wasm_memory64(false);
    config.memory_init_cow(true);
    Engine::new(&config).map_err(|error| PluginError::Malformed {
        plugin: "the plugin engine".to_owned(),
        cause: format!("{error:#}"),
    })
}

/// Ticks the engine's epoch while it is alive; made around each call of a guest.
pub(crate) struct Ticker {
    is_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub fn start(engine: &Engine) -> Ticker {
        let is_done = Arc::new(AtomicBool::new(false));
        let (engine, flag) = (engine.clone(), Arc::clone(&is_done));
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::Acquire) {
                std::thread::park_timeout(TICK);
                engine.increment_epoch();
            }
        });
        Ticker {
            is_done,
            thread: Some(thread),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread holds no lock and cannot panic; there is nothing to learn from its end.
            let _ended = thread.join();
        }
    }
}
