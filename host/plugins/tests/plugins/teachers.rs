//! The built-in teachers: what they send, what they make of answers, and how each refusal is classed.

use std::sync::{Arc, Mutex};

use dlm_core::http_rule::{HttpRule, ParsedUrl};
use dlm_core::ports::guest_http::{GuestBody, GuestHttp, GuestHttpError, GuestMethod, GuestRequest, GuestResponse};
use dlm_core::ports::model::{GenerateRequest, ModelMessage, ModelPrompt, ModelRole, ModelWeights};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::secrets::Secrets;
use dlm_core::ports::teacher::{Teacher, TeacherCompletion, TeacherRequest, TeacherSource};
use dlm_core::{Cancel, FailureKind};
use dlm_plugins::{Compile, GrantFlags, Plugins, Ports};
use serde_json::{Value, json};

use crate::fakes::{World, facts};
use crate::judges::{FakeModel, FakeModels, plugins};

/// A server that answers from a list, and what it was asked.
#[derive(Default)]
struct Server {
    answers: Mutex<Vec<Result<GuestResponse, GuestHttpError>>>,
    asked: Mutex<Vec<GuestRequest>>,
}

impl GuestHttp for Server {
    fn send(&self, request: &GuestRequest, rules: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        let url = ParsedUrl::parse(&request.url).unwrap();
        if !rules.iter().any(|rule| rule.covers(&url)) {
            return Err(GuestHttpError::Denied {
                capability: format!("http:{}", request.url),
                message: "no rule allows it".to_owned(),
            });
        }
        self.asked.lock().unwrap().push(request.clone());
        self.answers.lock().unwrap().remove(0)
    }
}

/// The keys that the user has set.
struct Keys(&'static [&'static str]);

impl Secrets for Keys {
    fn find(&self, name: &str) -> Result<Option<String>, String> {
        Ok(self.0.contains(&name).then(|| format!("value of {name}")))
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &Value) -> Result<GuestResponse, GuestHttpError> {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Ok(GuestResponse {
        status,
        headers: headers.iter().map(header).collect(),
        url: String::new(),
        body: match body {
            Value::String(text) => text.clone().into_bytes(),
            json => json.to_string().into_bytes(),
        },
    })
}

const ALL_KEYS: &[&str] = &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"];

struct Lesson {
    server: Arc<Server>,
    plugins: Plugins,
}

impl Lesson {
    fn new(
        keys: &'static [&'static str],
        flags: &GrantFlags,
        answers: Vec<Result<GuestResponse, GuestHttpError>>,
    ) -> Lesson {
        let server = Arc::new(Server {
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        });
        let ports = Ports {
            http: server.clone(),
            secrets: Arc::new(Keys(keys)),
            ..World::new().ports()
        };
        let plugins = Plugins::new(facts(), ports, Compile::InMemory, flags).unwrap();
        Lesson { server, plugins }
    }

    fn teacher(&self, selector: &str) -> Result<Box<dyn Teacher>, PluginFailure> {
        self.plugins.open_teacher(selector)
    }

    fn ask(&self, selector: &str) -> Result<TeacherCompletion, PluginFailure> {
        self.teacher(selector)?.complete(&request())
    }

    fn bodies(&self) -> Vec<Value> {
        let asked = self.server.asked.lock().unwrap();
        let json = |request: &GuestRequest| match &request.body {
            GuestBody::Bytes(bytes) => serde_json::from_slice(bytes).unwrap_or(Value::Null),
            GuestBody::File { .. } => panic!("a teacher sends no file"),
        };
        asked.iter().map(json).collect()
    }
}

fn lesson(answers: Vec<Result<GuestResponse, GuestHttpError>>) -> Lesson {
    Lesson::new(ALL_KEYS, &GrantFlags::default(), answers)
}

fn request() -> TeacherRequest {
    TeacherRequest {
        system: "Be brief.".to_owned(),
        user: "2+2?".to_owned(),
        new_tokens_max: 64,
        temperature: 0.7,
        top_p: Some(0.9),
        seed: Some(15),
    }
}

fn chat(content: &Value) -> Value {
    json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
}

