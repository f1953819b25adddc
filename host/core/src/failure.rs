//! What a failure means to the caller of a command, and what to type next.

use std::fmt;

/// The kinds of failure, each with its documented exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// License, disk, memory, lock, parse, missing artefact: exit 1.
    Runtime,
    /// Exclusive flags, missing or bad argument, unknown choice: exit 2.
    Misuse,
    /// Ctrl-C: exit 130.
    Interrupted,
    /// What was asked for leaves nothing to do, which is no mistake: exit 0.
    NothingToDo,
}

impl FailureKind {
    /// The process exit code of `spec/cli.md` section 2.
    pub fn exit_code(self) -> u8 {
        match self {
            FailureKind::NothingToDo => 0,
            FailureKind::Runtime => 1,
            FailureKind::Misuse => 2,
            FailureKind::Interrupted => 130,
        }
    }
}

/// The word in front of a message: the table of `spec/cli.md` section 3, and the commands' own names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Adapter,
    Base,
    BaseModel,
    Destination,
    Disk,
    /// A document that cannot be read, as opposed to one that does not parse.
    Doc,
    Doctor,
    Edit,
    /// Whatever has no better word.
    Error,
    Export,
    Inference,
    Init,
    Interrupted,
    Judge,
    License,
    Lock,
    Merge,
    Metrics,
    Migrate,
    Model,
    Parse,
    Plugin,
    Preference,
    Preflight,
    Prompt,
    Push,
    Resume,
    Score,
    Show,
    Smoke,
    Store,
    Synth,
    Teacher,
    Templates,
    Training,
    /// The program that a target hands a model to, by its own name, with the step where it refused one: `ollama`,
    /// `ollama create`.
    Runtime(String),
}

impl Subject {
    /// The word as it is printed.
    pub fn as_str(&self) -> &str {
        match self {
            Subject::Adapter => "adapter",
            Subject::Base => "base",
            Subject::BaseModel => "base_model",
            Subject::Destination => "destination",
            Subject::Disk => "disk",
            Subject::Doc => "doc",
            Subject::Doctor => "doctor",
            Subject::Edit => "edit",
            Subject::Error => "error",
            Subject::Export => "export",
            Subject::Inference => "inference",
            Subject::Init => "init",
            Subject::Interrupted => "interrupted",
            Subject::Judge => "judge",
            Subject::License => "license",
            Subject::Lock => "lock",
            Subject::Merge => "merge",
            Subject::Metrics => "metrics",
            Subject::Migrate => "migrate",
            Subject::Model => "model",
            Subject::Parse => "parse",
            Subject::Plugin => "plugin",
            Subject::Preference => "preference",
            Subject::Preflight => "preflight",
            Subject::Prompt => "prompt",
            Subject::Push => "push",
            Subject::Resume => "resume",
            Subject::Score => "score",
            Subject::Show => "show",
            Subject::Smoke => "smoke",
            Subject::Store => "store",
            Subject::Synth => "synth",
            Subject::Teacher => "teacher",
            Subject::Templates => "templates",
            Subject::Training => "training",
            Subject::Runtime(name) => name,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows its subject, its kind and its remedy.
///
/// The command line prints `<subject>: <Display>` and every hint on a line of its own below it.
pub trait Hints: std::error::Error + Send + Sync {
    /// The word in front of the message.
    fn subject(&self) -> Subject;

    /// The kind, which decides the exit code.
    fn kind(&self) -> FailureKind {
        FailureKind::Runtime
    }

    /// Commands or edits that remedy the failure, most useful first.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}
