//! The export target `ollama`: a Modelfile, `ollama create`, and one question to the created model.
//!
//! Invariants: it writes only through `output`, and runs only the three commands its manifest asks for.

mod modelfile;
mod name;
mod runtime;
mod template;

use dlm_plugin::target::{Endpoint, Info, Plan, Prepared, Registration, SmokePlan, SmokeReport};
use dlm_plugin::types::Identity;
use dlm_plugin::{Error, Target, artifacts, inputs, output, run, text};

const MODELFILE: &str = "Modelfile";

struct Ollama;

impl Target for Ollama {
    fn open(arg: String) -> Result<Info, Error> {
        dlm_plugin::explain_panics();
        dlm_plugin::no_argument("ollama", &arg)?;
        Ok(Info {
            identity: Identity {
                name: "ollama".to_owned(),
                detail: Some("Modelfile, registered with `ollama create`".to_owned()),
            },
            accepts: vec![artifacts::Kind::Gguf],
            platforms: Vec::new(),
            programs: vec!["ollama".to_owned()],
        })
    }

    fn prepare(plan: Plan) -> Result<Prepared, Error> {
        name::check(&plan.name)?;
        let weights = inputs::weights(&plan)?;
        let facts = run::get();
        let made = modelfile::Made {
            by: format!("dlm {}", facts.host_version),
            at: text::utc(facts.unix_ms),
        };
        let body = modelfile::write(&plan, &weights, &made)?;
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

    fn install(plan: Plan) -> Result<Option<Registration>, Error> {
        name::check(&plan.name)?;
        let version = runtime::version()?;
        runtime::create(&plan.name, MODELFILE)?;
        Ok(Some(Registration {
            name: plan.name,
            runtime_version: Some(version),
        }))
    }

    fn smoke(plan: Plan, _endpoint: Option<Endpoint>) -> Result<SmokeReport, Error> {
        runtime::ask(&plan.name)
    }
}

dlm_plugin::bindings::export!(Ollama);
