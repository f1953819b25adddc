//! What `dlm train` is asked for.

use std::path::PathBuf;

use dlm_core::shell::quoted_path;
use dlm_core::training::PhaseSelection;
use dlm_plan::lock::LockFlags;
use dlm_plan::train::Switches;

use crate::base::ExportProbes;
use crate::rows::PreferenceFilter;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct TrainCommand {
    pub path: PathBuf,
    /// Continue an interrupted run, or train the current adapter further.
    pub is_resume: bool,
    pub seed: Option<i64>,
    pub max_steps: Option<u64>,
    pub threads: Option<u32>,
    /// Departures from the recipe.
    pub switches: Switches,
    pub phases: PhaseSelection,
    /// `--no-mined`: preferences that a judge mined are left out.
    pub skips_mined: bool,
    /// `--yes-slow`: however long it takes.
    pub allows_slow: bool,
    /// The flag or variable that turns the cache of tokenized sections off, where one was given.
    pub cache_off: Option<String>,
    pub lock: LockFlags,
    pub is_strict_about_metrics: bool,
    pub accepts_license: bool,
    /// Left out under `--skip-export-probes`, its variable, or when the document was made with it.
    pub export_probes: ExportProbes,
}

impl TrainCommand {
    /// `dlm train <path>` without a flag.
    pub fn plain(path: PathBuf) -> Self {
        Self {
            path,
            is_resume: false,
            seed: None,
            max_steps: None,
            threads: None,
            switches: Switches::default(),
            phases: PhaseSelection::All,
            skips_mined: false,
            allows_slow: false,
            cache_off: None,
            lock: LockFlags::default(),
            is_strict_about_metrics: false,
            accepts_license: false,
            export_probes: ExportProbes::Run,
        }
    }

    /// Which preferences the command takes.
    pub(super) fn preferences(&self) -> PreferenceFilter {
        PreferenceFilter {
            is_wanted: self.phases.has_preference(),
            skips_mined: self.skips_mined,
        }
    }

    /// The command line that trains the same with `flag`: what makes a run another one is repeated.
    pub(super) fn again(&self, flag: &str) -> String {
        let mut line = format!("dlm train {} {flag}", quoted_path(&self.path));
        if let Some(steps) = self.max_steps {
            line += &format!(" --max-steps {steps}");
        }
        if let Some(seed) = self.seed {
            line += &format!(" --seed {seed}");
        }
        if self.phases != PhaseSelection::All {
            line += &format!(" --phase {}", self.phases.name());
        }
        if self.skips_mined {
            line += " --no-mined";
        }
        if self.allows_slow {
            line += " --yes-slow";
        }
        line += &self.switches.flags();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_go_on_repeats_what_makes_a_run_another_one() {
        let command = TrainCommand {
            seed: Some(7),
            max_steps: Some(40),
            threads: Some(2),
            phases: PhaseSelection::Preference,
            skips_mined: true,
            allows_slow: true,
            switches: Switches {
                anchors: Some(false),
                noise: Some(true),
                ..Switches::default()
            },
            ..TrainCommand::plain(PathBuf::from("notes.dlm"))
        };
        assert_eq!(
            command.again("--resume"),
            "dlm train notes.dlm --resume --max-steps 40 --seed 7 --phase preference --no-mined --yes-slow --anchors off --noise on"
        );
    }
}
