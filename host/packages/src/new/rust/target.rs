//! {{does}}.

wit_bindgen::generate!({ path: "wit", world: "{{world}}" });

use dlm::plugin::log::{self, Level};
use dlm::plugin::output;
use dlm::plugin::types::{Error, Identity};
use dlm::plugin::artifacts::Kind;
use exports::dlm::plugin::target::{
    Endpoint, Guest, Info, Plan, Prepared, Registration, SmokePlan, SmokeReport,
};

const NOTE: &str = "NOTE.txt";

struct Plugin;

impl Guest for Plugin {
    /// Called once, before anything else.
    fn open(argument: String) -> Result<Info, Error> {
        // A panic explains itself in the log.
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        if !argument.is_empty() {
            return Err(Error::InvalidInput(format!("`{{name}}` takes no argument, found `{argument}`")));
        }
        Ok(Info {
            identity: Identity {
                name: "{{name}}".to_owned(),
                detail: None,
            },
            accepts: vec![Kind::Gguf],
            platforms: Vec::new(),
            programs: Vec::new(),
        })
    }

    /// Writes the files of the export.
    fn prepare(plan: Plan) -> Result<Prepared, Error> {
        let note = format!("{} at {}\n", plan.name, plan.quant);
        output::write(NOTE, note.as_bytes(), false)?;
        Ok(Prepared {
            files: vec![NOTE.to_owned()],
            entry: None,
            launch: None,
            smoke: SmokePlan::Skip("there is nothing to start".to_owned()),
            install_preview: Vec::new(),
            usage: vec![format!("read {NOTE}")],
        })
    }

    /// Registers the result with the runtime; this one has no register.
    fn install(_plan: Plan) -> Result<Option<Registration>, Error> {
        Ok(None)
    }

    /// Asks the started result; `prepare` said that there is nothing to start.
    fn smoke(_plan: Plan, _endpoint: Option<Endpoint>) -> Result<SmokeReport, Error> {
        Err(Error::Unsupported("there is nothing to start".to_owned()))
    }
}

export!(Plugin);
