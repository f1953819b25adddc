//! A chat server on 127.0.0.1 that answers by script: OpenAI, Anthropic and vLLM shapes, and their usual failures.
//!
//! Invariants: needs nothing but std and `serde_json`, so that a crate which must not see the model crates can include this
//! file by path. Each connection has a thread, so parallel callers are answered in parallel; answers are handed out in the
//! order in which requests arrive, the last one for ever. The server ends, slow answers included, when it is dropped.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

/// The largest request that is read.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Whose shapes are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `POST /v1/chat/completions`.
    OpenAi,
    /// `POST /v1/messages`.
    Anthropic,
    /// As [`Protocol::OpenAi`], and `GET /v1/models`.
    Vllm,
}

/// One scripted answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A well-formed answer with this text.
    Text(String),
    /// A well-formed answer whose content is a list of text parts.
    Parts(Vec<String>),
    /// Status 200 and a body as it stands, such as broken JSON.
    Raw(String),
    /// A failure in the protocol's own shape.
    Fail {
        status: u16,
        headers: Vec<(String, String)>,
        message: String,
    },
    /// Another answer after a time.
    After(Duration, Box<Answer>),
    /// A well-formed answer with this text, of which only the first half arrives before the connection is closed.
    Cut(String),
    /// The connection is closed without a word.
    HangUp,
}

impl Answer {
    pub fn text(text: &str) -> Answer {
        Answer::Text(text.to_owned())
    }

    /// A failure without further headers.
    pub fn status(status: u16, message: &str) -> Answer {
        Answer::Fail {
            status,
            headers: Vec::new(),
            message: message.to_owned(),
        }
    }

    /// Status 429 with `Retry-After`.
    pub fn retry_after(seconds: u64) -> Answer {
        Answer::Fail {
            status: 429,
            headers: vec![("Retry-After".to_owned(), seconds.to_string())],
            message: "rate limit reached".to_owned(),
        }
    }

    /// This answer after a time.
    pub fn after(self, pause: Duration) -> Answer {
        Answer::After(pause, Box::new(self))
    }
}

/// What a client sent; header names in lower case.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// The parsed body; null where there is none or it is not JSON.
    pub body: Value,
}

impl Seen {
    /// The last message of role `user`, from which a scripted answer can be made.
    pub fn prompt(&self) -> &str {
        let messages = self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let last = messages.iter().rev().find(|message| message["role"] == "user");
        last.and_then(|message| message["content"].as_str()).unwrap_or_default()
    }
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    pub protocol: Protocol,
    /// Requests without this key are answered with 401; none asks for no key.
    pub key: Option<String>,
    /// What `GET /v1/models` lists first; none answers it with 404.
    pub model: Option<String>,
}

impl ChatSettings {
    /// No key, and the model `scripted` where the protocol lists models.
    pub fn new(protocol: Protocol) -> ChatSettings {
        ChatSettings {
            protocol,
            key: None,
            model: (protocol == Protocol::Vllm).then(|| "scripted".to_owned()),
        }
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

struct Shared {
    settings: ChatSettings,
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    is_over: Mutex<bool>,
    over: Condvar,
}

/// A running server.
pub struct ChatServer {
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl ChatServer {
    /// A server that gives the answers in turn, the last one for ever.
    ///
    /// **Panics** on an empty list.
    pub fn scripted(settings: ChatSettings, answers: Vec<Answer>) -> io::Result<ChatServer> {
        assert!(!answers.is_empty(), "a script has at least one answer");
        let next = Mutex::new(0);
        ChatServer::answering(settings, move |_| {
            let mut next = locked(&next);
            let answer = answers[*next].clone();
            *next = (*next + 1).min(answers.len() - 1);
            answer
        })
    }

    /// A server whose answers depend on the question.
    pub fn answering(
        settings: ChatSettings,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> io::Result<ChatServer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            settings,
            script: Box::new(script),
            seen: Mutex::default(),
            is_over: Mutex::default(),
            over: Condvar::new(),
        });
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if *locked(&serving.is_over) {
                    break;
                }
                let (Ok(stream), shared) = (stream, serving.clone()) else {
                    continue;
                };
                // A client that hangs up early is within its rights.
                open.push(std::thread::spawn(move || drop(serve(&stream, &shared))));
            }
            for thread in open {
                let _panicked = thread.join();
            }
        });
        Ok(ChatServer {
            port,
            shared,
            thread: Some(thread),
        })
    }

    /// `http://127.0.0.1:<port>`, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Every request so far, model lists and refused ones included.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.shared.seen).clone()
    }

    /// The requests for an answer.
    pub fn questions(&self) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.method == "POST");
        seen
    }
}

