//! The import `process`: granted command lines, without a shell, run by the process port.

use std::collections::BTreeSet;
use std::time::Duration;

use dlm_core::inert::{cut, inert_line};
use dlm_core::ports::process::{Command, ProcessError};
use dlm_core::{Network, Wall};
use dlm_packages::capability::{Capability, ExecArgument, exec_text, split_words};
use dlm_packages::limits::LimitName;

use super::secrets::without;
use super::wit::process;
use super::{State, Stop, WitError};
use crate::limits::{PROCESS_TIME_MAX, PassedLimit};

/// Most arguments of a command, and bytes of all of them.
const ARGUMENTS_MAX: usize = 256;
const ARGUMENT_BYTES_MAX: usize = 128 * 1024;
/// Most of a variable's name that a refusal repeats.
const NAME_BYTES_SHOWN: usize = 64;
/// What a guest may set in the environment of any granted program. Everything else stays the user's own: an interpreter, a
/// loader or a client takes code, servers or certificates from variables that no list of refused names could exhaust.
const ENVIRONMENT: [&str; 3] = [
    "DLM_JUDGE_PROTOCOL",
    "VLLM_METAL_MEMORY_FRACTION",
    "VLLM_METAL_USE_PAGED_ATTENTION",
];

impl State {
    fn command(&self, request: &process::Command) -> Result<Command, WitError> {
        let program = request.program.as_str();
        self.check_outside(|| format!("exec:{}", inert_line(program)))?;
        let (path, arguments) = expand(self, program, &request.arguments, &[])?;
        let mut env = checked_env(&request.env)?;
        env.extend(self.secret_env(program, &request.secret_env)?);
        let is_typed = self.is_typed_program(program);
        Ok(Command {
            program: path,
            arguments,
            env,
            // What the user typed runs where and as it would from the shell.
            directory: is_typed.then(|| self.new.facts.directory.clone()),
            is_inheriting: is_typed,
            stdin: request.stdin.clone(),
            wall: (!is_typed).then(|| self.wall(self.programs_network())),
        })
    }

    /// A program of the plugin changes files where the plugin itself may.
    pub(crate) fn wall(&self, network: Network) -> Wall {
        Wall {
            folders: self.directory.iter().cloned().collect(),
            network,
        }
    }

    /// A program of the plugin reaches the ports that the plugin itself may.
    fn programs_network(&self) -> Network {
        let ports: BTreeSet<u16> = self.new.grants.http_rules().iter().map(|rule| rule.port).collect();
        match ports.is_empty() {
            true => Network::None,
            false => Network::Ports(ports.into_iter().collect()),
        }
    }

    fn secret_env(&self, program: &str, list: &[process::SecretEnv]) -> Result<Vec<(String, String)>, WitError> {
        let one = |entry: &process::SecretEnv| {
            let secret = self
                .table
                .get(&entry.secret)
                .map_err(|error| WitError::InvalidInput(error.to_string()))?;
            if !self.new.grants.secret_for_program(secret.name(), program) {
                let capability = format!("secret:{}@exec:{}", secret.name(), inert_line(program));
                return Err(self.denied(capability, "the secret may not go to this program"));
            }
            secret_variable(&entry.name, secret.name())?;
            Ok((entry.name.clone(), secret.value().to_owned()))
        };
        list.iter().map(one).collect()
    }

    /// Says whether the program is the one of the command that the user typed as the plugin's argument.
    fn is_typed_program(&self, program: &str) -> bool {
        self.new.grants.holds(&Capability::ExecArgument)
            && split_words(&self.new.argument).is_some_and(|words| words.first().is_some_and(|word| word == program))
    }

    /// Where a program is. A typed one may be a path, read from the user's own directory.
    fn find_program(&self, program: &str) -> Option<std::path::PathBuf> {
        if program.contains('/') && self.is_typed_program(program) {
            let path = self.new.facts.directory.join(program);
            return path.is_file().then_some(path);
        }
        self.new.ports.process.find(program)
    }
}

