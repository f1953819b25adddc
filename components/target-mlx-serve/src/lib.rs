//! The export target `mlx-serve`: the adapter in MLX's own form, a launch script, and a smoke test.
//!
//! Invariants: it writes only through `output`; it runs on Apple Silicon only and says so before anything is written; the
//! one program it runs itself asks whether `mlx_lm` can be imported.

mod adapter;
mod safetensors;

use dlm_plugin::process::{self, Argument, Command};
use dlm_plugin::smoke::{self, Asked};
use dlm_plugin::target::{
    Adapter, Endpoint, Info, Launch, Plan, Prepared, Registration, SmokePlan, SmokeReport, Target, sampling_words,
};
use dlm_plugin::{Error, artifacts, error, inputs, output, peft, text};

const SCRIPT_FILE: &str = "mlx_serve_launch.sh";
const PLATFORM: &str = "macos/aarch64";
const PROGRAM: &str = "python";
const MODULE: [&str; 2] = ["-m", "mlx_lm.server"];

const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// What the limits of this plugin leave room for, twice.
const WEIGHTS_BYTES_MAX: u64 = 200 << 20;
/// Fetching and loading the base.
const READY_TIMEOUT_MS: u32 = 600_000;
/// Importing a large Python package from a cold disk.
const IMPORT_TIMEOUT_MS: u32 = 120_000;
/// The only name under which the server answers with base and adapter; a name of the hub loads the bare model.
const MODEL_SERVED: &str = "default_model";

struct MlxServe;

impl Target for MlxServe {
    fn open(argument: &str) -> Result<Self, Error> {
        dlm_plugin::no_argument("target", "mlx-serve", argument)?;
        Ok(MlxServe)
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("mlx-serve", "launch script for the server of mlx_lm"),
            accepts: vec![artifacts::Kind::Adapter],
            platforms: vec![PLATFORM.to_owned()],
            programs: vec![PROGRAM.to_owned()],
        }
    }

    fn prepare(&mut self, plan: &Plan) -> Result<Prepared, Error> {
        if plan.platform != PLATFORM {
            return Err(error!(
                Unavailable,
                "mlx-serve needs Apple Silicon ({PLATFORM}), this machine is {}", plan.platform
            ));
        }
        let model = hub_id(plan)?;
        let adapter = only_adapter(plan)?;
        let folder = folder(&adapter.name)?;
        let config_name = format!("{}/adapter_config.json", adapter.artifact);
        let config = peft::parse(&config_name, &inputs::read(&config_name, CONFIG_BYTES_MAX)?)?;
        let settings = adapter::settings(&config, plan.base.layers)?;
        let weights_name = format!("{}/adapter_model.safetensors", adapter.artifact);
        let weights = adapter::turned(&weights_name, &inputs::read(&weights_name, WEIGHTS_BYTES_MAX)?)?;
        let script = text::launch_script(&[], &script_words(plan, &model, &folder));
        let files = [
            (format!("{folder}/adapters.safetensors"), weights, false),
            (format!("{folder}/adapter_config.json"), settings.into_bytes(), false),
            (SCRIPT_FILE.to_owned(), script.into_bytes(), true),
        ];
        for (name, bytes, is_executable) in &files {
            output::write(name, bytes, *is_executable)?;
        }
        Ok(Prepared {
            files: files.into_iter().map(|(name, _, _)| name).collect(),
            entry: Some(SCRIPT_FILE.to_owned()),
            launch: Some(launch(&model, &folder)),
            smoke: SmokePlan::Custom,
            install_preview: vec![format!("{PROGRAM} {} --help", MODULE.join(" "))],
            usage: vec![
                format!("./{SCRIPT_FILE}"),
                format!("curl http://127.0.0.1:8000/v1/models    # ask the model `{MODEL_SERVED}`"),
            ],
        })
    }

    /// Registers nothing; looks whether the server's package is there.
    fn install(&mut self, _plan: &Plan) -> Result<Option<Registration>, Error> {
        let words = MODULE.iter().chain(&["--help"]);
        let finished = process::run(&Command {
            program: PROGRAM.to_owned(),
            arguments: words.map(|word| Argument::Text((*word).to_owned())).collect(),
            env: Vec::new(),
            secret_env: Vec::new(),
            stdin: Vec::new(),
            timeout_ms: Some(IMPORT_TIMEOUT_MS),
        })?;
        if finished.status == 0 {
            return Ok(None);
        }
        Err(error!(
            Unavailable,
            "`{PROGRAM}` cannot import `mlx_lm` ({}); install it with `pip install mlx-lm`",
            text::last_lines(&String::from_utf8_lossy(&finished.stderr), 1)
        ))
    }

    fn smoke(&mut self, _plan: &Plan, endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error> {
        let endpoint = endpoint.ok_or_else(|| error!(InvalidInput, "the smoke test needs a started server"))?;
        smoke::greet(&endpoint.url, &Asked::Named(MODEL_SERVED))
    }
}

