//! Certificates: always checked, and the name that is checked is the one that was asked for.
//!
//! `tls/certificate.pem` is for `api.example` and `b.api.example`, signed by itself, valid from 2020 to 2120; `tls/key.der` is its key
//! and secures nothing else. Made with `openssl ca -selfsign` from a new P-256 key.

use std::io::{Read, Write};
use std::sync::mpsc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::Acceptor;
use rustls::{ServerConfig, StreamOwned};

use super::*;

const CERTIFICATE: &[u8] = include_bytes!("tls/certificate.pem");
const KEY: &[u8] = include_bytes!("tls/key.der");

/// What the server has seen of one connection: the name in the greeting and the request, where one came.
type Greeted = (Option<String>, Option<String>);

/// Serves one connection with a fixed answer.
fn server(answer: String) -> (u16, mpsc::Receiver<Greeted>) {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY));
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, greeted) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            if acceptor.read_tls(&mut stream).is_ok_and(|read| read == 0) {
                return;
            }
            if let Some(accepted) = acceptor.accept().unwrap() {
                break accepted;
            }
        };
        let name = accepted.client_hello().server_name().map(str::to_owned);
        let connection = accepted.into_connection(config.into()).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        let mut request = [0; 4096];
        let read = tls.read(&mut request).unwrap_or(0);
        let text = (read > 0).then(|| String::from_utf8_lossy(&request[..read]).into_owned());
        told.send((name, text)).unwrap();
        let _sent = tls.write_all(answer.as_bytes()).and_then(|()| tls.flush());
        tls.conn.send_close_notify();
        let _closed = tls.flush();
    });
    (port, greeted)
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsafe".into()
}

fn trusting() -> GuestClient {
    let settings = GuestSettings {
        ca_pem: Some(CERTIFICATE.to_vec()),
        ..GuestSettings::default()
    };
    GuestClient::with_resolver(&settings, Box::new(script())).unwrap()
}

fn script() -> Script {
    let local: &[&[&str]] = &[&["127.0.0.1"]];
    Script::default()
        .with("api.example", local)
        .with("other.example", local)
}

#[test]
fn a_known_certificate_for_the_name_is_taken_and_a_secret_travels() {
    let (port, greeted) = server(ok());
    let url = format!("https://api.example:{port}/v1");
    let request = GuestRequest {
        secret_headers: vec![secret("x-api-key", "hunter2hunter2", &["api.example"])],
        ..get(&url)
    };
    let answer = trusting().send(&request, &[typed(&url)], &Cancel::new()).unwrap();
    assert_eq!(answer.body, b"safe");
    let (name, request) = greeted.recv().unwrap();
    assert_eq!(name.as_deref(), Some("api.example"));
    let request = request.unwrap().to_lowercase();
    assert!(
        request.contains(&format!("host: api.example:{port}\r\n")) && request.contains("x-api-key: hunter2hunter2\r\n")
    );
}

#[test]
fn an_unknown_certificate_and_one_for_another_name_get_no_request() {
    let strange = GuestClient::with_resolver(&GuestSettings::default(), Box::new(script())).unwrap();
    for (client, host) in [
        (strange, "api.example"),
        (trusting(), "other.example"),
        (trusting(), "127.0.0.1"),
    ] {
        let (port, greeted) = server(ok());
        let url = format!("https://{host}:{port}/");
        let result = client.send(&get(&url), &[typed(&url)], &Cancel::new());
        assert!(
            matches!(&result, Err(GuestHttpError::Unreachable { reason, .. }) if reason.contains("certificate")),
            "{host}: {result:?}"
        );
        assert_eq!(greeted.recv().unwrap().1, None, "{host}: no request came");
    }
}

#[test]
fn a_server_without_tls_gets_no_request() {
    let server = crate::server::Server::start(|_| crate::server::Reply::ok("plain"));
    let url = format!("https://127.0.0.1:{}/", server.port);
    let result = trusting().send(&get(&url), &rules(&[&url]), &Cancel::new());
    assert!(matches!(result, Err(GuestHttpError::Unreachable { .. })), "{result:?}");
    assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("host")));
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let witness = Witness::new();
    let target = format!("http://127.0.0.1:{}/", witness.port);
    let (port, _greeted) = server(format!(
        "HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n"
    ));
    let url = format!("https://api.example:{port}/");
    let request = GuestRequest {
        follow_redirects: 5,
        ..get(&url)
    };
    let granted = [typed(&url), HttpRule::parse(&target).unwrap()];
    let (capability, message) = denied(trusting().send(&request, &granted, &Cancel::new()));
    assert_eq!(capability, "");
    assert!(message.contains("from https to"), "{message}");
    assert!(witness.is_untouched());
}
