//! A plugin as an export target: what it is asked, and what its answers are held against.
//!
//! The port of `dlm-core` over it is in [`crate::export`].

mod plan;

use bindings::TargetExport;
use bindings::exports::dlm::plugin::target as wire;
use dlm_core::ports::target::{ArtifactKind, PreparedTarget, Stage, TargetInfo, TargetPlan, TargetRegistration};

use crate::error::{CallFailure, PluginError};
use crate::host::Phase;
use crate::host::wit::artifacts::Kind;
use crate::instance::Running;
use crate::limits::short;
use crate::open::OpenPlugin;

pub(crate) use plan::wire_plan;

/// Bindings of the export; the imports are those of [`crate::host`].
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package dlm:host-target; world target-export { export dlm:plugin/target@1.0.0; }",
        world: "dlm:host-target/target-export",
        exports: { default: async },
        with: {
            "dlm:plugin/types": crate::host::wit::types,
            "dlm:plugin/artifacts": crate::host::wit::artifacts,
            "dlm:plugin/secrets": crate::host::wit::secrets,
            "dlm:plugin/process": crate::host::wit::process,
        },
    });
}

/// An opened plugin target.
pub struct PluginTarget {
    pub(crate) running: Running<TargetExport>,
    pub(crate) info: TargetInfo,
    /// What `prepare` said about starting and testing the result.
    pub(crate) launch: Option<wire::Launch>,
    pub(crate) smoke: Option<wire::SmokePlan>,
}

impl PluginTarget {
    pub(crate) fn open(opened: OpenPlugin<'_>) -> Result<PluginTarget, PluginError> {
        let (identity, argument) = (opened.identity(), opened.argument().to_owned());
        let needs_registration = opened.needs_registration;
        let mut running = opened.start(|store, instance| TargetExport::new(store, instance))?;
        let info = running.call(Phase::Open, async |world, store| {
            world.dlm_plugin_target().call_open(store, &argument).await
        })?;
        let programs: Vec<String> = info.programs.iter().map(|text| short(text)).collect();
        let process = &running.store.data().new.ports.process;
        let missing = programs.iter().filter(|program| process.find(program).is_none());
        let missing = missing.cloned().collect();
        Ok(PluginTarget {
            running,
            info: TargetInfo {
                name: identity.plugin,
                version: identity.version,
                detail: info.identity.detail.map(|text| short(&text)),
                accepts: info.accepts.into_iter().map(kind).collect(),
                platforms: info.platforms.iter().map(|text| short(text)).collect(),
                programs,
                missing,
                needs_registration,
                granted: identity.granted,
                sha256: identity.sha256,
            },
            launch: None,
            smoke: None,
        })
    }

    pub(crate) fn bad_result(&self, rule: String) -> PluginError {
        self.running.bad_result(rule)
    }

    fn use_stage(&mut self, stage: &Stage) {
        let state = self.running.store.data_mut();
        state.hand_over(stage.artifacts.clone());
        state.reserved.clone_from(&stage.reserved);
        state.directory = Some(stage.directory.clone());
        state.has_missed_input = false;
    }

    pub(crate) fn prepare_files(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<PreparedTarget, PluginError> {
        self.use_stage(stage);
        self.running.store.data_mut().output = crate::output::Output::default();
        let plan = wire_plan(plan);
        let prepared = self.running.call(Phase::Prepare, async |world, store| {
            world.dlm_plugin_target().call_prepare(store, &plan).await
        });
        let state = self.running.store.data();
        let prepared = match prepared {
            // What it wanted to read is not there yet, so that its failure says nothing about the plan.
            Err(_) if stage.is_draft && state.has_missed_input => return Ok(PreparedTarget::default()),
            other => other?,
        };
        self.check_prepared(&prepared)?;
        if !stage.is_draft {
            self.check_unchanged()?;
        }
        let state = self.running.store.data_mut();
        let mut files = state.output.commit(stage)?;
        for file in &files {
            state.watched.add(stage.directory.join(&file.name));
        }
        let place = |name: &str| {
            prepared
                .files
                .iter()
                .position(|file| file == name)
                .unwrap_or(usize::MAX)
        };
        files.sort_by_key(|file| place(&file.name));
        self.launch = prepared.launch;
        self.smoke = Some(prepared.smoke);
        Ok(PreparedTarget {
            files,
            entry: prepared.entry,
            install_preview: prepared.install_preview.iter().map(|text| short(text)).collect(),
            usage: prepared.usage.iter().map(|text| short(text)).collect(),
        })
    }

    /// Refuses to go on with files that are not the ones that were checked or written.
    pub(crate) fn check_unchanged(&self) -> Result<(), PluginError> {
        let state = self.running.store.data();
        state.watched.changed().map_or(Ok(()), |path| {
            let path = path.to_owned();
            Err(CallFailure::Changed { path }.of(state.who()))
        })
    }

    /// Holds a guest's answer against the rules of `plugins.md` section 5 before it is used.
    fn check_prepared(&self, prepared: &wire::Prepared) -> Result<(), PluginError> {
        let output = &self.running.store.data().output;
        for name in prepared.files.iter().chain(&prepared.entry) {
            if !output.contains(name) {
                return Err(self.bad_result(format!("it lists the file `{name}`, which it did not write")));
            }
        }
        let Some(launch) = &prepared.launch else {
            return match prepared.smoke {
                wire::SmokePlan::Custom | wire::SmokePlan::OpenaiChat => {
                    Err(self.bad_result("its smoke test needs a server, and it says not how to start one".to_owned()))
                }
                wire::SmokePlan::Skip(_) | wire::SmokePlan::NoServer => Ok(()),
            };
        };
        if !self.info.programs.contains(&launch.program) {
            return Err(self.bad_result(format!(
                "it launches `{}`, which is not among its programs",
                launch.program
            )));
        }
        if !launch.ready_path.starts_with('/') {
            return Err(self.bad_result(format!(
                "the ready path `{}` does not begin with `/`",
                launch.ready_path
            )));
        }
        Ok(())
    }

    pub(crate) fn install_result(&mut self, plan: &TargetPlan) -> Result<Option<TargetRegistration>, PluginError> {
        self.running.store.data_mut().phase = Phase::Install;
        self.check_unchanged()?;
        let plan = wire_plan(plan);
        let registration = self.running.call(Phase::Install, async |world, store| {
            world.dlm_plugin_target().call_install(store, &plan).await
        })?;
        Ok(registration.map(|registration| TargetRegistration {
            name: short(&registration.name),
            runtime_version: registration.runtime_version.map(|text| short(&text)),
        }))
    }
}

fn kind(kind: Kind) -> ArtifactKind {
    match kind {
        Kind::Gguf => ArtifactKind::Gguf,
        Kind::Adapter => ArtifactKind::Adapter,
        Kind::Tokenizer => ArtifactKind::Tokenizer,
        Kind::ChatTemplate => ArtifactKind::ChatTemplate,
        Kind::Manifest => ArtifactKind::Manifest,
        Kind::Pack => ArtifactKind::Pack,
        Kind::Document => ArtifactKind::Document,
        Kind::Other => ArtifactKind::Other,
    }
}
