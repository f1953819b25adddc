//! Sizes, times, headers and cancellation.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use super::*;
use crate::server::{Reply, Server};

/// Far above what a refusal takes and far below the timeouts that must not be waited for.
const SOON: Duration = Duration::from_secs(10);

/// Serves one connection by hand.
fn by_hand<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, std::thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).unwrap();
        serve(stream)
    });
    (url, thread)
}

/// Writes `piece` every 20 ms until the client has gone.
fn drip(mut stream: TcpStream, head: &str, piece: &[u8]) -> bool {
    let (_keep, pace) = mpsc::channel::<()>();
    let begun = Instant::now();
    let mut is_open = stream.write_all(head.as_bytes()).is_ok();
    while is_open && begun.elapsed() < SOON {
        is_open = pace.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout)
            && stream.write_all(piece).is_ok();
    }
    !is_open
}

#[test]
fn a_server_that_drips_is_left_at_the_timeout() {
    for head in [
        "HTTP/1.1 200 OK\r\nx: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
        "",
    ] {
        let (url, server) = by_hand(move |stream| drip(stream, head, b"a"));
        let request = GuestRequest {
            timeout: Duration::from_millis(300),
            ..get(&url)
        };
        let begun = Instant::now();
        let result = send(&Script::default(), &request, &rules(&[&url]));
        // A drip that is no HTTP at all may be known for it before the time is over.
        let is_left = matches!(result, Err(GuestHttpError::TimedOut { .. }))
            || head.is_empty() && matches!(result, Err(GuestHttpError::Unreachable { .. }));
        assert!(is_left, "{head:?}: {result:?}");
        assert!(begun.elapsed() < SOON);
        assert!(server.join().unwrap(), "the connection is closed");
    }
}

#[test]
fn redirects_share_the_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let (_keep, pace) = mpsc::channel::<()>();
        let mut hops = 0;
        // Each hop takes a good part of the time; the client gives up before all five are done.
        while hops < 6 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            if stream.read(&mut request).unwrap_or(0) == 0 {
                break;
            }
            hops += 1;
            let _pause = pace.recv_timeout(Duration::from_millis(150));
            let _sent = stream
                .write_all(b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        hops
    });
    let request = GuestRequest {
        timeout: Duration::from_millis(400),
        follow_redirects: 5,
        ..get(&url)
    };
    let result = send(&Script::default(), &request, &rules(&[&url]));
    assert!(
        matches!(result, Err(GuestHttpError::TimedOut { seconds: 1, .. })),
        "{result:?}"
    );
    // Wakes a server that waits for a hop which does not come.
    drop(TcpStream::connect(url.strip_prefix("http://").unwrap()));
    assert!(server.join().unwrap() < 6);
}

#[test]
fn a_body_of_exactly_the_limit_arrives_and_one_more_byte_does_not() {
    let server = Server::start(|seen| Reply::ok(vec![b'x'; seen.path[1..].parse().unwrap()]));
    let request = |bytes: u32| GuestRequest {
        response_bytes_max: 1000,
        ..get(&format!("{}/{bytes}", server.url()))
    };
    let granted = rules(&[&server.url()]);
    assert_eq!(
        send(&Script::default(), &request(1000), &granted).unwrap().body.len(),
        1000
    );
    let result = send(&Script::default(), &request(1001), &granted);
    assert!(
        matches!(result, Err(GuestHttpError::TooLarge { limit_bytes: 1000, .. })),
        "{result:?}"
    );
}

#[test]
fn an_endless_body_is_left_at_the_limit() {
    let (url, server) = by_hand(|mut stream| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        let mut is_open = stream.write_all(head.as_bytes()).is_ok();
        let mut sent = 0_u64;
        while is_open && sent < 1 << 30 {
            is_open = stream.write_all(chunk.as_bytes()).is_ok();
            sent += 0x10000;
        }
        sent
    });
    let result = send(&Script::default(), &get(&url), &rules(&[&url]));
    assert!(
        matches!(
            result,
            Err(GuestHttpError::TooLarge {
                limit_bytes: 1_048_576,
                ..
            })
        ),
        "{result:?}"
    );
    assert!(server.join().unwrap() < 1 << 30);
}

#[test]
fn a_broken_answer_is_an_error_not_a_short_body() {
    let server = Server::start(|_| Reply {
        cut_after: Some(3),
        ..Reply::ok("whole body")
    });
    let result = send(&Script::default(), &get(&server.url()), &rules(&[&server.url()]));
    assert!(matches!(result, Err(GuestHttpError::Unreachable { .. })), "{result:?}");
}

#[test]
fn headers_of_the_client_and_headers_that_are_none_send_nothing() {
    let witness = Witness::new();
    let url = format!("http://127.0.0.1:{}/", witness.port);
    let refused = |name: &str, value: &str| {
        let request = GuestRequest {
            headers: vec![(name.into(), value.into())],
            ..get(&url)
        };
        invalid(send(&Script::default(), &request, &rules(&[&url])))
    };
    for name in [
        "host",
        "Host",
        "HOST",
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "Content-Length",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "User-Agent",
        "Proxy-Authorization",
        "proxy-connection",
        "PROXY-X",
    ] {
        assert!(refused(name, "x").contains("set by dlm alone"), "{name}");
    }
    for name in [
        "",
        " ",
        "a b",
        "a:b",
        "a\r\nHost",
        "a\nb",
        "a\0",
        "ä",
        "host\r",
        "\thost",
        "a:",
        "(a)",
    ] {
        assert!(refused(name, "x").contains("not the name of a header"), "{name:?}");
    }
    for value in ["a\r\nHost: evil.test", "a\nb", "a\rb", "a\0b", "\u{7f}", "ä"] {
        assert!(
            refused("x-a", value).contains("characters that no header has"),
            "{value:?}"
        );
    }
    let many = GuestRequest {
        headers: vec![("a".into(), "b".into()); 101],
        ..get(&url)
    };
    invalid(send(&Script::default(), &many, &rules(&[&url])));
    let big = GuestRequest {
        headers: vec![("a".into(), "b".repeat(70_000))],
        ..get(&url)
    };
    invalid(send(&Script::default(), &big, &rules(&[&url])));
    let agent = GuestRequest {
        user_agent: "dlm\r\nHost: evil.test".into(),
        ..get(&url)
    };
    invalid(send(&Script::default(), &agent, &rules(&[&url])));
    assert!(witness.is_untouched());
}

