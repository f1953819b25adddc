//! Remote teachers through the binary: loopback servers that speak their protocols, and every way in which they fail.
//!
//! Invariant: the key is never on a screen or in a file of the store, whatever the server says.

use std::time::{Duration, Instant};

use dlm_testkit::chat_server::{Answer, ChatServer, ChatSettings, Protocol, Seen};

use crate::lab::{Guarded, Lab, Ran, interrupt};

/// The key of these tests; it must never be shown.
const KEY: &str = "sk-never-shown-4711";
/// Two pairs as a good teacher writes them.
const PAIRS: &str = r#"[{"question": "Who rings the bell?", "answer": "The keeper rings it."},
    {"question": "When does the bell ring?", "answer": "It rings at noon."}]"#;

/// A document, a server, and the teacher's name.
struct Lesson {
    lab: Lab,
    server: ChatServer,
    teacher: &'static str,
    key: &'static str,
}

impl Lesson {
    fn new(protocol: Protocol, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Lesson {
        let lab = Lab::new();
        lab.document();
        let settings = ChatSettings {
            key: Some(KEY.to_owned()),
            ..ChatSettings::new(protocol)
        };
        Lesson {
            lab,
            server: ChatServer::answering(settings, script).unwrap(),
            teacher: match protocol {
                Protocol::OpenAi => "openai:gpt-x",
                Protocol::Anthropic => "anthropic:claude-x",
                Protocol::Vllm => "",
            },
            key: KEY,
        }
    }

    fn scripted(protocol: Protocol, answers: Vec<Answer>) -> Lesson {
        let next = std::sync::Mutex::new(0);
        Lesson::new(protocol, move |_| {
            let mut next = next.lock().unwrap();
            let answer = answers[*next].clone();
            *next = (*next + 1).min(answers.len() - 1);
            answer
        })
    }

    /// The command with address and key in the environment, as the user sets them.
    fn command(&self, rest: &[&str]) -> std::process::Command {
        let url = self.server.url();
        let teacher = match self.teacher {
            "" => format!("vllm-server:{url}"),
            named => named.to_owned(),
        };
        let mut command = self.lab.command();
        command
            .env("OPENAI_BASE_URL", format!("{url}/v1"))
            .env("ANTHROPIC_BASE_URL", &url)
            .env("OPENAI_API_KEY", self.key)
            .env("ANTHROPIC_API_KEY", self.key)
            .env("VLLM_API_KEY", self.key)
            .args([
                "synth",
                "instructions",
                "a.dlm",
                "--teacher",
                &teacher,
                "--filter",
                "none",
            ])
            .args(rest);
        command
    }

    fn synth(&self, rest: &[&str]) -> Ran {
        let ran = self.lab.finish(&mut self.command(rest));
        self.hides_the_key(&ran);
        ran
    }

    fn hides_the_key(&self, ran: &Ran) {
        assert!(!ran.out.contains(self.key) && !ran.err.contains(self.key), "{ran:?}");
        for (name, bytes) in self.lab.files("home") {
            let found = bytes.windows(self.key.len()).any(|part| part == self.key.as_bytes());
            assert!(!found, "the key is in {name}");
        }
    }
}

#[test]
fn a_recorded_call_is_a_case_that_passes_and_holds_no_key() {
    let lesson = Lesson::scripted(Protocol::OpenAi, vec![Answer::Parts(vec![PAIRS.to_owned()])]);
    let ran = lesson.synth(&["--record", "cases"]).ok();
    ran.says(&["plugins: recorded 1 case(s) in cases"]);
    let cases = lesson.lab.files("cases");
    assert_eq!(cases.len(), 1, "{cases:?}");
    let text = lesson.lab.read("cases/openai-complete-1.json");
    assert!(!text.contains(KEY) && text.contains("secret-OPENAI_API_KEY"), "{text}");
    // The server is not asked again: its answer is in the case.
    let asked = lesson.server.questions().len();
    let file = "cases/openai-complete-1.json";
    let report = lesson.lab.json(&["plugin", "test", "openai", "--case", file, "--json"]);
    assert_eq!(report["passed"], true, "{report:#}");
    assert_eq!(lesson.server.questions().len(), asked);
    // A second run replaces nothing.
    lesson.synth(&["--record", "cases", "--no-kept-answers"]).ok();
    assert_eq!(lesson.lab.read(file), text);
    assert_eq!(lesson.lab.files("cases").len(), 2);
}

#[test]
fn each_service_is_asked_in_its_own_protocol_and_its_pairs_are_staged() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic, Protocol::Vllm] {
        let lesson = Lesson::scripted(protocol, vec![Answer::Parts(vec![PAIRS.to_owned()])]);
        let ran = lesson.synth(&["--seed", "7"]).ok().says(&["synth: staged 2 pair(s)"]);
        // To the server that is set and nowhere else, whatever the plugin's manifest asks for.
        let sent: Vec<&str> = ran.err.lines().filter(|line| line.contains("is sent to")).collect();
        assert!(
            matches!(sent.as_slice(), [line] if line.contains("127.0.0.1") && !line.contains("api.")),
            "{sent:?}"
        );
        assert!(ran.out.starts_with("synth plan: 2 add, 0 skip\n"), "{}", ran.out);
        let asked = &lesson.server.questions()[0];
        assert!(asked.prompt().contains("Some prose."), "{asked:?}");
        let model = match protocol {
            Protocol::OpenAi => "gpt-x",
            Protocol::Anthropic => "claude-x",
            Protocol::Vllm => "scripted",
        };
        assert_eq!(asked.body["model"], model);
        assert_eq!(asked.body.get("seed").is_some(), protocol != Protocol::Anthropic);
        lesson.lab.run(&["synth", "apply", "a.dlm"]).ok();
        let text = lesson.lab.read("a.dlm");
        assert!(
            text.contains("### Q\nWho rings the bell?\n### A\nThe keeper rings it."),
            "{text}"
        );
    }
}

