//! What the built-in targets write, register and refuse.

use dlm_core::FailureKind;
use dlm_core::ports::target::{
    PluginFailure, TargetAdapter, TargetBase, TargetChat, TargetPlan, TargetReport, TargetRun, TargetSource, run_target,
};
use dlm_plugins::Compile;
use dlm_plugins::GrantFlags;

use crate::fakes::{World, finished};

/// A plan such as an export of SmolLM2 makes.
pub fn plan() -> TargetPlan {
    TargetPlan {
        name: "dlm-01hq:v0003".to_owned(),
        document_id: "01HQ".to_owned(),
        source: Some("tone.dlm".to_owned()),
        base: TargetBase {
            reference: "smollm2-135m".to_owned(),
            hub_id: Some("HuggingFaceTB/SmolLM2-135M-Instruct".to_owned()),
            revision: Some("12fd25f".to_owned()),
            architecture: "llama".to_owned(),
            layers: 30,
            context_length: 8192,
            license: Some("Apache-2.0".to_owned()),
        },
        adapters: vec![TargetAdapter {
            name: "default".to_owned(),
            version: 3,
            artifact: "adapter.gguf".to_owned(),
            weight: 1.0,
        }],
        quant: "Q4_K_M".to_owned(),
        is_merged: false,
        context_length: 2048,
        chat: Some(TargetChat {
            template: "{% for message in messages %}x{% endfor %}\n\n".to_owned(),
            family: Some("chatml".to_owned()),
            default_system: Some("You are a helpful AI assistant named SmolLM".to_owned()),
            preamble: None,
            stop: vec!["<|im_end|>".to_owned(), "<|endoftext|>".to_owned()],
            is_written: true,
        }),
        system_prompt: Some("  Be brief.  ".to_owned()),
        temperature: Some(0.7),
        top_p: Some(0.9),
        draft: None,
        platform: "linux/x86_64".to_owned(),
        options: Vec::new(),
        probe: None,
    }
}

pub fn export(world: &World, target: &str, plan: &TargetPlan, run: TargetRun) -> Result<TargetReport, PluginFailure> {
    let mut target = world.targets(&GrantFlags::default()).open(target)?;
    run_target(&mut *target, plan, &world.stage(), run)
}

pub const FILES: TargetRun = TargetRun {
    is_installed: false,
    is_smoked: false,
};

pub const WHOLE: TargetRun = TargetRun {
    is_installed: true,
    is_smoked: true,
};

/// Writes the Modelfile of a changed plan.
fn modelfile(change: impl FnOnce(&mut TargetPlan)) -> Result<String, PluginFailure> {
    let world = World::new();
    let mut plan = plan();
    change(&mut plan);
    export(&world, "ollama", &plan, FILES)?;
    Ok(world.read("Modelfile"))
}

/// The body of the template of a dialect.
pub fn template(family: &str, default_system: Option<&str>, preamble: Option<&str>) -> String {
    let written = modelfile(|plan| {
        let chat = plan.chat.as_mut().unwrap();
        chat.family = Some(family.to_owned());
        chat.default_system = default_system.map(str::to_owned);
        chat.preamble = preamble.map(str::to_owned);
    });
    let written = written.unwrap();
    let (_, rest) = written.split_once("TEMPLATE \"\"\"").unwrap();
    rest.split_once("\"\"\"").unwrap().0.to_owned()
}