#[test]
fn ordinary_headers_arrive() {
    let server = Server::start(|_| Reply::ok(""));
    let mut request = get(&server.url());
    request.headers = vec![("X-A".into(), "b c".into()), ("Accept".into(), "text/plain".into())];
    send(&Script::default(), &request, &rules(&[&server.url()])).unwrap();
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.headers["x-a"].as_str(), seen.headers["accept"].as_str()),
        ("b c", "text/plain")
    );
}

#[test]
fn a_cancelled_request_ends_and_closes_its_connection() {
    let (told, is_asked) = mpsc::channel();
    let (url, server) = by_hand(move |mut stream| {
        told.send(()).unwrap();
        // Far sooner than the request's own timeout would close it.
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.read(&mut [0; 16]).is_ok_and(|read| read == 0)
    });
    let cancel = Cancel::new();
    let (asked, from) = (get(&url), cancel.clone());
    let granted = rules(&[&url]);
    let caller = std::thread::spawn(move || {
        let result = client(&Script::default()).send(&asked, &granted, &from);
        (result, Instant::now())
    });
    is_asked.recv_timeout(SOON).unwrap();
    let cancelled = Instant::now();
    cancel.cancel();
    let (result, ended) = caller.join().unwrap();
    assert_eq!(result, Err(GuestHttpError::Cancelled));
    let took = ended.duration_since(cancelled);
    println!("a cancelled request ended after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(server.join().unwrap(), "the connection is closed");
}

/// A resolver that never answers before its test ends.
#[derive(Debug)]
struct Stuck(Mutex<mpsc::Receiver<()>>, mpsc::Sender<()>);

impl Resolve for Stuck {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.1.send(()).unwrap();
        let _held = self.0.lock().unwrap().recv();
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }
}

#[test]
fn a_stuck_resolver_holds_neither_timeout_nor_cancellation_and_no_packet_follows() {
    let witness = Witness::new();
    let url = format!("http://a.example:{}/", witness.port);
    let (release, held) = mpsc::channel();
    let (told, asked) = mpsc::channel();
    let resolver = Stuck(Mutex::new(held), told);
    let client = GuestClient::with_resolver(&GuestSettings::default(), Box::new(resolver)).unwrap();
    let short = GuestRequest {
        timeout: Duration::from_millis(100),
        ..get(&url)
    };
    let result = client.send(&short, &[typed(&url)], &Cancel::new());
    assert!(matches!(result, Err(GuestHttpError::TimedOut { .. })), "{result:?}");

    let cancel = Cancel::new();
    let (other, from, long) = (client.clone(), cancel.clone(), get(&url));
    let caller = std::thread::spawn(move || other.send(&long, &[typed(&long.url)], &from));
    for _ in 0..2 {
        asked.recv_timeout(SOON).unwrap();
    }
    cancel.cancel();
    assert_eq!(caller.join().unwrap(), Err(GuestHttpError::Cancelled));

    // The resolver answers at last; when both threads have let go of it, nothing has been sent.
    drop((client, release));
    while asked.recv_timeout(SOON) != Err(RecvTimeoutError::Disconnected) {}
    assert!(witness.is_untouched());
}

#[test]
fn nothing_is_sent_for_a_caller_that_was_cancelled_before() {
    let witness = Witness::new();
    let url = format!("http://127.0.0.1:{}/", witness.port);
    let cancel = Cancel::new();
    cancel.cancel();
    let result = client(&Script::default()).send(&get(&url), &rules(&[&url]), &cancel);
    assert_eq!(result, Err(GuestHttpError::Cancelled));
    assert!(witness.is_untouched());
}

#[test]
fn eight_are_under_way_and_the_ninth_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let client = client(&Script::default());
    let callers: Vec<_> = (0..9)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            std::thread::spawn(move || client.send(&get(&url), &rules(&[&url]), &Cancel::new()))
        })
        .collect();
    let answer = |mut stream: TcpStream| {
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 204 No\r\nconnection: close\r\n\r\n")
            .unwrap();
    };
    let mut open: Vec<TcpStream> = (0..8).map(|_| listener.accept().unwrap().0).collect();
    listener.set_nonblocking(true).unwrap();
    let (_keep, pace) = mpsc::channel::<()>();
    for _ in 0..20 {
        assert!(listener.accept().is_err(), "a ninth connection while eight are open");
        let _pause = pace.recv_timeout(Duration::from_millis(10));
    }
    listener.set_nonblocking(false).unwrap();
    answer(open.pop().unwrap());
    open.push(listener.accept().unwrap().0);
    open.into_iter().for_each(answer);
    for caller in callers {
        assert_eq!(caller.join().unwrap().unwrap().status, 204);
    }
}
