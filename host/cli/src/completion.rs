//! Completion scripts: printed, or installed where the shell looks for them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use dlm_core::inert::Inert;
use dlm_files::{Disk, DiskError};
use dlm_packages::manifest::Manifest;
use dlm_packages::{Builtin, Kind};
use dlm_plan::base::Registry;

use crate::console::{deliver, say};
use crate::environment;

/// Prints the script for `shell`, or for the shell of the user.
pub fn show(shell: Option<&str>) -> ExitCode {
    match choose(shell) {
        Ok(shell) => {
            deliver(&Inert::text(&script(shell)));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Writes the script into the user's completion directory and says how to load it.
pub fn install(shell: Option<&str>) -> ExitCode {
    let shell = match choose(shell) {
        Ok(shell) => shell,
        Err(code) => return code,
    };
    let Some(home) = directory("HOME") else {
        say("error: HOME is not set, so there is no place to install to");
        say("  print the script instead: dlm --show-completion");
        return ExitCode::FAILURE;
    };
    let Some((path, reload)) = place(shell, &home) else {
        say(&format!("error: no place to install to is known for {shell}"));
        say(&format!(
            "  dlm --show-completion {shell} > <file>, and load it from your profile"
        ));
        return ExitCode::from(2);
    };
    let disk = Disk::new();
    let parent = path.parent().expect("the path has a directory");
    let written = disk
        .create_directories(parent)
        .and_then(|()| disk.write(&path, script(shell).as_bytes()))
        .map_err(DiskError::into_io);
    match written {
        Ok(()) => {
            say(&format!("completion: wrote {}\n  {reload}", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {} cannot be written: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

fn directory(name: &'static str) -> Option<PathBuf> {
    environment::path(name).map(|directory| directory.value)
}

/// Where a shell looks for the script, and how it is loaded.
fn place(shell: Shell, home: &Path) -> Option<(PathBuf, &'static str)> {
    let data = directory("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
    let config = directory("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    match shell {
        Shell::Bash => Some((data.join("bash-completion/completions/dlm"), "start a new shell")),
        Shell::Zsh => Some((
            home.join(".zfunc/_dlm"),
            "add `fpath+=~/.zfunc; autoload -Uz compinit; compinit` to ~/.zshrc and start a new shell",
        )),
        Shell::Fish => Some((config.join("fish/completions/dlm.fish"), "start a new shell")),
        Shell::PowerShell => Some((
            config.join("powershell/dlm.completion.ps1"),
            "add `. ~/.config/powershell/dlm.completion.ps1` to $PROFILE and start a new shell",
        )),
        Shell::Elvish => Some((
            config.join("elvish/lib/dlm.elv"),
            "add `use dlm` to rc.elv and start a new shell",
        )),
        _ => None,
    }
}

/// The shell that started this program, as far as the system shows it.
fn parent_shell() -> Option<Shell> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    match name.trim() {
        "pwsh" => Some(Shell::PowerShell),
        other => other.parse().ok(),
    }
}

/// Takes the shell that was named, or the one that started this program, or the one of `SHELL`.
fn choose(shell: Option<&str>) -> Result<Shell, ExitCode> {
    if shell.is_none()
        && let Some(parent) = parent_shell()
    {
        return Ok(parent);
    }
    let named = shell.map(str::to_owned).or_else(|| {
        let path = directory("SHELL")?;
        Some(path.file_name()?.to_string_lossy().into_owned())
    });
    let known = "bash, zsh, fish, powershell, elvish";
    match named.as_deref().map(<Shell as std::str::FromStr>::from_str) {
        Some(Ok(shell)) => Ok(shell),
        _ => {
            let found = named.map_or("SHELL is not set".to_owned(), |n| format!("`{n}` is not known"));
            say(&format!(
                "error: which shell? {found}; known: {known}\n  dlm --show-completion bash"
            ));
            Err(ExitCode::from(2))
        }
    }
}

/// The templates of the bundled gallery, which only the plugin that holds it can list; a test compares.
const TEMPLATES: [&str; 9] = [
    "changelog",
    "coding-tutor",
    "domain-kb",
    "meeting-notes-summarizer",
    "personal-assistant",
    "regex-buddy",
    "shell-one-liner",
    "tool-use-example",
    "writing-partner",
];

/// The built-in plugins of a kind; one that works on what is typed after its name, as its capabilities say, ends with the
/// colon that goes between.
fn plugins(kind: Kind) -> Vec<String> {
    let word = |builtin: &Builtin| {
        let manifest = Manifest::of_component(builtin.wasm).ok()?;
        let takes_argument = manifest
            .requests
            .iter()
            .any(|request| request.capability.ends_with(":arg"));
        let colon = if takes_argument { ":" } else { "" };
        manifest
            .kinds
            .contains(&kind)
            .then(|| format!("{}{colon}", builtin.name))
    };
    dlm_packages::builtins().iter().filter_map(word).collect()
}

/// Gives arguments that take more than a fixed list, such as a plugin's file, the words that are known of them. Only for
/// completion: parsing takes any other word too.
fn with_choices(root: Command) -> Command {
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let bases: Vec<String> = Registry::builtin().keys().map(str::to_owned).collect();
    let all: Vec<&str> = dlm_packages::builtins().iter().map(|plugin| plugin.name).collect();
    let judges = plugins(Kind::Judge);
    let lists: [(&[&str], &str, Vec<String>); 10] = [
        (&["init"], "base", bases.clone()),
        (&["doctor"], "base", bases.clone()),
        (&["init"], "template", words(&TEMPLATES)),
        (&["export"], "target", plugins(Kind::Target)),
        (&["base", "show"], "name", bases.clone()),
        (&["base", "add"], "name", bases),
        (&["plugin", "inspect"], "plugin", words(&all)),
        (&["preference", "mine"], "judge", judges.clone()),
        (&["synth", "preferences"], "judge", judges),
        (&["synth", "instructions"], "teacher", plugins(Kind::Teacher)),
    ];
    lists.iter().fold(root, |root, (path, argument, words)| {
        choose_from(root, path, argument, words)
    })
}

fn choose_from(command: Command, path: &[&str], argument: &str, words: &[String]) -> Command {
    match path {
        [] => command.mut_arg(argument, |arg| {
            arg.value_parser(PossibleValuesParser::new(words.to_vec()))
        }),
        [first, rest @ ..] => command.mut_subcommand(first, |inner| choose_from(inner, rest, argument, words)),
    }
}

fn script(shell: Shell) -> String {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut with_choices(crate::definition()), "dlm", &mut out);
    String::from_utf8(out).expect("completion scripts are text")
}
