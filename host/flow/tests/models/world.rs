//! A home, a document and a hub of tiny models, and the requests that the tests make.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dlm_core::hardware::{Backend, Hardware, SimdLevel};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelError, ModelMessage, ModelPrompt, ModelRole, ModelSampling, ModelWeights, Models,
    ScoreRequest,
};
use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError, RemoteBase, Snapshot};
use dlm_core::stamp::Stamp;
use dlm_core::{Cancel, Event, Progress, Quiet};
use dlm_flow::init::{InitOptions, init};
use dlm_flow::models::{EngineModels, EngineSetup};
use dlm_flow::{Clock, Surroundings};
use dlm_store::{AdapterSlot, Home, LockWait, Store};
use dlm_testkit::reward::{RewardHead, write_reward_model};
use dlm_testkit::sentencepiece::write_sentencepiece;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const GIB: u64 = 1 << 30;

pub struct Still;

impl Clock for Still {
    fn unix_ms(&self) -> u64 {
        1_776_623_414_000
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// A hub whose repositories are directories; without them it is offline.
#[derive(Default)]
pub struct Directories {
    pub models: Vec<(&'static str, PathBuf)>,
    pub is_offline: bool,
    pub asked: AtomicUsize,
}

impl Directories {
    pub fn directory(&self, request: &BaseRequest) -> Result<&Path, BaseSourceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.models.iter().find(|(id, _)| *id == request.hf_id);
        found
            .map(|(_, directory)| directory.as_path())
            .ok_or_else(|| BaseSourceError::NotFound {
                hf_id: request.hf_id.clone(),
                revision: "main".to_owned(),
            })
    }
}

impl BaseSource for Directories {
    fn inspect(&self, request: &BaseRequest, _: &Cancel) -> Result<RemoteBase, BaseSourceError> {
        if self.is_offline {
            return Err(BaseSourceError::Offline {
                hf_id: request.hf_id.clone(),
                switch: "HF_HUB_OFFLINE".to_owned(),
            });
        }
        Ok(RemoteBase {
            commit: COMMIT.to_owned(),
            files: vec![("model.safetensors".to_owned(), 1000)],
            config_json: std::fs::read_to_string(self.directory(request)?.join("config.json")).unwrap(),
        })
    }

    fn cached(&self, request: &BaseRequest) -> Result<Option<Snapshot>, BaseSourceError> {
        Ok(self.directory(request).ok().map(|directory| Snapshot {
            dir: directory.to_owned(),
            commit: COMMIT.to_owned(),
            files: Vec::new(),
            bytes_fetched: 0,
        }))
    }

    fn fetch(&self, request: &BaseRequest, _: &dyn Progress, _: &Cancel) -> Result<Snapshot, BaseSourceError> {
        Ok(self.cached(request)?.unwrap())
    }
}

/// Keeps the texts of notable events.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl Heard {
    pub fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|text| text.contains(what)).count()
    }
}

impl Progress for Heard {
    fn event(&self, event: Event) {
        match event {
            Event::PhaseStarted { phase, .. } => self.0.lock().unwrap().push(phase),
            Event::Warning(text) => self.0.lock().unwrap().push(text),
            _ => {}
        }
    }
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}

pub fn hardware(free: u64) -> Hardware {
    Hardware {
        backend: Backend::Cpu,
        device_name: "test".into(),
        cpu_cores: 2,
        memory_total_bytes: 16 * GIB,
        memory_available_bytes: free,
        simd: SimdLevel::Avx512Bf16,
        cuda: Vec::new(),
        platform: "test".into(),
    }
}

