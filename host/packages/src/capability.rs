//! Capabilities in text form, and what each covers.
//!
//! Invariants: matching is on parsed values; what is written back reads the same.

pub mod forms;
mod shell;

use std::fmt;

use dlm_core::http_rule::{HostPattern, HttpRule};

use crate::kind::Kind;
use crate::limits::{LimitName, LimitValue};

pub use shell::split_words;

/// A capability text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the capability `{text}` {cause}")]
pub struct CapabilityError {
    pub text: String,
    pub cause: String,
}

/// Which model a grant names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelGrant {
    /// `model:current`: the run's own.
    Current,
    /// `model:arg`: the one that the user typed as the plugin's argument.
    Argument,
    /// `model:*`: every model.
    Any,
    /// `model:<selector>`.
    Named(String),
}

/// Where a secret may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// Into a header of requests to this host.
    Host(HostPattern),
    /// Into a header of requests to the host of the plugin's argument.
    Argument,
    /// Into the environment of this program.
    Program(String),
}

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `exec:<program> [<pattern>…]`: run it; a pattern is a literal, `*` (one argument) or `**` (the rest).
    Exec { program: String, patterns: Vec<String> },
    /// `exec:arg`: run the command in the plugin's argument, exactly.
    ExecArgument,
    /// `http:<scheme>://<host>[:<port>][/<prefix>]`: requests there.
    Http(HttpRule),
    /// `http:arg`: requests to the origin in the plugin's argument.
    HttpArgument,
    /// `model:…`.
    Model(ModelGrant),
    /// `secret:<NAME>@<host>` or `secret:<NAME>@exec:<program>`: attach it, without seeing it.
    Secret { name: String, place: SecretPlace },
    /// `reveal:<NAME>`: read it.
    Reveal(String),
    /// `clock`: the real time.
    Clock,
    /// `random`: real randomness.
    Random,
    /// `limit:<name>=<value>`: a limit above the default.
    Limit { name: LimitName, value: LimitValue },
}

/// One argument of a program, as far as matching needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecArgument<'a> {
    Text(&'a str),
    /// A path that the host fills in.
    Path,
}

impl Capability {
    /// Reads the text form.
    ///
    /// **Errors**: an unknown kind or a wrong value.
    pub fn parse(text: &str) -> Result<Capability, CapabilityError> {
        let bad = |cause: &str| CapabilityError {
            text: dlm_core::inert::inert_line(text),
            cause: cause.to_owned(),
        };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "exec" if rest == "arg" => Ok(Capability::ExecArgument),
            "exec" => parse_exec(rest).map_err(bad),
            "http" if rest == "arg" => Ok(Capability::HttpArgument),
            "http" => HttpRule::parse(rest).map(Capability::Http).map_err(|error| {
                bad(&format!(
                    "is not `http:<scheme>://<host>[:<port>][/<prefix>]`: {}",
                    error.reason
                ))
            }),
            "model" => match rest {
                "current" => Ok(Capability::Model(ModelGrant::Current)),
                "arg" => Ok(Capability::Model(ModelGrant::Argument)),
                "*" => Ok(Capability::Model(ModelGrant::Any)),
                name if is_selector(name) => Ok(Capability::Model(ModelGrant::Named(name.to_owned()))),
                _ => Err(bad(
                    "names no model: `model:current`, `model:arg`, `model:*` or `model:<selector>` was expected",
                )),
            },
            "secret" => parse_secret(rest).map_err(|cause| bad(&cause)),
            "reveal" if is_secret_name(rest) => Ok(Capability::Reveal(rest.to_owned())),
            "reveal" => Err(bad("names no secret: upper-case letters, digits and `_` were expected")),
            "clock" if text == "clock" => Ok(Capability::Clock),
            "random" if text == "random" => Ok(Capability::Random),
            "limit" => {
                let (name, value) = rest
                    .split_once('=')
                    .ok_or_else(|| bad("is not `limit:<name>=<value>`"))?;
                let name = LimitName::parse(name).ok_or_else(|| bad(&LimitName::expected()))?;
                let value = name.parse_value(value).map_err(|cause| bad(&cause))?;
                Ok(Capability::Limit { name, value })
            }
            _ => Err(bad(&format!("is of no known kind: {}", forms::words()))),
        }
    }

    /// Says whether a plugin of `kind` can have it at all.
    pub fn fits(&self, kind: Kind) -> bool {
        let power = match self {
            Capability::Exec { .. } | Capability::ExecArgument => "process",
            Capability::Http(_) | Capability::HttpArgument => "http",
            Capability::Model(_) => "model",
            Capability::Secret { .. } | Capability::Reveal(_) => "secrets",
            Capability::Clock | Capability::Random | Capability::Limit { .. } => return true,
        };
        kind.may_import(power)
    }

    /// Says whether it allows this command line.
    pub(crate) fn covers_exec(&self, program: &str, arguments: &[ExecArgument<'_>]) -> bool {
        let Capability::Exec {
            program: granted,
            patterns,
        } = self
        else {
            return false;
        };
        granted == program && matches(patterns, arguments)
    }
}

