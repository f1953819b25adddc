//! The plugins' HTTP against servers of this process and a scripted resolver. A refused request is shown to have sent
//! nothing: the listener that it would have reached has no connection waiting.

mod exchange;
mod limits;
mod places;
mod redirects;
mod secrets;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dlm_core::Cancel;
use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{
    GuestBody, GuestHttp, GuestHttpError, GuestMethod, GuestRequest, GuestResponse, SecretHeader, SecretInUse,
};
use dlm_net::{GuestClient, GuestSettings, Resolve};

/// A resolver that answers each question about a name with the next of that name's answers, the last one for ever.
#[derive(Clone, Debug, Default)]
pub struct Script {
    answers: Arc<Mutex<BTreeMap<String, VecDeque<Vec<IpAddr>>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub fn with(self, name: &str, answers: &[&[&str]]) -> Script {
        let parsed = answers
            .iter()
            .map(|answer| answer.iter().map(|a| a.parse().unwrap()).collect());
        self.answers.lock().unwrap().insert(name.to_owned(), parsed.collect());
        self
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Script {
    fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let left = answers
            .get_mut(name)
            .ok_or_else(|| io::Error::other("no such name in the script"))?;
        Ok(if left.len() > 1 {
            left.pop_front().unwrap()
        } else {
            left[0].clone()
        })
    }
}

/// A client over a script.
pub fn client(script: &Script) -> GuestClient {
    GuestClient::with_resolver(&GuestSettings::default(), Box::new(script.clone())).unwrap()
}

pub fn rules(texts: &[&str]) -> Vec<HttpRule> {
    texts.iter().map(|text| HttpRule::parse(text).unwrap()).collect()
}

/// The rule of an address that the user typed.
pub fn typed(text: &str) -> HttpRule {
    HttpRule {
        is_typed: true,
        is_own_server: false,
        ..HttpRule::parse(text).unwrap()
    }
}

pub fn get(url: &str) -> GuestRequest {
    GuestRequest {
        method: GuestMethod::Get,
        url: url.to_owned(),
        headers: Vec::new(),
        secret_headers: Vec::new(),
        secrets: Vec::new(),
        body: GuestBody::Bytes(Vec::new()),
        timeout: Duration::from_secs(60),
        follow_redirects: 0,
        response_bytes_max: 1 << 20,
        user_agent: "dlm/0.1.0 (plugin probe/1.2.3)".into(),
    }
}

pub fn post(url: &str, body: &str) -> GuestRequest {
    GuestRequest {
        method: GuestMethod::Post,
        body: GuestBody::Bytes(body.into()),
        ..get(url)
    }
}

pub fn secret(name: &str, value: &str, hosts: &[&str]) -> SecretHeader {
    SecretHeader {
        name: name.into(),
        value: value.into(),
        secret: "API_KEY".into(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    }
}

/// The secret of [`secret`], as it is known to be in use.
pub fn in_use(value: &str, hosts: &[&str]) -> SecretInUse {
    SecretInUse {
        name: "API_KEY".into(),
        value: value.into(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    }
}

pub fn send(script: &Script, request: &GuestRequest, rules: &[HttpRule]) -> Result<GuestResponse, GuestHttpError> {
    client(script).send(request, rules, &Cancel::new())
}

/// The capability and message of a refusal.
#[track_caller]
pub fn denied(result: Result<GuestResponse, GuestHttpError>) -> (String, String) {
    match result {
        Err(GuestHttpError::Denied { capability, message }) => (capability, message),
        other => panic!("not denied: {other:?}"),
    }
}

/// The message of a request that is wrong by itself.
#[track_caller]
pub fn invalid(result: Result<GuestResponse, GuestHttpError>) -> String {
    match result {
        Err(GuestHttpError::Invalid(message)) => message,
        other => panic!("not invalid: {other:?}"),
    }
}

/// A port that nobody may connect to. The system completes connections by itself, so none can go unseen.
pub struct Witness {
    listener: TcpListener,
    pub port: u16,
}

impl Witness {
    pub fn new() -> Witness {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Witness { listener, port }
    }

    pub fn is_untouched(&self) -> bool {
        matches!(self.listener.accept(), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

#[test]
fn a_witness_sees_a_connection() {
    let witness = Witness::new();
    assert!(witness.is_untouched());
    let _open = std::net::TcpStream::connect(("127.0.0.1", witness.port)).unwrap();
    assert!(!witness.is_untouched());
}