/// A directory with a home, a document on `base`, and a hub with the tiny models.
pub struct World {
    pub directory: tempfile::TempDir,
    pub hub: Arc<Directories>,
    pub heard: Arc<Heard>,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let reward = directory.path().join("reward");
        std::fs::create_dir(&reward).unwrap();
        write_reward_model(&golden("llama"), &reward, RewardHead::Token(42)).unwrap();
        let many = directory.path().join("many");
        std::fs::create_dir(&many).unwrap();
        write_reward_model(&golden("llama"), &many, RewardHead::Zeros(3)).unwrap();
        let spaced = directory.path().join("spaced");
        std::fs::create_dir(&spaced).unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(golden("llama").join(name), spaced.join(name)).unwrap();
        }
        write_sentencepiece(&spaced).unwrap();
        let hub = Directories {
            models: vec![
                ("org/name", golden("llama")),
                ("org/other", golden("qwen3")),
                ("org/reward", reward),
                ("org/many", many),
                ("google/gemma-2-2b-it", golden("gemma2")),
                ("org/spaced", spaced),
            ],
            ..Directories::default()
        };
        World {
            directory,
            hub: Arc::new(hub),
            heard: Arc::default(),
        }
    }

    pub fn home(&self) -> Home {
        Home::new(self.directory.path().join("home"))
    }

    pub fn document(&self, base: &str) -> PathBuf {
        let cancel = Cancel::new();
        let around = Surroundings {
            home: self.home(),
            disk: dlm_store::Disk::new(),
            hardware: hardware(12 * GIB),
            clock: Arc::new(Still),
            random: Arc::new(|bytes| bytes.fill(7)),
            progress: Arc::new(Quiet),
            cancel: cancel.clone(),
            hub: self.hub.clone(),
            trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
            hub_root: "https://hub.example".to_owned(),
            is_forced: false,
            has_terminal: true,
            version: "0",
        };
        let path = self.directory.path().join("a.dlm");
        let options = InitOptions {
            path: path.clone(),
            base: Some(base.to_owned()),
            export_probes: dlm_flow::base::ExportProbes::Skip,
            accepts_license: true,
            overwrites: false,
        };
        init(&around, &options, None, &|_| Ok(true)).unwrap();
        path
    }

    /// Makes the golden adapter the document's first version.
    pub fn train(&self, path: &Path) {
        let document = dlm_flow::document::load(path).unwrap();
        let store = Store::new(&self.home(), &document.parsed.frontmatter().dlm_id);
        let wait = LockWait {
            timeout: Duration::ZERO,
            cancel: Cancel::new(),
            now: Stamp::from_unix_ms(1_776_623_414_000),
        };
        let guard = store.lock(&wait).unwrap();
        let pending = guard.begin_version(AdapterSlot::Flat).unwrap();
        for (directory, name) in [
            ("llama/adapter", "adapter_model.safetensors"),
            ("llama/adapter", "adapter_config.json"),
            ("llama", "tokenizer.json"),
            ("llama", "tokenizer_config.json"),
        ] {
            pending
                .write(name, &std::fs::read(golden(directory).join(name)).unwrap())
                .unwrap();
        }
        pending.commit().unwrap();
        guard.release().unwrap();
    }

    pub fn setup(&self, document: Option<&Path>) -> EngineSetup {
        let seeds = AtomicUsize::new(0);
        EngineSetup {
            adapter: None,
            around: Surroundings {
                home: self.home(),
                disk: dlm_store::Disk::new(),
                hardware: hardware(12 * GIB),
                clock: Arc::new(Still),
                random: Arc::new(move |bytes: &mut [u8]| bytes.fill(seeds.fetch_add(1, Ordering::SeqCst) as u8)),
                progress: self.heard.clone(),
                cancel: Cancel::new(),
                hub: self.hub.clone(),
                trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
                hub_root: "https://hub.example".to_owned(),
                is_forced: false,
                has_terminal: false,
                version: "0",
            },
            threads: Some(2),
            document: document.map(Path::to_owned),
        }
    }

    pub fn models(&self, document: Option<&Path>) -> EngineModels {
        EngineModels::new(self.setup(document))
    }
}

pub fn chat(question: &str) -> ModelPrompt {
    ModelPrompt::Chat(vec![ModelMessage {
        role: ModelRole::User,
        content: question.to_owned(),
    }])
}

pub fn sampling(temperature: f32, seed: Option<u64>) -> ModelSampling {
    ModelSampling {
        new_tokens_max: 12,
        temperature,
        top_p: Some(0.95),
        top_k: None,
        seed,
        stop: Vec::new(),
    }
}

pub fn generate(prompt: ModelPrompt, weights: ModelWeights, sampling: ModelSampling) -> GenerateRequest {
    GenerateRequest {
        prompt,
        weights,
        sampling,
    }
}

pub fn score(prompt: ModelPrompt, completion: &str, weights: ModelWeights) -> ScoreRequest {
    ScoreRequest {
        prompt,
        completion: completion.to_owned(),
        weights,
        is_per_token: true,
    }
}

pub fn open(models: &EngineModels, selector: &str) -> Arc<dyn Model> {
    models.named(selector).unwrap()
}

pub fn refused<T>(result: Result<T, ModelError>) -> ModelError {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}
