//! The JSON client for servers on this machine, and the allow-list of the `Http` port.

use std::time::Duration;

use dlm_core::ports::{Http, HttpError, HttpMethod, HttpRequest};
use dlm_net::{AllowedHost, AllowedHttp, JsonClient, JsonError};
use serde_json::json;

use crate::server::{Reply, Server};

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn json_goes_there_and_back() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/health") => Reply::ok(r#"{"status":"ok"}"#),
        ("POST", "/v1/chat/completions") => Reply::ok(seen.body.clone()),
        _ => Reply::status(404),
    });
    let client = JsonClient::new(server.port, TIMEOUT);
    assert_eq!(client.get("/health").unwrap(), json!({"status": "ok"}));
    let body = json!({"messages": [{"role": "user", "content": "Grüße"}], "temperature": 0});
    assert_eq!(client.post("/v1/chat/completions", &body).unwrap(), body);
    let seen = server.seen();
    assert_eq!(seen[1].headers["content-type"], "application/json");
}

#[test]
fn refusals_and_nonsense_are_told_apart() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/loading" => Reply {
            status: 503,
            body: b"{\"error\":\"Loading model\"}".to_vec(),
            ..Reply::default()
        },
        _ => Reply::ok("<html>"),
    });
    let client = JsonClient::new(server.port, TIMEOUT);
    let error = client.get("/loading").unwrap_err();
    assert!(
        matches!(&error, JsonError::Status { status: 503, excerpt, .. } if excerpt.contains("Loading")),
        "{error}"
    );
    assert!(matches!(client.get("/x").unwrap_err(), JsonError::NotJson { .. }));
    let port = server.port;
    drop(server);
    let error = JsonClient::new(port, TIMEOUT).get("/x").unwrap_err();
    assert!(
        matches!(error, JsonError::Http(HttpError::Unreachable { .. })),
        "{error}"
    );
}

fn get(url: String) -> HttpRequest {
    HttpRequest {
        method: HttpMethod::Get,
        url,
        headers: Vec::new(),
        body: Vec::new(),
        timeout: TIMEOUT,
        response_bytes_max: 100,
    }
}

#[test]
fn only_allowed_hosts_are_reached_and_redirects_are_handed_back() {
    let other = Server::start(|_| Reply::ok("other"));
    let to_other = other.url();
    let server = Server::start(move |_| Reply::status(302).header("Location", to_other.clone()));
    let http = AllowedHttp::new(vec![AllowedHost::loopback(server.port)]);
    let response = http.send(&get(server.url())).unwrap();
    assert_eq!(response.status, 302);
    let error = http.send(&get(other.url())).unwrap_err();
    assert!(matches!(error, HttpError::NotAllowed { .. }), "{error}");
    assert!(other.seen().is_empty());
    for url in [
        "https://127.0.0.1/",
        "http://outside.test/",
        "file:///etc/passwd",
        "http://a@127.0.0.1/",
    ] {
        assert!(http.send(&get(url.into())).is_err(), "{url}");
    }
    assert!(
        AllowedHttp::new(Vec::new())
            .send(&get(server.url()))
            .unwrap_err()
            .to_string()
            .ends_with("(none)")
    );
}

#[test]
fn a_long_answer_is_refused_not_cut() {
    let server = Server::start(|seen| Reply::ok(vec![b'x'; if seen.path == "/fits" { 100 } else { 101 }]));
    let http = AllowedHttp::new(vec![AllowedHost::loopback(server.port)]);
    assert_eq!(
        http.send(&get(format!("{}/fits", server.url()))).unwrap().body.len(),
        100
    );
    let error = http.send(&get(server.url())).unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit_bytes: 100, .. }), "{error}");
}

#[test]
fn a_server_that_says_nothing_runs_into_the_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let http = AllowedHttp::new(vec![AllowedHost::loopback(port)]);
    let request = HttpRequest {
        timeout: Duration::from_millis(50),
        ..get(format!("http://127.0.0.1:{port}/"))
    };
    let error = http.send(&request).unwrap_err();
    assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
}
