//! What a capability amounts to for the person who is asked: how much power it is, which import it needs, how it is said.
//!
//! Invariant: the text of a capability is compared as it stands; what it allows is decided by the runtime alone.

use crate::capability::CapabilityError;
use crate::component::Item;
use crate::error::{GrantError, PackageError};
use crate::kind::Kind;
use crate::manifest::{Manifest, Request};
use dlm_core::inert::inert_line;

/// How far a capability reaches, least first: the rows of the table of `plugins.md` section 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Power {
    /// Nothing beyond computing: the model, time, chance, limits.
    Compute,
    /// Named hosts, and secrets for them.
    Reach,
    /// Programs, readable secrets, or any host.
    Act,
}

/// Says how far a capability reaches.
///
/// **Errors**: it is of no known kind.
pub fn power(capability: &str) -> Result<Power, CapabilityError> {
    let (kind, rest) = capability.split_once(':').unwrap_or((capability, ""));
    let is_wild = |host: &str| host.contains('*');
    match (kind, rest) {
        ("clock" | "random", "") => Ok(Power::Compute),
        ("model" | "limit", rest) if !rest.is_empty() => Ok(Power::Compute),
        ("http", rest) if !rest.is_empty() => Ok(if is_wild(rest) { Power::Act } else { Power::Reach }),
        ("secret", rest) => match rest.split_once('@') {
            Some((name, place)) if !name.is_empty() && !place.is_empty() => {
                let is_far = place.starts_with("exec:") || is_wild(place);
                Ok(if is_far { Power::Act } else { Power::Reach })
            }
            _ => Err(wrong(capability, "is not `secret:<NAME>@<host>`")),
        },
        ("exec" | "reveal", rest) if !rest.is_empty() => Ok(Power::Act),
        _ => Err(wrong(
            capability,
            &format!("is of no known kind: {}", crate::capability::forms::words()),
        )),
    }
}

fn wrong(capability: &str, cause: &str) -> CapabilityError {
    CapabilityError {
        text: inert_line(&dlm_core::inert::cut(capability, 120)),
        cause: cause.to_owned(),
    }
}

/// Refuses a capability that the manifest of `plugin` does not ask for.
///
/// **Errors**: it is of no known kind, or not among the requests.
pub(crate) fn requested(plugin: &str, manifest: &Manifest, capability: &str) -> Result<(), PackageError> {
    power(capability)?;
    if manifest.requests_text(capability) {
        return Ok(());
    }
    let requests = manifest.requests.iter().map(|request| request.capability.clone());
    Err(GrantError::NotRequested {
        plugin: plugin.to_owned(),
        capability: inert_line(capability),
        requested: requests.collect(),
    }
    .into())
}

/// The most power among requests; none is [`Power::Compute`].
///
/// **Errors**: a request of no known kind.
pub fn most(requests: &[Request]) -> Result<Power, CapabilityError> {
    requests.iter().try_fold(
        Power::Compute,
        |most, request| Ok(most.max(power(&request.capability)?)),
    )
}

/// The interfaces of the contract through which a capability is used; empty where it needs none of its own.
fn needs(capability: &str) -> &'static [&'static str] {
    match capability.split(':').next().unwrap_or_default() {
        "model" => &["model"],
        // Programs reach where their plugin may.
        "http" => &["http", "upload", "process"],
        "secret" | "reveal" => &["secrets"],
        "exec" => &["process"],
        _ => &[],
    }
}

/// The beginning of the capabilities that an interface needs; nothing for one that needs none.
fn needed_by(interface: &str) -> Option<&'static str> {
    match interface {
        "model" => Some("model:"),
        "http" | "upload" => Some("http:"),
        "secrets" => Some("secret:"),
        "process" => Some("exec:"),
        _ => None,
    }
}

/// Imports that no request covers, each with the kind of request that would. One of types alone can do nothing and needs none.
pub fn imports_unasked(imports: &[Item], requests: &[Request]) -> Vec<(String, &'static str)> {
    let mut unasked = Vec::new();
    for import in imports {
        let interface = match import.ours() {
            Some(_) if import.functions.is_empty() => continue,
            Some((interface, _)) => interface,
            None if import.name.starts_with("wasi:http/outgoing-handler") => "http",
            None => continue,
        };
        let Some(start) = needed_by(interface) else { continue };
        let is_asked = requests
            .iter()
            .any(|request| needs(&request.capability).contains(&interface));
        if !is_asked {
            unasked.push((import.name.clone(), start));
        }
    }
    unasked
}

