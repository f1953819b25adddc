//! The capabilities that one plugin holds in a run.
//!
//! Invariants: a denial wins over every grant; taking a grant away never allows more.

mod satisfied;

use dlm_core::http_rule::{HostPattern, HttpRule};
use dlm_core::shell_quoted;

use crate::capability::{Capability, ExecArgument, ModelGrant, SecretPlace, split_words};
use crate::limits::{LimitName, LimitValue};

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
        // A plugin that may read a secret can send it anywhere, so that denying any place denies the text too.
        (Capability::Secret { name: denied, .. }, Capability::Secret { name, .. } | Capability::Reveal(name)) => {
            denied == name
        }
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

#[cfg(test)]
mod tests {
    use ExecArgument::{Path, Text};

    use super::*;

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
            ("reveal:K", "secret:K@api.a.com", false),
            ("reveal:K", "secret:K@arg", false),
            ("reveal:OTHER", "secret:K@api.a.com", true),
            // What may not read the text may still have it sent.
            ("secret:K@*.a.com", "reveal:K", true),
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
}
