//! The port of `dlm-core` over an opened target: prepare, install, smoke test, each on files that nobody changed since.

use dlm_core::ports::target::{
    ExportTarget, PluginFailure, PreparedTarget, Stage, TargetInfo, TargetPlan, TargetRegistration, TargetSmoke,
};

use crate::host::Phase;
use crate::target::{PluginTarget, wire_plan};

impl ExportTarget for PluginTarget {
    fn info(&self) -> &TargetInfo {
        &self.info
    }

    fn prepare(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<PreparedTarget, PluginFailure> {
        Ok(self.prepare_files(plan, stage)?)
    }

    fn install(&mut self, plan: &TargetPlan, _stage: &Stage) -> Result<Option<TargetRegistration>, PluginFailure> {
        Ok(self.install_result(plan)?)
    }

    fn smoke(&mut self, plan: &TargetPlan, _stage: &Stage) -> Result<TargetSmoke, PluginFailure> {
        self.running.store.data_mut().phase = Phase::Smoke;
        self.check_unchanged()?;
        Ok(crate::smoke::run(self, &wire_plan(plan))?)
    }
}