#[test]
fn the_modelfile_is_whole() {
    let expected = r#"# dlm 1.2.3, 2000-02-29T00:00:00Z
# source: tone.dlm
# dlm_id: 01HQ
# adapter_version: 3
# base_model: smollm2-135m (revision 12fd25f)
# quant: Q4_K_M
# merged: false

FROM ./base.Q4_K_M.gguf
ADAPTER ./adapter.gguf

TEMPLATE """<|im_start|>system
{{ if .System }}{{ .System }}{{ else }}You are a helpful AI assistant named SmolLM{{ end }}<|im_end|>
{{ range .Messages }}{{ if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""

PARAMETER stop "<|im_end|>"
PARAMETER stop "<|endoftext|>"
PARAMETER temperature 0.7
PARAMETER top_p 0.9
PARAMETER num_ctx 2048

SYSTEM "Be brief."

LICENSE "Apache-2.0"
"#;
    assert_eq!(modelfile(|_| ()).unwrap(), expected);
}

#[test]
fn each_dialect_has_its_frame() {
    let turns = "{{ range .Messages }}{{ if eq .Role \"user\" }}";
    assert!(
        template("chatml", None, None)
            .starts_with("{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}")
    );
    assert_eq!(template("qwen3thinking", None, None), template("chatml", None, None));
    assert!(
        template("smollm3", None, Some("## Metadata\n\n"))
            .starts_with("<|im_start|>system\n## Metadata\n\n{{ if .System }}{{ .System }}{{ end }}\n\n<|im_end|>\n")
    );
    assert!(
        template("olmo2", None, None).starts_with("<|endoftext|>{{ if .System }}<|system|>\n{{ .System }}\n{{ end }}")
    );
    assert!(template("llama3", None, None).starts_with(
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n\
         {{ if .System }}{{ .System }}{{ end }}<|eot_id|>"
    ));
    assert!(template("phi3", None, None).starts_with("{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}"));
    assert_eq!(
        template("phi4mini", None, None),
        format!(
            "<|system|>Your name is Phi, an AI math expert developed by Microsoft.{{{{ if .System }}}} {{{{ .System }}}}\
             {{{{ end }}}}<|end|>{turns}<|user|>{{{{ .Content }}}}<|end|>{{{{ else if eq .Role \"assistant\" }}}}<|assistant|>\
             {{{{ .Content }}}}<|end|>{{{{ end }}}}{{{{ end }}}}<|assistant|>"
        )
    );
    assert_eq!(
        template("mistral", None, None),
        format!(
            "{{{{ $folded := false }}}}{turns}[INST] {{{{ if and $.System (not $folded) }}}}{{{{ $.System }}}}\n\n{{{{ end }}}}\
             {{{{ $folded = true }}}}{{{{ .Content }}}} [/INST]{{{{ else if eq .Role \"assistant\" }}}} {{{{ .Content }}}}</s>\
             {{{{ end }}}}{{{{ end }}}}"
        )
    );
    assert!(template("gemma2", None, None).ends_with("<start_of_turn>model\n"));
    for family in [
        "chatml", "smollm3", "olmo2", "llama3", "phi3", "phi4mini", "mistral", "gemma2",
    ] {
        let body = template(family, None, Some("p"));
        assert_eq!(
            body.matches(".System }}").count() - body.matches("if .System }}").count(),
            1,
            "{family}: {body}"
        );
    }
}

#[test]
fn text_of_a_default_system_is_no_template_code() {
    assert!(template("chatml", Some("use {{ braces }}"), None).contains("use {{ \"{{\" }} braces }}"));
}

#[test]
fn every_switch_of_the_plan_shows() {
    let whole = modelfile(|_| ()).unwrap();
    let without = |change: fn(&mut TargetPlan), line: &str| {
        assert!(whole.contains(line), "{line}");
        let changed = modelfile(change).unwrap();
        assert!(!changed.contains(line), "{changed}");
        assert!(!changed.contains("\n\n\n"), "{changed}");
    };
    without(|plan| plan.source = None, "# source");
    without(|plan| plan.temperature = None, "PARAMETER temperature");
    without(|plan| plan.top_p = None, "PARAMETER top_p");
    without(|plan| plan.system_prompt = Some(" \n".to_owned()), "SYSTEM");
    without(|plan| plan.base.license = None, "LICENSE");
    without(|plan| plan.chat.as_mut().unwrap().is_written = false, "TEMPLATE");
    without(|plan| plan.chat.as_mut().unwrap().stop.clear(), "PARAMETER stop");
    without(|plan| plan.base.revision = None, "12fd25f");
    let drafted = modelfile(|plan| plan.draft = Some("qwen2.5:0.5b".to_owned())).unwrap();
    assert!(
        drafted.contains("\n# draft model for speculative decoding: qwen2.5:0.5b\n"),
        "{drafted}"
    );
    assert!(!drafted.contains("draft_model"), "ollama refuses that parameter");
}

#[test]
fn a_merged_export_has_no_adapter() {
    let world = World::new();
    let mut stage = world.stage();
    stage.artifacts[0].name = "merged.gguf".to_owned();
    stage.artifacts[0].staged_path = Some("merged.Q4_K_M.gguf".to_owned());
    let mut merged = plan();
    merged.is_merged = true;
    let mut target = world.targets(&GrantFlags::default()).open("ollama").unwrap();
    run_target(&mut *target, &merged, &stage, FILES).unwrap();
    let written = world.read("Modelfile");
    assert!(
        written.contains("FROM ./merged.Q4_K_M.gguf\n\n") && !written.contains("ADAPTER"),
        "{written}"
    );
}

#[test]
fn odd_values_cannot_break_out() {
    let written = modelfile(|plan| {
        plan.source = Some("a\nFROM evil".to_owned());
        plan.system_prompt = Some("line \"one\"\nFROM evil \\n".to_owned());
        plan.chat.as_mut().unwrap().stop = vec!["a\"b c".to_owned()];
    });
    let written = written.unwrap();
    assert!(written.contains("# source: a\\u{a}FROM evil\n"), "{written}");
    assert!(
        written.contains("SYSTEM \"\"\"line \"one\"\nFROM evil \\n\"\"\"\n"),
        "{written}"
    );
    assert!(written.contains("PARAMETER stop \"\"\"a\"b c\"\"\"\n"), "{written}");
    let quoted = modelfile(|plan| plan.system_prompt = Some("say \"yes\"".to_owned())).unwrap();
    assert!(quoted.contains("SYSTEM \"\"\"say \"yes\"\"\"\"\n"), "{quoted}");
    for system in [
        "three \"\"\" quotes",
        "bell \u{7}",
        "5\u{a0}euro",
        "a\u{200b}b",
        "a\u{3000}b",
    ] {
        let error = modelfile(|plan| plan.system_prompt = Some(system.to_owned())).unwrap_err();
        assert_eq!(error.code, "plugin::unsupported", "{error}");
        assert!(error.to_string().contains("the system prompt"), "{error}");
    }
    let error = modelfile(|plan| plan.chat.as_mut().unwrap().default_system = Some("\"\"\"".to_owned())).unwrap_err();
    assert!(error.to_string().contains("the template"), "{error}");
}

#[test]
fn a_template_that_the_host_derived_is_written_as_it_is() {
    let derived = "{{ range .Messages }}<{{ .Content }}>{{ end }}";
    let written = modelfile(|plan| {
        plan.chat.as_mut().unwrap().family = None;
        plan.options = vec![("template".to_owned(), derived.to_owned())];
    });
    assert!(written.unwrap().contains(&format!("TEMPLATE \"\"\"{derived}\"\"\"\n")));
}

#[test]
fn an_unknown_dialect_names_the_way_out() {
    for family in [None, Some("esperanto".to_owned())] {
        let error = modelfile(|plan| plan.chat.as_mut().unwrap().family = family).unwrap_err();
        assert!(error.to_string().contains("--no-template"), "{error}");
    }
    let mut chat_off = plan();
    chat_off.chat.as_mut().unwrap().family = None;
    chat_off.chat.as_mut().unwrap().is_written = false;
    assert!(export(&World::new(), "ollama", &chat_off, FILES).is_ok());
}

#[test]
fn names_follow_ollamas_rule() {
    for name in ["tone", "me/tone:v1.2", "a".repeat(128).as_str()] {
        modelfile(|plan| plan.name = name.to_owned()).unwrap();
    }
    let long = "a".repeat(129);
    for name in [
        "",
        "-x",
        "--insecure",
        "a/b/c",
        "a..b",
        "a b",
        "a:",
        ":b",
        "/a",
        "a;b",
        "ü",
        long.as_str(),
    ] {
        let error = modelfile(|plan| plan.name = name.to_owned()).unwrap_err();
        assert_eq!(
            (error.code, error.kind),
            ("plugin::invalid-input", FailureKind::Misuse),
            "{name}: {error}"
        );
    }
}

#[test]
fn ollama_is_asked_its_version_then_creates_then_answers() {
    let world = World::new();
    world.answer_process(|words| match words[1].as_str() {
        "--version" => finished(0, "", "ollama version is 0.12.3\n"),
        "run" => finished(0, "\n  Hi there.\nMore.\n", ""),
        _ => finished(0, "", "success"),
    });
    let report = export(&world, "ollama", &plan(), WHOLE).unwrap();
    let modelfile = world.directory.path().join("Modelfile").display().to_string();
    let ran = world.process.ran.lock().unwrap();
    assert_eq!(ran[0], ["/fake/bin/ollama", "--version"]);
    assert_eq!(
        ran[1],
        ["/fake/bin/ollama", "create", "dlm-01hq:v0003", "-f", modelfile.as_str()]
    );
    assert_eq!(ran[2], ["/fake/bin/ollama", "run", "dlm-01hq:v0003", "Hello."]);
    let registration = report.registration.unwrap();
    assert_eq!(
        (registration.name.as_str(), registration.runtime_version.as_deref()),
        ("dlm-01hq:v0003", Some("0.12.3"))
    );
    assert_eq!(format!("{:?}", report.smoke), "Passed { detail: \"Hi there.\" }");
    assert_eq!(report.prepared.usage, ["ollama run dlm-01hq:v0003"]);
}

#[test]
fn each_failure_of_ollama_has_its_subject() {
    #[track_caller]
    fn fails(answers: [(i32, &'static str); 3], subject: &str, part: &str) {
        let world = World::new();
        world.answer_process(move |words| {
            let answer = match words[1].as_str() {
                "--version" => answers[0],
                "create" => answers[1],
                _ => answers[2],
            };
            finished(
                answer.0,
                answer.1,
                if answer.0 == 0 { "" } else { "first\nlast line\n" },
            )
        });
        let error = export(&world, "ollama", &plan(), WHOLE).unwrap_err();
        assert_eq!(error.subject.as_str(), subject, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let good = (0, "0.5.0");
    fails([(0, "0.4.1"), good, good], "ollama", "0.4.1 is too old, at least 0.4.2");
    fails([(0, "nothing"), good, good], "ollama", "names no version");
    fails(
        [good, (1, ""), good],
        "ollama create",
        "exit status 1: first / last line",
    );
    fails([good, good, (1, "")], "smoke", "exit status 1");
    fails([good, good, (0, " \n")], "smoke", "blank");
    let world = World::new();
    world.process.programs.lock().unwrap().clear();
    let error = export(&world, "ollama", &plan(), WHOLE).unwrap_err();
    assert_eq!((error.code, error.subject.as_str()), ("plugin::unavailable", "ollama"));
    assert!(world.directory.path().join("Modelfile").exists(), "the files stay");
}

#[test]
fn a_missing_artefact_is_named() {
    let world = World::new();
    let mut stage = world.stage();
    stage.artifacts.remove(0);
    for name in ["ollama", "llama-server"] {
        let mut target = world.targets(&GrantFlags::default()).open(name).unwrap();
        let error = run_target(&mut *target, &plan(), &stage, FILES).unwrap_err();
        assert!(error.to_string().contains("`base.gguf`"), "{error}");
    }
}

#[test]
fn targets_are_listed_and_unknown_ones_refused() {
    let targets = World::new().targets(&GrantFlags::default());
    assert_eq!(targets.names(), ["ollama", "llama-server", "vllm", "mlx-serve"]);
    assert!(targets.check("ollama").is_ok());
    let error = targets.check("olama").unwrap_err();
    assert_eq!((error.code, error.kind), ("plugin::unknown", FailureKind::Misuse));
    let shown = format!("{error} {}", error.hints.join(" "));
    assert!(shown.contains("`olama`") && shown.contains("ollama"), "{shown}");
    let error = targets.check("sway").unwrap_err();
    assert_eq!(error.code, "plugin::wrong-kind", "{error}");
    let error = targets.open("ollama:extra").map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "target `ollama` takes no argument, found `extra`");
}

#[test]
fn what_a_builtin_holds_is_shown() {
    let target = World::new().targets(&GrantFlags::default()).open("ollama").unwrap();
    let info = target.info();
    assert_eq!(
        info.granted,
        [
            "exec:ollama --version",
            "exec:ollama create * -f *",
            "exec:ollama run * Hello.",
            "http:http://127.0.0.1:11434"
        ]
    );
    assert_eq!(info.programs, ["ollama"]);
    assert_eq!(info.sha256.len(), 64);
}

#[test]
fn wrong_grants_are_refused_before_anything_is_opened() {
    for (text, part) in [
        ("ollama", "name=capability"),
        ("ollama=limit:memory=1TiB", "ceiling"),
        ("ollama=everything", "no known kind"),
    ] {
        let flags = GrantFlags {
            granted: vec![text.to_owned()],
            ..GrantFlags::default()
        };
        let world = World::new();
        let made = dlm_plugins::Plugins::new(crate::fakes::facts(), world.ports(), Compile::InMemory, &flags);
        let error = made.map(|_| ()).unwrap_err();
        assert_eq!(error.kind, FailureKind::Misuse);
        assert!(error.to_string().contains(part), "{error}");
    }
}