/// Checks a command line against the grants, then puts the real paths and `fills` (`{port}` and the like) in.
///
/// Paths come from the host's own records, never from text of the guest.
pub(crate) fn expand(
    state: &State,
    program: &str,
    arguments: &[process::Argument],
    fills: &[(&str, String)],
) -> Result<(std::path::PathBuf, Vec<String>), WitError> {
    if arguments.len() > ARGUMENTS_MAX {
        return Err(WitError::InvalidInput(format!("more than {ARGUMENTS_MAX} arguments")));
    }
    let filled: Vec<process::Argument> = arguments
        .iter()
        .map(|argument| match argument {
            process::Argument::Text(text) => {
                let fill = |text: String, (mark, value): &(&str, String)| text.replace(mark, value);
                process::Argument::Text(fills.iter().fold(text.clone(), fill))
            }
            other => other.clone(),
        })
        .collect();
    let matched: Vec<ExecArgument<'_>> = filled
        .iter()
        .map(|argument| match argument {
            process::Argument::Text(text) => ExecArgument::Text(text),
            // A path inside a longer argument could turn it into an option, so its own beginning is what is matched.
            process::Argument::Spliced(spliced) if spliced.before.starts_with('-') => {
                ExecArgument::Text(&spliced.before)
            }
            _ => ExecArgument::Path,
        })
        .collect();
    if !state.new.grants.allows_exec(program, &matched) {
        let capability = inert_line(&exec_text(program, &matched));
        return Err(state.denied(capability, "this command line is not granted"));
    }
    let texts = filled.iter().map(|argument| spelled(state, argument));
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    if texts.iter().map(String::len).sum::<usize>() > ARGUMENT_BYTES_MAX || texts.iter().any(|text| text.contains('\0'))
    {
        return Err(WitError::InvalidInput(
            "the arguments are too long or hold a zero byte".to_owned(),
        ));
    }
    let path = state.find_program(program).ok_or_else(|| missing(program))?;
    Ok((path, texts))
}

/// One argument as the program gets it.
fn spelled(state: &State, argument: &process::Argument) -> Result<String, WitError> {
    let output = |name: &str| {
        let is_known = state.output.holds(name);
        let directory = state.directory.as_ref().filter(|_| is_known);
        directory
            .map(|directory| directory.join(name).to_string_lossy().into_owned())
            .ok_or_else(|| WitError::NotFound(format!("no file `{}` was written", inert_line(name))))
    };
    match argument {
        process::Argument::Text(text) => Ok(text.clone()),
        process::Argument::InputPath(name) => Ok(state.artifact(name)?.path.to_string_lossy().into_owned()),
        process::Argument::OutputPath(name) => output(name),
        process::Argument::Spliced(spliced) => Ok(format!(
            "{}{}{}",
            spliced.before,
            output(&spliced.output)?,
            spliced.after
        )),
    }
}

/// The environment a guest adds to any program: only names of [`ENVIRONMENT`].
pub(crate) fn checked_env(fields: &[super::wit::types::Field]) -> Result<Vec<(String, String)>, WitError> {
    let check = |field: &super::wit::types::Field| {
        if ENVIRONMENT.contains(&field.name.as_str()) && !field.value.contains('\0') {
            return Ok((field.name.clone(), field.value.clone()));
        }
        Err(not_set(&field.name, &format!("only {} may", ENVIRONMENT.join(", "))))
    };
    fields.iter().map(check).collect()
}

/// A secret goes into the variable of its own name, the one that the user read when it was granted.
fn secret_variable(name: &str, secret: &str) -> Result<(), WitError> {
    if name == secret {
        return Ok(());
    }
    Err(not_set(name, &format!("the secret goes into the variable `{secret}`")))
}

