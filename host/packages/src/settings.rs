//! `[plugins]` of the user's `config.toml`, and the settings of plugins there and in a project's `dlm.toml`.
//!
//! Invariants: a project's file can set values of plugins and nothing else; an unknown key is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::disk;
use crate::error::{SelectorError, SettingsError};
use crate::keys::TEXT_BYTES_MAX;
use crate::manifest::GivenValue;
use crate::signature::RequireSignature;
use dlm_core::inert::{inert, inert_line};

/// What the user wants of plugins that are installed or trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub require_signature: RequireSignature,
    /// `wasi = "none"`.
    pub is_wasi_refused: bool,
}

/// What the user wants of all plugins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub policy: Policy,
    /// `verify = "always"`: every file is hashed at every use.
    pub is_always_hashed: bool,
    /// `deterministic-limits = true`: limits count instructions instead of time.
    pub has_deterministic_limits: bool,
    /// `index = "https://…"`: where plugins are looked for by name.
    pub index: Option<String>,
    /// Values by plugin, least important first.
    pub values: BTreeMap<String, Vec<(String, GivenValue)>>,
}

/// The keys beside the plugins' own tables.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Global {
    require_signature: Option<RequireSignature>,
    wasi: Option<WasiRule>,
    verify: Option<VerifyRule>,
    deterministic_limits: Option<bool>,
    index: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WasiRule {
    None,
    Inert,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerifyRule {
    Always,
    Changed,
}

impl Settings {
    /// Reads `config.toml` of dlm's home, then `dlm.toml` of the project, whose values win.
    ///
    /// **Errors**: a file that is no TOML, an unknown or wrong key, or a project that sets more than values.
    pub fn read(home: &Path, project: Option<&Path>) -> Result<Settings, SettingsError> {
        let mut settings = Settings::default();
        let user = home.join("config.toml");
        if let Some(table) = plugins_table(&user)? {
            settings.take(table, true).map_err(|cause| wrong(&user, cause))?;
        }
        if let Some(project) = project.map(|directory| directory.join("dlm.toml"))
            && let Some(table) = plugins_table(&project)?
        {
            settings.take(table, false).map_err(|cause| wrong(&project, cause))?;
        }
        Ok(settings)
    }

    /// The values of one plugin, `--plugin-opt name.key=value` last, for [`crate::Manifest::resolve_config`].
    ///
    /// **Errors**: an option that is not of that form.
    pub fn values(&self, plugin: &str, options: &[String]) -> Result<Vec<(String, GivenValue)>, SelectorError> {
        let mut values = self.values.get(plugin).cloned().unwrap_or_default();
        for option in options {
            let parts = option
                .split_once('=')
                .and_then(|(key, value)| Some((key.split_once('.')?, value)));
            let Some(((name, key), value)) = parts else {
                return Err(SelectorError {
                    text: inert_line(option),
                    cause: "is not of the form `name.key=value`".to_owned(),
                    hint: Some("such as: --plugin-opt rubric.strictness=0.7".to_owned()),
                });
            };
            if name == plugin {
                values.push((key.to_owned(), GivenValue::Typed(value.to_owned())));
            }
        }
        Ok(values)
    }

    fn take(&mut self, table: toml::Table, is_users: bool) -> Result<(), String> {
        let (plugins, global): (toml::Table, toml::Table) = table.into_iter().partition(|(_, value)| value.is_table());
        if !is_users && let Some(key) = global.keys().next() {
            return Err(format!(
                "`plugins.{}` can only be set in your own config.toml",
                inert_line(key)
            ));
        }
        let global: Global = toml::Value::Table(global)
            .try_into()
            .map_err(|error: toml::de::Error| format!("[plugins]: {}", inert(error.message())))?;
        self.policy = Policy {
            require_signature: global.require_signature.unwrap_or(self.policy.require_signature),
            is_wasi_refused: global
                .wasi
                .map_or(self.policy.is_wasi_refused, |rule| rule == WasiRule::None),
        };
        self.is_always_hashed |= global.verify == Some(VerifyRule::Always);
        self.has_deterministic_limits |= global.deterministic_limits == Some(true);
        self.index = global.index.or(self.index.take());
        for (name, own) in plugins {
            let shown = inert_line(&name);
            for (key, value) in own.as_table().into_iter().flatten() {
                let (true, toml::Value::Table(values)) = (key == "config", value) else {
                    return Err(format!(
                        "`plugins.{shown}.{}` is not known; there is only `config`",
                        inert_line(key)
                    ));
                };
                for (key, value) in values {
                    let json = serde_json::to_value(value).map_err(|error| error.to_string())?;
                    let slot = self.values.entry(name.clone()).or_default();
                    slot.push((key.clone(), GivenValue::Stated(json)));
                }
            }
        }
        Ok(())
    }
}

fn plugins_table(path: &Path) -> Result<Option<toml::Table>, SettingsError> {
    let Some(bytes) = disk::read(path, TEXT_BYTES_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(path, inert(error.to_string().trim_end())))?;
    match table.remove("plugins") {
        None => Ok(None),
        Some(toml::Value::Table(plugins)) => Ok(Some(plugins)),
        Some(_) => Err(wrong(path, "`plugins` is not a table".to_owned())),
    }
}

fn wrong(path: &Path, cause: String) -> SettingsError {
    SettingsError::Wrong {
        path: path.to_owned(),
        cause,
    }
}

/// Takes the tables of one plugin out of `config.toml`, leaving every other line as it is; says whether there were any.
///
/// **Errors**: the plugin is set in a form that cannot be cut out line by line.
pub fn forget(home: &Path, plugin: &str) -> Result<bool, SettingsError> {
    let path = home.join("config.toml");
    let Some(bytes) = disk::read(&path, TEXT_BYTES_MAX)? else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if !Settings::read(home, None)?.values.contains_key(plugin) {
        return Ok(false);
    }
    let starts = [format!("[plugins.{plugin}]"), format!("[plugins.{plugin}.")];
    let mut is_own = false;
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| {
            let line = line.trim_start();
            if line.starts_with('[') {
                is_own = starts.iter().any(|start| line.starts_with(start));
            }
            !is_own
        })
        .collect();
    let rest: Option<toml::Table> = kept.parse().ok();
    let is_gone = rest.is_some_and(|table| table.get("plugins").and_then(|all| all.get(plugin)).is_none());
    if !is_gone {
        return Err(wrong(
            &path,
            format!("the settings of `{plugin}` cannot be taken out; remove them by hand, or use --keep-config"),
        ));
    }
    disk::write(&path, kept.as_bytes())?;
    Ok(true)
}

