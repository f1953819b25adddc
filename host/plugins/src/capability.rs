//! Capabilities in text form, what each covers, and the set that one plugin holds.
//!
//! Invariants: matching is on parsed values; a denial wins over every grant; taking a grant away never allows more.

use std::fmt;

use crate::limits::{LimitName, LimitValue};
use crate::url::Url;

/// A capability text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the capability `{text}` {cause}")]
pub struct BadCapability {
    pub text: String,
    pub cause: String,
}

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `exec:<program> [<pattern>…]`: run it; a pattern is a literal, `*` (one argument) or `**` (the rest).
    Exec { program: String, patterns: Vec<String> },
    /// `http:http://127.0.0.1:<port>[/<prefix>]`: requests there.
    Http { port: u16, prefix: String },
    /// `limit:<name>=<value>`: a limit above the default.
    Limit { name: LimitName, value: LimitValue },
}

/// One argument of a program, as far as matching needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExecArgument<'a> {
    Text(&'a str),
    /// A path that the host fills in.
    Path,
}

impl Capability {
    /// Reads the text form.
    ///
    /// **Errors**: an unknown kind, a kind that this version has not, or a wrong value.
    pub fn parse(text: &str) -> Result<Capability, BadCapability> {
        let bad = |cause: &str| BadCapability {
            text: crate::terminal::inert(text),
            cause: cause.to_owned(),
        };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "exec" => {
                let mut words = rest.split(' ').map(str::to_owned);
                let program = words.next().unwrap_or_default();
                let is_name = !program.is_empty()
                    && program
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                    && !program.starts_with(['-', '.']);
                if !is_name {
                    return Err(bad("names no program (a name without folders was expected)"));
                }
                let patterns: Vec<String> = words.collect();
                if patterns.iter().any(String::is_empty) {
                    return Err(bad("has an empty argument pattern"));
                }
                if patterns.iter().rev().skip(1).any(|pattern| pattern == "**") {
                    return Err(bad("has `**` before its end"));
                }
                Ok(Capability::Exec { program, patterns })
            }
            "http" => {
                let url = Url::parse(rest).ok_or_else(|| {
                    bad("is not `http:http://127.0.0.1:<port>[/<prefix>]`; targets reach this machine only")
                })?;
                Ok(Capability::Http {
                    port: url.port,
                    prefix: url.path.trim_end_matches('/').to_owned(),
                })
            }
            "limit" => {
                let (name, value) = rest
                    .split_once('=')
                    .ok_or_else(|| bad("is not `limit:<name>=<value>`"))?;
                let name = LimitName::parse(name).ok_or_else(|| bad(&LimitName::expected()))?;
                let value = name.parse_value(value).map_err(|cause| bad(&cause))?;
                Ok(Capability::Limit { name, value })
            }
            "model" | "secret" | "reveal" | "clock" | "random" => {
                Err(bad("is of a kind that this version of dlm cannot give to a target"))
            }
            _ => Err(bad("is of no known kind: exec, http, limit")),
        }
    }

    fn covers_exec(&self, program: &str, arguments: &[ExecArgument<'_>]) -> bool {
        let Capability::Exec {
            program: granted,
            patterns,
        } = self
        else {
            return false;
        };
        granted == program && matches(patterns, arguments)
    }

    fn covers_http(&self, url: &Url) -> bool {
        let Capability::Http { port, prefix } = self else {
            return false;
        };
        let after = url.path.strip_prefix(prefix.as_str());
        *port == url.port
            && after.is_some_and(|after| after.is_empty() || after.starts_with('/') || after.starts_with('?'))
    }
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
            Capability::Http { port, prefix } => write!(f, "http:http://127.0.0.1:{port}{prefix}"),
            Capability::Limit { name, value } => write!(f, "limit:{}={value}", name.as_str()),
        }
    }
}

/// What one plugin may do in this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    granted: Vec<Capability>,
    denied: Vec<Capability>,
}

impl Grants {
    /// Holds what was granted, less what was denied.
    pub fn new(granted: Vec<Capability>, denied: Vec<Capability>) -> Grants {
        Grants { granted, denied }
    }

    /// The grants in text form, denied ones left out.
    pub fn texts(&self) -> Vec<String> {
        let kept = self.granted.iter().filter(|granted| !self.denied.contains(granted));
        kept.map(Capability::to_string).collect()
    }