fn parse_exec(rest: &str) -> Result<Capability, &'static str> {
    let mut words = rest.split(' ').map(str::to_owned);
    let program = words.next().unwrap_or_default();
    let is_name = !program.is_empty()
        && program
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !program.starts_with(['-', '.']);
    if !is_name {
        return Err("names no program (a name without directories was expected)");
    }
    let patterns: Vec<String> = words.collect();
    if patterns.iter().any(String::is_empty) {
        return Err("has an empty argument pattern");
    }
    if !patterns.iter().all(|pattern| is_plain(pattern)) {
        return Err(
            "has an argument pattern with letters outside ASCII or characters that a shell reads; `*` stands for it",
        );
    }
    if patterns.iter().rev().skip(1).any(|pattern| pattern == "**") {
        return Err("has `**` before its end");
    }
    Ok(Capability::Exec { program, patterns })
}

/// What stands for the place that the plugin's argument names.
const ARGUMENT: &str = "arg";

fn parse_secret(rest: &str) -> Result<Capability, String> {
    let expected = "is not `secret:<NAME>@<host>` or `secret:<NAME>@exec:<program>`";
    let (name, place) = rest.split_once('@').ok_or(expected)?;
    if !is_secret_name(name) {
        return Err("names no secret: upper-case letters, digits and `_` were expected".to_owned());
    }
    let place = match place.strip_prefix("exec:") {
        _ if place == ARGUMENT => SecretPlace::Argument,
        Some(program) => match parse_exec(program)? {
            Capability::Exec { program, patterns } if patterns.is_empty() => SecretPlace::Program(program),
            _ => return Err(expected.to_owned()),
        },
        None => {
            let host = HostPattern::parse(place).map_err(|error| format!("{expected}: {}", error.reason))?;
            // Hosts are written in lower case, and then it would be the word.
            if host.to_string() == ARGUMENT {
                return Err(format!(
                    "names the host `{ARGUMENT}`, which is the word for the plugin's argument"
                ));
            }
            SecretPlace::Host(host)
        }
    };
    Ok(Capability::Secret {
        name: name.to_owned(),
        place,
    })
}

/// Names of secrets are names of environment variables.
pub fn is_secret_name(name: &str) -> bool {
    name.len() <= 64
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_selector(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && is_plain(name)
}

/// Says whether a text looks like what it is, and like nothing else to a shell that it is pasted into.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"'\"\\`$;&|<>()".contains(&byte))
}

