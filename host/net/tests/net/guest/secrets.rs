//! Where a secret may go, and that it shows nowhere else (row 20 and 21).

use super::*;
use crate::server::{Reply, Server};

const KEY: &str = "Bearer sk-hunter2hunter2";
/// The secret in [`KEY`].
const VALUE: &str = "sk-hunter2hunter2";

fn with_key(request: GuestRequest, hosts: &[&str]) -> GuestRequest {
    GuestRequest {
        secret_headers: vec![secret("Authorization", KEY, hosts)],
        secrets: vec![in_use(VALUE, hosts)],
        ..request
    }
}

#[test]
fn a_secret_goes_to_the_hosts_of_its_grant() {
    let server = Server::start(|_| Reply::ok("yes"));
    let script = Script::default()
        .with("api.example", &[&["127.0.0.1"]])
        .with("localhost", &[&["127.0.0.1"]]);
    for (host, hosts) in [
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["LOCALHOST"]),
        ("api.example", ["api.example"]),
        ("api.example", ["*.example"]),
    ] {
        let url = format!("http://{host}:{}/", server.port);
        send(&script, &with_key(get(&url), &hosts), &[typed(&url)]).unwrap();
        assert_eq!(server.seen().pop().unwrap().headers["authorization"], KEY, "{host}");
    }
}

#[test]
fn a_secret_for_another_host_sends_nothing() {
    let witness = Witness::new();
    let url = format!("http://127.0.0.1:{}/", witness.port);
    for hosts in [&["api.example"][..], &[], &["*.0.0.1"], &["127.0.0.1:80"], &["*"]] {
        let (capability, message) = denied(send(&Script::default(), &with_key(get(&url), hosts), &rules(&[&url])));
        assert_eq!(capability, "secret:API_KEY@127.0.0.1");
        assert!(!message.contains("hunter2"));
    }
    assert!(witness.is_untouched());
}

#[test]
fn a_secret_travels_by_https_or_on_this_machine() {
    // A typed private address may be asked, but not with a secret over plain http; nothing answers there.
    let script = Script::default().with("box.example", &[&["10.255.255.1"]]);
    let url = "http://box.example/";
    let (capability, message) = denied(send(&script, &with_key(get(url), &["box.example"]), &[typed(url)]));
    assert_eq!(capability, "");
    assert!(message.contains("https") && !message.contains("hunter2"), "{message}");
}

#[test]
fn a_secret_that_is_no_header_value_is_refused_unseen() {
    let witness = Witness::new();
    let url = format!("http://127.0.0.1:{}/", witness.port);
    for value in [
        "",
        "hunter2\r\nX: y",
        "hunter2\n",
        "hunter2\0",
        "hünter2",
        " hunter2",
        "hunter2\t",
        "\u{7f}hunter2",
    ] {
        let mut request = with_key(get(&url), &["127.0.0.1"]);
        request.secret_headers[0].value = value.into();
        let message = invalid(send(&Script::default(), &request, &rules(&[&url])));
        assert!(message.contains("API_KEY") && !message.contains("nter2"), "{message}");
    }
    let mut request = with_key(get(&url), &["127.0.0.1"]);
    request.headers = vec![("authorization".into(), "mine".into())];
    invalid(send(&Script::default(), &request, &rules(&[&url])));
    assert!(!format!("{request:?}").contains("hunter2"), "a request may be logged");
    assert!(witness.is_untouched());
}

#[test]
fn a_redirect_to_another_origin_loses_the_secret() {
    let other = Server::start(|_| Reply::ok("other"));
    let away = other.url();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/same" => Reply::ok("same"),
        "/stay" => Reply::status(302).header("Location", "/same"),
        _ => Reply::status(302).header("Location", away.clone()),
    });
    let granted = rules(&[&server.url(), &other.url()]);
    let request = |path: &str| GuestRequest {
        follow_redirects: 5,
        ..with_key(get(&format!("{}{path}", server.url())), &["127.0.0.1"])
    };
    send(&Script::default(), &request("/stay"), &granted).unwrap();
    assert_eq!(server.seen().pop().unwrap().headers["authorization"], KEY);
    // The grant names the host, and the other port is the same host, but another origin.
    send(&Script::default(), &request("/away"), &granted).unwrap();
    assert!(!other.seen()[0].headers.contains_key("authorization"));
}

