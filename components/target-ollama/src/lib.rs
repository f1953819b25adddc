//! The export target `ollama`: a Modelfile, `ollama create`, and one question to the created model.
//!
//! Invariants: it writes only through `output`, and runs only the three commands its manifest asks for.

mod modelfile;
mod name;
mod runtime;
mod template;

use dlm_plugin::target::{Endpoint, Info, Plan, Prepared, Registration, SmokePlan, SmokeReport, Target};
use dlm_plugin::{Error, artifacts, inputs, output, run, text};

const MODELFILE: &str = "Modelfile";

struct Ollama;

impl Target for Ollama {
    fn open(argument: &str) -> Result<Self, Error> {
        dlm_plugin::no_argument("target", "ollama", argument)?;
        Ok(Ollama)
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("ollama", "Modelfile, registered with `ollama create`"),
            accepts: vec![artifacts::Kind::Gguf],
            platforms: Vec::new(),
            programs: vec!["ollama".to_owned()],
        }
    }

    fn prepare(&mut self, plan: &Plan) -> Result<Prepared, Error> {
        name::check(&plan.name)?;
        let weights = inputs::weights(plan)?;
        let facts = run::get();
        let made = modelfile::Made {
            by: format!("dlm {}", facts.host_version),
            at: text::utc(facts.unix_ms),
        };
        let body = modelfile::write(plan, &weights, &made)?;
        output::write(MODELFILE, body.as_bytes(), false)?;
        Ok(Prepared {
            files: vec![MODELFILE.to_owned()],
            entry: Some(MODELFILE.to_owned()),
            launch: None,
            smoke: SmokePlan::NoServer,
            install_preview: vec![
                "ollama --version".to_owned(),
                format!("ollama create {} -f {MODELFILE}", plan.name),
            ],
            usage: vec![format!("ollama run {}", plan.name)],
        })
    }

    fn install(&mut self, plan: &Plan) -> Result<Option<Registration>, Error> {
        name::check(&plan.name)?;
        let version = runtime::version()?;
        runtime::create(&plan.name, MODELFILE)?;
        Ok(Some(Registration {
            name: plan.name.clone(),
            runtime_version: Some(version),
        }))
    }

    fn smoke(&mut self, plan: &Plan, _endpoint: Option<&Endpoint>) -> Result<SmokeReport, Error> {
        runtime::ask(&plan.name)
    }
}

dlm_plugin::export_target!(Ollama);
