//! The llama-server target: its files, and its smoke test against a server that is played.

use dlm_core::ports::guest_http::{GuestBody, GuestMethod, GuestRequest};
use dlm_core::ports::target::{
    PluginFailure, TargetPlan, TargetProbe, TargetRun, TargetSmoke, TargetSource, run_target,
};
use dlm_plugins::GrantFlags;

use crate::fakes::{PORT, TEST_TARGET, World, grant};
use crate::targets::{FILES, WHOLE, export, plan};

fn probed() -> TargetPlan {
    TargetPlan {
        probe: Some(TargetProbe {
            system: Some("Be brief.".to_owned()),
            user: "Who?".to_owned(),
            answer: " Me. ".to_owned(),
            prompt_tokens: vec![1, 2, 3],
            new_tokens_max: 16,
            is_exact: true,
        }),
        ..plan()
    }
}

/// A server that renders to `tokens` and answers `answer`.
fn serve(world: &World, tokens: &'static str, answer: &'static str) {
    world.answer_http(move |request: &GuestRequest| {
        let path = request.url.strip_prefix(&format!("http://127.0.0.1:{PORT}")).unwrap();
        let body = match path {
            "/health" => "{}".to_owned(),
            "/apply-template" => "{\"prompt\": \"rendered\"}".to_owned(),
            "/tokenize" => format!("{{\"tokens\": {tokens}}}"),
            "/v1/chat/completions" => format!("{{\"choices\": [{{\"message\": {{\"content\": {answer}}}}}]}}"),
            _ => return (404, "{}".to_owned()),
        };
        (200, body)
    });
}

fn smoke(world: &World, plan: &TargetPlan) -> Result<TargetSmoke, PluginFailure> {
    export(world, "llama-server", plan, WHOLE).map(|report| report.smoke)
}

#[test]
fn the_launch_script_is_whole_and_executable() {
    let world = World::new();
    let report = export(&world, "llama-server", &plan(), FILES).unwrap();
    let expected = r#"#!/usr/bin/env bash
set -euo pipefail
SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec llama-server --model "$SCRIPT_DIR/base.Q4_K_M.gguf" --ctx-size 2048 --jinja --chat-template-file "$SCRIPT_DIR/chat-template.jinja" --host 127.0.0.1 --port 8000 --temp 0.7 --top-p 0.9 --lora "$SCRIPT_DIR/adapter.gguf" "$@"
"#;
    assert_eq!(world.read("llama-server_launch.sh"), expected);
    assert_eq!(
        world.read("chat-template.jinja"),
        "{% for message in messages %}x{% endfor %}\n"
    );
    let files: Vec<_> = report
        .prepared
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.is_executable))
        .collect();
    assert_eq!(
        files,
        [("chat-template.jinja", false), ("llama-server_launch.sh", true)]
    );
    assert_eq!(report.prepared.entry.as_deref(), Some("llama-server_launch.sh"));
    assert_eq!(
        report.smoke,
        TargetSmoke::Skipped {
            reason: "--no-smoke".to_owned()
        }
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = world.directory.path().join("llama-server_launch.sh");
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
    }
}

/// Runs the written script with a `llama-server` that prints its arguments.
#[cfg(unix)]
#[test]
fn the_script_passes_odd_names_and_more_arguments_through_a_real_shell() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let mut stage = world.stage();
    stage.artifacts[0].staged_path = Some("b$(touch x)`a'\" \\.gguf".to_owned());
    let mut target = world.targets(&GrantFlags::default()).open("llama-server").unwrap();
    run_target(&mut *target, &plan(), &stage, FILES).unwrap();
    let bin = world.directory.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let fake = bin.join("llama-server");
    std::fs::write(&fake, "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = std::process::Command::new(world.directory.path().join("llama-server_launch.sh"))
        .args(["--threads", "a b"])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let words: Vec<&str> = said.lines().collect();
    let directory = world.directory.path().canonicalize().unwrap();
    assert_eq!(
        words[1],
        format!("{}/b$(touch x)`a'\" \\.gguf", directory.display()),
        "{said}"
    );
    assert_eq!(words[words.len() - 2..], ["--threads", "a b"]);
    assert!(!world.directory.path().join("x").exists());
}