#[test]
fn openai_is_asked_as_its_protocol_wants() {
    let lesson = lesson(vec![answer(200, &[], &chat(&json!("four")))]);
    let mut teacher = lesson.teacher("openai:gpt-x").unwrap();
    let info = teacher.info().clone();
    assert_eq!(
        (info.identity.name.as_str(), info.concurrency_max, info.supports_seed),
        ("openai:gpt-x", 8, true)
    );
    let done = teacher.complete(&request()).unwrap();
    assert_eq!((done.text.as_str(), done.is_truncated), ("four", false));
    assert_eq!(
        (
            done.usage.prompt_tokens,
            done.usage.completion_tokens,
            done.usage.requests
        ),
        (9, 3, 1)
    );
    let asked = lesson.server.asked.lock().unwrap()[0].clone();
    assert_eq!(
        (asked.method, asked.url.as_str()),
        (GuestMethod::Post, "https://api.openai.com/v1/chat/completions")
    );
    let header = &asked.secret_headers[0];
    assert_eq!(
        (header.name.as_str(), header.value.as_str()),
        ("authorization", "Bearer value of OPENAI_API_KEY")
    );
    let expected = json!({"model": "gpt-x", "max_tokens": 64, "temperature": 0.7, "top_p": 0.9, "seed": 15, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]});
    assert_eq!(lesson.bodies(), [expected]);
}

#[test]
fn what_a_reasoning_model_refuses_is_left_out_from_then_on() {
    let refusal =
        |param: &str| json!({"error": {"message": format!("Unsupported parameter: '{param}'"), "param": param}});
    let lesson = lesson(vec![
        answer(400, &[], &refusal("max_tokens")),
        answer(400, &[], &refusal("temperature")),
        answer(200, &[], &chat(&json!("four"))),
        answer(200, &[], &chat(&json!("five"))),
    ]);
    let mut teacher = lesson.teacher("openai:o9").unwrap();
    assert_eq!(teacher.complete(&request()).unwrap().usage.requests, 3);
    assert_eq!(teacher.complete(&request()).unwrap().usage.requests, 1);
    let last = lesson.bodies().pop().unwrap();
    assert_eq!(last["max_completion_tokens"], 64);
    assert!(
        last.get("max_tokens").is_none() && last.get("temperature").is_none(),
        "{last}"
    );
}

#[test]
fn anthropic_is_asked_as_its_protocol_wants() {
    let message = json!({"content": [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}],
        "stop_reason": "max_tokens", "usage": {"input_tokens": 9, "output_tokens": 3}});
    let lesson = lesson(vec![answer(200, &[], &message)]);
    let done = lesson.ask("anthropic:claude-x").unwrap();
    assert_eq!((done.text.as_str(), done.is_truncated), ("a\nb", true));
    let asked = lesson.server.asked.lock().unwrap().clone();
    assert_eq!(asked[0].url, "https://api.anthropic.com/v1/messages");
    assert!(
        asked[0]
            .headers
            .contains(&("anthropic-version".to_owned(), "2023-06-01".to_owned()))
    );
    assert_eq!(asked[0].secret_headers[0].name, "x-api-key");
    assert_eq!(asked[0].secret_headers[0].value, "value of ANTHROPIC_API_KEY");
    let expected = json!({"model": "claude-x", "system": "Be brief.", "max_tokens": 64, "temperature": 0.7, "top_p": 0.9,
        "messages": [{"role": "user", "content": "2+2?"}]});
    assert_eq!(lesson.bodies(), [expected]);
}

#[test]
fn vllm_server_takes_the_model_that_is_served() {
    for (list, model) in [
        (answer(200, &[], &json!({"data": [{"id": "served"}]})), "served"),
        (answer(200, &[], &json!({"data": []})), "dlm-synth"),
        (answer(404, &[], &json!("not found")), "dlm-synth"),
    ] {
        let parts = json!([{"type": "text", "text": " four "}, {"text": "five"}]);
        let lesson = lesson(vec![
            list,
            answer(200, &[], &chat(&parts)),
            answer(200, &[], &chat(&json!("six"))),
        ]);
        let mut teacher = lesson
            .teacher("vllm-server:http://10.0.0.5:8000/v1/chat/completions")
            .unwrap();
        assert_eq!(teacher.info().identity.name, "vllm-server:http://10.0.0.5:8000");
        assert_eq!(teacher.complete(&request()).unwrap().text, "four\nfive");
        assert_eq!(teacher.complete(&request()).unwrap().text, "six");
        let bodies = lesson.bodies();
        assert_eq!(
            (bodies.len(), &bodies[1]["model"], &bodies[2]["model"]),
            (3, &json!(model), &json!(model))
        );
        let asked = lesson.server.asked.lock().unwrap();
        assert_eq!(asked[0].url, "http://10.0.0.5:8000/v1/models");
        assert_eq!(asked[1].url, "http://10.0.0.5:8000/v1/chat/completions");
        assert!(asked[1].secret_headers.is_empty(), "no key was set");
    }
}

#[test]
fn a_key_for_a_server_of_ones_own_is_sent_to_it_alone() {
    let lesson = Lesson::new(
        &["VLLM_API_KEY"],
        &GrantFlags::default(),
        vec![
            answer(200, &[], &json!({"data": [{"id": "served"}]})),
            answer(200, &[], &chat(&json!("four"))),
        ],
    );
    lesson.ask("vllm-server:http://10.0.0.5:8000").unwrap();
    for asked in lesson.server.asked.lock().unwrap().iter() {
        assert_eq!(asked.secret_headers[0].value, "Bearer value of VLLM_API_KEY");
    }
}