fn not_set(name: &str, why: &str) -> WitError {
    let name = inert_line(&cut(name, NAME_BYTES_SHOWN));
    WitError::InvalidInput(format!("the environment variable `{name}` may not be set: {why}"))
}

fn missing(program: &str) -> WitError {
    WitError::Unavailable(format!("the program `{}` is not installed", inert_line(program)))
}

impl process::Host for State {
    fn which(&mut self, program: String) -> wasmtime::Result<Result<String, WitError>> {
        let capability = || format!("exec:{}", inert_line(&program));
        if let Err(error) = self.check_outside(capability) {
            return Ok(Err(error));
        }
        if !self.new.grants.knows_program(&program) {
            return Ok(Err(self.denied(capability(), "this program is not granted")));
        }
        let found = self.in_host(|state| state.find_program(&program));
        Ok(found
            .map(|path| path.to_string_lossy().into_owned())
            .ok_or_else(|| missing(&program)))
    }

    fn run(&mut self, request: process::Command) -> wasmtime::Result<Result<process::Finished, WitError>> {
        let command = match self.command(&request) {
            Ok(command) => command,
            Err(error) => return Ok(Err(error)),
        };
        let allowed = self.new.limits.process_runs;
        if self.used.programs.values().sum::<u64>() >= allowed {
            let text = format!("{allowed} program runs");
            return Err(Stop::trap(PassedLimit::raisable(LimitName::Process, allowed, text)));
        }
        self.used.count_program(&inert_line(&request.program));
        let asked = request
            .timeout_ms
            .map_or(PROCESS_TIME_MAX, |ms| Duration::from_millis(u64::from(ms)));
        let timeout = asked.min(PROCESS_TIME_MAX).min(self.wall_left());
        let finished = self.in_host(|state| {
            let ports = &state.new.ports;
            ports.process.run(&command, timeout, &ports.cancel)
        });
        match finished {
            Ok(finished) => {
                let hidden = self.hidden();
                Ok(Ok(process::Finished {
                    status: finished.status,
                    stdout: without(finished.stdout, &hidden),
                    stderr: without(finished.stderr, &hidden),
                }))
            }
            Err(ProcessError::Cancelled { .. }) => Err(wasmtime::Error::new(Stop::Cancelled)),
            Err(error @ ProcessError::TimedOut { .. }) => Ok(Err(WitError::TimedOut(error.to_string()))),
            Err(error) => Ok(Err(WitError::Unavailable(error.to_string()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> super::super::wit::types::Field {
        super::super::wit::types::Field {
            name: name.to_owned(),
            value: "1".to_owned(),
        }
    }

    #[test]
    fn a_guest_sets_only_variables_that_load_nothing() {
        for name in ENVIRONMENT {
            assert_eq!(
                checked_env(&[field(name)]).unwrap(),
                [(name.to_owned(), "1".to_owned())]
            );
        }
        for name in [
            "PYTHONPATH",
            "BASH_ENV",
            "ENV",
            "NODE_OPTIONS",
            "PERL5OPT",
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "HOME",
            "TMPDIR",
            "OLLAMA_HOST",
            "HTTPS_PROXY",
            "SSL_CERT_FILE",
            "LD_PRELOAD",
            "PATH",
            "DLM_HOME",
            "VLLM_PLUGINS",
            "",
        ] {
            assert!(
                matches!(checked_env(&[field(name)]), Err(WitError::InvalidInput(_))),
                "{name}"
            );
        }
        let zero = super::super::wit::types::Field {
            value: "a\0b".to_owned(),
            ..field("DLM_JUDGE_PROTOCOL")
        };
        assert!(checked_env(&[zero]).is_err());
    }

    #[test]
    fn a_secret_goes_into_its_own_variable() {
        assert!(secret_variable("HF_TOKEN", "HF_TOKEN").is_ok());
        assert!(secret_variable("PYTHONPATH", "HF_TOKEN").is_err());
    }
}
