//! `dlm doctor`: the machine, the plan that a typical document would get, what may run, and where things lie.
//!
//! Invariants: opens no connection, creates nothing; what is missing is part of the report, but for a base that was named and
//! is not known.

use std::path::PathBuf;

use dlm_core::Subject;
use dlm_plan::doctor::{DoctorReport, EngineFacts, default_base, doctor as examine};
use dlm_plan::{BaseFacts, TrainOptions};
use serde::Serialize;

use crate::base::{Reach, local_bases, resolve_within};
use crate::failure::Failure;
use crate::surroundings::Surroundings;

/// One plugin as the doctor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginState {
    pub name: String,
    /// `ready`, or what is wrong with it.
    pub state: String,
    pub sha256: Option<String>,
    /// What it may do.
    pub grants: Vec<String>,
}

/// The second wall around granted programs, requests of plugins, and dlm's own compilers and readers of strangers' files: what this
/// kernel has for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecondWall {
    /// The version of Landlock, which keeps files, from 4 also ports, from 6 also signals; null without it.
    pub landlock: Option<u32>,
    /// Calls that make sockets can be refused.
    pub seccomp: bool,
    pub no_new_privileges: bool,
}

impl SecondWall {
    fn here() -> Self {
        let facts = dlm_files::wall::facts();
        Self {
            landlock: facts.landlock,
            seccomp: facts.has_seccomp,
            no_new_privileges: facts.has_no_new_privileges,
        }
    }
}

/// What runs plugins. Which of its faults are known only its makers say: this program holds no list of them, and asks nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginRuntime {
    pub name: &'static str,
    pub version: &'static str,
    /// Where its makers publish its security advisories.
    pub advisories: &'static str,
}

/// The whole report; the keys of the plan's report stand at the top.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Doctor {
    #[serde(flatten)]
    pub report: DoctorReport,
    pub home: PathBuf,
    pub plugins: Vec<PluginState>,
    pub plugin_runtime: PluginRuntime,
    /// Names of the local bases.
    pub local_bases: Vec<String>,
    /// What is wrong with the directory of local bases, if anything.
    pub local_bases_problem: Option<String>,
    /// What holds back what runs for strangers.
    pub second_wall: SecondWall,
    /// Bytes that may still be written where the stores lie.
    pub disk_free_bytes: Option<u64>,
}

/// Examines the machine; `threads` limits the plan as `--threads` would, `base` is what it is for instead of the default base.
///
/// **Errors:** a base that is not known to this machine.
pub fn doctor(
    around: &Surroundings,
    threads: Option<u32>,
    base: Option<&str>,
    (plugins, plugin_runtime): (Vec<PluginState>, PluginRuntime),
) -> Result<Doctor, Failure> {
    let base = base.map_or(Ok(default_base()), |name| facts(around, name))?;
    let engine = EngineFacts {
        name: "dlm".to_owned(),
        version: around.version.to_owned(),
        device_features: vec![around.hardware.simd.name().to_owned()],
    };
    let options = TrainOptions {
        threads,
        is_forced: around.is_forced,
        ..TrainOptions::default()
    };
    let (local_bases, local_bases_problem) = match local_bases(&around.home) {
        Ok(bases) => (bases.into_iter().map(|base| base.name).collect(), None),
        Err(failure) => (Vec::new(), Some(failure.message())),
    };
    let root = around.home.root();
    let existing = root.ancestors().find(|directory| directory.exists());
    Ok(Doctor {
        report: examine(&around.hardware, engine, &base, &options),
        home: root.to_path_buf(),
        plugins,
        plugin_runtime,
        local_bases,
        local_bases_problem,
        second_wall: SecondWall::here(),
        disk_free_bytes: existing.and_then(dlm_files::free_bytes),
    })
}

/// The sizes of a named base.
fn facts(around: &Surroundings, name: &str) -> Result<BaseFacts, Failure> {
    match resolve_within(around, name, None, Reach::ThisMachine)? {
        Some(resolved) => Ok(BaseFacts::new(&resolved)?),
        None => Err(Failure::new(
            Subject::BaseModel,
            format!("`{name}` is known to the hub only, not to this machine"),
        )
        .hint("name a registry key or a local base: `dlm base list`")),
    }
}
