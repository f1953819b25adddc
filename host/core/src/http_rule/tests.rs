use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> HttpRule {
    HttpRule::parse(text).unwrap()
}

fn url(text: &str) -> ParsedUrl {
    ParsedUrl::parse(text).unwrap()
}

#[track_caller]
fn check(rule_text: &str, url_text: &str, is_covered: bool) {
    assert_eq!(
        rule(rule_text).covers(&url(url_text)),
        is_covered,
        "{rule_text} on {url_text}"
    );
}

#[test]
fn a_rule_keeps_scheme_host_port_and_prefix() {
    let parsed = rule("HTTPS://API.Example.com:443/v1/");
    assert_eq!(parsed.scheme, Scheme::Https);
    assert_eq!(parsed.host, HostPattern::Name("api.example.com".into()));
    assert_eq!(
        (parsed.port, parsed.prefix.as_str(), parsed.is_typed),
        (443, "/v1", false)
    );
    assert_eq!(rule("http://a.example").port, 80);
    assert_eq!(
        rule("http://*.a.example:8080").host,
        HostPattern::Below("a.example".into())
    );
    assert_eq!(rule("http://localhost.").host, HostPattern::Name("localhost".into()));
    assert_eq!(
        rule("https://bücher.example").host,
        HostPattern::Name("xn--bcher-kva.example".into())
    );
    assert_eq!(rule("https://a.example/x/../y/%7euser").prefix, "/y/~user");
}

#[test]
fn address_literals_in_any_spelling_become_addresses() {
    for text in [
        "http://127.0.0.1",
        "http://0177.0.0.1",
        "http://0x7f.1",
        "http://2130706433",
        "http://[::ffff:127.0.0.1]",
        "http://[::ffff:7f00:1]",
        "http://１２７.０.０.１",
        "http://127.0.0.1.",
    ] {
        assert_eq!(
            rule(text).host,
            HostPattern::Address(Ipv4Addr::LOCALHOST.into()),
            "{text}"
        );
        assert_eq!(url(text).as_str(), "http://127.0.0.1/", "{text}");
    }
    assert_eq!(
        rule("http://[::1]").host,
        HostPattern::Address(Ipv6Addr::LOCALHOST.into())
    );
}