#[test]
fn a_wait_that_the_service_asks_for_is_waited_and_a_server_error_is_tried_again() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let lesson = Lesson::scripted(
            protocol,
            vec![
                Answer::retry_after(2),
                Answer::status(503, "overloaded"),
                Answer::text(PAIRS),
            ],
        );
        let begun = Instant::now();
        lesson.synth(&[]).ok().says(&["staged 2 pair(s)"]);
        // Two seconds as asked, then four as the second wait of our own.
        assert!(begun.elapsed() >= Duration::from_secs(6), "{:?}", begun.elapsed());
        assert_eq!(lesson.server.questions().len(), 3);
    }
}

#[test]
fn a_refusal_is_told_at_once_with_what_the_service_said() {
    for (protocol, status, said) in [
        (Protocol::OpenAi, 404, "the model `gpt-x` does not exist"),
        (Protocol::Anthropic, 403, "your plan does not include this model"),
    ] {
        let lesson = Lesson::scripted(protocol, vec![Answer::status(status, said)]);
        lesson
            .synth(&[])
            .exits(1)
            .says(&["synth: ", &format!("answered with status {status}: {said}")]);
        assert_eq!(lesson.server.questions().len(), 1);
    }
}

#[test]
fn a_wrong_key_and_a_missing_one_name_what_to_set_but_never_the_key() {
    for (protocol, name) in [
        (Protocol::OpenAi, "OPENAI_API_KEY"),
        (Protocol::Anthropic, "ANTHROPIC_API_KEY"),
    ] {
        let mut lesson = Lesson::scripted(protocol, vec![Answer::text(PAIRS)]);
        lesson.key = "sk-wrong-0815";
        lesson.synth(&[]).exits(1).says(&["status 401"]);
        assert_eq!(lesson.server.questions().len(), 1);
        let ran = lesson.lab.finish(lesson.command(&[]).env_remove(name));
        let ran = ran
            .exits(1)
            .says(&["synth: ", &format!("set the environment variable {name},")]);
        assert!(!ran.err.contains("DLM_SECRET_"), "the plain name is read: {}", ran.err);
        assert_eq!(lesson.server.questions().len(), 1, "without a key nothing is sent");
    }
}

