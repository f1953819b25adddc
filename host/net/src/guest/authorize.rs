//! The checks before a connection: rules, then names to addresses, then the addresses.
//!
//! Invariants: what is handed back is every address that may be connected to and no other; a name is resolved once a hop.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use dlm_core::http_rule::{HttpRule, ParsedUrl, UrlHost};
use dlm_core::ports::guest_http::GuestHttpError;

use super::address::not_public;

/// As many of a name's addresses as are tried.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Turns names into addresses.
pub trait Resolve: Send + Sync + Debug {
    /// The addresses of a host name, best first.
    fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|found| found.ip()).collect())
    }
}

/// The rules that allow an address's scheme, host, port and path.
///
/// **Errors**: `Denied` when there are none, naming the capability that would be one.
pub(super) fn matching<'a>(url: &ParsedUrl, rules: &'a [HttpRule]) -> Result<Vec<&'a HttpRule>, GuestHttpError> {
    let matching: Vec<&HttpRule> = rules.iter().filter(|rule| rule.covers(url)).collect();
    if !matching.is_empty() {
        return Ok(matching);
    }
    // Where the origin is granted for other paths, a grant of the whole origin would be more than was asked.
    let is_other_path = rules.iter().any(|rule| rule.covers_origin(url));
    let path = if is_other_path {
        url.path().trim_end_matches('/')
    } else {
        ""
    };
    let wanted = format!("{}{path}", url.origin());
    let is_grantable = HttpRule::parse(&wanted).is_ok_and(|rule| rule.covers(url));
    let granted: Vec<String> = rules.iter().map(HttpRule::to_string).collect();
    let granted = if granted.is_empty() {
        "none".to_owned()
    } else {
        granted.join(", ")
    };
    Err(GuestHttpError::Denied {
        capability: if is_grantable {
            format!("http:{wanted}")
        } else {
            String::new()
        },
        message: format!("{url} is not granted (granted: {granted})"),
    })
}

/// Every address behind the host that may be connected to.
pub(super) fn addresses(
    url: &ParsedUrl,
    rules: &[&HttpRule],
    resolver: &dyn Resolve,
) -> Result<Vec<SocketAddr>, GuestHttpError> {
    let found = match url.host() {
        UrlHost::Address(address) => vec![*address],
        UrlHost::Name(name) => resolver.addresses(name).map_err(|e| GuestHttpError::Unreachable {
            url: url.to_string(),
            reason: format!("`{name}` has no address: {e}"),
        })?,
    };
    if found.is_empty() {
        return Err(GuestHttpError::Unreachable {
            url: url.to_string(),
            reason: format!("`{}` has no address", url.host()),
        });
    }
    checked(url, rules, found)
}

/// Drops what is neither public nor named by a rule. Never empty.
fn checked(url: &ParsedUrl, rules: &[&HttpRule], found: Vec<IpAddr>) -> Result<Vec<SocketAddr>, GuestHttpError> {
    let is_allowed =
        |address: &IpAddr| not_public(*address).is_none() || rules.iter().any(|rule| rule.names_address(*address));
    let canonical: Vec<IpAddr> = found.iter().map(IpAddr::to_canonical).collect();
    let allowed = canonical.iter().copied().filter(is_allowed).take(ADDRESSES_MAX);
    let allowed: Vec<SocketAddr> = allowed.map(|address| SocketAddr::new(address, url.port())).collect();
    if allowed.is_empty() {
        return Err(hidden(url, &canonical));
    }
    Ok(allowed)
}

