//! Where a request may go: rules, spellings of addresses, names that change their address (rows 16, 17, 19).

use dlm_core::http_rule::HttpRule;

use super::*;
use crate::server::{Reply, Server};

fn local() -> Script {
    Script::default()
        .with("localhost", &[&["127.0.0.1"]])
        .with("api.example", &[&["127.0.0.1"]])
        .with("granted.example", &[&["127.0.0.1"]])
        .with("xn--grnted-4nf.example", &[&["127.0.0.1"]])
}

#[test]
fn what_is_not_granted_sends_nothing() {
    let witness = Witness::new();
    let port = witness.port;
    let granted = [typed(&format!("http://api.example:{port}/v1"))];
    for (url, capability) in [
        (
            format!("http://other.example:{port}/v1"),
            format!("http:http://other.example:{port}"),
        ),
        ("http://api.example:1/v1".into(), "http:http://api.example:1".into()),
        ("http://api.example/v1".into(), "http:http://api.example".into()),
        (
            format!("https://api.example:{port}/v1"),
            format!("http:https://api.example:{port}"),
        ),
        (
            format!("http://api.example:{port}/v10"),
            format!("http:http://api.example:{port}/v10"),
        ),
        (
            format!("http://api.example:{port}/v1/../v2"),
            format!("http:http://api.example:{port}/v2"),
        ),
        (
            format!("http://api.example:{port}/v1/%2e%2e/v2"),
            format!("http:http://api.example:{port}/v2"),
        ),
        (format!("http://api.example:{port}/v1/..%2fv2"), String::new()),
        (
            format!("http://127.0.0.1:{port}/v1"),
            format!("http:http://127.0.0.1:{port}"),
        ),
    ] {
        let script = local();
        let (found, message) = denied(send(&script, &get(&url), &granted));
        assert_eq!(found, capability, "{url}");
        assert!(message.contains(&granted[0].to_string()), "{message}");
        assert_eq!(script.asked(), [""; 0], "{url}: no name is looked up");
    }
    denied(send(&local(), &get(&format!("http://api.example:{port}/")), &[]));
    assert!(witness.is_untouched());
}

#[test]
fn what_is_granted_arrives_with_host_and_agent() {
    let server = Server::start(|_| Reply::ok("yes").header("X-Kind", "a"));
    let port = server.port;
    let granted = [typed(&format!("http://api.example:{port}/v1"))];
    let url = format!("HTTP://API.example:{port}/v1/./x/../y%2e?q=%20a");
    let answer = send(&local(), &get(&url), &granted).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"yes".as_slice()));
    assert_eq!(answer.url, format!("http://api.example:{port}/v1/y%2e?q=%20a"));
    assert!(answer.headers.contains(&("x-kind".into(), "a".into())));
    let seen = server.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("GET", "/v1/y%2e?q=%20a")
    );
    assert_eq!(seen[0].headers["host"], format!("api.example:{port}"));
    assert_eq!(seen[0].headers["user-agent"], "dlm/0.1.0 (plugin probe/1.2.3)");
    assert_eq!(seen.len(), 1);
}

/// Spellings of 127.0.0.1, all of them with `{}` for the port.
const LOOPBACK: [&str; 17] = [
    "http://127.0.0.1:{}/",
    "http://0177.0.0.1:{}/",
    "http://0x7f.0.0.1:{}/",
    "http://0X7F000001:{}/",
    "http://2130706433:{}/",
    "http://017700000001:{}/",
    "http://127.1:{}/",
    "http://127.0.1:{}/",
    "http://127.0.0.1.:{}/",
    "http://[::ffff:7f00:1]:{}/",
    "http://[::ffff:127.0.0.1]:{}/",
    "http://[0:0:0:0:0:FFFF:7F00:0001]:{}/",
    "http://１２７.０.０.１:{}/",
    "http://127。0。0。1:{}/",
    "http://%31%32%37.0.0.1:{}/",
    "hTTp:\\\\127.0.0.1:{}\\",
    "http:127.0.0.1:{}",
];
/// Spellings of `localhost`.
const LOCALHOST: [&str; 6] = [
    "http://localhost:{}/",
    "http://localhost.:{}/",
    "http://LocalHost:{}/",
    "http://ｌｏｃａｌｈｏｓｔ:{}/",
    "http://%6cocalhost:{}/",
    "http://local\u{ad}host:{}/",
];

