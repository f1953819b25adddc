//! The export target `llama-server`: a chat-template file, a launch script, and a smoke test over loopback HTTP.
//!
//! Invariants: it writes only through `output`; it never starts a program itself, the host starts the one that
//! `prepared.launch` describes and only if that is granted.

mod smoke;

use dlm_plugin::process::Argument;
use dlm_plugin::target::{Endpoint, Info, Launch, Plan, Prepared, SmokePlan, SmokeReport, Target, sampling_words};
use dlm_plugin::{Error, artifacts, inputs, output, text};

const TEMPLATE_FILE: &str = "chat-template.jinja";
const SCRIPT_FILE: &str = "llama-server_launch.sh";

/// A large model takes minutes to load from a cold disk.
const READY_TIMEOUT_MS: u32 = 180_000;

struct LlamaServer;

impl Target for LlamaServer {
    fn open(argument: &str) -> Result<Self, Error> {
        dlm_plugin::no_argument("target", "llama-server", argument)?;
        Ok(LlamaServer)
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("llama-server", "launch script for the server of llama.cpp"),
            accepts: vec![artifacts::Kind::Gguf],
            platforms: Vec::new(),
            programs: vec!["llama-server".to_owned()],
        }
    }

    fn prepare(&mut self, plan: &Plan) -> Result<Prepared, Error> {
        let weights = inputs::weights(plan)?;
        let mut files = Vec::new();
        let template = plan.chat.as_ref().map(|chat| chat.template.trim_end());
        if let Some(template) = template {
            output::write(TEMPLATE_FILE, format!("{template}\n").as_bytes(), false)?;
            files.push(TEMPLATE_FILE.to_owned());
        }
        let script = text::launch_script(&[], &script_words(plan, &weights, template.is_some()));
        output::write(SCRIPT_FILE, script.as_bytes(), true)?;
        files.push(SCRIPT_FILE.to_owned());
        Ok(Prepared {
            files,
            entry: Some(SCRIPT_FILE.to_owned()),
            launch: Some(launch(plan, &weights, template.is_some())),
            smoke: SmokePlan::Custom,
            install_preview: Vec::new(),
            usage: vec![
                format!("./{SCRIPT_FILE}"),
                "curl http://127.0.0.1:8000/v1/models".to_owned(),
            ],
        })
    }

    fn smoke(&mut self, plan: &Plan, endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error> {
        let endpoint =
            endpoint.ok_or_else(|| Error::InvalidInput("the smoke test needs a started server".to_owned()))?;
        smoke::run(plan, &endpoint.url)
    }
}

/// The words of the launch script, paths in the form `$SCRIPT_DIR/…`.
fn script_words(plan: &Plan, weights: &inputs::Weights, has_template: bool) -> Vec<String> {
    let staged = |name: &str| format!("$SCRIPT_DIR/{name}");
    let mut words = vec![
        "llama-server".to_owned(),
        "--model".to_owned(),
        staged(&inputs::path(&weights.model)),
        "--ctx-size".to_owned(),
        plan.context_length.to_string(),
    ];
    if has_template {
        words.extend([
            "--jinja".to_owned(),
            "--chat-template-file".to_owned(),
            staged(TEMPLATE_FILE),
        ]);
    }
    words.extend(["--host", "127.0.0.1", "--port", "8000"].map(str::to_owned));
    words.extend(sampling_words(plan));
    if let Some(adapter) = &weights.adapter {
        words.extend(["--lora".to_owned(), staged(&inputs::path(adapter))]);
    }
    words
}

/// The same command for the host, artefacts by name; the smoke test says itself how it samples.
fn launch(plan: &Plan, weights: &inputs::Weights, has_template: bool) -> Launch {
    let word = |text: &str| Argument::Text(text.to_owned());
    let mut arguments = vec![
        word("--model"),
        Argument::InputPath(weights.model.name.clone()),
        word("--ctx-size"),
        Argument::Text(plan.context_length.to_string()),
    ];
    if has_template {
        arguments.extend([
            word("--jinja"),
            word("--chat-template-file"),
            Argument::OutputPath(TEMPLATE_FILE.to_owned()),
        ]);
    }
    arguments.extend([word("--host"), word("{host}"), word("--port"), word("{port}")]);
    if let Some(adapter) = &weights.adapter {
        arguments.extend([word("--lora"), Argument::InputPath(adapter.name.clone())]);
    }
    Launch {
        program: "llama-server".to_owned(),
        arguments,
        env: Vec::new(),
        ready_path: "/health".to_owned(),
        ready_timeout_ms: READY_TIMEOUT_MS,
    }
}

dlm_plugin::export_target!(LlamaServer);