#[test]
fn a_key_that_the_server_echoes_is_not_repeated() {
    let lesson = Lesson::scripted(
        Protocol::OpenAi,
        vec![Answer::status(400, &format!("the key {KEY} is not known here"))],
    );
    lesson
        .synth(&[])
        .exits(1)
        .says(&["status 400: the key [secret OPENAI_API_KEY] is not known here"]);
}

#[test]
fn broken_answers_are_named_and_do_not_stop_the_program() {
    let stream = "data: {\"choices\": [{\"delta\": {\"content\": \"[\"}}]}\n\ndata: [DONE]\n\n";
    for (answer, part) in [
        (Answer::Raw("{\"choices\": [".to_owned()), "is not JSON"),
        (Answer::Raw(stream.to_owned()), "is not JSON"),
        (Answer::Raw("{\"choices\": []}".to_owned()), "has no `choices[0]`"),
        (Answer::text(" \n"), "is blank"),
    ] {
        let lesson = Lesson::scripted(Protocol::OpenAi, vec![answer]);
        lesson.synth(&[]).exits(1).says(&["synth: ", part]);
    }
    // Text that holds no pair is asked again once, then the section is left out.
    let lesson = Lesson::scripted(Protocol::Anthropic, vec![Answer::text("I would rather not.")]);
    let ran = lesson.synth(&[]).exits(2).says(&["no pair was accepted"]);
    assert!(ran.out.contains("invalid_output"), "{}", ran.out);
    assert_eq!(lesson.server.questions().len(), 2);
    assert!(lesson.server.questions()[1].prompt().contains("could not be used"));
}

#[test]
fn an_error_inside_of_a_success_is_tried_again() {
    let failed = |text: &str| {
        Answer::Raw(format!(
            "{{\"type\": \"error\", \"error\": {{\"message\": \"{text}\"}}}}"
        ))
    };
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let lesson = Lesson::scripted(protocol, vec![failed("upstream went away"), Answer::text(PAIRS)]);
        lesson.synth(&[]).ok().says(&["staged 2 pair(s)"]);
        assert_eq!(lesson.server.questions().len(), 2);
    }
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    for protocol in [Protocol::OpenAi, Protocol::Anthropic] {
        let lesson = Lesson::scripted(
            protocol,
            vec![Answer::HangUp, Answer::Cut(PAIRS.to_owned()), Answer::text(PAIRS)],
        );
        lesson.synth(&[]).ok().says(&["staged 2 pair(s)"]);
        assert_eq!(lesson.server.questions().len(), 3);
    }
}

#[test]
fn a_server_that_never_answers_is_ended_by_ctrl_c() {
    let lesson = Lesson::new(Protocol::OpenAi, |_| {
        Answer::text(PAIRS).after(Duration::from_secs(600))
    });
    let mut child = Guarded(lesson.command(&[]).spawn().unwrap());
    while lesson.server.questions().is_empty() {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended before it asked");
        std::thread::yield_now();
    }
    interrupt(&child.0);
    let begun = Instant::now();
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_was_accepted_before_ctrl_c_is_staged() {
    let lesson = Lesson::new(Protocol::OpenAi, |seen| match seen.prompt().contains("Some prose.") {
        true => Answer::text(PAIRS),
        false => Answer::text(PAIRS).after(Duration::from_secs(600)),
    });
    let text = lesson.lab.read("a.dlm");
    lesson.lab.write("a.dlm", text + "\n::prose::\nOther words.\n");
    let mut child = Guarded(lesson.command(&["--concurrency", "1"]).spawn().unwrap());
    while lesson.server.questions().len() < 2 {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended before it asked");
        std::thread::yield_now();
    }
    interrupt(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    let list = lesson.lab.run(&["synth", "list", "a.dlm"]).ok();
    assert!(list.out.contains("staged pending: 2\n"), "{}", list.out);
}