#[test]
fn no_spelling_of_this_machine_passes_a_wildcard_and_every_one_passes_its_grant() {
    let witness = Witness::new();
    let server = Server::start(|_| Reply::ok("here"));
    for (spellings, host) in [(LOOPBACK.as_slice(), "127.0.0.1"), (LOCALHOST.as_slice(), "localhost")] {
        for spelling in spellings {
            let at = |port: u16| spelling.replace("{}", &port.to_string());
            let wild = format!("http://*.example:{}", witness.port);
            let other = if host == "localhost" { "127.0.0.1" } else { "localhost" };
            let other = format!("http://{other}:{}", witness.port);
            let (capability, _) = denied(send(&local(), &get(&at(witness.port)), &rules(&[&wild, &other])));
            assert_eq!(capability, format!("http:http://{host}:{}", witness.port), "{spelling}");

            let granted = rules(&[&format!("http://{host}:{}", server.port)]);
            let answer = send(&local(), &get(&at(server.port)), &granted);
            assert_eq!(answer.unwrap().body, b"here", "{spelling}");
        }
    }
    assert!(witness.is_untouched());
    assert!(server.seen().iter().all(|seen| seen.path == "/"));
}

#[test]
fn texts_that_readers_take_apart_differently_send_nothing_or_what_was_checked() {
    let witness = Witness::new();
    let port = witness.port;
    let granted = rules(&[
        &format!("http://granted.example:{port}"),
        &format!("http://*.example:{port}"),
        "http://granted.example",
    ]);
    for url in [
        format!("http://granted.example@127.0.0.1:{port}/"),
        format!("http://granted.example:{port}@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}@granted.example/"),
        format!("http://:@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}\\@granted.example/"),
        format!("http://127.0.0.1:{port}#@granted.example/"),
        format!("http://127.0.0.1:{port}?@granted.example/"),
        format!("http://127.0.0.1:{port};granted.example/"),
        format!("http://127.0.0.1%00.example:{port}/"),
        format!("http://127.0.0.1%2f.example:{port}/"),
        format!("http://127.0.0.1%0d%0a.example:{port}/"),
        format!("http://127.0.0.1\t:{port}/"),
        format!("http://127.0.0.1\n:{port}/"),
        format!("http://127.0.\r\n0.1:{port}/"),
        format!("\thttp://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: granted.example\r\n\r\n"),
        format!("ftp://127.0.0.1:{port}/"),
        format!("//127.0.0.1:{port}/"),
        format!("http://[::1%25lo]:{port}/"),
        format!("http://[127.0.0.1]:{port}/"),
        // A Cyrillic letter makes another name, which is under the wildcard and at a private address.
        format!("http://grаnted.example:{port}/"),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://[::ffff:a9fe:a9fe]/".into(),
        format!("http://[::7f00:1]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        format!("http://[2002:7f00:1::]:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://0:{port}/"),
        format!("http://[::]:{port}/"),
    ] {
        let result = send(&local(), &get(&url), &granted);
        let is_refused = matches!(result, Err(GuestHttpError::Denied { .. } | GuestHttpError::Invalid(_)));
        assert!(is_refused, "{url:?}: {result:?}");
    }
    assert!(witness.is_untouched());

    let server = Server::start(|_| Reply::ok("here"));
    let port = server.port;
    let granted = [typed(&format!("http://granted.example:{port}"))];
    for (url, path) in [
        (format!("http:\\\\granted.example:{port}\\a"), "/a"),
        (format!("http://granted.example:{port}/@127.0.0.1:1/"), "/@127.0.0.1:1/"),
        (
            format!("http://granted.example:{port}?@127.0.0.1:1/"),
            "/?@127.0.0.1:1/",
        ),
        (
            format!("http://granted.example:{port}/%0d%0aHost:%20x"),
            "/%0d%0aHost:%20x",
        ),
        (format!("http://ＧRANTED.example:{port}/ä b"), "/%C3%A4%20b"),
    ] {
        send(&local(), &get(&url), &granted).unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.path, path, "{url}");
        assert_eq!(seen.headers["host"], format!("granted.example:{port}"));
    }
}

#[test]
fn a_default_port_is_the_same_written_or_not() {
    // Nothing listens on port 80 of this address, so passing the checks shows as a failed connection.
    let granted = rules(&["http://127.1.2.3:80"]);
    for url in ["http://127.1.2.3/", "http://127.1.2.3:80/", "http://127.1.2.3:0080/"] {
        let result = send(&Script::default(), &get(url), &granted);
        assert!(
            matches!(result, Err(GuestHttpError::Unreachable { .. })),
            "{url}: {result:?}"
        );
    }
    denied(send(&Script::default(), &get("http://127.1.2.3:443/"), &granted));
    denied(send(&Script::default(), &get("https://127.1.2.3:80/"), &granted));
}