#[test]
fn each_refusal_has_its_class() {
    #[track_caller]
    fn fails(answered: Result<GuestResponse, GuestHttpError>, code: &str, part: &str, after_ms: Option<u32>) {
        let error = lesson(vec![answered]).ask("openai:gpt-x").unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.after_ms(), after_ms);
    }
    let said = |text: &str| json!({"error": {"message": text}});
    fails(
        answer(429, &[("Retry-After", "7")], &said("slow down")),
        "plugin::rate-limited",
        "slow down",
        Some(7_000),
    );
    fails(
        answer(429, &[], &said("slow down")),
        "plugin::rate-limited",
        "slow down",
        None,
    );
    fails(
        answer(503, &[("retry-after", "2")], &json!("")),
        "plugin::rate-limited",
        "503",
        Some(2_000),
    );
    for status in [408, 409, 425, 500, 502] {
        fails(answer(status, &[], &said("oops")), "plugin::unavailable", "oops", None);
    }
    for status in [400, 401, 403, 404] {
        fails(
            answer(status, &[], &said("no such model")),
            "plugin::rejected",
            "no such model",
            None,
        );
    }
    fails(answer(200, &[], &json!("<html>")), "plugin::corrupt", "not JSON", None);
    fails(answer(200, &[], &json!({})), "plugin::corrupt", "`choices[0]`", None);
    fails(answer(200, &[], &chat(&json!(" \n"))), "plugin::corrupt", "blank", None);
    let slow = GuestHttpError::TimedOut {
        url: "https://api.openai.com".to_owned(),
        seconds: 120,
    };
    fails(Err(slow), "plugin::timed-out", "120 s", None);
}

#[test]
fn a_missing_key_names_teacher_and_secret() {
    for (selector, key) in [
        ("openai:gpt-x", "OPENAI_API_KEY"),
        ("anthropic:claude-x", "ANTHROPIC_API_KEY"),
    ] {
        let lesson = Lesson::new(&[], &GrantFlags::default(), Vec::new());
        let error = lesson.teacher(selector).map(|_| ()).unwrap_err();
        assert_eq!(error.code, "plugin::unavailable");
        assert!(
            error.to_string().contains(selector) && error.to_string().contains(key),
            "{error}"
        );
    }
}

#[test]
fn another_address_needs_another_grant() {
    let answers = || vec![answer(200, &[], &chat(&json!("four")))];
    let mut flags = GrantFlags {
        options: vec!["openai.base-url=https://proxy.example/v1/".to_owned()],
        ..GrantFlags::default()
    };
    let refused = Lesson::new(ALL_KEYS, &flags, answers())
        .ask("openai:gpt-x")
        .unwrap_err();
    assert_eq!(refused.code, "plugin::denied", "{refused}");
    flags.granted = vec![
        "openai=http:https://proxy.example/v1".to_owned(),
        "openai=secret:OPENAI_API_KEY@proxy.example".to_owned(),
    ];
    let lesson = Lesson::new(ALL_KEYS, &flags, answers());
    assert_eq!(lesson.ask("openai:gpt-x").unwrap().text, "four");
    assert_eq!(
        lesson.server.asked.lock().unwrap()[0].url,
        "https://proxy.example/v1/chat/completions"
    );
}

#[test]
fn selectors_without_what_they_need_are_misuse() {
    let lesson = lesson(Vec::new());
    for selector in [
        "openai",
        "openai: ",
        "anthropic:",
        "vllm-server:",
        "vllm-server:10.0.0.5:8000",
        "vllm-server:ftp://a",
        "hf:",
        "self:me",
    ] {
        let error = lesson.teacher(selector).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, FailureKind::Misuse, "{selector}: {error}");
    }
}

fn local(model: FakeModel, selector: &str) -> (Arc<FakeModels>, Result<TeacherCompletion, PluginFailure>) {
    let models = Arc::new(FakeModels {
        model: Arc::new(model),
        named: Mutex::default(),
    });
    let plugins = plugins(&World::new(), &models, &GrantFlags::default());
    let answered = plugins
        .open_teacher(selector)
        .and_then(|mut teacher| teacher.complete(&request()));
    (models, answered)
}