/// Compares arguments with patterns. `*` stands for one path or one text that is not an option, so that a granted
/// position cannot turn into another flag.
fn matches(patterns: &[String], arguments: &[ExecArgument<'_>]) -> bool {
    match (patterns.split_first(), arguments.split_first()) {
        (None, None) => true,
        (Some((pattern, [])), _) if pattern == "**" => true,
        (Some((pattern, patterns)), Some((argument, arguments))) => {
            let fits = match argument {
                ExecArgument::Path => pattern == "*",
                ExecArgument::Text(text) => pattern == text || (pattern == "*" && !text.starts_with('-')),
            };
            fits && matches(patterns, arguments)
        }
        _ => false,
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Exec { program, patterns } => {
                write!(f, "exec:{program}")?;
                patterns.iter().try_for_each(|pattern| write!(f, " {pattern}"))
            }
            Capability::ExecArgument => f.write_str("exec:arg"),
            Capability::Http(rule) => write!(f, "http:{rule}"),
            Capability::HttpArgument => f.write_str("http:arg"),
            Capability::Model(ModelGrant::Current) => f.write_str("model:current"),
            Capability::Model(ModelGrant::Argument) => f.write_str("model:arg"),
            Capability::Model(ModelGrant::Any) => f.write_str("model:*"),
            Capability::Model(ModelGrant::Named(name)) => write!(f, "model:{name}"),
            Capability::Secret { name, place } => match place {
                SecretPlace::Host(host) => write!(f, "secret:{name}@{host}"),
                SecretPlace::Argument => write!(f, "secret:{name}@arg"),
                SecretPlace::Program(program) => write!(f, "secret:{name}@exec:{program}"),
            },
            Capability::Reveal(name) => write!(f, "reveal:{name}"),
            Capability::Clock => f.write_str("clock"),
            Capability::Random => f.write_str("random"),
            Capability::Limit { name, value } => write!(f, "limit:{}={value}", name.as_str()),
        }
    }
}

/// The grant text that would cover a command line.
pub fn exec_text(program: &str, arguments: &[ExecArgument<'_>]) -> String {
    let mut out = format!("exec:{program}");
    for argument in arguments {
        out.push(' ');
        out.push_str(match argument {
            ExecArgument::Text(text) if !text.is_empty() && is_plain(text) => text,
            _ => "*",
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_fit_their_kinds() {
        let parse = |text: &str| Capability::parse(text).unwrap();
        assert!(parse("exec:a").fits(Kind::Judge) && !parse("exec:a").fits(Kind::Templates));
        assert!(parse("model:current").fits(Kind::Teacher) && !parse("model:current").fits(Kind::Target));
        assert!(parse("clock").fits(Kind::Templates));
    }

    #[test]
    fn texts_are_read_and_written_back() {
        for text in [
            "exec:llama-server --model * **",
            "exec:b",
            "exec:arg",
            "http:http://127.0.0.1/v1",
            "http:https://*.example.com:8443/v1",
            "http:arg",
            "model:current",
            "model:arg",
            "model:*",
            "model:hf:org/name",
            "secret:OPENAI_API_KEY@api.openai.com",
            "secret:KEY@exec:curl",
            "secret:KEY@arg",
            "reveal:KEY",
            "clock",
            "random",
            "limit:memory=512MiB",
            "limit:deadline=60s",
        ] {
            assert_eq!(Capability::parse(text).unwrap().to_string(), text);
        }
        for (text, part) in [
            ("exec:/bin/sh", "no program"),
            ("exec:", "no program"),
            ("exec:a ** b", "before its end"),
            ("exec:a  b", "empty argument"),
            ("exec:a x';touch${IFS}b;'", "a shell reads"),
            ("exec:a --nаme", "outside ASCII"),
            ("exec:a x\ny", "a shell reads"),
            ("model:x';id;'", "names no model"),
            ("model:$HOME", "names no model"),
            ("http:ftp://example.com", "scheme"),
            ("http:https://user@example.com", "user name"),
            ("secret:key@example.com", "names no secret"),
            ("secret:KEY", "secret:<NAME>"),
            // Found by the fuzzer: shown and stored as `secret:KEY@arg`, which is another place.
            ("secret:KEY@arG", "the word for the plugin's argument"),
            ("secret:KEY@ａｒｇ", "the word for the plugin's argument"),
            ("secret:KEY@exec:curl x", "secret:<NAME>"),
            ("clock:now", "no known kind"),
            ("limit:memory=9TiB", "ceiling"),
            ("limit:color=1", "memory"),
            ("model:", "names no model"),
            ("everything", "no known kind"),
        ] {
            let error = Capability::parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
