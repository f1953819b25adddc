//! The flags of every command that runs plugins: one-run grants, denials and settings.
//!
//! Invariants: the texts are handed on as typed; `dlm-plugins` reads and checks them before any component is loaded.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use dlm_core::Subject;
use dlm_flow::Failure;
use dlm_plugins::GrantFlags;

/// Heading of these flags in help texts.
const HEADING: &str = "Plugins";

/// What a command line grants, denies and sets for plugins, for this run only.
#[derive(Clone, Debug, Default, Args)]
pub struct PluginFlags {
    /// Grant a plugin a capability for this run, such as `rubric=http:https://api.example.com/v1` (repeatable)
    #[arg(long, value_name = "NAME=CAP", help_heading = HEADING)]
    pub grant: Vec<String>,
    /// Take a capability from a plugin for this run; wins over every grant (repeatable)
    #[arg(long, value_name = "NAME=CAP", help_heading = HEADING)]
    pub deny: Vec<String>,
    /// Run plugins without any grant
    #[arg(long, help_heading = HEADING)]
    pub sandbox: bool,
    /// Set a plugin's option for this run (repeatable)
    #[arg(long, value_name = "NAME.KEY=VALUE", help_heading = HEADING)]
    pub plugin_opt: Vec<String>,
    /// Write every call of a plugin and what it was answered into this directory, as cases of `dlm plugin test`
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = HEADING)]
    pub record: Option<PathBuf>,
}

impl PluginFlags {
    /// The part that says what plugins may do.
    pub fn grants(&self) -> GrantFlags {
        GrantFlags {
            granted: self.grant.clone(),
            denied: self.deny.clone(),
            is_sandboxed: self.sandbox,
            options: self.plugin_opt.clone(),
        }
    }

    /// Refuses these flags where the command uses no plugin; `why` says what makes it so.
    ///
    /// **Errors** name the first flag.
    pub fn refuse_all(&self, why: &str) -> Result<(), Failure> {
        let given = [
            ("--grant", !self.grant.is_empty()),
            ("--deny", !self.deny.is_empty()),
            ("--sandbox", self.sandbox),
            ("--plugin-opt", !self.plugin_opt.is_empty()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => Err(Failure::misuse(
                Subject::Plugin,
                format!("`{flag}` changes nothing here: {why}"),
            )),
        }
    }
}
