//! A document with a store that was trained once, and everything around it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dlm_core::event::Progress;
use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::manifest::{Manifest, RunStatus};
use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::stamp::Stamp;
use dlm_core::{Cancel, Event};
use dlm_flow::{Clock, Surroundings};
use dlm_store::metrics::{MiningRow, RunStart, Strictness};
use dlm_store::{Home, LockWait, PendingPlan, PlanKind, Store};

pub const ID: &str = "01HZ4X7TGZM3J1A2B3C4D5E6F7";
pub const NOW_MS: u64 = 1_776_623_414_000;
/// The run that the store remembers.
pub const RUN: u64 = 7;
pub const HEAD: &str = "---\n# mine\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7 # keep\nbase_model: smollm2-135m\nsystem_prompt: Be brief.\n---\n\n";

struct Still;

impl Clock for Still {
    fn unix_ms(&self) -> u64 {
        NOW_MS
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

struct NoHub;

impl BaseSource for NoHub {
    fn inspect(&self, request: &BaseRequest, _: &Cancel) -> Result<RemoteBase, BaseSourceError> {
        panic!("no test asks the hub, not even for {}", request.hf_id)
    }

    fn cached(&self, _: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError> {
        Ok(None)
    }

    fn fetch(&self, request: &BaseRequest, _: &dyn Progress, _: &Cancel) -> Result<Snapshot, BaseSourceError> {
        panic!("no test downloads, not even {}", request.hf_id)
    }
}

/// Keeps every event.
#[derive(Default)]
pub struct Heard(Mutex<Vec<Event>>);

impl Progress for Heard {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub struct World {
    directory: tempfile::TempDir,
    pub path: PathBuf,
    pub cancel: Cancel,
    heard: Arc<Heard>,
}

impl World {
    /// A document with this body whose store was trained.
    pub fn new(body: &str) -> Self {
        let world = Self::untrained(body);
        let store = world.store();
        let now = Stamp::from_unix_ms(NOW_MS as i64);
        let guard = store
            .lock(&LockWait {
                timeout: std::time::Duration::ZERO,
                cancel: Cancel::new(),
                now,
            })
            .unwrap();
        guard.initialize(&Manifest::new(ID, "smollm2-135m", now)).unwrap();
        guard.release().unwrap();
        let recorder = store.metrics_recorder(Strictness::Strict).unwrap();
        for (run_id, status) in [(RUN, RunStatus::Completed), (RUN + 1, RunStatus::Failed)] {
            let start = RunStart {
                run_id,
                started_at: now,
                adapter_version: 1,
                phase: "sft",
                seed: 42,
            };
            recorder.run_started(&start).unwrap();
            recorder.run_ended(run_id, now, status).unwrap();
        }
        world
    }

    /// A document with this body and no store.
    pub fn untrained(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.dlm");
        std::fs::write(&path, format!("{HEAD}{body}")).unwrap();
        Self {
            directory,
            path,
            cancel: Cancel::new(),
            heard: Arc::default(),
        }
    }

    pub fn store(&self) -> Store {
        Store::new(&self.home(), &ID.parse().unwrap())
    }

    fn home(&self) -> Home {
        Home::new(self.directory.path().join("home"))
    }

    pub fn around(&self) -> Surroundings {
        Surroundings {
            home: self.home(),
            disk: dlm_store::Disk::new(),
            hardware: Hardware {
                backend: Backend::Cpu,
                device_name: "test".into(),
                cpu_cores: 2,
                memory_total_bytes: 16 << 30,
                memory_available_bytes: 12 << 30,
                simd: SimdLevel::Avx2,
                cuda: Vec::new(),
                platform: "test".into(),
            },
            clock: Arc::new(Still),
            random: Arc::new(|bytes| bytes.fill(7)),
            progress: self.heard.clone(),
            cancel: self.cancel.clone(),
            hub: Arc::new(NoHub),
            trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
            hub_root: "https://hub.example".to_owned(),
            is_forced: false,
            has_terminal: false,
            version: "0",
        }
    }

    /// The document's text.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    pub fn pending(&self, kind: PlanKind) -> Option<PendingPlan> {
        self.store().pending(kind).unwrap()
    }

    pub fn mining_rows(&self) -> Vec<MiningRow> {
        self.store().metrics_reader().unwrap().unwrap().mining(None).unwrap()
    }

    /// Notes and warnings so far.
    pub fn remarks(&self) -> Vec<String> {
        let text = |event: &Event| match event {
            Event::Note(text) | Event::Warning(text) => Some(text.clone()),
            _ => None,
        };
        self.heard.0.lock().unwrap().iter().filter_map(text).collect()
    }
}