/// Where a server sends a request on to, and whether that may be.
fn sent_on(address: &str, request: impl Fn(&str) -> GuestRequest) -> Result<GuestResponse, GuestHttpError> {
    let other = Server::start(|_| Reply::ok("other"));
    let away = format!("{}{address}", other.url());
    let server = Server::start(move |_| Reply::status(307).header("Location", away.clone()));
    let granted = rules(&[&server.url(), &other.url()]);
    let answer = send(&Script::default(), &request(&server.url()), &granted);
    assert_eq!(answer.is_ok(), !other.seen().is_empty(), "a refused hop sends nothing");
    answer
}

#[test]
fn a_secret_echoed_into_a_redirect_goes_nowhere() {
    for address in [
        "/?k=sk-hunter2hunter2",
        "/sk%2Dhunter2hunter2/",
        "/sk%252Dhunter2hunter2/",
        "/?k=Bearer%20sk-%68unter2hunter2",
        "/?Bearer%20sk-hunter2hunter2%20x",
        "/?Bearer+sk-hunter2hunter2+x",
        "/?xsk-hunter2hunter2x",
        // `sk-hunter2hunter2`, and it behind `Bearer `, `u:` and before a letter.
        "/?c2staHVudGVyMmh1bnRlcjI=",
        "/?QmVhcmVyIHNrLWh1bnRlcjJodW50ZXIy",
        "/?dTpzay1odW50ZXIyaHVudGVyMg%3D%3D",
        "/?c2staHVudGVyMmh1bnRlcjJ4",
    ] {
        // However the guest dresses the secret.
        for value in [KEY, "sk-hunter2hunter2 x", "key=sk-hunter2hunter2;"] {
            let (capability, message) = denied(sent_on(address, |url| {
                let mut request = with_key(get(url), &["127.0.0.1"]);
                request.secret_headers[0].value = value.into();
                GuestRequest {
                    follow_redirects: 1,
                    ..request
                }
            }));
            assert_eq!(capability, "", "{address}");
            assert!(
                message.contains("`API_KEY`") && !message.contains("hunter2"),
                "{address}: {message}"
            );
        }
    }
    let following = |url: &str| GuestRequest {
        follow_redirects: 1,
        ..with_key(get(url), &["127.0.0.1"])
    };
    sent_on("/?k=sk-hunter2hunter", following).unwrap();
}

#[test]
fn a_secret_too_short_to_be_seen_goes_to_one_origin() {
    let (_, message) = denied(sent_on("/?k=1234567", |url| GuestRequest {
        secret_headers: vec![secret("X-Pin", "1234567", &["127.0.0.1"])],
        secrets: vec![in_use("1234567", &["127.0.0.1"])],
        follow_redirects: 1,
        ..get(url)
    }));
    assert!(
        message.contains("fewer than 8 bytes") && !message.contains("1234567"),
        "{message}"
    );
    // One that is not in the request is not in its redirect either.
    sent_on("/?k=1234567", |url| GuestRequest {
        secrets: vec![in_use("1234567", &["127.0.0.1"])],
        follow_redirects: 1,
        ..get(url)
    })
    .unwrap();
}

#[test]
fn a_secret_in_address_header_or_body_goes_to_its_hosts_alone() {
    let server = Server::start(|_| Reply::ok("yes"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, format!("text {VALUE} text")).unwrap();
    let url = server.url();
    let with_header = |value: &str| GuestRequest {
        headers: vec![("X-Note".into(), value.to_owned())],
        ..get(&url)
    };
    let requests = [
        get(&format!("{url}/?k={VALUE}")),
        with_header("a sk%2Dhunter2hunter2 b"),
        with_header("QmVhcmVyIHNrLWh1bnRlcjJodW50ZXIy"),
        post(&url, "{\"key\": \"sk-hunter2hunter2\"}"),
        GuestRequest {
            method: GuestMethod::Put,
            body: GuestBody::File {
                path: file,
                offset: 2,
                length: 24,
            },
            ..get(&url)
        },
    ];
    for request in requests {
        let asked = |hosts: &[&str]| {
            let secrets = vec![in_use(VALUE, hosts)];
            send(
                &Script::default(),
                &GuestRequest {
                    secrets,
                    ..request.clone()
                },
                &rules(&[&url]),
            )
        };
        let before = server.seen().len();
        for hosts in [&[][..], &["api.example"]] {
            let (capability, message) = denied(asked(hosts));
            assert_eq!(capability, "secret:API_KEY@127.0.0.1");
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert_eq!(server.seen().len(), before, "nothing was sent");
        asked(&["127.0.0.1"]).unwrap();
    }
}
