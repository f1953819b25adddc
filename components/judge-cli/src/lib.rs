//! The judge `cli:<command>`: one process per candidate, a JSON object on its input, a JSON object on its output.
//!
//! Invariants: no shell; the command is exactly what was typed; a failed call is tried once more where it timed out or ended
//! with a status other than 0, and never where its answer is unusable.

mod answer;
mod words;

use dlm_plugin::judge::{self, Info, Item, Judge, Verdict};
use dlm_plugin::process::{self, Argument, Command, Finished};
use dlm_plugin::types::Field;
use dlm_plugin::{Error, config, error, log};

use answer::Answer;

const TIMEOUT_S: f64 = 30.0;
/// Tells a command which contract its caller speaks.
const PROTOCOL: (&str, &str) = ("DLM_JUDGE_PROTOCOL", "1");

struct Cli {
    /// As it was typed.
    command: String,
    program: String,
    arguments: Vec<String>,
    timeout_s: f64,
}

impl Judge for Cli {
    fn open(argument: &str) -> Result<Self, Error> {
        let mut words = words::split(argument)?.into_iter();
        let Some(program) = words.next() else {
            return Err(error!(
                InvalidInput,
                "judge `cli` needs a command: `--judge 'cli:./score.sh --strict'`"
            ));
        };
        let timeout_s = config::number("timeout")?.unwrap_or(TIMEOUT_S);
        if !(timeout_s > 0.0 && timeout_s.is_finite()) {
            return Err(error!(
                InvalidInput,
                "the judge's timeout is {timeout_s} s, more than 0 was expected"
            ));
        }
        Ok(Cli {
            command: argument.trim().to_owned(),
            program,
            arguments: words.collect(),
            timeout_s,
        })
    }

    fn info(&self) -> Info {
        let mut info = Info::pointwise(format!("cli:{}", self.command)).detail("an external command");
        // Nobody knows what the command does; and each call takes as long as it takes, so one item a batch.
        info.deterministic = false;
        info.max_batch = 1;
        info
    }

    fn score(&mut self, item: &Item) -> Result<Verdict, Error> {
        let mut answers = Vec::with_capacity(item.candidates.len());
        for candidate in &item.candidates {
            dlm_plugin::stop_if_cancelled()?;
            answers.push(self.ask_twice(&item.prompt, candidate)?);
        }
        let reasons: Vec<Option<String>> = answers.iter().map(|answer| answer.reasoning.clone()).collect();
        Ok(Verdict {
            scores: answers.iter().map(|answer| answer.score).collect(),
            reasoning: judge::joined(&reasons),
        })
    }
}

impl Cli {
    /// Asks once more where the first call timed out or ended with a status other than 0.
    fn ask_twice(&self, prompt: &str, candidate: &str) -> Result<Answer, Error> {
        match self.ask(prompt, candidate) {
            Err(first @ (Error::TimedOut(_) | Error::Rejected(_))) => {
                log::warn(&format!("trying once more: {}", answer::text(&first)));
                self.ask(prompt, candidate)
            }
            done => done,
        }
    }

    fn ask(&self, prompt: &str, candidate: &str) -> Result<Answer, Error> {
        let finished = process::run(&Command {
            program: self.program.clone(),
            arguments: self.arguments.iter().cloned().map(Argument::Text).collect(),
            env: vec![Field {
                name: PROTOCOL.0.to_owned(),
                value: PROTOCOL.1.to_owned(),
            }],
            secret_env: Vec::new(),
            stdin: answer::question(prompt, candidate).into_bytes(),
            timeout_ms: Some((self.timeout_s * 1000.0) as u32),
        });
        match finished {
            Ok(Finished { status: 0, stdout, .. }) => answer::read(&self.command, &stdout),
            Ok(failed) => Err(answer::failure(
                &self.command,
                failed.status,
                &failed.stdout,
                &failed.stderr,
            )),
            Err(Error::TimedOut(_)) => Err(error!(
                TimedOut,
                "`{}` gave no answer within {} s and was stopped; `--judge-timeout` allows more",
                self.command,
                self.timeout_s
            )),
            Err(Error::Unavailable(why)) => Err(self.not_started(&why)),
            Err(other) => Err(other),
        }
    }

    /// Tells a program that is not there from one that cannot be started.
    fn not_started(&self, why: &str) -> Error {
        match process::which(&self.program) {
            Err(Error::Unavailable(_)) => error!(Unavailable, "`{}` is not available on PATH", self.program),
            _ => error!(Unavailable, "`{}` cannot be started: {why}", self.program),
        }
    }
}

dlm_plugin::export_judge!(Cli);
