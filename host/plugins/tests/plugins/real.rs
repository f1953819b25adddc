//! The llama-server target against a real server and a real model.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use dlm_core::Cancel;
use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{GuestBody, GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use dlm_core::ports::model::NoModels;
use dlm_core::ports::secrets::NoSecrets;
use dlm_core::ports::target::{Artifact, ArtifactKind, Stage, TargetProbe, TargetSmoke, TargetSource, run_target};
use dlm_plugins::{Compile, GrantFlags, NativeProcess, Plugins, Ports};

use crate::fakes::{World, facts};
use crate::targets::{WHOLE, plan};

/// HTTP/1.1 with `connection: close`, enough for one answer.
struct PlainHttp;

impl GuestHttp for PlainHttp {
    fn send(&self, request: &GuestRequest, _: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        let GuestBody::Bytes(body) = &request.body else {
            panic!("the smoke test sends no file");
        };
        let unreachable = |error: std::io::Error| GuestHttpError::Unreachable {
            url: request.url.clone(),
            reason: error.to_string(),
        };
        let rest = request.url.strip_prefix("http://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(host)?;
            stream.set_read_timeout(Some(request.timeout))?;
            let method = format!("{:?}", request.method).to_uppercase();
            let head = format!(
                "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(unreachable)?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        Ok(GuestResponse {
            status,
            headers: Vec::new(),
            url: request.url.clone(),
            body: body.as_bytes().to_vec(),
        })
    }
}

/// Reads a variable that names what the test needs.
fn needed(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).expect("the variable names what this test needs"))
}

/// Serves the base that `DLM_TEST_BASE` names with the program that `DLM_TEST_LLAMA_SERVER` names.
#[test]
#[ignore = "needs the real base and a server: DLM_TEST_BASE, DLM_TEST_LLAMA_SERVER"]
fn a_real_base_answers_with_llama_server() {
    let (base, server) = (needed("DLM_TEST_BASE"), needed("DLM_TEST_LLAMA_SERVER"));
    let world = World::new();
    let search = vec![server.parent().unwrap().to_owned()];
    let ports = Ports {
        process: Arc::new(NativeProcess::new(search, Vec::new())),
        http: Arc::new(PlainHttp),
        free_port: || {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
                .local_addr()
                .map(|address| address.port())
        },
        models: Arc::new(NoModels),
        secrets: Arc::new(NoSecrets),
        clock: None,
        progress: world.events.clone(),
        cancel: world.cancel.clone(),
    };
    let targets = Plugins::new(facts(), ports, Compile::InMemory, &GrantFlags::default()).unwrap();
    let mut target = targets.open("llama-server").unwrap();
    let stage = Stage {
        directory: world.directory.path().to_owned(),
        artifacts: vec![Artifact {
            name: "base.gguf".to_owned(),
            kind: ArtifactKind::Gguf,
            size: std::fs::metadata(&base).unwrap().len(),
            path: base,
            sha256: String::new(),
            staged_path: Some("base.gguf".to_owned()),
        }],
        reserved: Vec::new(),
        is_draft: false,
    };
    let mut served = plan();
    served.adapters.clear();
    served.chat.as_mut().unwrap().template =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
         {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
            .to_owned();
    served.probe = Some(TargetProbe {
        system: Some("You are a helpful assistant.".to_owned()),
        user: "What is 2 + 2?".to_owned(),
        answer: String::new(),
        prompt_tokens: Vec::new(),
        new_tokens_max: 16,
        is_exact: false,
    });
    let report = run_target(&mut *target, &served, &stage, WHOLE).unwrap();
    let TargetSmoke::Passed { detail } = &report.smoke else {
        panic!("the smoke test did not run: {:?}", report.smoke);
    };
    assert!(!detail.is_empty());
    // The reference count of this conversation on this tokenizer is 28; three wrong ids must be called drift.
    served.probe.as_mut().unwrap().prompt_tokens = vec![1, 2, 3];
    let error = run_target(&mut *target, &served, &stage, WHOLE).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the server's prompt has 28 tokens, dlm's has 3"),
        "{error}"
    );
}