fn hub_id(plan: &Plan) -> Result<String, Error> {
    let architecture = plan.base.architecture.as_str();
    if ["ConditionalGeneration", "Audio", "InternVL"]
        .iter()
        .any(|part| architecture.contains(part))
    {
        return Err(error!(
            Unsupported,
            "target `mlx-serve` serves text bases; `{}` is a {architecture}", plan.base.reference
        ));
    }
    let id = plan
        .base
        .hub_id
        .clone()
        .filter(|id| !id.is_empty() && !id.starts_with('-'));
    id.ok_or_else(|| {
        error!(
            Unsupported,
            "mlx-serve fetches the base by its name on the hub, and `{}` has none", plan.base.reference
        )
    })
}

fn only_adapter(plan: &Plan) -> Result<&Adapter, Error> {
    match plan.adapters.as_slice() {
        [adapter] if !plan.merged => Ok(adapter),
        many if !plan.merged && many.len() > 1 => {
            let names: Vec<&str> = many.iter().map(|adapter| adapter.name.as_str()).collect();
            Err(error!(
                InvalidInput,
                "mlx-serve serves one adapter, the document has {}: choose one with --adapter, or mix them with \
                 --adapter-mix",
                names.join(", ")
            ))
        }
        _ => Err(error!(
            Unsupported,
            "mlx-serve serves a base with an adapter, and this export has none of its own; leave out --merged"
        )),
    }
}

/// `adapter` for the single adapter of a document, the adapter's own name otherwise.
fn folder(name: &str) -> Result<String, Error> {
    if name == "default" {
        return Ok("adapter".to_owned());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err(error!(InvalidInput, "`{name}` cannot name the folder of an adapter"))
}

fn script_words(plan: &Plan, model: &str, folder: &str) -> Vec<String> {
    let mut words = vec![PROGRAM.to_owned()];
    words.extend(MODULE.map(str::to_owned));
    words.extend(["--model", model, "--adapter-path"].map(str::to_owned));
    words.push(format!("$SCRIPT_DIR/{folder}"));
    words.extend(["--host", "127.0.0.1", "--port", "8000"].map(str::to_owned));
    words.extend(sampling_words(plan));
    words
}

/// The same command for the host, the folder by name; the smoke test says itself how it samples.
fn launch(model: &str, folder: &str) -> Launch {
    let word = |text: &str| Argument::Text(text.to_owned());
    let mut arguments: Vec<Argument> = MODULE.map(word).into();
    arguments.extend(["--model", model, "--adapter-path"].map(word));
    arguments.push(Argument::OutputPath(folder.to_owned()));
    arguments.extend(["--host", "{host}", "--port", "{port}"].map(word));
    Launch {
        program: PROGRAM.to_owned(),
        arguments,
        env: Vec::new(),
        ready_path: "/v1/models".to_owned(),
        ready_timeout_ms: READY_TIMEOUT_MS,
    }
}

dlm_plugin::export_target!(MlxServe);
