//! `--record DIR`: what plugins were asked in a real run, what the host answered them meanwhile and what they said, as cases of
//! `dlm plugin test`.
//!
//! Invariants: a secret is written by its name alone, whatever it stands in; the run itself is not changed; no file that is there is
//! replaced.

mod ports;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dlm_core::ports::judge::{Judge, JudgeInfo, JudgeItem, JudgeVerdict};
use dlm_core::ports::plugin::{PluginFailure, PluginIdentity};
use dlm_core::ports::target::{
    ExportTarget, PreparedTarget, Stage, TargetInfo, TargetPlan, TargetRegistration, TargetSmoke,
};
use dlm_core::ports::teacher::{Teacher, TeacherCompletion, TeacherInfo, TeacherRequest};
use dlm_core::ports::templates::{TemplateBundle, TemplateMeta, Templates};
use dlm_files::Disk;
use dlm_packages::manifest::ConfigValue;
use serde_json::{Map, Value, json};

use crate::host::NewState;
use crate::wire;

/// Most cases of one run: a mining run of an evening has more calls than anybody reads.
const CASES_MAX: usize = 1000;
/// Most numbers that are tried for a name that is free.
const NUMBERS_MAX: usize = 100_000;

/// Writes the cases of a run.
#[derive(Debug)]
pub(crate) struct Recorder {
    directory: PathBuf,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    cases: usize,
    left_out: usize,
    /// The first case that could not be written, and why.
    problem: Option<String>,
}

/// What became of `--record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub directory: PathBuf,
    pub cases: usize,
    /// Calls beyond the most that are kept.
    pub left_out: usize,
    /// A case that could not be written, and why.
    pub problem: Option<String>,
}

impl Recorder {
    /// Makes the directory.
    ///
    /// **Errors**: it cannot be made, in words.
    pub fn new(directory: &Path) -> Result<Recorder, String> {
        let made = Disk::new().create_directories(directory);
        made.map_err(|error| format!("cannot make `{}`: {}", directory.display(), error.into_io()))?;
        Ok(Recorder {
            directory: directory.to_owned(),
            state: Mutex::default(),
        })
    }

    pub fn recorded(&self) -> Recorded {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Recorded {
            directory: self.directory.clone(),
            cases: state.cases,
            left_out: state.left_out,
            problem: state.problem.clone(),
        }
    }

    fn write(&self, name: &str, case: &Value) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.cases >= CASES_MAX {
            state.left_out += 1;
            return;
        }
        let free = (1..NUMBERS_MAX)
            .map(|number| self.directory.join(format!("{name}-{number}.json")))
            .find(|path| path.symlink_metadata().is_err());
        let Some(path) = free else { return };
        let text = format!("{case:#}\n");
        match Disk::new().write(&path, text.as_bytes()) {
            Ok(()) => state.cases += 1,
            Err(error) => {
                let problem = format!("cannot write `{}`: {}", path.display(), error.into_io());
                state.problem.get_or_insert(problem);
            }
        }
    }
}

/// What the host answered one instance.
#[derive(Debug, Default)]
pub(crate) struct Tape(Mutex<Heard>);

#[derive(Clone, Debug, Default)]
struct Heard {
    /// Answers by list of a case: `model`, `http`, `process`.
    answers: BTreeMap<&'static str, Vec<Value>>,
    /// Values of secrets that were taken, by name: they are looked for in what is written.
    secrets: BTreeMap<String, String>,
}

impl Tape {
    /// Keeps an answer; the first one that a request got is the one that a case gives.
    fn add(&self, list: &'static str, answer: Value) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.answers.entry(list).or_default();
        if !known.contains(&answer) {
            known.push(answer);
        }
    }

    fn take_secret(&self, name: &str, value: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.secrets.insert(name.to_owned(), value.to_owned());
    }

    fn heard(&self) -> Heard {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes back to what was heard at a moment, so that the next call does not bring the answers of this one.
    fn back_to(&self, before: Heard) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.answers = before.answers;
    }
}

/// One instance whose calls are recorded.
pub(crate) struct Book {
    recorder: Arc<Recorder>,
    tape: Arc<Tape>,
    plugin: String,
    /// `kind`, `arg`, `grants` and `config` of every case.
    head: Map<String, Value>,
}

impl Book {
    /// Puts a tape between an instance and the ports of the run.
    pub fn open(recorder: &Arc<Recorder>, new: &mut NewState) -> Book {
        let tape = Arc::<Tape>::default();
        new.ports = ports::taped(&new.ports, &tape);
        let config: Map<String, Value> = new
            .settings
            .iter()
            .map(|(key, value)| (key.clone(), config_json(value)))
            .collect();
        let mut head = Map::new();
        head.insert("kind".to_owned(), json!(new.kind.name()));
        head.insert("arg".to_owned(), json!(new.argument));
        head.insert("grants".to_owned(), json!(new.grants.texts()));
        head.insert("config".to_owned(), Value::Object(config));
        Book {
            recorder: Arc::clone(recorder),
            tape,
            plugin: new.plugin.clone(),
            head,
        }
    }

