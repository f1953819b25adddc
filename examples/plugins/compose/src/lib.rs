//! An export target in Rust: a compose file that serves the model in a container.
//!
//! Invariants: it writes through `output` only and runs nothing; it asks for no capability.

mod yaml;

use dlm_plugin::target::{Endpoint, Info, Plan, Prepared, SmokePlan, SmokeReport, Target};
use dlm_plugin::{Error, artifacts, config, error, inputs, output};

const FILE: &str = "compose.yaml";
const IMAGE: &str = "ghcr.io/ggml-org/llama.cpp:server";
const PORT: f64 = 8080.0;

struct Compose;

impl Target for Compose {
    fn open(argument: &str) -> Result<Self, Error> {
        dlm_plugin::no_argument("target", "compose", argument)?;
        Ok(Compose)
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("compose", "a compose file for the server of llama.cpp"),
            accepts: vec![artifacts::Kind::Gguf],
            platforms: Vec::new(),
            programs: Vec::new(),
        }
    }

    fn prepare(&mut self, plan: &Plan) -> Result<Prepared, Error> {
        let weights = inputs::weights(plan)?;
        let adapter = weights.adapter.as_ref().map(inputs::path);
        let service = yaml::Service {
            name: &plan.name,
            image: &config::text("image")?.unwrap_or_else(|| IMAGE.to_owned()),
            port: config::number("port")?.unwrap_or(PORT) as u16,
            model: &inputs::path(&weights.model),
            adapter: adapter.as_deref(),
            context_length: plan.context_length,
        };
        output::write(FILE, yaml::write(&service).as_bytes(), false)?;
        Ok(Prepared {
            files: vec![FILE.to_owned()],
            entry: Some(FILE.to_owned()),
            launch: None,
            smoke: SmokePlan::Skip("the container is started by hand".to_owned()),
            install_preview: Vec::new(),
            usage: vec![
                "docker compose up".to_owned(),
                format!("curl http://127.0.0.1:{}/v1/models", service.port),
            ],
        })
    }

    fn smoke(&mut self, _plan: &Plan, _endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error> {
        Err(error!(Unsupported, "`prepare` asked to skip the smoke test"))
    }
}

dlm_plugin::export_target!(Compose);
