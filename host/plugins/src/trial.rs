//! `dlm plugin test`: runs the cases of a plugin, and checks that need no case, through the real host with scripted ports.

//!
//! Invariants: the plugin runs under the limits and grants of every run; nothing but the scratch directory is written; a host
//! request that is not scripted fails its case.

pub mod answers;
mod case;
mod case_plugin;
mod compare;
mod heard;
pub mod keys;
mod script;
mod standing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dlm_core::Cancel;
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::process::Process;
use dlm_core::ports::teacher::TeacherRequest;
use dlm_core::ports::templates::TemplateBundle;
use dlm_files::Disk;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cache::Compile;
use crate::ports::{GrantFlags, LogLevel, Metering, Ports, RunFacts};
use crate::source::Plugins;
use case::Case;
use case_plugin::{Answer, CaseError, CasePlugin};
use compare::{differs, merged};
use dlm_packages::discover::{FoundPlugin, Origin, Places};
use dlm_packages::limits::LimitName;
use heard::Heard;
use script::{Failing, Script, ScriptedHttp, ScriptedModels, ScriptedProcess, ScriptedSecrets};

pub use standing::Standing;

/// The clock of every case: the run's start, so that an answer does not depend on the day.
const UNIX_MS: u64 = 1_767_225_600_000;

/// What is tested, and with what around it.
#[derive(Clone)]
pub struct Trial {
    pub plugin: FoundPlugin,
    pub places: Places,
    /// An empty directory for what the plugin writes; the caller removes it.
    pub scratch: PathBuf,
    pub host_version: String,
    pub compile: Compile,
    /// Runs the compiler of `compile`, and nothing else.
    pub compiler: Arc<dyn Process>,
    pub uses: Uses,
}

/// How commands ask plugins and what they make of the answers, which is not known here.
#[derive(Clone, Copy)]
pub struct Uses {
    /// What a teacher is asked about a short passage.
    pub teacher_request: fn() -> TeacherRequest,
    /// Why nothing of its answer would reach a document.
    pub teacher_problem: fn(&str) -> Option<String>,
    /// Why no document can be started from a template: the source's name, the template's, and what was fetched.
    pub template_problem: fn(&str, &str, &TemplateBundle) -> Option<String>,
}

/// A case file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFile {
    pub name: String,
    pub text: String,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseReport {
    pub name: String,
    /// What is wrong, one line each; empty where it passed.
    pub problems: Vec<String>,
    /// What was found, in the shape of `expect`.
    pub found: Value,
    pub ms: f64,
    /// What the plugin logged and printed, a line each.
    pub said: Vec<String>,
}

impl CaseReport {
    /// True where nothing is wrong.
    pub fn is_passed(&self) -> bool {
        self.problems.is_empty()
    }

    fn is_too_slow(&self) -> bool {
        is_too_slow(&self.found)
    }
}

/// Start and call of a case, in microseconds: the median of many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    pub name: String,
    pub open_us: f64,
    pub call_us: f64,
    /// Of one instance, all its memories together.
    pub memory_peak_bytes: u64,
    /// Of one start and of one call, counted in a run of their own.
    pub open_instructions: u64,
    pub call_instructions: u64,
    pub calls: usize,
}

/// What a start and a call took, besides time.
struct Consumption {
    memory_peak_bytes: u64,
    open_instructions: u64,
    call_instructions: u64,
}

/// One run of a case.
struct Ran {
    found: Value,
    /// The same call once more in the same instance.
    again: Option<Value>,
    missing: Vec<String>,
    ms: f64,
    case_error: Option<String>,
    bundle: Option<TemplateBundle>,
    said: Vec<String>,
    /// The host was asked for something.
    has_asked: bool,
}

/// What is around the plugin in one run.
#[derive(Clone, Copy, Default)]
struct Around {
    failing: Option<Failing>,
    is_sandboxed: bool,
    is_repeated: bool,
}