#[test]
fn what_is_no_rule_is_refused_with_its_reason() {
    for (text, reason) in [
        ("a.example", "`://` is missing"),
        ("ftp://a.example", "the scheme is `ftp`"),
        ("https://", "empty host"),
        ("https:///v1", "empty host"),
        ("https://user@a.example", "a user name"),
        ("https://user:pw@a.example", "a user name"),
        ("https://@a.example", "a user name"),
        ("https://a.example?x=1", "`?`"),
        ("https://a.example/#x", "`#`"),
        ("https://a.example\\b", "`\\\\`"),
        ("https://a.example/a b", "` `"),
        ("https://a.example/\n", "`\\n`"),
        ("https://a.example:0", "no such host or port"),
        ("https://a.example:65536", "invalid port"),
        ("https://*", "`*` in the host"),
        ("https://*.", "empty host"),
        ("https://*./v1", "empty host"),
        ("https://a.*.example", "`*` in the host"),
        ("https://*.*.example", "`*` in the host"),
        ("https://*.0.0.1", "not before an address"),
        ("https://*.[::1]", "not before an address"),
        ("https://a..example", "an empty part"),
        ("https://a.example//v1", "no empty step"),
        ("https://a.example/v1/%2e%2e%2fx", "hides a"),
        ("https://a.example/v1/%252e%252e/x", "hides a"),
        ("https://256.0.0.1", "invalid IPv4"),
    ] {
        let error = HttpRule::parse(text).expect_err(text);
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for text in [
        "",
        "a.example",
        "/v1",
        "ftp://a.example/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "https://user@a.example/",
        "https://user:pw@a.example/",
        "https://:pw@a.example/",
        "https://a.example:80@evil.example/",
        "https://a.example/#x",
        "https://a.exam\tple/",
        "https://a.example/\r\nx: y",
        " https://a.example/",
        "https://a.example/ ",
        "https://a.example/\u{0}",
        "https://a..example/",
        "https://.a.example/",
        "https://a.example../",
        "https://a%00.example/",
        "https://a!b.example/",
        "https://a.example:0/",
        "https://1.2.3.4.5/",
        "https://[::1/",
        "https://[::1%25eth0]/",
    ] {
        assert!(ParsedUrl::parse(text).is_err(), "{text:?}");
    }
    assert!(ParsedUrl::parse(&format!("https://a.example/{}", "x".repeat(20_000))).is_err());
    assert!(ParsedUrl::parse(&format!("https://{}example/", "a.".repeat(200))).is_err());
}

#[test]
fn scheme_host_and_port_are_compared_as_values() {
    check("https://a.example", "https://a.example/", true);
    check("https://a.example", "HTTPS://A.EXAMPLE:443/x?y=z", true);
    check("https://a.example", "https://a.example./", true);
    check("https://a.example", "https:\\\\a.example\\x", true);
    check("https://a.example", "http://a.example/", false);
    check("https://a.example", "https://a.example:444/", false);
    check("https://a.example", "https://b.a.example/", false);
    check("https://a.example", "https://a.example.evil.example/", false);
    check("https://a.example", "https://evil.example\\@a.example/", false);
    check("https://a.example", "https://evil.example/https://a.example/", false);
    // Full-width letters are those letters; a Cyrillic one is another name.
    check("https://a.example", "https://ａ.example/", true);
    check("https://a.example", "https://а.example/", false);
    check("http://localhost", "http://LOCALHOST./", true);
    check("http://127.0.0.1", "http://0x7f000001/", true);
    check("http://127.0.0.1", "http://[::ffff:7f00:1]/", true);
    check("http://127.0.0.1", "http://localhost/", false);
    check("http://localhost", "http://127.0.0.1/", false);
}

#[test]
fn a_star_stands_for_one_part_or_more() {
    check("https://*.a.example", "https://b.a.example/", true);
    check("https://*.a.example", "https://c.b.a.example/", true);
    check("https://*.a.example", "https://a.example/", false);
    check("https://*.a.example", "https://ba.example/", false);
    check("https://*.a.example", "https://b.a.example.evil.example/", false);
}

#[test]
fn a_prefix_ends_at_a_step() {
    for (path, is_covered) in [
        ("/v1", true),
        ("/v1/", true),
        ("/v1/x", true),
        ("/v1?x=/..", true),
        ("/v1/a..b/.c", true),
        ("/%761/x", true),
        ("/v10", false),
        ("/v1x", false),
        ("/V1", false),
        ("/v1%2fx", false),
        ("/", false),
        ("", false),
        ("//v1", false),
        ("/x/../v1/y", true),
        ("/v1/../v2", false),
        ("/v1/%2e%2e/v2", false),
        ("/v1/%2E./v2", false),
        ("/v1\\..\\v2", false),
        ("/v1/..%2fv2", false),
        ("/v1/..%5cv2", false),
        ("/v1/%252e%252e/v2", false),
        ("/v1/%25252e%25252e%25252fv2", false),
        ("/v1/..;/v2", false),
        ("/v1/..;x=y/v2", false),
    ] {
        check("https://a.example/v1", &format!("https://a.example{path}"), is_covered);
    }
    check("https://a.example", "https://a.example/v1/..%2fv2", true);
}

#[test]
fn only_a_literal_localhost_or_typed_rule_names_a_private_address() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(rule("http://10.0.0.5:8000").names_address(ip("10.0.0.5")));
    assert!(rule("http://10.0.0.5:8000").names_address(ip("::ffff:10.0.0.5")));
    assert!(!rule("http://10.0.0.5:8000").names_address(ip("10.0.0.6")));
    assert!(rule("http://localhost").names_address(ip("127.0.0.1")));
    assert!(rule("http://localhost").names_address(ip("::1")));
    assert!(!rule("http://localhost").names_address(ip("10.0.0.5")));
    assert!(!rule("http://*.localhost").names_address(ip("127.0.0.1")));
    assert!(!rule("http://box.example").names_address(ip("10.0.0.5")));
    let typed = HttpRule {
        is_typed: true,
        is_own_server: false,
        ..rule("http://box.example")
    };
    assert!(typed.names_address(ip("10.0.0.5")));
}

#[test]
fn a_location_is_checked_like_an_address() {
    let base = url("https://a.example/v1/x?y=1");
    assert_eq!(base.join("z").unwrap().as_str(), "https://a.example/v1/z");
    assert_eq!(base.join("../z#part").unwrap().as_str(), "https://a.example/z");
    assert_eq!(base.join("//b.example/").unwrap().as_str(), "https://b.example/");
    assert_eq!(base.join("http://0x7f.1/").unwrap().as_str(), "http://127.0.0.1/");
    assert!(base.join("https://u@b.example/").is_err());
    assert!(base.join("ftp://b.example/").is_err());
    assert!(base.join("/\r\nx").is_err());
}

#[test]
fn hosts_of_secrets_are_read_alone() {
    assert_eq!(
        HostPattern::parse("API.example.com").unwrap(),
        HostPattern::Name("api.example.com".into())
    );
    assert_eq!(
        HostPattern::parse("*.example.com").unwrap(),
        HostPattern::Below("example.com".into())
    );
    assert_eq!(
        HostPattern::parse("[::1]").unwrap(),
        HostPattern::Address(Ipv6Addr::LOCALHOST.into())
    );
    for text in [
        "",
        "a.example/x",
        "a.example:80",
        "https://a.example",
        "u@a.example",
        "[::1]:80",
        "*",
    ] {
        assert!(HostPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn messages_hold_no_control_characters() {
    let error = ParsedUrl::parse("https://a.example/\u{1b}[31m\n").unwrap_err();
    assert!(!error.to_string().contains(char::is_control), "{error}");
    assert_eq!(
        url("https://a.example/v1?key=hunter2").to_string(),
        "https://a.example/v1"
    );
}

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9_-]{1,8}(\\.[a-z][a-z0-9]{0,5}){0,3}\\.?",
        "[A-Za-zäßπ１ａ。]{1,6}\\.example",
        any::<u32>().prop_map(|bits| bits.to_string()),
        any::<Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<Ipv6Addr>().prop_map(|address| format!("[{address}]")),
        "0x[0-9a-f]{1,8}",
        "\\PC{0,12}",
    ]
}

