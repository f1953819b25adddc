//! The options of every command, resolved once: flag, then environment, then the user's `config.toml`, then default. What
//! a document may say too is settled by the plans, whose knobs carry their reason.
//!
//! Invariant: every value knows its origin, so that a message can name what to change.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use dlm_core::Subject;
use dlm_flow::Failure;
use dlm_flow::base::ExportProbes;

use crate::environment;
use crate::origin::{Origin, Setting};

/// Keeps the options of every command apart from its own.
const HEADING: &str = "Global options";
/// Most of `config.toml`, as the plugins' reader has it.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Options that may stand anywhere on the line.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Directory of all stores and local bases [env: DLM_HOME] [default: ~/.dlm]
    // Not read by clap: a variable must not count as an argument where a bare command prints its help.
    #[arg(long, value_name = "PATH", global = true, help_heading = HEADING, value_hint = ValueHint::DirPath)]
    pub home: Option<PathBuf>,
    /// Print plan and resolver diagnostics on stderr
    #[arg(short, long, global = true, help_heading = HEADING, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Print no informational lines
    #[arg(short, long, global = true, help_heading = HEADING)]
    pub quiet: bool,
    /// Use this many threads (default: every core); results do not depend on it
    #[arg(long, value_name = "N", global = true, help_heading = HEADING, value_parser = parse_threads)]
    pub threads: Option<u32>,
}

fn parse_threads(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(value) if (1..=1024).contains(&value) => Ok(value),
        _ => Err("expected a whole number from 1 to 1024".to_owned()),
    }
}

/// What holds for this run, whatever the command.
pub struct Settings {
    /// Only asked for by commands that have a store; without a place for them that is a failure.
    home: Result<Setting<PathBuf>, Failure>,
    pub threads: Setting<Option<u32>>,
    pub is_verbose: Setting<bool>,
    pub is_quiet: bool,
    /// Go on where a refusal can be overridden.
    pub is_forced: Setting<bool>,
}

impl Settings {
    /// Resolves the global options.
    pub fn resolve(global: &Global) -> Self {
        Self {
            home: home(global.home.clone()),
            threads: Setting::flag("--threads", global.threads)
                .map_or(Setting::default(None), |threads| threads.map(Some)),
            is_verbose: Setting::flag("--verbose", global.verbose.then_some(true))
                .or_else(|| environment::text("DLM_VERBOSE").map(|set| set.map(|value| value == "1")))
                .unwrap_or(Setting::default(false)),
            is_quiet: global.quiet,
            is_forced: environment::switch("DLM_FORCE"),
        }
    }

    /// The directory of all stores; absolute.
    ///
    /// **Errors** when there is no place for it, or the place that was named cannot be one.
    pub fn home(&self) -> Result<&Path, Failure> {
        match &self.home {
            Ok(home) => Ok(&home.value),
            Err(failure) => Err(failure.clone()),
        }
    }

    /// Where the template source called `name` looks: `[template-sources.<name>] location = "…"` in `config.toml`; empty
    /// where it is not configured.
    ///
    /// **Errors**: a settings file that cannot be read.
    pub fn template_location(&self, name: &str) -> Result<Setting<String>, Failure> {
        let path = self.home()?.join("config.toml");
        let failed = |why: String| Failure::new(Subject::Error, format!("{}: {why}", path.display()));
        let Some(text) =
            dlm_files::read_text(&path, CONFIG_BYTES_MAX).map_err(|error| failed(error.into_io().to_string()))?
        else {
            return Ok(Setting::default(String::new()));
        };
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| failed(error.to_string()))?;
        let sources = table.get("template-sources");
        let location = sources.and_then(|sources| sources.get(name)?.get("location")?.as_str());
        Ok(match location {
            Some(location) => Setting {
                value: location.to_owned(),
                origin: Origin::Config,
            },
            None => Setting::default(String::new()),
        })
    }

    /// What every command goes by, for `--verbose`: name, value and origin.
    pub fn lines(&self) -> Vec<String> {
        fn line<T>(name: &str, setting: &Setting<T>, value: impl fmt::Display) -> String {
            let origin = match setting.origin {
                Origin::Default => "by default".to_owned(),
                origin => format!("given by {origin}"),
            };
            format!("{name:<18}  {value}  ({origin})")
        }
        let threads = self
            .threads
            .value
            .map_or("every core".to_owned(), |count| count.to_string());
        let mut lines: Vec<String> = self
            .home
            .iter()
            .map(|home| line("home", home, home.value.display()))
            .collect();
        lines.push(line("threads", &self.threads, threads));
        lines.push(line(
            "force",
            &self.is_forced,
            if self.is_forced.value { "on" } else { "off" },
        ));
        lines
    }
}

