//! Makes the surroundings of a use case out of arguments, environment and machine.
//!
//! Invariants: what a command does not use is not set up; the hub's client is made at its first use, so that local
//! commands open no socket and read no certificates.

mod hub;
pub mod plugins;
pub mod trial;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dlm_core::{Cancel, Subject};
use dlm_flow::{Clock, Failure, Surroundings};
use dlm_store::{Disk, Home};

use crate::console::{self, Console, say};
use crate::progress::Screen;
use crate::settings::Settings;

pub use hub::LazyHub;

/// The system's clock.
pub struct SystemClock(Instant);

impl SystemClock {
    /// Starts counting seconds now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_millis() as u64
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// What a command is run in: what its use case is handed, and the person at the terminal.
pub struct World {
    pub around: Surroundings,
    interrupt: Interrupt,
}

impl World {
    /// Probes the machine and takes over Ctrl-C; opens no connection.
    ///
    /// **Errors** when there is no home directory or the machine cannot be probed.
    pub fn new(settings: &Settings, console: &Console) -> Result<Self, Failure> {
        let home = Home::new(settings.home()?);
        let hardware = dlm_model::device::probe(Vec::new())?;
        let interrupt = Interrupt::install()?;
        let hub = LazyHub::from_environment();
        console.detail(&hub.line());
        let around = Surroundings {
            home,
            disk: Disk::new(),
            hardware,
            clock: Arc::new(SystemClock::start()),
            random: Arc::new(random_bytes),
            progress: Arc::new(Screen::new(console.is_quiet)),
            cancel: interrupt.cancel.clone(),
            hub_root: hub.root().to_owned(),
            hub: Arc::new(hub),
            trial: Arc::new(trial::ProcessTrial),
            is_forced: settings.is_forced.value,
            has_terminal: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            version: env!("CARGO_PKG_VERSION"),
        };
        Ok(Self { around, interrupt })
    }

    /// Puts a question on stderr and reads the answer; only `y` and `yes` mean yes.
    ///
    /// **Errors** when the answer cannot be read.
    pub fn ask(&self, question: &str) -> Result<bool, Failure> {
        self.interrupt
            .ask(question)
            .map_err(|e| Failure::new(Subject::Error, e))
    }

    /// Puts questions as [`World::ask`] does, for parts that hold no world; nothing where nobody is at a terminal.
    pub fn asker(&self) -> Option<impl Fn(&str) -> std::io::Result<bool> + Send + Sync + 'static> {
        let interrupt = self.interrupt.clone();
        self.around
            .has_terminal
            .then_some(move |question: &str| interrupt.ask(question))
    }
}

/// Ctrl-C, and what ends programs otherwise (SIGTERM, a closed terminal): raises a flag that long work looks at; a second one, or
/// one during a question, ends the program at once. What it started ends with it, by the guards and by itself.
#[derive(Clone)]
pub struct Interrupt {
    pub cancel: Cancel,
    is_asking: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over these signals, once in a process.
    pub fn install() -> Result<Self, Failure> {
        let interrupt = Self {
            cancel: Cancel::new(),
            is_asking: Arc::default(),
        };
        let (raised, is_asking) = (interrupt.cancel.clone(), interrupt.is_asking.clone());
        let is_kept = is_hangup_ignored();
        ctrlc::set_handler(move || {
            if is_asking.load(Ordering::SeqCst) {
                say("\ninterrupted");
                exit_now();
            }
            if raised.is_cancelled() {
                exit_now();
            }
            raised.cancel();
        })
        .map_err(|error| match error {
            ctrlc::Error::System(error) => {
                let what = format!("Ctrl-C cannot be waited for: {error}");
                Failure::new(Subject::Error, what)
                    .hint("close other programs, or raise the limits that `ulimit -a` shows")
            }
            error => Failure::new(Subject::Error, error.to_string()),
        })?;
        if is_kept {
            ignore_hangup();
        }
        Ok(interrupt)
    }

    /// Puts a question on stderr and reads the answer; only `y` and `yes` mean yes, and Ctrl-C ends the program.
    ///
    /// **Errors** when the answer cannot be read.
    pub fn ask(&self, question: &str) -> std::io::Result<bool> {
        self.is_asking.store(true, Ordering::SeqCst);
        let answer = console::ask(question);
        self.is_asking.store(false, Ordering::SeqCst);
        answer
    }
}

/// Makes a flag that Ctrl-C raises; a second Ctrl-C ends the program at once.
pub fn cancel_on_interrupt() -> Result<Cancel, Failure> {
    Ok(Interrupt::install()?.cancel)
}

/// Fills the slice with bytes from the operating system.
pub fn random_bytes(out: &mut [u8]) {
    use std::io::Read;
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(out));
    if read.is_err() {
        // Without the system's source the clock's finest digits still make two ids differ; nothing here is a secret.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = now.as_nanos() ^ (u128::from(std::process::id()) << 64);
        for (byte, i) in out.iter_mut().zip(0u32..) {
            *byte = (seed >> (i * 8 % 120)) as u8 ^ i as u8;
        }
    }
}

/// Says whether dlm was started to outlive its terminal, as `nohup` does.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    // SAFETY: asks for the disposition by setting one, and puts back what was there; nobody else changes it.
    unsafe {
        let before = libc::signal(libc::SIGHUP, libc::SIG_IGN);
        if before != libc::SIG_IGN {
            libc::signal(libc::SIGHUP, before);
        }
        before == libc::SIG_IGN
    }
}

/// Makes a file that grows beyond the limit of this process an error like that of a full disk, not the program's end.
#[cfg(unix)]
pub fn outlive_large_files() {
    // SAFETY: sets a disposition that runs no code.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

#[cfg(not(unix))]
pub fn outlive_large_files() {}

#[cfg(unix)]
fn ignore_hangup() {
    // SAFETY: sets a disposition that runs no code.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}

#[cfg(not(unix))]
fn is_hangup_ignored() -> bool {
    false
}

#[cfg(not(unix))]
fn ignore_hangup() {}

#[expect(clippy::exit, reason = "the second Ctrl-C asks for exactly this")]
fn exit_now() -> ! {
    std::process::exit(130)
}