fn paths() -> impl Strategy<Value = String> {
    let step = prop_oneof![
        Just("..".to_owned()),
        Just("%2e%2E".to_owned()),
        Just(".%2e;x".to_owned()),
        Just("..%2fv2".to_owned()),
        Just("%252e%252e".to_owned()),
        Just("v1".to_owned()),
        Just("%76%31".to_owned()),
        "[a-z%.;\\\\ä]{0,5}",
    ];
    prop::collection::vec(step, 0..5).prop_map(|steps| steps.iter().map(|step| format!("/{step}")).collect())
}

fn addresses() -> impl Strategy<Value = String> {
    let scheme = prop_oneof![Just("http"), Just("https"), Just("HTTP")];
    let port = prop_oneof![
        Just(String::new()),
        Just(":443".into()),
        any::<u16>().prop_map(|port| format!(":{port}"))
    ];
    let star = prop_oneof![4 => Just(""), 1 => Just("*.")];
    (scheme, star, hosts(), port, paths()).prop_map(|(s, star, h, port, path)| format!("{s}://{star}{h}{port}{path}"))
}

/// Whether a server that decodes again and again, and takes `\` for `/`, leaves `/v1` by the path.
fn escapes(path: &str) -> bool {
    let mut path = path.to_owned();
    loop {
        let mut steps: Vec<&str> = Vec::new();
        for step in path
            .split(['/', '\\'])
            .map(|step| step.split(';').next().unwrap_or(step))
        {
            match step {
                ".." => drop(steps.pop()),
                "" | "." => {}
                other => steps.push(other),
            }
        }
        if steps.first() != Some(&"v1") {
            return true;
        }
        let next = path
            .replace("%2e", ".")
            .replace("%2E", ".")
            .replace("%2f", "/")
            .replace("%2F", "/");
        let next = next.replace("%5c", "\\").replace("%5C", "\\").replace("%25", "%");
        if next == path {
            return false;
        }
        path = next;
    }
}

proptest! {
    #[test]
    fn a_shown_rule_is_read_back(text in addresses()) {
        if let Ok(rule) = HttpRule::parse(&text) {
            prop_assert_eq!(HttpRule::parse(&rule.to_string()), Ok(rule));
        }
    }

    #[test]
    fn a_sent_address_is_read_back(text in addresses()) {
        if let Ok(url) = ParsedUrl::parse(&text) {
            prop_assert_eq!(ParsedUrl::parse(url.as_str()), Ok(url));
        }
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,80}", rest in prop::collection::vec(any::<char>(), 0..40)) {
        let odd: String = rest.into_iter().collect();
        for text in [text.clone(), odd.clone(), format!("https://{text}"), format!("http://a.example/{odd}"), format!("https://a{odd}")] {
            let rule = HttpRule::parse(&text);
            let url = ParsedUrl::parse(&text);
            if let (Ok(rule), Ok(url)) = (rule, url)
                && !matches!(rule.host, HostPattern::Below(_))
            {
                prop_assert!(rule.covers(&url), "{}", text);
            }
        }
    }

    #[test]
    fn a_covered_path_never_leaves_its_prefix(path in paths(), is_inside in any::<bool>()) {
        let head = if is_inside { "/v1" } else { "" };
        if let Ok(url) = ParsedUrl::parse(&format!("https://a.example{head}{path}"))
            && rule("https://a.example/v1").covers(&url)
        {
            prop_assert!(!escapes(url.path()), "{}", url.as_str());
        }
    }

    #[test]
    fn removing_a_rule_never_allows_more(rules in prop::collection::vec(addresses(), 1..5), at in any::<prop::sample::Index>(), text in addresses(), pick in any::<bool>()) {
        let parsed: Vec<HttpRule> = rules.iter().filter_map(|text| HttpRule::parse(text).ok()).collect();
        let text = if pick { at.get(&rules).clone() } else { text };
        if let (Ok(url), false) = (ParsedUrl::parse(&text), parsed.is_empty()) {
            let allows = |rules: &[HttpRule]| rules.iter().any(|rule| rule.covers(&url));
            let mut fewer = parsed.clone();
            fewer.remove(at.index(parsed.len()));
            prop_assert!(allows(&parsed) || !allows(&fewer));
        }
    }

    #[test]
    fn every_spelling_of_an_ipv4_address_is_that_address(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = address.octets();
        for text in [
            format!("{a}.{b}.{c}.{d}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("0x{a:x}.0X{b:x}.{c}.{d}"),
            format!("{bits}"),
            format!("{a}.{}", bits & 0x00ff_ffff),
            format!("{a}.{b}.{}", bits & 0xffff),
            format!("[::ffff:{a}.{b}.{c}.{d}]"),
        ] {
            let url = url(&format!("http://{text}/"));
            prop_assert_eq!(url.host(), &UrlHost::Address(address.into()), "{}", text);
        }
    }
}
