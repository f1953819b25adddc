//! A plugin as a teacher.

use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::teacher::{Teacher, TeacherCompletion, TeacherInfo, TeacherRequest, TeacherUsage};

use crate::error::PluginError;
use crate::host::Phase;
use crate::instance::Running;
use crate::open::OpenPlugin;
use bindings::TeacherExport;
use bindings::exports::dlm::plugin::teacher as wire;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package dlm:host-teacher; world teacher-export { export dlm:plugin/teacher@1.0.0; }",
        world: "dlm:host-teacher/teacher-export",
        exports: { default: async },
        with: { "dlm:plugin/types": crate::host::wit::types },
    });
}

/// Most instances side by side.
const CONCURRENCY_MAX: u32 = 16;

/// An opened teacher.
pub(crate) struct PluginTeacher {
    running: Running<TeacherExport>,
    argument: String,
    info: TeacherInfo,
}

fn call_open(running: &mut Running<TeacherExport>, argument: &str) -> Result<wire::Info, PluginError> {
    running.call(Phase::Open, async |world, store| {
        world.dlm_plugin_teacher().call_open(store, argument).await
    })
}

impl PluginTeacher {
    pub fn open(opened: OpenPlugin<'_>) -> Result<PluginTeacher, PluginError> {
        let (identity, argument) = (opened.identity(), opened.argument().to_owned());
        let mut running = opened.start(|store, instance| TeacherExport::new(store, instance))?;
        let info = call_open(&mut running, &argument)?;
        if !(1..=CONCURRENCY_MAX).contains(&info.max_concurrency) {
            let rule = format!(
                "its concurrency is {}, 1 to {CONCURRENCY_MAX} was expected",
                info.max_concurrency
            );
            return Err(running.bad_result(rule));
        }
        Ok(PluginTeacher {
            running,
            argument,
            info: TeacherInfo {
                identity: identity.named(info.identity),
                supports_seed: info.supports_seed,
                concurrency_max: usize::try_from(info.max_concurrency).unwrap_or(1),
            },
        })
    }

    fn ask(&mut self, request: &TeacherRequest) -> Result<TeacherCompletion, PluginError> {
        if self.running.revive()? {
            call_open(&mut self.running, &self.argument)?;
        }
        let wire = wire::Request {
            system: request.system.clone(),
            user: request.user.clone(),
            max_new_tokens: request.new_tokens_max,
            temperature: request.temperature,
            top_p: request.top_p,
            seed: request.seed,
        };
        let answer = self.running.call(Phase::Complete, async |world, store| {
            world.dlm_plugin_teacher().call_complete(store, &wire).await
        })?;
        if answer.text.trim().is_empty() {
            return Err(self.running.bad_result("the text is empty"));
        }
        Ok(TeacherCompletion {
            text: answer.text,
            is_truncated: answer.truncated,
            usage: TeacherUsage {
                prompt_tokens: answer.usage.prompt_tokens,
                completion_tokens: answer.usage.completion_tokens,
                requests: u64::from(answer.usage.requests),
            },
        })
    }
}

impl Teacher for PluginTeacher {
    fn info(&self) -> &TeacherInfo {
        &self.info
    }

    fn complete(&mut self, request: &TeacherRequest) -> Result<TeacherCompletion, PluginFailure> {
        Ok(self.ask(request)?)
    }
}
