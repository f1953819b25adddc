//! This machine and nothing else: the HTTP port for servers that dlm started itself, on whatever port they got.

use std::net::{Ipv4Addr, TcpListener};

use dlm_core::ports::{Http, HttpError, HttpRequest, HttpResponse};

use crate::http::{AllowedHost, AllowedHttp};

const ORIGIN: &str = "http://127.0.0.1:";

/// Reaches `http://127.0.0.1:<port>` on every port, spelled exactly so.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalHttp;

impl Http for LocalHttp {
    fn send(&self, request: &HttpRequest) -> Result<HttpResponse, HttpError> {
        let port = port(&request.url).ok_or_else(|| HttpError::NotAllowed {
            host: request.url.clone(),
            allowed: format!("{ORIGIN}<port>"),
        })?;
        AllowedHttp::new(vec![AllowedHost::loopback(port)]).send(request)
    }
}

fn port(url: &str) -> Option<u16> {
    let rest = url.strip_prefix(ORIGIN)?;
    let end = rest.find('/').unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Names a port of 127.0.0.1 that nothing listens on at this moment.
///
/// **Errors**: the machine has no loopback port left.
pub fn free_loopback_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use dlm_core::ports::HttpMethod;

    use super::*;

    fn get(url: String) -> Result<HttpResponse, HttpError> {
        LocalHttp.send(&HttpRequest {
            method: HttpMethod::Get,
            url,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(20),
            response_bytes_max: 100,
        })
    }

    #[test]
    fn a_server_of_this_machine_answers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nup")
                .unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let answer = get(format!("http://127.0.0.1:{port}/ready")).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"up".as_slice()));
        assert!(server.join().unwrap().starts_with("GET /ready "));
    }

    #[test]
    fn every_other_place_is_refused() {
        for url in [
            "http://example.com:80/",
            "http://localhost:1/",
            "https://127.0.0.1:1/",
            "http://127.0.0.1:1@x/",
        ] {
            let error = get(url.to_owned()).unwrap_err();
            assert!(matches!(error, HttpError::NotAllowed { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_loopback_port().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
