//! Whether what is granted includes what a manifest asks for: a grant may be wider than the request.
//!
//! Invariant: says less rather than more. Where it says no without need, the user is asked once more; a wrong yes would start a
//! plugin that cannot do its work.

use dlm_core::http_rule::{HostPattern, HttpRule, UrlHost};

use super::{Grants, typed_origin};
use crate::capability::{Capability, ModelGrant, SecretPlace};

impl Grants {
    /// Says whether the grants include all that `wanted` would allow.
    pub fn satisfies(&self, wanted: &Capability) -> bool {
        self.held
            .iter()
            .any(|held| held == wanted || includes(held, wanted, &self.argument))
    }
}

fn includes(held: &Capability, wanted: &Capability, argument: &str) -> bool {
    match (held, wanted) {
        (Capability::Http(held), Capability::Http(wanted)) => includes_rule(held, wanted),
        (Capability::Http(held), Capability::HttpArgument) => {
            typed_origin(argument).is_some_and(|wanted| includes_rule(held, &wanted))
        }
        // The run's own model is no other model, so that `*` does not stand for it.
        (Capability::Model(ModelGrant::Any), Capability::Model(wanted)) => *wanted != ModelGrant::Current,
        (
            Capability::Secret {
                name: a,
                place: SecretPlace::Host(held),
            },
            Capability::Secret {
                name: b,
                place: SecretPlace::Host(wanted),
            },
        ) => a == b && includes_host(held, wanted),
        (
            Capability::Exec {
                program: a,
                patterns: held,
            },
            Capability::Exec {
                program: b,
                patterns: wanted,
            },
        ) => {
            let start = held.strip_suffix(&["**".to_owned()]);
            a == b && start.is_some_and(|start| wanted.starts_with(start))
        }
        (Capability::Limit { name: a, value: held }, Capability::Limit { name: b, value: wanted }) => {
            a == b && held.reaches(*wanted)
        }
        _ => false,
    }
}

fn includes_rule(held: &HttpRule, wanted: &HttpRule) -> bool {
    let rest = wanted.prefix.strip_prefix(held.prefix.as_str());
    held.scheme == wanted.scheme
        && held.port == wanted.port
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && includes_host(&held.host, &wanted.host)
}

fn includes_host(held: &HostPattern, wanted: &HostPattern) -> bool {
    match wanted {
        _ if held == wanted => true,
        HostPattern::Name(name) => held.covers(&UrlHost::Name(name.clone())),
        HostPattern::Address(address) => held.covers(&UrlHost::Address(*address)),
        // `*.a.example` is within `*.example`, as every name below it is.
        HostPattern::Below(name) => matches!(held, HostPattern::Below(_)) && held.covers(&UrlHost::Name(name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_grant_satisfies_a_request_and_a_narrower_one_does_not() {
        for (granted, wanted, is_enough) in [
            ("model:current", "model:current", true),
            ("model:*", "model:current", false),
            ("model:*", "model:hf:org/x", true),
            ("model:*", "model:arg", true),
            ("model:hf:org/x", "model:*", false),
            ("http:https://a.example", "http:https://a.example/v1", true),
            ("http:https://a.example/v1", "http:https://a.example", false),
            ("http:https://a.example/v1", "http:https://a.example/v10", false),
            ("http:https://a.example/v1", "http:https://a.example/v1/x", true),
            ("http:https://*.example", "http:https://a.example", true),
            ("http:https://*.example", "http:https://*.a.example", true),
            ("http:https://*.a.example", "http:https://*.example", false),
            ("http:http://a.example", "http:https://a.example", false),
            ("http:http://10.0.0.5:8000", "http:arg", true),
            ("http:http://10.0.0.6:8000", "http:arg", false),
            ("secret:K@*.example", "secret:K@a.example", true),
            ("secret:K@a.example", "secret:L@a.example", false),
            ("reveal:K", "secret:K@a.example", false),
            ("exec:git **", "exec:git status", true),
            ("exec:git log **", "exec:git log *", true),
            ("exec:git log **", "exec:git status", false),
            ("exec:git", "exec:git status", false),
            ("exec:git *", "exec:git status", false),
            ("limit:memory=1GiB", "limit:memory=512MiB", true),
            ("limit:memory=512MiB", "limit:memory=1GiB", false),
            ("limit:log=64MiB", "limit:memory=1MiB", false),
            ("clock", "random", false),
        ] {
            let parse = |text: &str| Capability::parse(text).unwrap();
            let held = Grants::new(vec![parse(granted)], Vec::new(), "http://10.0.0.5:8000/v1");
            assert_eq!(held.satisfies(&parse(wanted)), is_enough, "{granted} for {wanted}");
        }
    }
}
