//! Redirects: every hop is a request of its own (row 18).

use super::*;
use crate::server::{Reply, Seen, Server};

fn following(request: GuestRequest) -> GuestRequest {
    GuestRequest {
        follow_redirects: 5,
        ..request
    }
}

/// A server that answers `/to?<status>&<address>` with that redirect and everything else with `end`.
fn sender() -> Server {
    Server::start(|seen: &Seen| match seen.path.strip_prefix("/to?") {
        Some(rest) => {
            let (status, address) = rest.split_once('&').unwrap();
            Reply::status(status.parse().unwrap()).header("Location", address)
        }
        None => Reply::ok("end"),
    })
}

#[test]
fn a_refused_hop_sends_nothing_and_is_named() {
    let witness = Witness::new();
    let server = sender();
    let script = Script::default()
        .with("other.example", &[&["127.0.0.1"]])
        .with("localhost", &[&["127.0.0.1"]]);
    let granted = rules(&[&server.url(), &format!("http://*.example:{}", witness.port)]);
    let port = witness.port;
    for (target, capability) in [
        (
            format!("http://127.0.0.1:{port}/x"),
            format!("http:http://127.0.0.1:{port}"),
        ),
        (
            format!("http://2130706433:{port}/"),
            format!("http:http://127.0.0.1:{port}"),
        ),
        (
            format!("//[::ffff:7f00:1]:{port}/"),
            format!("http:http://127.0.0.1:{port}"),
        ),
        (
            format!("http://localhost:{port}/"),
            format!("http:http://localhost:{port}"),
        ),
        (
            format!("http://evil.test:{port}/"),
            format!("http:http://evil.test:{port}"),
        ),
        (
            format!("https://127.0.0.1:{port}/"),
            format!("http:https://127.0.0.1:{port}"),
        ),
        // Under the wildcard, at a private address.
        (format!("http://other.example:{port}/"), String::new()),
    ] {
        let url = format!("{}/to?302&{target}", server.url());
        let (found, message) = denied(send(&script, &following(get(&url)), &granted));
        assert_eq!(found, capability, "{target}");
        assert!(message.contains(&format!("{}/to", server.url())), "{message}");
    }
    for target in [
        format!("http://u:p@127.0.0.1:{port}/"),
        format!("ftp://127.0.0.1:{port}/"),
        "http://".into(),
    ] {
        let url = format!("{}/to?302&{target}", server.url());
        invalid(send(&script, &following(get(&url)), &granted));
    }
    assert!(witness.is_untouched());
}

#[test]
fn a_granted_hop_arrives() {
    let target = Server::start(|_| Reply::ok("target"));
    let server = sender();
    let url = format!("{}/to?307&{}/x?y#part", server.url(), target.url());
    // The fragment in the request's own query would be refused; it is escaped there and meant for the target.
    let url = url.replace('#', "%23");
    let granted = rules(&[&server.url(), &target.url()]);
    let answer = send(&Script::default(), &following(get(&url)), &granted).unwrap();
    assert_eq!(answer.body, b"target");
    assert!(answer.url.starts_with(&format!("{}/x?y", target.url())));
    assert_eq!(target.seen().len(), 1);
}

#[test]
fn a_loop_ends_at_the_number_asked_for() {
    let server = Server::start(|_| Reply::status(302).header("Location", "/again"));
    let granted = rules(&[&server.url()]);
    let request = GuestRequest {
        follow_redirects: 3,
        ..get(&server.url())
    };
    let message = invalid(send(&Script::default(), &request, &granted));
    assert!(message.contains("more than 3 times"), "{message}");
    assert_eq!(server.seen().len(), 4);

    let request = GuestRequest {
        follow_redirects: 6,
        ..get(&server.url())
    };
    invalid(send(&Script::default(), &request, &granted));
    assert_eq!(
        server.seen().len(),
        4,
        "more than five are refused before the first packet"
    );
}

#[test]
fn zero_hands_a_redirect_back_as_it_is() {
    let server = sender();
    let url = format!("{}/to?302&http://evil.test/", server.url());
    let answer = send(&Script::default(), &get(&url), &rules(&[&server.url()])).unwrap();
    assert_eq!((answer.status, answer.url.as_str()), (302, url.as_str()));
    assert!(
        answer
            .headers
            .contains(&("location".into(), "http://evil.test/".into()))
    );
}

#[test]
fn another_origin_does_not_see_authorization_and_cookies() {
    let other = Server::start(|_| Reply::ok("other"));
    let server = sender();
    let granted = rules(&[&server.url(), &other.url()]);
    let headers = |seen: &Seen| {
        let value = |name: &str| seen.headers.get(name).cloned().unwrap_or_default();
        (value("authorization"), value("cookie"), value("x-plain"))
    };
    let mut request = following(get(&format!("{}/to?302&/same", server.url())));
    request.headers = vec![
        ("Authorization".into(), "Basic abc".into()),
        ("Cookie".into(), "a=b".into()),
        ("X-Plain".into(), "p".into()),
    ];
    send(&Script::default(), &request, &granted).unwrap();
    assert_eq!(
        headers(&server.seen()[1]),
        ("Basic abc".into(), "a=b".into(), "p".into())
    );

    // Away and back again: what was dropped stays dropped.
    request.url = format!("{}/to?302&{}/", server.url(), other.url());
    send(&Script::default(), &request, &granted).unwrap();
    assert_eq!(headers(&other.seen()[0]), (String::new(), String::new(), "p".into()));
}

#[test]
fn what_was_dropped_stays_dropped_on_the_way_back() {
    let server = Server::start(|_| Reply::ok("home"));
    let home = server.url();
    let other = Server::start(move |_| Reply::status(302).header("Location", home.clone()));
    let away = other.url();
    let start = Server::start(move |_| Reply::status(302).header("Location", away.clone()));
    let granted = rules(&[&server.url(), &other.url(), &start.url()]);
    let mut request = following(get(&start.url()));
    request.headers = vec![("Authorization".into(), "Basic abc".into())];
    send(&Script::default(), &request, &granted).unwrap();
    assert!(start.seen()[0].headers.contains_key("authorization"));
    assert!(!server.seen()[0].headers.contains_key("authorization"));
}

#[test]
fn method_and_body_follow_the_status() {
    for (status, method, body) in [
        (301, "GET", ""),
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", "text"),
        (308, "POST", "text"),
    ] {
        let server = sender();
        let mut request = following(post(&format!("{}/to?{status}&/end", server.url()), "text"));
        request.headers = vec![("Content-Type".into(), "text/plain".into())];
        send(&Script::default(), &request, &rules(&[&server.url()])).unwrap();
        let seen = server.seen();
        assert_eq!(
            (seen[0].method.as_str(), seen[0].body.as_slice()),
            ("POST", b"text".as_slice())
        );
        assert_eq!(
            (seen[1].method.as_str(), seen[1].body.as_slice()),
            (method, body.as_bytes()),
            "{status}"
        );
        assert_eq!(
            seen[1].headers.contains_key("content-type"),
            method == "POST",
            "{status}"
        );
    }
    let server = sender();
    let request = GuestRequest {
        method: GuestMethod::Put,
        ..following(post(&format!("{}/to?302&/end", server.url()), "text"))
    };
    send(&Script::default(), &request, &rules(&[&server.url()])).unwrap();
    assert_eq!(server.seen()[1].method, "PUT");
}