#[test]
fn local_teachers_have_real_turns_and_their_seed() {
    for (selector, weights, named) in [
        ("self", ModelWeights::Adapter, vec![]),
        ("self:base", ModelWeights::Base, vec![]),
        ("hf:org/model", ModelWeights::Base, vec!["hf:org/model".to_owned()]),
        ("hf:smollm2-135m", ModelWeights::Base, vec!["smollm2-135m".to_owned()]),
    ] {
        let (models, answered) = local(FakeModel::default(), selector);
        let done = answered.unwrap();
        assert_eq!((done.text.as_str(), done.is_truncated), ("An answer.", true));
        assert_eq!(
            (
                done.usage.prompt_tokens,
                done.usage.completion_tokens,
                done.usage.requests
            ),
            (11, 4, 1)
        );
        assert_eq!(*models.named.lock().unwrap(), named);
        let generated = models.model.generated.lock().unwrap();
        let message = |role, content: &str| ModelMessage {
            role,
            content: content.to_owned(),
        };
        let chat = vec![
            message(ModelRole::System, "Be brief."),
            message(ModelRole::User, "2+2?"),
        ];
        assert_eq!(
            (&generated[0].prompt, generated[0].weights),
            (&ModelPrompt::Chat(chat), weights)
        );
        let sampling = &generated[0].sampling;
        assert_eq!((sampling.new_tokens_max, sampling.seed), (64, Some(15)));
        assert!((sampling.temperature - 0.7).abs() < 1e-6);
    }
}

#[test]
fn self_needs_an_adapter_unless_the_base_teaches() {
    let untrained = || FakeModel {
        has_adapter: false,
        ..FakeModel::default()
    };
    let error = local(untrained(), "self").1.unwrap_err();
    assert_eq!(error.code, "plugin::unavailable");
    assert!(error.to_string().contains("--teacher self:base"), "{error}");
    assert!(local(untrained(), "self:base").1.is_ok());
    let blank = FakeModel {
        text: " \n",
        ..FakeModel::default()
    };
    assert!(local(blank, "self").1.unwrap_err().to_string().contains("blank"));
}

/// A request for facts of a passage, in the words of `dlm synth`.
fn facts_request(complaint: &str) -> TeacherRequest {
    TeacherRequest {
        user: format!(
            "Write exactly 2 question-answer pairs about facts that the passage states.\n\n[c0de]\n# Customs\n\nThe towns throw \
             marigolds into the\nwater in May. It is an old custom.\n[/c0de]\n\nReply only with a JSON list{complaint}"
        ),
        ..request()
    }
}

#[test]
fn a_small_model_is_asked_sentence_by_sentence() {
    // A question that its sentence answers, one that repeats itself, one about something unnamed, one that never ends.
    let continues = |prompt: &str| match prompt.rsplit('\n').next().unwrap_or_default() {
        "Question: Who" => " throws marigolds into the water?",
        "Question: What" => " is an old custom?",
        "Question: Why" => " do they throw it?",
        "Question: How" => " many towns are",
        "Answer:" if prompt.contains("Question: Who throws") => " The towns throw marigolds.",
        "Answer:" => " An old custom.",
        _ => "",
    };
    let models = Arc::new(FakeModels {
        model: Arc::new(FakeModel {
            text: "The towns are nice.",
            continues,
            ..FakeModel::default()
        }),
        named: Mutex::default(),
    });
    for selector in ["self", "hf:org/model"] {
        let plugins = plugins(&World::new(), &models, &GrantFlags::default());
        let mut teacher = plugins.open_teacher(selector).unwrap();
        let done = teacher.complete(&facts_request("")).unwrap();
        assert_eq!(
            done.text,
            "Q: Who throws marigolds into the water?\nA: The towns throw marigolds into the water in May.\n"
        );
        let chats = || {
            let generated = models.model.generated.lock().unwrap();
            let is_chat = |request: &&GenerateRequest| matches!(request.prompt, ModelPrompt::Chat(_));
            generated.iter().filter(is_chat).count()
        };
        let before = chats();
        assert_eq!(teacher.complete(&facts_request("")).unwrap().text, done.text);
        assert_eq!(
            chats(),
            before,
            "a model that failed once is not asked for a list again"
        );
    }
}

#[test]
fn a_model_that_writes_lists_is_left_alone_until_they_cannot_be_read() {
    let list = "[{\"question\": \"Who?\", \"answer\": \"They.\"}, {\"question\": \"When?\", \"answer\": \"In May.\"}";
    let able = || FakeModel {
        text: list,
        ..FakeModel::default()
    };
    let ask = |complaint: &str| {
        let models = Arc::new(FakeModels {
            model: Arc::new(able()),
            named: Mutex::default(),
        });
        let plugins = plugins(&World::new(), &models, &GrantFlags::default());
        let mut teacher = plugins.open_teacher("self").unwrap();
        teacher.complete(&facts_request(complaint)).unwrap().text
    };
    assert_eq!(ask(""), list);
    assert_ne!(ask("\n\nYour last reply could not be used: it is not JSON."), list);
}