    /// Makes a call and writes it down.
    fn call<T>(
        &self,
        function: &str,
        argument: Value,
        inputs: Vec<Value>,
        work: impl FnOnce() -> Result<T, PluginFailure>,
        told: impl FnOnce(&T) -> Value,
    ) -> Result<T, PluginFailure> {
        // What `open` asked for is asked for in every case; what other calls asked for is not.
        let opened = self.tape.heard();
        let done = work();
        let heard = self.tape.heard();
        self.tape.back_to(opened);
        let expect = match &done {
            Ok(value) => told(value),
            Err(failure) => json!({ "error": { "code": failure.code, "message": failure.message } }),
        };
        let mut host: Map<String, Value> = heard
            .answers
            .iter()
            .map(|(list, answers)| ((*list).to_owned(), json!(answers)))
            .collect();
        let names = heard.secrets.keys();
        let secrets: Map<String, Value> = names.map(|name| (name.clone(), json!(stand_in(name)))).collect();
        if !secrets.is_empty() {
            host.insert("secrets".to_owned(), Value::Object(secrets));
        }
        if !inputs.is_empty() {
            host.insert("inputs".to_owned(), Value::Array(inputs));
        }
        let mut case = self.head.clone();
        if !host.is_empty() {
            case.insert("host".to_owned(), Value::Object(host));
        }
        case.insert("call".to_owned(), json!({ function: argument }));
        case.insert("expect".to_owned(), expect);
        let case = without_secrets(Value::Object(case), &heard.secrets);
        self.recorder.write(&format!("{}-{function}", self.plugin), &case);
        done
    }
}

fn config_json(value: &ConfigValue) -> Value {
    match value {
        ConfigValue::Text(text) | ConfigValue::Json(text) => json!(text),
        ConfigValue::Integer(number) => json!(number),
        ConfigValue::Number(number) => json!(number),
        ConfigValue::Boolean(is_so) => json!(is_so),
    }
}

/// What stands in a case for the value of a secret.
fn stand_in(name: &str) -> String {
    format!("secret-{name}")
}

/// A case in which no secret's value stands.
fn without_secrets(value: Value, secrets: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => {
            let hidden = secrets.iter().filter(|(_, secret)| !secret.is_empty());
            Value::String(hidden.fold(text, |text, (name, secret)| text.replace(secret, &stand_in(name))))
        }
        Value::Array(values) => values
            .into_iter()
            .map(|value| without_secrets(value, secrets))
            .collect(),
        Value::Object(values) => values
            .into_iter()
            .map(|(key, value)| (key, without_secrets(value, secrets)))
            .collect(),
        other => other,
    }
}

/// A judge whose calls are written down.
pub(crate) struct RecordedJudge<J>(pub J, pub Book);

impl<J: Judge> Judge for RecordedJudge<J> {
    fn info(&self) -> &JudgeInfo {
        self.0.info()
    }

    fn score(&mut self, items: &[JudgeItem]) -> Result<Vec<JudgeVerdict>, PluginFailure> {
        let Self(judge, book) = self;
        let argument = wire::items_json(items);
        book.call(
            "score",
            argument,
            Vec::new(),
            || judge.score(items),
            |verdicts| wire::verdicts_json(verdicts),
        )
    }
}

/// A teacher whose calls are written down.
pub(crate) struct RecordedTeacher<T>(pub T, pub Book);

impl<T: Teacher> Teacher for RecordedTeacher<T> {
    fn info(&self) -> &TeacherInfo {
        self.0.info()
    }

    fn complete(&mut self, request: &TeacherRequest) -> Result<TeacherCompletion, PluginFailure> {
        let Self(teacher, book) = self;
        let argument = wire::request_json(request);
        book.call(
            "complete",
            argument,
            Vec::new(),
            || teacher.complete(request),
            wire::completion_json,
        )
    }
}

/// A template source whose calls are written down.
pub(crate) struct RecordedTemplates<T>(pub T, pub Book);

impl<T: Templates> Templates for RecordedTemplates<T> {
    fn identity(&self) -> &PluginIdentity {
        self.0.identity()
    }

    fn cache_seconds(&self) -> u32 {
        self.0.cache_seconds()
    }

    fn list(&mut self, query: Option<&str>) -> Result<Vec<TemplateMeta>, PluginFailure> {
        let Self(templates, book) = self;
        let told = |listed: &Vec<TemplateMeta>| wire::list_json(listed);
        book.call("list", json!(query), Vec::new(), || templates.list(query), told)
    }

    fn fetch(&mut self, name: &str) -> Result<TemplateBundle, PluginFailure> {
        let Self(templates, book) = self;
        book.call(
            "fetch",
            json!(name),
            Vec::new(),
            || templates.fetch(name),
            wire::bundle_json,
        )
    }
}

/// An export target whose `prepare` and `install` are written down; `smoke` needs a server, which no case starts.
pub(crate) struct RecordedTarget<T>(pub T, pub Book);

impl<T: ExportTarget> ExportTarget for RecordedTarget<T> {
    fn info(&self) -> &TargetInfo {
        self.0.info()
    }

    fn prepare(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<PreparedTarget, PluginFailure> {
        let Self(target, book) = self;
        let told = |prepared: &PreparedTarget| wire::prepared_json(prepared, &stage.directory).unwrap_or(Value::Null);
        book.call(
            "prepare",
            wire::plan_json(plan),
            wire::inputs_json(stage),
            || target.prepare(plan, stage),
            told,
        )
    }

    fn install(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<Option<TargetRegistration>, PluginFailure> {
        let Self(target, book) = self;
        let told = |made: &Option<TargetRegistration>| wire::registration_json(made.as_ref());
        book.call(
            "install",
            wire::plan_json(plan),
            wire::inputs_json(stage),
            || target.install(plan, stage),
            told,
        )
    }

    fn smoke(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<TargetSmoke, PluginFailure> {
        self.0.smoke(plan, stage)
    }
}