impl Trial {
    /// Runs one case.
    pub fn run(&self, file: &CaseFile) -> CaseReport {
        let case = match Case::parse(&file.text) {
            Ok(case) => case,
            Err(error) => {
                return CaseReport {
                    name: file.name.clone(),
                    problems: vec![format!("the case cannot be read: {error}")],
                    found: Value::Null,
                    ms: 0.0,
                    said: Vec::new(),
                };
            }
        };
        let ran = self.once(&case, Around::default());
        CaseReport {
            name: file.name.clone(),
            problems: self.problems(&case, &ran),
            found: ran.found,
            ms: ran.ms,
            said: ran.said,
        }
    }

    fn problems(&self, case: &Case, ran: &Ran) -> Vec<String> {
        let mut problems: Vec<String> = ran.case_error.iter().chain(&ran.missing).cloned().collect();
        let expected = case.expected();
        let failed = ran.found.get("error").filter(|_| !expected.contains_key("error"));
        problems.extend(self.lacks_grants(case, &ran.found));
        if let Some(error) = failed {
            // Nothing else of what was expected can be there.
            let message = error.get("message").and_then(Value::as_str).unwrap_or("?");
            problems.push(format!("it failed: {message}"));
            problems.extend(hints(error).map(str::to_owned));
        } else if expected.is_empty() && problems.is_empty() {
            problems.push("the case expects nothing; --update writes what was found".to_owned());
        }
        if failed.is_none() {
            let expected = Value::Object(expected.clone());
            problems.extend(differs("", &expected, &ran.found, case.tolerance()));
        }
        if let Some(most) = case.guest_ms_max()
            && ran.ms > most
        {
            problems.push(format!(
                "the call took {:.1} ms, at most {most} ms were expected",
                ran.ms
            ));
        }
        problems.extend(ran.bundle.as_ref().and_then(|bundle| {
            let name = case.call().1.as_str().unwrap_or_default();
            (self.uses.template_problem)(&self.plugin.manifest.name, name, bundle)
        }));
        problems
    }

    /// What a case must grant before its plugin begins at all.
    fn lacks_grants(&self, case: &Case, found: &Value) -> Option<String> {
        let code = found.get("error")?.get("code")?.as_str()?;
        let requests = self.plugin.manifest.requests.iter();
        let needed = requests.filter(|request| !request.optional && !case.grants.contains(&request.capability));
        let needed: Vec<&str> = needed.map(|request| request.capability.as_str()).collect();
        let is_asked_of_it =
            case.expected().get("error").and_then(|error| error.get("code")) == Some(&Value::from(code));
        (code == "plugin::denied" && !needed.is_empty() && !is_asked_of_it).then(|| {
            let list = serde_json::to_string(&needed).expect("texts are plain data");
            format!("its plugin.toml needs what the case does not grant; add to the case: \"grants\": {list}")
        })
    }