/// The refusal of a host all of whose addresses are out of bounds.
fn hidden(url: &ParsedUrl, found: &[IpAddr]) -> GuestHttpError {
    let Some((address, kind)) = found.iter().find_map(|address| Some((address, not_public(*address)?))) else {
        // Every address that is dropped has a kind; this is a host without addresses.
        return GuestHttpError::Denied {
            capability: String::new(),
            message: format!("{url} has no address that may be connected to"),
        };
    };
    let port = if url.port() == url.scheme().default_port() {
        String::new()
    } else {
        format!(":{}", url.port())
    };
    let literal = format!("http:{}://{}{port}", url.scheme().name(), UrlHost::Address(*address));
    GuestHttpError::Denied {
        // The grant of the literal would not cover this address, which names the host in another way.
        capability: String::new(),
        message: format!(
            "{url} is at {address}, a {kind} address, which a grant reaches only by naming it: `{literal}`, asked for as that address"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    /// Answers each question with the next of its answers and keeps count.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Vec<&'static str>>>);

    impl Resolve for Script {
        fn addresses(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            let answer = self.0.lock().unwrap().remove(0);
            Ok(answer.iter().map(|address| address.parse().unwrap()).collect())
        }
    }

    fn ask(url: &str, rules: &[&str], answers: &[&'static str]) -> Result<Vec<String>, GuestHttpError> {
        let url = ParsedUrl::parse(url).unwrap();
        let rules: Vec<HttpRule> = rules.iter().map(|rule| HttpRule::parse(rule).unwrap()).collect();
        let script = Script(Mutex::new(vec![answers.to_vec()]));
        let found = addresses(&url, &matching(&url, &rules)?, &script)?;
        Ok(found.iter().map(SocketAddr::to_string).collect())
    }

    fn denied(result: Result<Vec<String>, GuestHttpError>) -> (String, String) {
        match result {
            Err(GuestHttpError::Denied { capability, message }) => (capability, message),
            other => panic!("not denied: {other:?}"),
        }
    }

    #[test]
    fn private_addresses_are_dropped_and_public_ones_kept() {
        let rules = ["https://a.example"];
        let mixed = [
            "10.0.0.1",
            "93.184.216.34",
            "::ffff:127.0.0.1",
            "2606:4700::1",
            "64:ff9b::7f00:1",
            "2002:a00:1::",
        ];
        assert_eq!(
            ask("https://a.example/", &rules, &mixed).unwrap(),
            ["93.184.216.34:443", "[2606:4700::1]:443"]
        );
        // A mapped public address is connected to as what it is.
        assert_eq!(
            ask("https://a.example/", &rules, &["::ffff:8.8.8.8"]).unwrap(),
            ["8.8.8.8:443"]
        );
    }

    #[test]
    fn a_name_with_private_addresses_alone_is_denied_and_the_literal_form_named() {
        for rules in [["http://*.example:8080"], ["http://box.example:8080"]] {
            let (capability, message) = denied(ask("http://box.example:8080/x", &rules, &["10.0.0.5"]));
            assert_eq!(capability, "");
            assert!(
                message.contains("a private address") && message.contains("`http:http://10.0.0.5:8080`"),
                "{message}"
            );
        }
        let (_, message) = denied(ask("https://a.example/", &["https://*.example"], &["fe80::1"]));
        assert!(message.contains("`http:https://[fe80::1]`"), "{message}");
    }

    #[test]
    fn a_literal_or_localhost_grant_reaches_its_address() {
        assert_eq!(
            ask("http://10.0.0.5/", &["http://10.0.0.5"], &[]).unwrap(),
            ["10.0.0.5:80"]
        );
        assert_eq!(
            ask("http://localhost:81/", &["http://localhost:81"], &["::1", "127.0.0.1"])
                .unwrap()
                .len(),
            2
        );
        denied(ask("http://localhost/", &["http://localhost"], &["10.0.0.5"]));
        // The grant of the literal is for the literal.
        denied(ask(
            "http://box.example/",
            &["http://box.example", "http://10.0.0.5"],
            &["10.0.0.5"],
        ));
    }

    #[test]
    fn the_denied_capability_is_the_one_that_allows() {
        for (url, rules, expected) in [
            ("https://api.example.com/v2/x", vec![], "http:https://api.example.com"),
            (
                "https://api.example.com/v2/x",
                vec!["https://api.example.com/v1"],
                "http:https://api.example.com/v2/x",
            ),
            (
                "https://api.example.com/v2/",
                vec!["https://api.example.com/v1"],
                "http:https://api.example.com/v2",
            ),
            (
                "http://0x7f.1:8080/",
                vec!["http://*.example"],
                "http:http://127.0.0.1:8080",
            ),
            ("https://a.example/v1/..%2fx", vec!["https://a.example/v1"], ""),
            (
                "https://a.example/",
                vec!["https://a.example/v1"],
                "http:https://a.example",
            ),
        ] {
            let (capability, _) = denied(ask(url, &rules, &[]));
            assert_eq!(capability, expected, "{url}");
            if let Some(rule) = capability.strip_prefix("http:") {
                let url = ParsedUrl::parse(url).unwrap();
                assert!(HttpRule::parse(rule).unwrap().covers(&url), "{url} by {rule}");
            }
        }
    }

    #[test]
    fn a_name_is_asked_once_and_its_answer_kept() {
        let url = ParsedUrl::parse("http://rebind.example/").unwrap();
        let rules = [HttpRule::parse("http://rebind.example").unwrap()];
        let script = Script(Mutex::new(vec![vec!["93.184.216.34"], vec!["127.0.0.1"]]));
        let rules = matching(&url, &rules).unwrap();
        let first = addresses(&url, &rules, &script).unwrap();
        assert_eq!(first, ["93.184.216.34:80".parse().unwrap()]);
        assert_eq!(script.0.lock().unwrap().len(), 1, "one answer is left for a later hop");
        assert!(matches!(
            addresses(&url, &rules, &script),
            Err(GuestHttpError::Denied { .. })
        ));
    }

    /// Hosts, addresses and rules from few parts, so that they often meet.
    fn origins() -> impl Strategy<Value = String> {
        let host = prop_oneof![
            Just("localhost"),
            Just("a.example"),
            Just("b.a.example"),
            Just("127.0.0.1"),
            Just("2130706433"),
            Just("10.0.0.5"),
            Just("[::1]"),
            Just("[::ffff:a00:5]"),
            Just("8.8.8.8"),
        ];
        let port = prop_oneof![Just(""), Just(":80"), Just(":443"), Just(":8080")];
        let path = prop_oneof![
            Just(""),
            Just("/v1"),
            Just("/v1/x"),
            Just("/v1/../v2"),
            Just("/v1/%2e%2e%2fv2")
        ];
        let scheme = prop_oneof![Just("http"), Just("https")];
        (scheme, host, port, path).prop_map(|(scheme, host, port, path)| format!("{scheme}://{host}{port}{path}"))
    }

    fn rule_lists() -> impl Strategy<Value = Vec<HttpRule>> {
        let rule = (origins(), any::<bool>(), prop::bool::weighted(0.1));
        let rule = rule.prop_filter_map("not every address is a rule", |(text, is_wild, is_typed)| {
            let text = if is_wild {
                text.replacen("://", "://*.", 1)
            } else {
                text
            };
            Some(HttpRule {
                is_typed,
                is_own_server: false,
                ..HttpRule::parse(&text).ok()?
            })
        });
        prop::collection::vec(rule, 1..6)
    }

    fn address_lists() -> impl Strategy<Value = Vec<&'static str>> {
        let all = [
            "127.0.0.1",
            "::1",
            "10.0.0.5",
            "::ffff:10.0.0.5",
            "8.8.8.8",
            "64:ff9b::a00:5",
            "2606:4700::1",
            "fe80::1",
        ];
        prop::collection::vec(prop::sample::select(all.to_vec()), 0..5)
    }

    fn reached(url: &ParsedUrl, rules: &[HttpRule], answer: &[&'static str]) -> Vec<SocketAddr> {
        let script = Script(Mutex::new(vec![answer.to_vec()]));
        let rules = matching(url, rules);
        rules
            .and_then(|rules| addresses(url, &rules, &script))
            .unwrap_or_default()
    }

    proptest! {
        #[test]
        fn fewer_rules_never_reach_more(url in origins(), rules in rule_lists(), answer in address_lists(), at in any::<prop::sample::Index>()) {
            let url = ParsedUrl::parse(&url).unwrap();
            let all = reached(&url, &rules, &answer);
            let mut fewer = rules.clone();
            fewer.remove(at.index(rules.len()));
            for address in reached(&url, &fewer, &answer) {
                prop_assert!(all.contains(&address), "{} only without {}", address, rules[at.index(rules.len())]);
            }
        }

        #[test]
        fn a_private_address_is_reached_by_its_name_alone(url in origins(), rules in rule_lists(), answer in address_lists()) {
            let url = ParsedUrl::parse(&url).unwrap();
            for address in reached(&url, &rules, &answer) {
                let covering: Vec<&HttpRule> = rules.iter().filter(|rule| rule.covers(&url)).collect();
                prop_assert!(!covering.is_empty());
                let is_public = ["8.8.8.8:", "[2606:4700::1]:"].iter().any(|public| address.to_string().starts_with(public));
                let is_named = covering.iter().any(|rule| {
                    let text = rule.to_string();
                    rule.is_typed
                        || text.contains(&format!("://{}", UrlHost::Address(address.ip())))
                        || text.contains("://localhost") && address.ip().is_loopback()
                });
                prop_assert!(is_public || is_named, "{} by {:?}", address, covering);
            }
        }
    }
}