/// The file that `--sign` signs with.
pub fn signing_key(home: &Path) -> PathBuf {
    home.join("minisign.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(user: &str, project: &str) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), user).unwrap();
        std::fs::write(directory.path().join("dlm.toml"), project).unwrap();
        Settings::read(directory.path(), Some(directory.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_users_file_rules_and_a_project_only_sets_values() {
        let settings = read(
            "[secrets]\nA = \"env\"\n[plugins]\nrequire-signature = \"always\"\nwasi = \"none\"\nverify = \"always\"\n\
             deterministic-limits = true\nindex = \"https://p.example/\"\n[plugins.rubric.config]\nstrictness = 0.7\nrubric = \"a\"\n",
            "[plugins.rubric.config]\nstrictness = 1\n",
        )
        .unwrap();
        assert_eq!(settings.policy.require_signature, RequireSignature::Always);
        assert!(settings.policy.is_wasi_refused && settings.is_always_hashed && settings.has_deterministic_limits);
        assert_eq!(settings.index.as_deref(), Some("https://p.example/"));
        let values = settings
            .values("rubric", &["rubric.rubric=b".to_owned(), "other.x=1".to_owned()])
            .unwrap();
        let keys: Vec<&str> = values.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["rubric", "strictness", "strictness", "rubric"]);
        assert_eq!(values[3].1, GivenValue::Typed("b".to_owned()));
        assert!(settings.values("rubric", &["nonsense".to_owned()]).is_err());
        assert_eq!(read("", "").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (user, project, part) in [
            ("[plugins]\ncolor = 1\n", "", "unknown field `color`"),
            ("[plugins]\nwasi = \"all\"\n", "", "unknown variant `all`"),
            (
                "[plugins.rubric]\n[plugins.rubric.grants]\n",
                "",
                "`plugins.rubric.grants` is not known",
            ),
            ("plugins = 1\n", "", "not a table"),
            ("[plugins\n", "", "TOML parse error"),
            (
                "",
                "[plugins]\nrequire-signature = \"never\"\n",
                "only be set in your own config.toml",
            ),
            (
                "",
                "[plugins]\nindex = \"https://evil.example/\"\n",
                "only be set in your own config.toml",
            ),
        ] {
            let error = read(user, project).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_settings_of_one_plugin_are_forgotten_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let text =
            "# mine\n[plugins]\nwasi = \"inert\"\n[plugins.a-b.config]\nx = 1 # one\n[plugins.a-c.config]\ny = 2\n";
        std::fs::write(&path, text).unwrap();
        assert!(!forget(directory.path(), "other").unwrap());
        assert!(forget(directory.path(), "a-b").unwrap());
        let left = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            left,
            "# mine\n[plugins]\nwasi = \"inert\"\n[plugins.a-c.config]\ny = 2\n"
        );
        std::fs::write(&path, "[plugins]\na-b = { config = { x = 1 } }\n").unwrap();
        assert!(
            forget(directory.path(), "a-b")
                .unwrap_err()
                .to_string()
                .contains("--keep-config")
        );
    }
}