/// Requests that no import can use.
pub fn requests_unused<'a>(imports: &[Item], requests: &'a [Request]) -> Vec<&'a str> {
    let has = |wanted: &str| {
        imports.iter().any(|import| match import.ours() {
            Some((interface, _)) => interface == wanted,
            None => wanted == "http" && import.name.starts_with("wasi:http/outgoing-handler"),
        })
    };
    let unused = requests.iter().filter(|request| {
        let needs = needs(&request.capability);
        !needs.is_empty() && !needs.iter().any(|wanted| has(wanted))
    });
    unused.map(|request| request.capability.as_str()).collect()
}

/// What a plugin with these requests cannot do even if all are granted, in the words of the consent screen.
pub fn cannot(kinds: &[Kind], requests: &[Request]) -> Vec<&'static str> {
    let asks = |start: &str| requests.iter().any(|request| request.capability.starts_with(start));
    let mut words = vec![if kinds.contains(&Kind::Target) {
        "read or write files outside the export"
    } else {
        "read or write files"
    }];
    if !asks("exec:") {
        words.push("run programs");
    }
    if !asks("reveal:") {
        words.push("see secrets");
    }
    words.push(if asks("http:") {
        "reach other hosts"
    } else {
        "reach any host"
    });
    words
}

/// A remark that belongs beside a capability on the consent screen.
pub fn remark(capability: &str) -> Option<&'static str> {
    let (kind, rest) = capability.split_once(':').unwrap_or((capability, ""));
    match kind {
        "exec" => Some("runs outside the sandbox as you"),
        "secret" if rest.contains("@exec:") => Some("the program can read it"),
        "reveal" => Some("the plugin can read it"),
        "http" if rest.contains('*') => Some("any such host"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnose;

    fn request(capability: &str) -> Request {
        Request {
            capability: capability.to_owned(),
            reason: String::new(),
            optional: false,
        }
    }

    fn import(name: &str) -> Item {
        Item {
            name: name.to_owned(),
            functions: vec!["use".to_owned()],
        }
    }

    #[test]
    fn power_follows_the_table() {
        for (text, expected) in [
            ("model:current", Power::Compute),
            ("clock", Power::Compute),
            ("random", Power::Compute),
            ("limit:memory=512MiB", Power::Compute),
            ("http:https://api.example.com/v1", Power::Reach),
            ("http:arg", Power::Reach),
            ("secret:KEY@api.example.com", Power::Reach),
            ("http:https://*.example.com", Power::Act),
            ("secret:KEY@*.example.com", Power::Act),
            ("secret:KEY@exec:git", Power::Act),
            ("reveal:KEY", Power::Act),
            ("exec:git status", Power::Act),
        ] {
            assert_eq!(power(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "everything",
            "exec:",
            "secret:KEY",
            "secret:@host",
            "clock:x",
            "http:",
            "model",
        ] {
            assert_eq!(power(text).unwrap_err().code(), "plugin::invalid-input", "{text}");
        }
        assert_eq!(most(&[]).unwrap(), Power::Compute);
        assert_eq!(most(&[request("exec:a"), request("clock")]).unwrap(), Power::Act);
    }

    #[test]
    fn imports_and_requests_are_compared() {
        let imports = [
            import("dlm:plugin/model@1.0.0"),
            import("dlm:plugin/log@1.0.0"),
            import("dlm:plugin/upload@1.0.0"),
        ];
        let requests = [request("exec:git"), request("http:https://a.example"), request("clock")];
        assert_eq!(
            imports_unasked(&imports, &requests),
            [("dlm:plugin/model@1.0.0".to_owned(), "model:")]
        );
        assert_eq!(requests_unused(&imports, &requests), ["exec:git"]);
        let types = [Item {
            functions: Vec::new(),
            ..import("dlm:plugin/process@1.0.0")
        }];
        assert!(imports_unasked(&types, &[]).is_empty());
        let wasi = [import("wasi:http/outgoing-handler@0.2.0")];
        assert_eq!(imports_unasked(&wasi, &[]).len(), 1);
        assert!(requests_unused(&wasi, &[request("http:https://a.example")]).is_empty());
    }

    #[test]
    fn what_it_cannot_do() {
        assert_eq!(
            cannot(&[Kind::Judge], &[request("http:https://a.example")]),
            [
                "read or write files",
                "run programs",
                "see secrets",
                "reach other hosts"
            ]
        );
        assert_eq!(
            cannot(&[Kind::Target], &[request("exec:a"), request("reveal:K")]),
            ["read or write files outside the export", "reach any host"]
        );
    }
}
