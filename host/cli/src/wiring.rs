//! Makes the surroundings of a use case out of arguments, environment and machine.
//!
//! Invariants: what a command does not use is not set up; the hub's client is made at its first use, so that local
//! commands open no socket and read no certificates.

mod hub;
pub mod plugins;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dlm_core::Cancel;
use dlm_core::hardware::Hardware;
use dlm_flow::base::ExportProbes;
use dlm_flow::{Clock, Failure, Surroundings};
use dlm_store::Home;

use crate::args::Global;
use crate::console::{Console, say};
use crate::environment;
use crate::progress::Screen;

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

/// The owner of everything that [`Surroundings`] borrow.
pub struct World {
    home: PathBuf,
    hardware: Hardware,
    clock: SystemClock,
    screen: Arc<Screen>,
    interrupt: Interrupt,
    hub: Arc<LazyHub>,
}

impl World {
    /// Probes the machine and takes over Ctrl-C; opens no connection.
    ///
    /// **Errors** when there is no home directory or the machine cannot be probed.
    pub fn new(global: &Global, console: &Console) -> Result<Self, Failure> {
        Ok(Self {
            home: home(global)?,
            hardware: dlm_model::device::probe(Vec::new())?,
            clock: SystemClock::start(),
            screen: Arc::new(Screen::new(console.is_quiet)),
            interrupt: Interrupt::install()?,
            hub: Arc::new(LazyHub::from_environment()),
        })
    }

    /// What a use case is handed.
    pub fn around(&self) -> Surroundings<'_> {
        Surroundings {
            home: Home::new(&self.home),
            hardware: self.hardware.clone(),
            clock: &self.clock,
            random: &random_bytes,
            progress: &*self.screen,
            cancel: &self.interrupt.cancel,
            hub: &*self.hub,
            is_forced: is_set("DLM_FORCE"),
            has_terminal: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// The hub's web root, which `{hub}` in license addresses stands for.
    pub fn hub_root(&self) -> &str {
        self.hub.root()
    }

    /// The flag that Ctrl-C raises.
    pub fn cancel(&self) -> &Cancel {
        &self.interrupt.cancel
    }

    /// Puts a question on stderr and reads the answer; only `y` and `yes` mean yes.
    ///
    /// **Errors** when the answer cannot be read.
    pub fn ask(&self, question: &str) -> Result<bool, Failure> {
        self.interrupt.ask(question).map_err(|e| Failure::of("error", &e))
    }
}

/// Finds the directory of all stores: `--home`, `DLM_HOME`, else `~/.dlm`; the result is absolute.
///
/// **Errors** when none of them is there.
pub fn home(global: &Global) -> Result<PathBuf, Failure> {
    let set = environment::path;
    let user = set("HOME");
    let chosen = match (global.home.clone().or_else(|| set("DLM_HOME")), user) {
        (Some(path), Some(user)) => match path.strip_prefix("~") {
            Ok(rest) => user.join(rest),
            Err(_) => path,
        },
        (Some(path), None) => path,
        (None, Some(user)) => user.join(".dlm"),
        (None, None) => {
            return Err(Failure::new("error", "HOME is not set, so the stores have no place")
                .hint("give one: `dlm --home <path> ...`, or set DLM_HOME"));
        }
    };
    if chosen.as_os_str().is_empty() {
        return Err(Failure::misuse("error", "`--home` is empty, expected a directory"));
    }
    if chosen.is_file() {
        return Err(Failure::misuse(
            "error",
            format!("{} is a file, expected the directory of all stores", chosen.display()),
        ));
    }
    std::path::absolute(&chosen).map_err(|e| Failure::new("error", format!("{}: {e}", chosen.display())))
}

/// Ctrl-C: raises a flag that long work looks at; a second one, or one during a question, ends the program at once.
pub struct Interrupt {
    pub cancel: Cancel,
    is_asking: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over Ctrl-C, once in a process.
    pub fn install() -> Result<Self, Failure> {
        let interrupt = Self {
            cancel: Cancel::new(),
            is_asking: Arc::default(),
        };
        let (raised, is_asking) = (interrupt.cancel.clone(), interrupt.is_asking.clone());
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
        .map_err(|e| Failure::of("error", &e))?;
        Ok(interrupt)
    }

    /// Puts a question on stderr and reads the answer; only `y` and `yes` mean yes, and Ctrl-C ends the program.
    ///
    /// **Errors** when the answer cannot be read.
    pub fn ask(&self, question: &str) -> std::io::Result<bool> {
        self.is_asking.store(true, Ordering::SeqCst);
        let answer = ask_plainly(question);
        self.is_asking.store(false, Ordering::SeqCst);
        answer
    }
}

/// Puts a question on stderr and reads the answer; only `y` and `yes` mean yes. Ctrl-C ends the program.
///
/// **Errors** when the answer cannot be read.
pub fn ask_plainly(question: &str) -> std::io::Result<bool> {
    let mut screen = std::io::stderr();
    screen.write_all(question.as_bytes())?;
    screen.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
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

/// Whether a base is asked if it can be exported, by flag and environment.
pub fn export_probes(is_flag_given: bool) -> ExportProbes {
    if is_flag_given || is_set("DLM_SKIP_EXPORT_PROBES") {
        ExportProbes::Skip
    } else {
        ExportProbes::Run
    }
}

/// Says whether a word of the environment means yes.
pub fn is_set(name: &str) -> bool {
    environment::text(name).is_some_and(|v| matches!(v.to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

#[expect(clippy::exit, reason = "the second Ctrl-C asks for exactly this")]
fn exit_now() -> ! {
    std::process::exit(130)
}