    /// The values of granted limits, denied ones left out.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (LimitName, LimitValue)> {
        let kept = self.granted.iter().filter(|granted| !self.denied.contains(granted));
        kept.filter_map(|capability| match capability {
            Capability::Limit { name, value } => Some((*name, *value)),
            _ => None,
        })
    }

    pub(crate) fn allows_exec(&self, program: &str, arguments: &[ExecArgument<'_>]) -> bool {
        let covers = |capability: &Capability| capability.covers_exec(program, arguments);
        self.granted.iter().any(covers) && !self.denied.iter().any(covers)
    }

    /// Says whether any command line of `program` is granted.
    pub(crate) fn knows_program(&self, program: &str) -> bool {
        self.granted
            .iter()
            .filter(|granted| !self.denied.contains(granted))
            .any(|capability| matches!(capability, Capability::Exec { program: granted, .. } if granted == program))
    }

    pub(crate) fn allows_http(&self, url: &Url) -> bool {
        let covers = |capability: &Capability| capability.covers_http(url);
        self.granted.iter().any(covers) && !self.denied.iter().any(covers)
    }
}

/// The grant text that would cover a command line.
pub(crate) fn exec_text(program: &str, arguments: &[ExecArgument<'_>]) -> String {
    let mut out = format!("exec:{program}");
    for argument in arguments {
        out.push(' ');
        out.push_str(match argument {
            ExecArgument::Text(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text,
            _ => "*",
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExecArgument::{Path, Text};

    fn grants(granted: &[&str], denied: &[&str]) -> Grants {
        let parse = |texts: &[&str]| texts.iter().map(|text| Capability::parse(text).unwrap()).collect();
        Grants::new(parse(granted), parse(denied))
    }

    #[test]
    fn a_command_needs_its_own_grant() {
        let held = grants(&["exec:ollama create * -f *", "exec:ollama --version"], &[]);
        assert!(held.allows_exec("ollama", &[Text("--version")]));
        assert!(held.allows_exec("ollama", &[Text("create"), Text("tone:v1"), Text("-f"), Path]));
        for refused in [
            &[Text("create"), Text("tone:v1"), Text("-f")][..],
            &[Text("create"), Text("tone:v1"), Text("-f"), Path, Text("--insecure")],
            &[Text("create"), Text("--insecure"), Text("-f"), Path],
            &[Text("rm"), Text("tone:v1"), Text("-f"), Path],
            &[Path],
            &[],
        ] {
            assert!(!held.allows_exec("ollama", refused), "{refused:?}");
        }
        assert!(!held.allows_exec("sh", &[Text("--version")]));
    }

    #[test]
    fn two_stars_take_the_rest_and_no_pattern_takes_nothing() {
        let held = grants(&["exec:a x **", "exec:b"], &[]);
        assert!(held.allows_exec("a", &[Text("x")]));
        assert!(held.allows_exec("a", &[Text("x"), Text("--y"), Path]));
        assert!(!held.allows_exec("a", &[Text("z")]));
        assert!(held.allows_exec("b", &[]));
        assert!(!held.allows_exec("b", &[Text("x")]));
    }

    #[test]
    fn a_denial_wins() {
        let command = [Text("--version")];
        assert!(!grants(&["exec:a --version"], &["exec:a **"]).allows_exec("a", &command));
        assert!(!grants(&["exec:a --version"], &["exec:a --version"]).knows_program("a"));
        assert!(grants(&["exec:a --version"], &["exec:b **"]).allows_exec("a", &command));
    }

    #[test]
    fn http_is_bound_to_port_and_prefix() {
        let held = grants(&["http:http://127.0.0.1:8000/v1"], &[]);
        let allows = |url: &str| held.allows_http(&Url::parse(url).unwrap());
        assert!(allows("http://127.0.0.1:8000/v1"));
        assert!(allows("http://127.0.0.1:8000/v1/models?x"));
        assert!(!allows("http://127.0.0.1:8000/v10"));
        assert!(!allows("http://127.0.0.1:8000/"));
        assert!(!allows("http://127.0.0.1:8001/v1"));
    }

    #[test]
    fn texts_are_read_and_written_back() {
        for text in [
            "exec:llama-server --model * **",
            "exec:b",
            "http:http://127.0.0.1:80/v1",
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
            ("http:https://example.com", "this machine only"),
            ("limit:memory=9TiB", "ceiling"),
            ("limit:colour=1", "memory"),
            ("model:current", "this version"),
            ("everything", "no known kind"),
        ] {
            let error = Capability::parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
