//! Capabilities in text form, what each covers, and the set that one plugin holds.
//!
//! Invariants: matching is on parsed values; a denial wins over every grant; taking a grant away never allows more.

mod shell;

use std::fmt;

use dlm_core::http_rule::{HostPattern, HttpRule};
use dlm_core::shell_quoted;

use crate::kind::Kind;
use crate::limits::{LimitName, LimitValue};

pub use shell::split_words;

/// A capability text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the capability `{text}` {cause}")]
pub struct BadCapability {
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
    pub fn parse(text: &str) -> Result<Capability, BadCapability> {
        let bad = |cause: &str| BadCapability {
            text: crate::terminal::inert_line(text),
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
            _ => Err(bad(
                "is of no known kind: model, http, secret, reveal, exec, clock, random, limit",
            )),
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

fn parse_secret(rest: &str) -> Result<Capability, String> {
    let expected = "is not `secret:<NAME>@<host>` or `secret:<NAME>@exec:<program>`";
    let (name, place) = rest.split_once('@').ok_or(expected)?;
    if !is_secret_name(name) {
        return Err("names no secret: upper-case letters, digits and `_` were expected".to_owned());
    }
    let place = match place.strip_prefix("exec:") {
        _ if place == "arg" => SecretPlace::Argument,
        Some(program) => match parse_exec(program)? {
            Capability::Exec { program, patterns } if patterns.is_empty() => SecretPlace::Program(program),
            _ => return Err(expected.to_owned()),
        },
        None => SecretPlace::Host(HostPattern::parse(place).map_err(|error| format!("{expected}: {}", error.reason))?),
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

/// What one plugin may do in this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// What was granted, less what a denial touches.
    held: Vec<Capability>,
    denied: Vec<Capability>,
    /// The plugin's argument, which the user typed.
    argument: String,
    is_sandboxed: bool,
}

impl Grants {
    /// Holds what was granted, less what was denied. `argument` is what `exec:arg`, `http:arg` and `model:arg` stand for.
    pub fn new(granted: Vec<Capability>, denied: Vec<Capability>, argument: &str) -> Grants {
        let is_kept = |capability: &Capability| {
            let touches = |denial: &Capability| denial == capability || touches(denial, capability, argument);
            !denied.iter().any(touches)
        };
        Grants {
            held: granted.into_iter().filter(is_kept).collect(),
            denied,
            argument: argument.to_owned(),
            is_sandboxed: false,
        }
    }

    /// Holds nothing, because of `--sandbox`.
    pub fn sandboxed(argument: &str) -> Grants {
        Grants {
            is_sandboxed: true,
            ..Grants::new(Vec::new(), Vec::new(), argument)
        }
    }

    /// The flag of the command line that takes `wanted` away from `plugin`, whatever is granted.
    pub fn taken_by(&self, wanted: &Capability, plugin: &str) -> Option<String> {
        if self.is_sandboxed {
            return Some("--sandbox".to_owned());
        }
        let covers_command = |denial: &Capability| match wanted {
            Capability::Exec { program, patterns } => {
                let words: Vec<ExecArgument<'_>> = patterns.iter().map(|word| ExecArgument::Text(word)).collect();
                denial.covers_exec(program, &words)
            }
            _ => false,
        };
        let is_touching = |denial: &&Capability| {
            *denial == wanted || covers_command(denial) || touches(denial, wanted, &self.argument)
        };
        let denial = self.denied.iter().find(is_touching)?;
        Some(format!("--deny {}", shell_quoted(&format!("{plugin}={denial}"))))
    }

    /// The grants in text form, denied ones left out.
    pub fn texts(&self) -> Vec<String> {
        self.held.iter().map(Capability::to_string).collect()
    }

    pub fn holds(&self, wanted: &Capability) -> bool {
        self.held.contains(wanted)
    }

    /// The values of granted limits.
    pub fn limits(&self) -> impl Iterator<Item = (LimitName, LimitValue)> {
        self.held.iter().filter_map(|capability| match capability {
            Capability::Limit { name, value } => Some((*name, *value)),
            _ => None,
        })
    }

    pub fn allows_exec(&self, program: &str, arguments: &[ExecArgument<'_>]) -> bool {
        let covers = |capability: &Capability| capability.covers_exec(program, arguments);
        (self.held.iter().any(covers) || self.is_typed_command(program, arguments)) && !self.denied.iter().any(covers)
    }

    /// Says whether a command line is, word for word, the one that the user typed as the plugin's argument.
    pub fn is_typed_command(&self, program: &str, arguments: &[ExecArgument<'_>]) -> bool {
        if !self.holds(&Capability::ExecArgument) {
            return false;
        }
        let Some(words) = split_words(&self.argument) else {
            return false;
        };
        words.split_first().is_some_and(|(first, rest)| {
            let is_word = |(word, argument): (&String, &ExecArgument<'_>)| matches!(argument, ExecArgument::Text(text) if text == word);
            first == program && rest.len() == arguments.len() && rest.iter().zip(arguments).all(is_word)
        })
    }

    /// Says whether any command line of `program` is granted.
    pub fn knows_program(&self, program: &str) -> bool {
        let is_named = |capability: &Capability| matches!(capability, Capability::Exec { program: granted, .. } if granted == program);
        let is_typed = || {
            let words = split_words(&self.argument).unwrap_or_default();
            self.holds(&Capability::ExecArgument) && words.first().is_some_and(|word| word == program)
        };
        self.held.iter().any(is_named) || is_typed()
    }

    /// Where requests may go.
    pub fn http_rules(&self) -> Vec<HttpRule> {
        let rules = self.held.iter().filter_map(|capability| match capability {
            Capability::Http(rule) => Some(rule.clone()),
            Capability::HttpArgument => typed_origin(&self.argument),
            _ => None,
        });
        rules.collect()
    }

    pub fn allows_model(&self, selector: Option<&str>) -> bool {
        self.held.iter().any(|capability| match (capability, selector) {
            (Capability::Model(ModelGrant::Any), Some(_)) => true,
            (Capability::Model(ModelGrant::Current), None) => true,
            (Capability::Model(ModelGrant::Argument), Some(selector)) => {
                let is_typed = selector.strip_prefix("hf:").unwrap_or(selector) == self.argument;
                !self.argument.is_empty() && (is_typed || selector == self.argument)
            }
            (Capability::Model(ModelGrant::Named(name)), Some(selector)) => name == selector,
            _ => false,
        })
    }

    /// Says whether the plugin may hold a secret at all.
    pub fn knows_secret(&self, wanted: &str) -> bool {
        self.held.iter().any(|capability| match capability {
            Capability::Secret { name, .. } | Capability::Reveal(name) => name == wanted,
            _ => false,
        })
    }

    /// The hosts that may receive a secret.
    pub fn secret_hosts(&self, wanted: &str) -> Vec<String> {
        let hosts = self.held.iter().filter_map(|capability| match capability {
            Capability::Secret { name, place } if name == wanted => match place {
                SecretPlace::Host(host) => Some(host.to_string()),
                SecretPlace::Argument => typed_origin(&self.argument).map(|rule| rule.host.to_string()),
                SecretPlace::Program(_) => None,
            },
            _ => None,
        });
        hosts.collect()
    }

    /// Says whether a secret may be in the environment of a program.
    pub fn secret_for_program(&self, wanted: &str, program: &str) -> bool {
        self.held.iter().any(|capability| {
            matches!(capability, Capability::Secret { name, place: SecretPlace::Program(granted) }
                if name == wanted && granted == program)
        })
    }
}

/// The origin in an argument that the user typed; the host may then be on this machine or network.
fn typed_origin(argument: &str) -> Option<HttpRule> {
    let end = argument.find(['?', '#']).unwrap_or(argument.len());
    let mut rule = HttpRule::parse(argument.get(..end)?).ok()?;
    rule.prefix = String::new();
    rule.is_typed = true;
    Some(rule)
}

/// Says whether a denial takes a grant away that it does not equal: denying a host denies every grant that reaches it.
fn touches(denial: &Capability, granted: &Capability, argument: &str) -> bool {
    match (denial, granted) {
        (Capability::Http(denied), Capability::Http(rule)) => overlaps(denied, rule),
        (Capability::Http(denied), Capability::HttpArgument) => {
            typed_origin(argument).is_some_and(|rule| overlaps(denied, &rule))
        }
        (Capability::Model(ModelGrant::Any), Capability::Model(_)) => true,
        (Capability::Model(ModelGrant::Named(_)), Capability::Model(ModelGrant::Any)) => true,
        (Capability::Model(ModelGrant::Named(denied)), Capability::Model(ModelGrant::Named(name))) => {
            is_same_model(denied, name)
        }
        (Capability::Model(ModelGrant::Named(denied)), Capability::Model(ModelGrant::Argument)) => {
            is_same_model(denied, argument)
        }
        (Capability::Secret { name: denied, .. }, Capability::Secret { name, .. }) => denied == name,
        (Capability::Reveal(denied), Capability::Reveal(name)) => denied == name,
        (Capability::Limit { name: denied, .. }, Capability::Limit { name, .. }) => denied == name,
        _ => false,
    }
}

/// Says whether two selectors name one model: with `hf:` or without, and in any case of letters, as the hub reads them.
fn is_same_model(a: &str, b: &str) -> bool {
    let bare = |name: &str| name.strip_prefix("hf:").unwrap_or(name).to_ascii_lowercase();
    bare(a) == bare(b)
}

/// Says whether two rules have an address in common. A denial with a path takes the whole grant away: too much is denied
/// rather than too little.
fn overlaps(a: &HttpRule, b: &HttpRule) -> bool {
    let below = |name: &str, parent: &str| name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let hosts = match (&a.host, &b.host) {
        (HostPattern::Below(parent), HostPattern::Name(name))
        | (HostPattern::Name(name), HostPattern::Below(parent)) => below(name, parent),
        (HostPattern::Below(a), HostPattern::Below(b)) => a == b || below(a, b) || below(b, a),
        (a, b) => a == b,
    };
    a.scheme == b.scheme && a.port == b.port && hosts
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
    use ExecArgument::{Path, Text};

    fn grants(granted: &[&str], denied: &[&str]) -> Grants {
        let parse = |texts: &[&str]| texts.iter().map(|text| Capability::parse(text).unwrap()).collect();
        Grants::new(parse(granted), parse(denied), "")
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
    fn what_was_typed_is_granted_and_nothing_else() {
        let held = Grants::new(
            vec![
                Capability::ExecArgument,
                Capability::HttpArgument,
                Capability::Model(ModelGrant::Argument),
            ],
            Vec::new(),
            "./score.sh 'a b' --fast",
        );
        assert!(held.allows_exec("./score.sh", &[Text("a b"), Text("--fast")]));
        assert!(!held.allows_exec("./score.sh", &[Text("a b")]));
        assert!(!held.allows_exec("./score.sh", &[Text("a b"), Text("--fast"), Text("x")]));
        assert!(!held.allows_exec("sh", &[]));
        assert!(held.knows_program("./score.sh"));
        assert!(held.http_rules().is_empty(), "the argument is no address");
        assert!(held.allows_model(Some("./score.sh 'a b' --fast")));
        assert!(!held.allows_model(Some("other")) && !held.allows_model(None));
        let address = Grants::new(vec![Capability::HttpArgument], Vec::new(), "http://10.0.0.5:8000/v1?x");
        let rules = address.http_rules();
        assert_eq!(
            rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["http://10.0.0.5:8000"]
        );
        assert!(rules[0].is_typed);
    }

    #[test]
    fn a_denied_host_takes_every_grant_that_reaches_it() {
        for (granted, denied, kept) in [
            ("http:https://a.example/v1", "http:https://a.example", 0),
            ("http:https://a.example", "http:https://a.example/v1", 0),
            ("http:https://*.example", "http:https://a.example", 0),
            ("http:https://a.example", "http:https://b.example", 1),
            ("http:https://a.example", "http:http://a.example", 1),
        ] {
            assert_eq!(
                grants(&[granted], &[denied]).http_rules().len(),
                kept,
                "{granted} less {denied}"
            );
        }
    }

    #[test]
    fn a_secret_goes_where_it_was_granted() {
        let held = grants(
            &["secret:KEY@*.example.com", "secret:KEY@exec:curl", "reveal:OTHER"],
            &[],
        );
        assert!(held.knows_secret("KEY") && held.knows_secret("OTHER") && !held.knows_secret("THIRD"));
        assert_eq!(held.secret_hosts("KEY"), ["*.example.com"]);
        assert!(held.secret_hosts("OTHER").is_empty());
        assert!(held.secret_for_program("KEY", "curl") && !held.secret_for_program("KEY", "sh"));
    }

    #[test]
    fn a_denied_secret_or_model_takes_every_grant_of_it() {
        let parse = |text: &str| vec![Capability::parse(text).unwrap()];
        for (granted, denied, is_kept) in [
            ("secret:K@*.a.com", "secret:K@api.a.com", false),
            ("secret:K@arg", "secret:K@api.a.com", false),
            ("secret:K@exec:curl", "secret:K@api.a.com", false),
            ("secret:OTHER@*.a.com", "secret:K@api.a.com", true),
            ("model:arg", "model:hf:org/x", false),
            ("model:org/x", "model:hf:Org/X", false),
            ("model:hf:org/x", "model:org/x", false),
            ("model:arg", "model:hf:org/y", true),
            ("model:org/y", "model:hf:org/x", true),
        ] {
            let held = Grants::new(parse(granted), parse(denied), "org/x");
            assert_eq!(!held.texts().is_empty(), is_kept, "{granted} less {denied}");
        }
    }

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
