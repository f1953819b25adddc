//! The export target `vllm`: the adapters as LoRA modules beside a launch script and a settings file, and a smoke test that
//! asks an adapter, not its base.
//!
//! Invariants: it writes only through `output`; adapter files are placed by the host, no weight passes through here; the
//! base is fetched by vLLM itself, by hub id and pinned revision.

mod modules;
mod settings;

use dlm_plugin::process::{Argument, Spliced};
use dlm_plugin::smoke::{self, Asked};
use dlm_plugin::target::{Endpoint, Info, Launch, Plan, Prepared, SmokePlan, SmokeReport, Target};
use dlm_plugin::{Error, artifacts, error, output, text};

use modules::Module;
use settings::Settings;

const SCRIPT_FILE: &str = "vllm_launch.sh";
const CONFIG_FILE: &str = "vllm_config.json";

/// Fetching the base, loading it and compiling for the accelerator take minutes the first time.
const READY_TIMEOUT_MS: u32 = 900_000;

struct Vllm;

impl Target for Vllm {
    fn open(argument: &str) -> Result<Self, Error> {
        dlm_plugin::no_argument("target", "vllm", argument)?;
        Ok(Vllm)
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("vllm", "launch script for vLLM with LoRA modules"),
            accepts: vec![artifacts::Kind::Adapter],
            platforms: Vec::new(),
            programs: vec!["vllm".to_owned()],
        }
    }

    fn prepare(&mut self, plan: &Plan) -> Result<Prepared, Error> {
        modules::check_base("vllm", plan)?;
        let modules = modules::find(plan)?;
        let settings = Settings::new(plan)?;
        let mut files = Vec::new();
        for module in &modules {
            for name in modules::FILES {
                let place = format!("{}/{name}", module.folder());
                output::place(&place, &artifacts::open_input(&format!("{}/{name}", module.artifact))?)?;
                files.push(place);
            }
        }
        output::write(CONFIG_FILE, settings.json(&modules).as_bytes(), false)?;
        let script = text::launch_script(&settings.environment, &settings.script_words(&modules));
        output::write(SCRIPT_FILE, script.as_bytes(), true)?;
        files.extend([CONFIG_FILE.to_owned(), SCRIPT_FILE.to_owned()]);
        let asked = modules.first().map_or("adapter", |module| module.name.as_str());
        Ok(Prepared {
            files,
            entry: Some(SCRIPT_FILE.to_owned()),
            launch: Some(launch(&settings, &modules)),
            smoke: SmokePlan::Custom,
            install_preview: Vec::new(),
            usage: vec![
                format!("./{SCRIPT_FILE}"),
                format!("curl http://127.0.0.1:8000/v1/models    # ask the model `{asked}`"),
            ],
        })
    }

    fn smoke(&mut self, plan: &Plan, endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error> {
        let endpoint = endpoint.ok_or_else(|| error!(InvalidInput, "the smoke test needs a started server"))?;
        let names: Vec<String> = modules::find(plan)?.into_iter().map(|module| module.name).collect();
        smoke::greet(&endpoint.url, &Asked::Listed(&names))
    }
}

/// The command of the script for the host, folders by name.
fn launch(settings: &Settings, modules: &[Module]) -> Launch {
    let words = settings.words("{host}", "{port}", modules);
    let mut arguments: Vec<Argument> = words.into_iter().skip(1).map(Argument::Text).collect();
    arguments.extend(modules.iter().map(|module| {
        Argument::Spliced(Spliced {
            before: format!("{}=", module.name),
            output: module.folder(),
            after: String::new(),
        })
    }));
    Launch {
        program: "vllm".to_owned(),
        arguments,
        env: settings.env(),
        ready_path: "/v1/models".to_owned(),
        ready_timeout_ms: READY_TIMEOUT_MS,
    }
}

dlm_plugin::export_target!(Vllm);