impl Drop for ChatServer {
    fn drop(&mut self) {
        *locked(&self.shared.is_over) = true;
        self.shared.over.notify_all();
        // Wakes the accept loop.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    // An idle client does not keep the server from ending.
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let seen = read(stream)?;
    locked(&shared.seen).push(seen.clone());
    let answer = answer(shared, &seen);
    write(stream, shared, &seen, answer)
}

fn answer(shared: &Shared, seen: &Seen) -> Answer {
    let settings = &shared.settings;
    let sent = match settings.protocol {
        Protocol::Anthropic => seen.headers.get("x-api-key").map(String::as_str),
        _ => seen
            .headers
            .get("authorization")
            .and_then(|value| value.strip_prefix("Bearer ")),
    };
    if settings.key.is_some() && settings.key.as_deref() != sent {
        return Answer::status(401, "the key is missing or wrong");
    }
    let path = match settings.protocol {
        Protocol::Anthropic => "/v1/messages",
        _ => "/v1/chat/completions",
    };
    if (seen.method.as_str(), seen.path.as_str()) == ("GET", "/v1/models")
        && let Some(model) = &settings.model
    {
        return Answer::Raw(json!({"object": "list", "data": [{"id": model, "object": "model"}]}).to_string());
    }
    if seen.method != "POST" || seen.path != path {
        return Answer::status(404, &format!("no such place; expected POST {path}"));
    }
    if settings.protocol == Protocol::Anthropic && !seen.headers.contains_key("anthropic-version") {
        return Answer::status(400, "anthropic-version: header is required");
    }
    (shared.script)(seen)
}

fn write(mut stream: &TcpStream, shared: &Shared, seen: &Seen, answer: Answer) -> io::Result<()> {
    let protocol = shared.settings.protocol;
    let is_cut = matches!(answer, Answer::Cut(_));
    let (status, headers, body) = match answer {
        Answer::Text(text) | Answer::Cut(text) => (200, Vec::new(), well_formed(protocol, seen, vec![text], false)),
        Answer::Parts(parts) => (200, Vec::new(), well_formed(protocol, seen, parts, true)),
        Answer::Raw(body) => (200, Vec::new(), body),
        Answer::Fail {
            status,
            headers,
            message,
        } => (status, headers, failure(protocol, &message)),
        Answer::HangUp => return Ok(()),
        Answer::After(pause, then) => {
            let is_over = locked(&shared.is_over);
            let waited = shared.over.wait_timeout_while(is_over, pause, |is_over| !*is_over);
            let is_over = *waited.unwrap_or_else(PoisonError::into_inner).0;
            return if is_over {
                Ok(())
            } else {
                write(stream, shared, seen, *then)
            };
        }
    };
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    let sent = if is_cut { body.len() / 2 } else { body.len() };
    stream.write_all(&body.as_bytes()[..sent])
}

/// Word counts stand in for tokens: they change with the texts, which is what a usage summary needs.
fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn well_formed(protocol: Protocol, seen: &Seen, parts: Vec<String>, is_list: bool) -> String {
    let (asked, told) = (
        words(seen.prompt()),
        parts.iter().map(|part| words(part)).sum::<usize>(),
    );
    let blocks: Vec<Value> = parts.iter().map(|part| json!({"type": "text", "text": part})).collect();
    let body = match protocol {
        Protocol::Anthropic => json!({
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": seen.body["model"],
            "content": blocks,
            "stop_reason": "end_turn",
            "usage": {"input_tokens": asked, "output_tokens": told},
        }),
        Protocol::OpenAi | Protocol::Vllm => json!({
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": seen.body["model"],
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": if is_list { json!(blocks) } else { json!(parts.concat()) }},
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told},
        }),
    };
    body.to_string()
}

fn failure(protocol: Protocol, message: &str) -> String {
    let error = json!({"type": "scripted_error", "message": message});
    match protocol {
        Protocol::Anthropic => json!({"type": "error", "error": error}).to_string(),
        Protocol::OpenAi | Protocol::Vllm => json!({"error": error}).to_string(),
    }
}