/// `--home`, `DLM_HOME`, else `~/.dlm`.
fn home(flag: Option<PathBuf>) -> Result<Setting<PathBuf>, Failure> {
    let user = environment::path("HOME").map(|home| home.value);
    let chosen = Setting::flag("--home", flag).or_else(|| environment::path("DLM_HOME"));
    let chosen = match (chosen, user) {
        (Some(chosen), Some(user)) => chosen.map(|path| match path.strip_prefix("~") {
            Ok(rest) => user.join(rest),
            Err(_) => path,
        }),
        (Some(chosen), None) => chosen,
        (None, Some(user)) => Setting::default(user.join(".dlm")),
        (None, None) => {
            return Err(
                Failure::new(Subject::Error, "HOME is not set, so the stores have no place")
                    .hint("give one: `dlm --home <path> ...`, or set DLM_HOME"),
            );
        }
    };
    let path = &chosen.value;
    if path.as_os_str().is_empty() {
        return Err(Failure::misuse(
            Subject::Error,
            "`--home` is empty, expected a directory",
        ));
    }
    if path.is_file() {
        let what = format!("{} is a file, expected the directory of all stores", path.display());
        return Err(Failure::misuse(Subject::Error, what));
    }
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|e| Failure::new(Subject::Error, format!("{}: {e}", path.display())))?;
    Ok(chosen.map(|_| absolute))
}

/// Whether a base is asked if it can be exported: `--skip-export-probes`, else its variable, else it is.
pub fn export_probes(is_flag_given: bool) -> Setting<ExportProbes> {
    Setting::flag("--skip-export-probes", is_flag_given.then_some(true))
        .unwrap_or_else(|| environment::switch("DLM_SKIP_EXPORT_PROBES"))
        .map(|is_skipped| match is_skipped {
            true => ExportProbes::Skip,
            false => ExportProbes::Run,
        })
}

/// Who turned the cache of tokenized sections off: `--no-cache`, else its variable; none where nobody did.
pub fn cache_off(is_flag_given: bool) -> Option<String> {
    let setting = Setting::flag("--no-cache", is_flag_given.then_some(true))
        .unwrap_or_else(|| environment::switch("DLM_DISABLE_TOKENIZED_CACHE"));
    setting.value.then(|| setting.origin.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_and_a_value_remembers_who_gave_it() {
        let place = std::env::temp_dir();
        let home = home(Some(place.clone())).expect("a directory is a fine home");
        assert_eq!((home.value, home.origin), (place, Origin::Flag("--home")));
        assert_eq!(Setting::flag("--threads", None::<u32>), None);
        let probes = export_probes(true);
        assert_eq!(
            (probes.value, probes.origin.to_string()),
            (ExportProbes::Skip, "--skip-export-probes".to_owned())
        );
    }

    #[test]
    fn a_file_and_nothing_at_all_are_no_home() {
        let failure = home(Some(PathBuf::new())).expect_err("an empty path is none");
        assert_eq!(failure.message(), "`--home` is empty, expected a directory");
        let file = std::env::current_exe().expect("the test is a program");
        assert_eq!(
            home(Some(file))
                .expect_err("a program is no directory")
                .kind
                .exit_code(),
            2
        );
    }
}