#[test]
fn without_template_and_adapter_the_flags_are_gone() {
    let world = World::new();
    let mut bare = plan();
    bare.chat = None;
    bare.adapters.clear();
    (bare.temperature, bare.top_p) = (None, None);
    export(&world, "llama-server", &bare, WHOLE).unwrap_err();
    let script = world.read("llama-server_launch.sh");
    for flag in ["jinja", "--lora", "--temp", "--top-p"] {
        assert!(!script.contains(flag), "{script}");
    }
    assert!(!world.directory.path().join("chat-template.jinja").exists());
    let ran = world.process.ran.lock().unwrap();
    assert_eq!(
        ran[0][3..],
        ["--ctx-size", "2048", "--host", "127.0.0.1", "--port", "4711"],
        "the bare command is granted"
    );
}

#[test]
fn the_same_answer_passes() {
    let world = World::new();
    serve(&world, "[1, 2, 3]", "\"Me.\"");
    let passed = smoke(&world, &probed()).unwrap();
    let detail = "same greedy answer as dlm: Me.".to_owned();
    assert_eq!(passed, TargetSmoke::Passed { detail });
    let ran = world.process.ran.lock().unwrap();
    let directory = world.directory.path();
    let path = |name: &str| directory.join(name).display().to_string();
    let expected = [
        "/fake/bin/llama-server".to_owned(),
        "--model".to_owned(),
        path("base.Q4_K_M.gguf"),
        "--ctx-size".to_owned(),
        "2048".to_owned(),
        "--jinja".to_owned(),
        "--chat-template-file".to_owned(),
        path("chat-template.jinja"),
        "--host".to_owned(),
        "127.0.0.1".to_owned(),
        "--port".to_owned(),
        PORT.to_string(),
        "--lora".to_owned(),
        path("adapter.gguf"),
    ];
    assert_eq!(*ran, [expected]);
    let sent = world.http.sent.lock().unwrap();
    let chat = sent.last().unwrap();
    assert_eq!(chat.method, GuestMethod::Post);
    let body = text_of(chat);
    assert!(
        body.contains("\"temperature\":0") && body.contains("\"max_tokens\":16"),
        "{body}"
    );
    assert!(body.contains("Be brief.") && body.contains("Who?"), "{body}");
}

#[test]
fn another_answer_drift_and_silence_fail() {
    let cases = [
        (
            "[1, 2, 3]",
            "\"Meh.\"",
            "differ from character 2: expected `Me.`, found `Meh.`",
        ),
        (
            "[1, 9, 3, 4]",
            "\"Me.\"",
            "template drift: the server's prompt has 4 tokens, dlm's has 3; they differ from token 1 (9 against 2)",
        ),
        ("[1, 2]", "\"Me.\"", "from token 2 (none against 3)"),
        ("[1, 2, 3]", "null", "found ``"),
    ];
    for (tokens, answer, part) in cases {
        let world = World::new();
        serve(&world, tokens, answer);
        let error = smoke(&world, &probed()).unwrap_err();
        assert_eq!((error.subject.as_str(), error.code), ("smoke", "plugin::smoke"));
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.to_string().contains("line of the server"), "{error}");
        assert!(error.hints[0].starts_with("--no-smoke"), "{:?}", error.hints);
    }
}

#[test]
fn quantized_weights_need_an_answer_only() {
    let mut loose = probed();
    loose.probe.as_mut().unwrap().is_exact = false;
    let world = World::new();
    serve(&world, "[1, 2, 3]", "\"\\n Something else.\"");
    assert_eq!(
        smoke(&world, &loose).unwrap(),
        TargetSmoke::Passed {
            detail: "Something else.".to_owned()
        }
    );
    let world = World::new();
    serve(&world, "[1, 2, 3]", "\" \"");
    assert!(smoke(&world, &loose).unwrap_err().to_string().contains("blank"));
    let world = World::new();
    serve(&world, "[]", "[{\"text\": \"part\"}, {\"text\": \"two\"}]");
    assert_eq!(
        smoke(&world, &plan()).unwrap(),
        TargetSmoke::Passed {
            detail: "part".to_owned()
        }
    );
}

