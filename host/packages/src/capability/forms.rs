//! The forms of capabilities, as their reader knows them: for messages and for the book.
//!
//! Invariant: every capability is of one form, and every form can be read; tests hold both.

use super::{Capability, ModelGrant, SecretPlace};

/// One way to write a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The word before the `:`.
    pub word: &'static str,
    pub form: &'static str,
    pub allows: &'static str,
    pub example: &'static str,
}

const fn form(word: &'static str, form: &'static str, allows: &'static str, example: &'static str) -> Form {
    Form {
        word,
        form,
        allows,
        example,
    }
}

const MODEL_CURRENT: usize = 0;
const MODEL_ARGUMENT: usize = 1;
const MODEL_NAMED: usize = 2;
const MODEL_ANY: usize = 3;
const HTTP: usize = 4;
const HTTP_ARGUMENT: usize = 5;
const SECRET: usize = 6;
const SECRET_ARGUMENT: usize = 7;
const SECRET_PROGRAM: usize = 8;
const REVEAL: usize = 9;
const EXEC: usize = 10;
const EXEC_ARGUMENT: usize = 11;
const CLOCK: usize = 12;
const RANDOM: usize = 13;
const LIMIT: usize = 14;

/// Every form, in the order of the book.
pub const FORMS: [Form; 15] = [
    form(
        "model",
        "model:current",
        "the run's own model: generate, score, tokenize",
        "model:current",
    ),
    form(
        "model",
        "model:arg",
        "the model that the user typed as the plugin's argument",
        "model:arg",
    ),
    form("model", "model:<selector>", "that other model", "model:hf:org/name"),
    form("model", "model:*", "any model but the run's own", "model:*"),
    form(
        "http",
        "http:<scheme>://<host>[:<port>][/<prefix>]",
        "requests there; the host may begin with `*.`, the scheme is `https` or `http`, a prefix ends at a `/` or at the end",
        "http:https://api.example.com/v1",
    ),
    form(
        "http",
        "http:arg",
        "requests to the origin in the argument that the user typed, also in a private network",
        "http:arg",
    ),
    form(
        "secret",
        "secret:<NAME>@<host>",
        "attach the secret to requests to that host, without seeing it",
        "secret:API_KEY@api.example.com",
    ),
    form(
        "secret",
        "secret:<NAME>@arg",
        "the same for the host in the argument that the user typed",
        "secret:API_KEY@arg",
    ),
    form(
        "secret",
        "secret:<NAME>@exec:<program>",
        "put the secret into that program's environment; the program can read it",
        "secret:API_KEY@exec:git",
    ),
    form("reveal", "reveal:<NAME>", "read the secret's text", "reveal:API_KEY"),
    form(
        "exec",
        "exec:<program> [<pattern>…]",
        "run it, outside the sandbox, as you; a pattern is a word, `*` (one argument that is no option) or, at the end, `**` (the rest); none means no arguments",
        "exec:ollama create * -f *",
    ),
    form(
        "exec",
        "exec:arg",
        "run exactly the command that the user typed as the plugin's argument",
        "exec:arg",
    ),
    form("clock", "clock", "the real time; otherwise it stands still", "clock"),
    form("random", "random", "real randomness; otherwise it is seeded", "random"),
    form(
        "limit",
        "limit:<name>=<value>",
        "a limit above its default, up to its ceiling",
        "limit:memory=512MiB",
    ),
];

impl Capability {
    /// How it is written.
    pub fn form(&self) -> &'static Form {
        &FORMS[match self {
            Capability::Model(ModelGrant::Current) => MODEL_CURRENT,
            Capability::Model(ModelGrant::Argument) => MODEL_ARGUMENT,
            Capability::Model(ModelGrant::Named(_)) => MODEL_NAMED,
            Capability::Model(ModelGrant::Any) => MODEL_ANY,
            Capability::Http(_) => HTTP,
            Capability::HttpArgument => HTTP_ARGUMENT,
            Capability::Secret { place, .. } => match place {
                SecretPlace::Host(_) => SECRET,
                SecretPlace::Argument => SECRET_ARGUMENT,
                SecretPlace::Program(_) => SECRET_PROGRAM,
            },
            Capability::Reveal(_) => REVEAL,
            Capability::Exec { .. } => EXEC,
            Capability::ExecArgument => EXEC_ARGUMENT,
            Capability::Clock => CLOCK,
            Capability::Random => RANDOM,
            Capability::Limit { .. } => LIMIT,
        }]
    }
}

/// The words before the `:`, for messages.
pub(crate) fn words() -> String {
    let mut words: Vec<&str> = FORMS.iter().map(|form| form.word).collect();
    words.dedup();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_as_itself_and_written_back() {
        for form in &FORMS {
            let read = Capability::parse(form.example).unwrap();
            assert_eq!(read.form(), form);
            assert_eq!(read.to_string(), form.example);
            assert_eq!(form.example.split(':').next(), Some(form.word));
            assert!(form.form.starts_with(form.word), "{}", form.form);
        }
        assert_eq!(words(), "model, http, secret, reveal, exec, clock, random, limit");
        let unknown = Capability::parse("everything").unwrap_err();
        assert!(unknown.to_string().ends_with(&words()), "{unknown}");
    }
}