    /// The text of a case with what was found in the place of `expect`. What the author wrote stays where it still holds: the
    /// choice of keys, and every `matches`.
    ///
    /// **Errors**: the case cannot be read, or a host request is not scripted.
    pub fn updated(&self, file: &CaseFile) -> Result<String, String> {
        let case = Case::parse(&file.text)?;
        let ran = self.once(&case, Around::default());
        let lack = self.lacks_grants(&case, &ran.found);
        if let Some(problem) = ran.case_error.into_iter().chain(ran.missing).chain(lack).next() {
            return Err(problem);
        }
        let mut whole: Map<String, Value> = serde_json::from_str(&file.text).map_err(|error| error.to_string())?;
        let mut found = ran.found.as_object().cloned().unwrap_or_default();
        // What to do about a failure is for the author, and no part of what the plugin answers.
        if let Some(error) = found.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("hints");
        }
        let expected = Value::Object(case.expected());
        let mut expect = match merged(&expected, &Value::Object(found), case.tolerance()) {
            Value::Object(expect) => expect,
            _ => Map::new(),
        };
        for key in ["margin-tolerance", "max-guest-ms"] {
            if let Some(value) = case.expect.get(key) {
                expect.insert(key.to_owned(), value.clone());
            }
        }
        whole.insert("expect".to_owned(), Value::Object(expect));
        let text = serde_json::to_string_pretty(&whole).map_err(|error| error.to_string())?;
        Ok(format!("{text}\n"))
    }

    /// Measures start and call of a case: `rounds` fresh instances, and as many calls of one instance.
    ///
    /// **Errors**: the case cannot be read, or the plugin fails.
    pub fn bench(&self, file: &CaseFile, rounds: usize) -> Result<Bench, String> {
        let case = Case::parse(&file.text)?;
        let script = Script::new(case.host.clone(), None, Cancel::new());
        let plugins = self.plugins(&case, &script, Around::default(), &Cancel::new(), Arc::default());
        let plugins = plugins.map_err(|failure| failure.message)?;
        let open = || CasePlugin::open(&plugins, case.kind, &self.selector(), &self.argument(&case));
        // Compiling is not part of a start.
        let mut opened = open().map_err(|failure| failure.message)?;
        let mut opens = Vec::new();
        let mut calls = Vec::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            opened = open().map_err(|failure| failure.message)?;
            opens.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        for _ in 0..rounds {
            let scratch = self.empty_scratch()?;
            let begun = Instant::now();
            let called = opened.call(&case, &scratch);
            calls.push(begun.elapsed().as_secs_f64() * 1e6);
            match called {
                Ok(_) => {}
                Err(CaseError::Failure(failure)) => return Err(failure.message),
                Err(CaseError::Case(error)) => return Err(error),
            }
        }
        let counted = self.counted(&case)?;
        Ok(Bench {
            name: file.name.clone(),
            open_us: median(&mut opens),
            call_us: median(&mut calls),
            memory_peak_bytes: counted.memory_peak_bytes,
            open_instructions: counted.open_instructions,
            call_instructions: counted.call_instructions,
            calls: rounds,
        })
    }

    /// Memory and instructions of a case. The code that counts is another one than the code that is timed.
    fn counted(&self, case: &Case) -> Result<Consumption, String> {
        let script = Script::new(case.host.clone(), None, Cancel::new());
        let plugins = self.plugins(case, &script, Around::default(), &Cancel::new(), Arc::default());
        let plugins = plugins
            .map_err(|failure| failure.message)?
            .with_metering(Metering::Counted);
        let open = || CasePlugin::open(&plugins, case.kind, &self.selector(), &self.argument(case));
        let used = || plugins.used().into_iter().next().unwrap_or_default();
        drop(open().map_err(|failure| failure.message)?);
        let open_instructions = used().instructions.unwrap_or_default();
        let scratch = self.empty_scratch()?;
        let mut opened = open().map_err(|failure| failure.message)?;
        let called = opened.call(case, &scratch);
        drop(opened);
        match called {
            Ok(_) => {}
            Err(CaseError::Failure(failure)) => return Err(failure.message),
            Err(CaseError::Case(error)) => return Err(error),
        }
        let whole = used();
        let all = whole.instructions.unwrap_or_default();
        Ok(Consumption {
            memory_peak_bytes: whole.memory_peak_bytes,
            open_instructions,
            call_instructions: all.saturating_sub(2 * open_instructions),
        })
    }

    fn selector(&self) -> String {
        match (&self.plugin.path, self.plugin.origin) {
            (None, _) | (_, Origin::Builtin) => self.plugin.manifest.name.clone(),
            (Some(path), _) => std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .display()
                .to_string(),
        }
    }

    /// The argument of a case; a template source with inputs gets their directory.
    fn argument(&self, case: &Case) -> String {
        case.arg.clone()
    }

    fn empty_scratch(&self) -> Result<PathBuf, String> {
        let directory = self.scratch.join("run");
        let disk = Disk::new();
        disk.remove_tree(&directory)
            .and_then(|()| disk.create_directories(&directory))
            .map_err(|error| format!("cannot empty `{}`: {}", directory.display(), error.into_io()))?;
        Ok(directory)
    }

    fn plugins(
        &self,
        case: &Case,
        script: &Arc<Script>,
        around: Around,
        cancel: &Cancel,
        heard: Arc<Heard>,
    ) -> Result<Plugins, PluginFailure> {
        let name = &self.plugin.manifest.name;
        let option = |(key, value): (&String, &Value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}.{key}={value}")
        };
        let flags = GrantFlags {
            granted: case
                .grants
                .iter()
                .map(|capability| format!("{name}={capability}"))
                .collect(),
            denied: Vec::new(),
            is_sandboxed: around.is_sandboxed,
            options: case.config.iter().map(option).collect(),
        };
        let facts = RunFacts {
            host_version: self.host_version.clone(),
            seed: 0,
            unix_ms: UNIX_MS,
            is_dry_run: false,
            log_level: LogLevel::Info,
            directory: self.scratch.clone(),
        };
        let ports = Ports {
            process: Arc::new(ScriptedProcess {
                script: Arc::clone(script),
                compile: self.compile.clone(),
                compiler: Arc::clone(&self.compiler),
            }),
            http: Arc::new(ScriptedHttp(Arc::clone(script))),
            models: Arc::new(ScriptedModels(Arc::clone(script))),
            secrets: Arc::new(ScriptedSecrets(Arc::clone(script))),
            free_port: || Err(std::io::Error::other("a case opens no port")),
            clock: None,
            progress: heard,
            cancel: cancel.clone(),
        };
        Ok(Plugins::new(facts, ports, self.compile.clone(), &flags)?.with_places(self.places.clone()))
    }

    fn once(&self, case: &Case, around: Around) -> Ran {
        let cancel = Cancel::new();
        let script = Script::new(case.host.clone(), around.failing, cancel.clone());
        let heard = Arc::<Heard>::default();
        let mut ran = Ran {
            found: Value::Null,
            again: None,
            missing: Vec::new(),
            ms: 0.0,
            case_error: None,
            bundle: None,
            said: Vec::new(),
            has_asked: false,
        };
        let mut call = |opened: &mut CasePlugin, scratch: &Path| match opened.call(case, scratch) {
            Ok(Answer { value, bundle }) => {
                ran.bundle = bundle;
                value
            }
            Err(CaseError::Failure(failure)) => failure_json(&failure),
            Err(CaseError::Case(error)) => {
                ran.case_error = Some(error);
                Value::Null
            }
        };
        let scratch = match self.empty_scratch() {
            Ok(scratch) => scratch,
            Err(error) => {
                ran.case_error = Some(error);
                return ran;
            }
        };
        let plugins = self.plugins(case, &script, around, &cancel, Arc::clone(&heard));
        let opened = plugins.and_then(|plugins| {
            Ok((
                CasePlugin::open(&plugins, case.kind, &self.selector(), &self.argument(case))?,
                plugins,
            ))
        });
        match opened {
            Err(failure) => ran.found = failure_json(&failure),
            Ok((mut opened, _plugins)) => {
                let begun = Instant::now();
                let found = call(&mut opened, &scratch);
                let ms = begun.elapsed().as_secs_f64() * 1e3;
                let again = match (around.is_repeated, self.empty_scratch()) {
                    (true, Ok(scratch)) => Some(call(&mut opened, &scratch)),
                    _ => None,
                };
                (ran.found, ran.again, ran.ms) = (found, again, ms);
            }
        }
        ran.missing = script.missing();
        ran.has_asked = script.is_asked();
        ran.said = heard.lines();
        ran
    }
}

/// True where a call ran into a limit of time, so that asking again would only take as long again.
fn is_too_slow(found: &Value) -> bool {
    let limit = found.pointer("/error/limit").and_then(Value::as_str);
    limit.is_some_and(|limit| {
        [LimitName::Deadline, LimitName::WallTime]
            .iter()
            .any(|it| it.as_str() == limit)
    })
}

fn failure_json(failure: &PluginFailure) -> Value {
    let capability = failure.detail.as_ref().and_then(|detail| detail.capability.clone());
    let limit = failure.detail.as_ref().and_then(|detail| detail.limit.clone());
    let mut error = json!({ "code": failure.code, "message": failure.message });
    if let Some(capability) = capability {
        error["capability"] = json!(capability);
    }
    if let Some(limit) = limit {
        error["limit"] = json!(limit);
    }
    if !failure.hints.is_empty() {
        error["hints"] = json!(failure.hints);
    }
    json!({ "error": error })
}

/// What the author can do about a failure.
fn hints(error: &Value) -> impl Iterator<Item = &str> {
    let listed = error.get("hints").and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(Value::as_str)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
