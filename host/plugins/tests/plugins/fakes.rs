//! Ports that record what they were asked, and the test guest.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dlm_core::event::Progress;
use dlm_core::http_rule::{HttpRule, ParsedUrl};
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::judge::JudgeItem;
use dlm_core::ports::model::NoModels;
use dlm_core::ports::process::{Command, FinishedProcess, Process, ProcessError, Running};
use dlm_core::ports::secrets::NoSecrets;
use dlm_core::ports::target::{Artifact, ArtifactKind, Stage};
use dlm_core::{Cancel, Event};
use dlm_packages::{Limits, TARGET_LIMITS};
use dlm_plugins::{Compile, GrantFlags, LogLevel, Plugins, Ports, RunFacts};

/// The port that every fake server gets.
pub const PORT: u16 = 4711;

pub const TEST_TARGET: &[u8] = include_bytes!("../../../../tests/guests/test-target/plugin.wasm");

type Answer<I, O> = Box<dyn Fn(&I) -> O + Send>;

/// Programs that are there, what they answer, and what was run.
pub struct FakeProcess {
    pub programs: Mutex<Vec<&'static str>>,
    pub ran: Mutex<Vec<Vec<String>>>,
    pub answer: Mutex<Answer<Vec<String>, FinishedProcess>>,
    /// Exit status of every started server; nothing for one that stays.
    pub server_status: Mutex<Option<i32>>,
}

impl Process for FakeProcess {
    fn find(&self, program: &str) -> Option<PathBuf> {
        let is_there = self.programs.lock().unwrap().contains(&program);
        is_there.then(|| Path::new("/fake/bin").join(program))
    }

    fn run(&self, command: &Command, _timeout: Duration, _cancel: &Cancel) -> Result<FinishedProcess, ProcessError> {
        let words = words(command);
        self.ran.lock().unwrap().push(words.clone());
        Ok((self.answer.lock().unwrap())(&words))
    }

    fn start(&self, command: &Command) -> Result<Box<dyn Running>, ProcessError> {
        self.ran.lock().unwrap().push(words(command));
        Ok(Box::new(FakeServer {
            program: command.program.clone(),
            status: *self.server_status.lock().unwrap(),
        }))
    }
}

fn words(command: &Command) -> Vec<String> {
    let mut words = vec![command.program.to_string_lossy().into_owned()];
    words.extend(command.arguments.iter().cloned());
    words
}

struct FakeServer {
    program: PathBuf,
    status: Option<i32>,
}

impl Running for FakeServer {
    fn ended(&mut self) -> Result<Option<i32>, ProcessError> {
        Ok(self.status)
    }

    fn tail(&mut self, _lines: usize) -> Vec<String> {
        vec!["line of the server".to_owned()]
    }

    fn stop(&mut self, _grace: Duration) {
        self.status = self.status.or(Some(0));
    }

    fn wait(&mut self, _pause: Duration) {}

    fn program(&self) -> &Path {
        &self.program
    }
}

type HttpAnswer = Box<dyn Fn(&GuestRequest) -> (u16, String) + Send>;

/// Answers by a function, and keeps the requests.
pub struct FakeHttp {
    pub sent: Mutex<Vec<GuestRequest>>,
    pub answer: Mutex<HttpAnswer>,
}

impl GuestHttp for FakeHttp {
    /// Checks the address as the real port does; the rest of its checks have their tests beside it.
    fn send(&self, request: &GuestRequest, rules: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        let url = ParsedUrl::parse(&request.url).map_err(|error| GuestHttpError::Invalid(error.to_string()))?;
        if !rules.iter().any(|rule| rule.covers(&url)) {
            return Err(GuestHttpError::Denied {
                capability: format!("http:{}", request.url),
                message: "no rule allows it".to_owned(),
            });
        }
        self.sent.lock().unwrap().push(request.clone());
        let (status, body) = (self.answer.lock().unwrap())(request);
        Ok(GuestResponse {
            status,
            headers: Vec::new(),
            url: request.url.clone(),
            body: body.into_bytes(),
        })
    }
}