#[test]
fn a_name_at_a_private_address_sends_nothing_and_the_literal_is_named() {
    let witness = Witness::new();
    let port = witness.port;
    for rule in [format!("http://*.example:{port}"), format!("http://api.example:{port}")] {
        for answer in [
            &["127.0.0.1"][..],
            &["10.0.0.1", "127.0.0.1", "::1", "169.254.169.254"],
            &["::ffff:127.0.0.1"],
        ] {
            let script = Script::default().with("api.example", &[answer]);
            let (capability, message) = denied(send(
                &script,
                &get(&format!("http://api.example:{port}/")),
                &rules(&[&rule]),
            ));
            assert_eq!(capability, "");
            assert!(message.contains("`http:http://1"), "{message}");
        }
    }
    assert!(witness.is_untouched());
}

// Only Linux has all of 127/8 without further setup.
#[cfg(target_os = "linux")]
#[test]
fn the_connection_goes_to_the_checked_address_though_the_name_moves() {
    let witness = Witness::new();
    // The same port on another loopback address; a public address would need the network.
    let checked = TcpListener::bind(("127.0.0.2", witness.port)).unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = checked.accept().unwrap();
        let mut request = [0; 2048];
        let read = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nfirst")
            .unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let script = Script::default().with("rebind.example", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let url = format!("http://rebind.example:{}/", witness.port);
    let answer = send(&script, &get(&url), &[typed(&url)]).unwrap();
    assert_eq!(answer.body, b"first");
    assert_eq!(script.asked(), ["rebind.example"], "the name is resolved once");
    let host = format!("host: rebind.example:{}\r\n", witness.port);
    assert!(server.join().unwrap().to_lowercase().contains(&host));
    assert!(witness.is_untouched());
}

#[test]
fn a_second_hop_resolves_and_checks_again() {
    let witness = Witness::new();
    let target = format!("http://rebind.example:{}/", witness.port);
    let location = target.clone();
    let server = Server::start(move |_| Reply::status(302).header("Location", location.clone()));
    let script = Script::default().with("rebind.example", &[&["127.0.0.1"]]);
    let granted = rules(&[&server.url(), &target]);
    let request = GuestRequest {
        follow_redirects: 5,
        ..get(&server.url())
    };
    let (capability, message) = denied(send(&script, &request, &granted));
    assert_eq!(capability, "");
    assert!(
        message.contains("sends on") && message.contains("a loopback address"),
        "{message}"
    );
    assert!(witness.is_untouched());
}

#[test]
fn a_name_without_an_address_is_unreachable() {
    let result = send(
        &Script::default(),
        &get("http://nowhere.example/"),
        &rules(&["http://nowhere.example"]),
    );
    assert!(matches!(&result, Err(GuestHttpError::Unreachable { reason, .. }) if reason.contains("nowhere.example")));
    let script = Script::default().with("empty.example", &[&[]]);
    let result = send(
        &script,
        &get("http://empty.example/"),
        &rules(&["http://empty.example"]),
    );
    assert!(matches!(result, Err(GuestHttpError::Unreachable { .. })));
}

#[test]
fn offline_sends_nothing() {
    let witness = Witness::new();
    let settings = GuestSettings {
        offline: Some("--offline".into()),
        ..GuestSettings::default()
    };
    let client = GuestClient::with_resolver(&settings, Box::new(local())).unwrap();
    let url = format!("http://127.0.0.1:{}/", witness.port);
    let rule = HttpRule::parse(&url).unwrap();
    let (capability, message) = denied(client.send(&get(&url), &[rule], &Cancel::new()));
    assert_eq!(
        (capability.as_str(), message.as_str()),
        ("", "--offline forbids connections; without it they are allowed")
    );
    assert!(witness.is_untouched());
}

#[test]
fn offline_the_server_that_dlm_started_is_asked_and_nothing_else() {
    let witness = Witness::new();
    let away = format!("http://127.0.0.1:{}/", witness.port);
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/away" => Reply::status(302).header("Location", away.clone()),
        _ => Reply::ok("up"),
    });
    let settings = GuestSettings {
        offline: Some("--offline".into()),
        ..GuestSettings::default()
    };
    let client = GuestClient::with_resolver(&settings, Box::new(local())).unwrap();
    let own = HttpRule {
        is_own_server: true,
        ..typed(&format!("http://127.0.0.1:{}", server.port))
    };
    let granted = typed(&format!("http://127.0.0.1:{}", witness.port));
    let rules = [own, granted];
    let url = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    let ask = |request: &GuestRequest| client.send(request, &rules, &Cancel::new());
    assert_eq!(ask(&get(&url(server.port, "/"))).unwrap().body, b"up");
    let following = GuestRequest {
        follow_redirects: 1,
        ..get(&url(server.port, "/away"))
    };
    for refused in [get(&url(witness.port, "/")), following] {
        let (capability, message) = denied(ask(&refused));
        assert_eq!(
            (capability.as_str(), message.as_str()),
            ("", "--offline forbids connections; without it they are allowed")
        );
    }
    assert!(witness.is_untouched());
}
