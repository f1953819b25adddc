//! Methods, bodies, uploads and proxies.

use std::io::{BufRead, BufReader, Write};

use super::*;
use crate::server::{Reply, Server};

#[test]
fn every_method_is_sent_as_it_is() {
    let server = Server::start(|_| Reply::ok(""));
    let granted = rules(&[&server.url()]);
    for (method, name) in [
        (GuestMethod::Get, "GET"),
        (GuestMethod::Head, "HEAD"),
        (GuestMethod::Post, "POST"),
        (GuestMethod::Put, "PUT"),
        (GuestMethod::Patch, "PATCH"),
        (GuestMethod::Delete, "DELETE"),
    ] {
        for body in ["", "text"] {
            if method == GuestMethod::Head && !body.is_empty() {
                continue;
            }
            let request = GuestRequest {
                method,
                ..post(&server.url(), body)
            };
            send(&Script::default(), &request, &granted).unwrap();
            let seen = server.seen().pop().unwrap();
            assert_eq!((seen.method.as_str(), seen.body.as_slice()), (name, body.as_bytes()));
            let has_length = seen.headers.contains_key("content-length");
            let takes_body = matches!(name, "POST" | "PUT" | "PATCH");
            assert_eq!(has_length, takes_body || !body.is_empty(), "{name} {body:?}");
            assert!(!seen.headers.contains_key("transfer-encoding"));
        }
    }
}

#[test]
fn an_error_status_is_an_answer() {
    let server = Server::start(|_| {
        Reply {
            status: 429,
            ..Reply::ok("slow down")
        }
        .header("Retry-After", "7")
    });
    let answer = send(&Script::default(), &get(&server.url()), &rules(&[&server.url()])).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (429, b"slow down".as_slice()));
    assert!(answer.headers.contains(&("retry-after".into(), "7".into())));
}

#[test]
fn a_part_of_a_file_is_streamed_with_its_length_and_again_after_a_redirect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let server = Server::start(|seen| match seen.path.as_str() {
        "/first" => Reply::status(308).header("Location", "/second"),
        _ => Reply::ok("stored"),
    });
    let request = GuestRequest {
        method: GuestMethod::Put,
        body: GuestBody::File {
            path: path.clone(),
            offset: 1000,
            length: 250_000,
        },
        follow_redirects: 1,
        ..get(&format!("{}/first", server.url()))
    };
    let answer = send(&Script::default(), &request, &rules(&[&server.url()])).unwrap();
    assert_eq!(answer.body, b"stored");
    for seen in server.seen() {
        assert_eq!(seen.headers["content-length"], "250000");
        assert!(seen.body == content[1000..251_000]);
    }

    let witness = Witness::new();
    let url = format!("http://127.0.0.1:{}/", witness.port);
    for (path, offset, length) in [
        (path.clone(), 299_999, 2),
        (path.clone(), u64::MAX, 2),
        (dir.path().join("absent"), 0, 1),
    ] {
        let body = GuestBody::File { path, offset, length };
        let request = GuestRequest {
            method: GuestMethod::Put,
            body,
            ..get(&url)
        };
        let message = invalid(send(&Script::default(), &request, &rules(&[&url])));
        assert!(message.contains('`'), "{message}");
    }
    assert!(witness.is_untouched());
}

/// A proxy that says what it was asked for and plays the far side itself.
fn proxy(hops: usize) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..hops {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream).lines();
            let mut head = || {
                let lines: Vec<String> = lines
                    .by_ref()
                    .map(Result::unwrap)
                    .take_while(|line| !line.is_empty())
                    .collect();
                lines.join("|")
            };
            asked.push(head());
            (&stream).write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            asked.push(head());
            (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nfar")
                .unwrap();
        }
        asked
    });
    (port, thread)
}

#[test]
fn a_proxy_is_given_the_name_and_names_and_literals_are_checked() {
    let (port, thread) = proxy(1);
    let script = Script::default().with("proxy.example", &[&["127.0.0.1"]]);
    let settings = GuestSettings {
        http_proxy: Some(format!("http://proxy.example:{port}")),
        ..GuestSettings::default()
    };
    let client = GuestClient::with_resolver(&settings, Box::new(script.clone())).unwrap();
    let send = |request: &GuestRequest, texts: &[&str]| client.send(request, &rules(texts), &Cancel::new());
    // Checked before the proxy hears of them: the one connection that it waits for is the granted one.
    denied(send(&get("http://other.example/"), &["http://*.api.example"]));
    denied(send(&get("http://169.254.169.254/"), &["http://*.example"]));
    denied(send(&get("http://10.0.0.1/"), &["http://10.0.0.2"]));
    let mut keyed = get("http://api.example/");
    keyed.secret_headers = vec![secret("x-key", "hunter2hunter2", &["api.example"])];
    denied(send(&keyed, &["http://api.example"]));

    let answer = send(&get("http://api.example/v1"), &["http://api.example"]).unwrap();
    assert_eq!(answer.body, b"far");
    let asked = thread.join().unwrap();
    assert!(asked[0].starts_with("CONNECT api.example:80 HTTP/1.1"), "{asked:?}");
    assert!(asked[1].starts_with("GET /v1 HTTP/1.1"), "{asked:?}");
    assert!(
        script.asked().iter().all(|name| name == "proxy.example"),
        "{:?}",
        script.asked()
    );
}

#[test]
fn this_machine_is_asked_directly() {
    let server = Server::start(|_| Reply::ok("direct"));
    let witness = Witness::new();
    let settings = GuestSettings {
        http_proxy: Some(format!("http://127.0.0.1:{}", witness.port)),
        https_proxy: Some(format!("http://127.0.0.1:{}", witness.port)),
        ..GuestSettings::default()
    };
    let client = GuestClient::with_resolver(&settings, Box::new(Script::default())).unwrap();
    let answer = client
        .send(&get(&server.url()), &rules(&[&server.url()]), &Cancel::new())
        .unwrap();
    assert_eq!(answer.body, b"direct");
    assert!(witness.is_untouched());
}