fn read(stream: &TcpStream) -> io::Result<Seen> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(bad("no request line"));
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse());
    let length: usize = length.map_err(|_| bad("a length that is no number"))?;
    if length > BODY_BYTES_MAX {
        return Err(bad("a body above the limit"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Seen {
        method,
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn ask(server: &ChatServer, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return (0, String::new(), Value::Null);
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            head.to_owned(),
            serde_json::from_str(body).unwrap_or(Value::Null),
        )
    }

    fn chat(server: &ChatServer) -> (u16, String, Value) {
        let body =
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"two words"}]}"#;
        ask(server, "POST", "/v1/chat/completions", "", body)
    }

    #[test]
    fn answers_come_in_turn_and_the_last_one_stays() {
        let answers = vec![
            Answer::retry_after(7),
            Answer::status(500, "broken"),
            Answer::Raw("{\"choices\": [".into()),
            Answer::HangUp,
            Answer::Parts(vec!["a".into(), "b".into()]),
            Answer::text("done"),
        ];
        let server = ChatServer::scripted(ChatSettings::new(Protocol::OpenAi), answers).unwrap();
        let (status, head, body) = chat(&server);
        assert_eq!(
            (status, body["error"]["message"].as_str()),
            (429, Some("rate limit reached"))
        );
        assert!(head.contains("Retry-After: 7"));
        assert_eq!(chat(&server).0, 500);
        assert_eq!((chat(&server).2, chat(&server).0), (Value::Null, 0));
        let content = chat(&server).2["choices"][0]["message"]["content"].clone();
        assert_eq!(
            content,
            json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
        );
        for _ in 0..2 {
            let body = chat(&server).2;
            assert_eq!(body["choices"][0]["message"]["content"], "done");
            assert_eq!(
                body["usage"],
                json!({"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3})
            );
        }
        assert_eq!((server.questions().len(), server.seen()[0].prompt()), (7, "two words"));
    }

    #[test]
    fn keys_places_and_versions_are_held_to_the_protocol() {
        let settings = ChatSettings {
            key: Some("k".into()),
            ..ChatSettings::new(Protocol::Anthropic)
        };
        let server = ChatServer::scripted(settings, vec![Answer::text("hello")]).unwrap();
        let post = |path: &str, headers: &str| ask(&server, "POST", path, headers, r#"{"model":"m","messages":[]}"#);
        assert_eq!(post("/v1/messages", "anthropic-version: 2023-06-01\r\n").0, 401);
        assert_eq!(post("/v1/messages", "x-api-key: k\r\n").0, 400);
        assert_eq!(
            post(
                "/v1/chat/completions",
                "x-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
            )
            .0,
            404
        );
        let (status, _, body) = post("/v1/messages", "X-API-Key: k\r\nanthropic-version: 2023-06-01\r\n");
        assert_eq!((status, body["content"][0]["text"].as_str()), (200, Some("hello")));
        assert_eq!(server.seen().len(), 4);

        let server =
            ChatServer::answering(ChatSettings::new(Protocol::Vllm), |seen| Answer::text(seen.prompt())).unwrap();
        assert_eq!(ask(&server, "GET", "/v1/models", "", "").2["data"][0]["id"], "scripted");
        assert_eq!(chat(&server).2["choices"][0]["message"]["content"], "two words");
    }

    #[test]
    fn a_slow_answer_ends_with_the_server() {
        let slow = Answer::text("late").after(Duration::from_secs(600));
        let server = ChatServer::scripted(ChatSettings::new(Protocol::OpenAi), vec![slow]).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        write!(stream, "POST /v1/chat/completions HTTP/1.1\r\n\r\n").unwrap();
        while server.seen().is_empty() {
            std::thread::yield_now();
        }
        let begun = Instant::now();
        drop(server);
        assert!(begun.elapsed() < Duration::from_secs(60));
        let server = ChatServer::scripted(
            ChatSettings::new(Protocol::OpenAi),
            vec![Answer::text("late").after(Duration::from_millis(50))],
        )
        .unwrap();
        let begun = Instant::now();
        assert_eq!(chat(&server).2["choices"][0]["message"]["content"], "late");
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
}