#[test]
fn no_server_program_skips_and_says_so() {
    let world = World::new();
    world.process.programs.lock().unwrap().clear();
    let reason = "`llama-server` is not installed".to_owned();
    assert_eq!(smoke(&world, &probed()).unwrap(), TargetSmoke::Skipped { reason });
    let quiet = TargetRun {
        is_installed: true,
        is_smoked: false,
    };
    let report = export(&World::new(), "llama-server", &probed(), quiet).unwrap();
    assert_eq!(
        report.smoke,
        TargetSmoke::Skipped {
            reason: "--no-smoke".to_owned()
        }
    );
}

#[test]
fn a_server_that_ends_is_tried_twice() {
    let world = World::new();
    *world.process.server_status.lock().unwrap() = Some(7);
    let error = smoke(&world, &probed()).unwrap_err();
    assert!(
        error.to_string().contains("`llama-server` ended with exit status 7"),
        "{error}"
    );
    assert!(error.to_string().contains("line of the server"), "{error}");
    assert_eq!(world.process.ran.lock().unwrap().len(), 2);
}

#[test]
fn a_server_that_is_never_ready_times_out() {
    let world = World::new();
    world.answer_http(|_| (503, "loading".to_owned()));
    let targets = world.targets(&grant("exec:server --port *"));
    let mut target = targets
        .open_bytes("test-target", TEST_TARGET, "smoke server-own")
        .unwrap();
    let error = run_target(&mut target, &plan(), &world.stage(), WHOLE).unwrap_err();
    assert!(error.to_string().contains("was not ready after 1 s"), "{error}");
}

#[test]
fn a_denied_launch_starts_nothing() {
    let world = World::new();
    let flags = GrantFlags {
        denied: vec!["llama-server=exec:llama-server **".to_owned()],
        ..GrantFlags::default()
    };
    let mut target = world.targets(&flags).open("llama-server").unwrap();
    let error = run_target(&mut *target, &plan(), &world.stage(), WHOLE).unwrap_err();
    assert_eq!((error.code, error.subject.as_str()), ("plugin::denied", "smoke"));
    assert!(world.process.ran.lock().unwrap().is_empty());
}

#[test]
fn the_hosts_own_chat_question_works() {
    let ask = |models: &'static str, answer: &'static str| {
        let world = World::new();
        world.answer_http(move |request| {
            let is_chat = request.url.ends_with("/v1/chat/completions");
            (200, if is_chat { answer } else { models }.to_owned())
        });
        let targets = world.targets(&grant("exec:server --port *"));
        let mut target = targets
            .open_bytes("test-target", TEST_TARGET, "smoke server-chat")
            .unwrap();
        let smoke = run_target(&mut target, &plan(), &world.stage(), WHOLE).map(|report| report.smoke);
        let sent = world.http.sent.lock().unwrap();
        let body = text_of(sent.last().unwrap());
        (smoke, body)
    };
    let models = "{\"data\": [{\"id\": \"tone\"}]}";
    let (smoke, body) = ask(
        models,
        "{\"choices\": [{\"message\": {\"content\": \"\\nHello to you.\"}}]}",
    );
    assert_eq!(
        smoke.unwrap(),
        TargetSmoke::Passed {
            detail: "Hello to you.".to_owned()
        }
    );
    assert!(body.contains("\"model\":\"tone\""), "{body}");
    let (smoke, body) = ask("{}", "{\"choices\": []}");
    assert!(smoke.unwrap_err().to_string().contains("blank"));
    assert!(body.contains("dlm-smoke"), "{body}");
}

/// The body of a request as text.
fn text_of(request: &GuestRequest) -> String {
    match &request.body {
        GuestBody::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        GuestBody::File { .. } => panic!("the smoke test sends no file"),
    }
}
