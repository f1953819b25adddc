//! A plugin that was not granted what it cannot do without.

use dlm_core::ports::plugin::PluginFailureDetail;
use dlm_core::shell_quoted;
use dlm_packages::Kind;

/// What is missing, and how it is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGrants {
    pub kind: Kind,
    pub plugin: String,
    pub version: String,
    /// In grant syntax; never empty.
    pub missing: Vec<String>,
    pub granted: Vec<String>,
    /// The command that grants for good, without its flags.
    pub always: String,
    /// Somebody was asked and said no.
    pub is_answered: bool,
}

impl std::fmt::Display for MissingGrants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<String> = self.missing.iter().map(|text| format!("`{text}`")).collect();
        let were = if each.len() == 1 { "was" } else { "were" };
        write!(
            f,
            "{} `{}` {} needs {}, which {were} not granted",
            self.kind,
            self.plugin,
            self.version,
            each.join(", ")
        )
    }
}

impl MissingGrants {
    /// What is granted, and what would grant the rest.
    pub(super) fn ways_to_grant(&self) -> Vec<String> {
        let held = match self.granted.as_slice() {
            [] => "nothing is granted".to_owned(),
            granted => format!("granted: {}", granted.join("; ")),
        };
        if self.is_answered {
            return vec![held];
        }
        let flags = |flag: &str, prefix: &str| {
            let one = |capability: &String| format!("{flag} {}", shell_quoted(&format!("{prefix}{capability}")));
            self.missing.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        let here = format!("{}=", self.plugin);
        vec![
            held,
            format!("allow it once: {}", flags("--grant", &here)),
            format!("allow it always: {} {}", self.always, flags("--grant", "")),
            format!("run it without: {}", flags("--deny", &here)),
        ]
    }

    /// What `--json` says beside the message.
    pub(super) fn detail(&self) -> PluginFailureDetail {
        PluginFailureDetail {
            plugin: self.plugin.clone(),
            version: self.version.clone(),
            world: self.kind.world(),
            function: None,
            capability: self.missing.first().cloned(),
            limit: None,
            after_ms: None,
            status: None,
        }
    }
}