/// Keeps every event.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// All the fakes of one test.
pub struct World {
    pub process: Arc<FakeProcess>,
    pub http: Arc<FakeHttp>,
    pub events: Arc<Recorder>,
    pub cancel: Cancel,
    pub directory: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        World {
            process: Arc::new(FakeProcess {
                programs: Mutex::new(vec!["ollama", "llama-server", "server"]),
                ran: Mutex::default(),
                answer: Mutex::new(Box::new(|_| finished(0, "", ""))),
                server_status: Mutex::new(None),
            }),
            http: Arc::new(FakeHttp {
                sent: Mutex::default(),
                answer: Mutex::new(Box::new(|_| (200, "{}".to_owned()))),
            }),
            events: Arc::default(),
            cancel: Cancel::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn targets(&self, flags: &GrantFlags) -> Plugins {
        Plugins::new(facts(), self.ports(), Compile::InMemory, flags).unwrap()
    }

    pub fn ports(&self) -> Ports {
        Ports {
            process: self.process.clone(),
            http: self.http.clone(),
            models: Arc::new(NoModels),
            secrets: Arc::new(NoSecrets),
            free_port: || Ok(PORT),
            clock: None,
            progress: self.events.clone(),
            cancel: self.cancel.clone(),
        }
    }

    pub fn answer_http(&self, answer: impl Fn(&GuestRequest) -> (u16, String) + Send + 'static) {
        *self.http.answer.lock().unwrap() = Box::new(answer);
    }

    pub fn answer_process(&self, answer: impl Fn(&Vec<String>) -> FinishedProcess + Send + 'static) {
        *self.process.answer.lock().unwrap() = Box::new(answer);
    }

    /// The export directory with a base and an adapter in it.
    pub fn stage(&self) -> Stage {
        let directory = self.directory.path().to_owned();
        let artifact = |name: &str, kind, file: &str| {
            let path = directory.join(file);
            std::fs::write(&path, name).unwrap();
            Artifact {
                name: name.to_owned(),
                kind,
                path,
                size: name.len() as u64,
                sha256: "00".repeat(32),
                staged_path: Some(file.to_owned()),
            }
        };
        Stage {
            artifacts: vec![
                artifact("base.gguf", ArtifactKind::Gguf, "base.Q4_K_M.gguf"),
                artifact("adapter.gguf", ArtifactKind::Adapter, "adapter.gguf"),
            ],
            reserved: vec!["export_manifest.json".to_owned()],
            is_draft: false,
            directory,
        }
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    pub fn warnings(&self) -> Vec<String> {
        let events = self.events.0.lock().unwrap();
        let texts = events.iter().filter_map(|event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }
}

impl World {
    /// Warnings and notes, in order.
    pub fn lines(&self) -> Vec<String> {
        let events = self.events.0.lock().unwrap();
        let texts = events.iter().filter_map(|event| match event {
            Event::Warning(text) | Event::Note(text) => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }
}

/// A question with two answers for a judge.
pub fn item() -> JudgeItem {
    JudgeItem {
        system: None,
        prompt: "Who?".to_owned(),
        candidates: vec!["one".to_owned(), "three".to_owned()],
        reference: None,
    }
}

pub fn facts() -> RunFacts {
    RunFacts {
        host_version: "1.2.3".to_owned(),
        seed: 7,
        unix_ms: 951_782_400_000,
        is_dry_run: false,
        log_level: LogLevel::Warn,
        directory: std::env::temp_dir(),
    }
}

/// Limits that a test reaches quickly; times stay long, because a busy machine must not fail a test of something else.
pub const SMALL: Limits = Limits {
    memory_bytes: 32 << 20,
    output_bytes: 4 << 20,
    transfer_bytes: 8 << 20,
    requests: 10,
    ..TARGET_LIMITS
};

/// The same with little time.
pub const HASTY: Limits = Limits {
    open_time: Duration::from_millis(300),
    call_time: Duration::from_millis(300),
    ..SMALL
};

pub fn finished(status: i32, stdout: &str, stderr: &str) -> FinishedProcess {
    FinishedProcess {
        status,
        stdout: stdout.as_bytes().to_vec(),
        stderr: stderr.as_bytes().to_vec(),
    }
}

pub fn grant(capability: &str) -> GrantFlags {
    GrantFlags {
        granted: vec![format!("test-target={capability}")],
        ..GrantFlags::default()
    }
}
