//! `dlm base add|list|show|remove`.

use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_store::Home;

use crate::args::Global;
use crate::args::build::Base;
use crate::console::Console;
use crate::render;
use crate::wiring::{self, World};

/// Manages the bases on this machine.
pub fn run(command: &Base, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    match command {
        Base::Add { name, from } => {
            let world = World::new(global, console)?;
            let base = dlm_flow::base::add(&world.around(), name, from)?;
            console.info(&format!("base: added {name}"));
            console.info(&render::base::summary(&base));
            console.info(&format!("next: `dlm init <path> --base {name}`"));
        }
        Base::List { json } => {
            let world = World::new(global, console)?;
            let list = dlm_flow::base::list(&world.around())?;
            match json {
                true => console.json(&list),
                false => console.result(&render::base::list(&list)),
            }
        }
        Base::Show { name, json } => {
            let world = World::new(global, console)?;
            let detail = dlm_flow::base::detail(&world.around(), name, world.hub_root())?;
            match json {
                true => console.json(&detail),
                false => console.result(&render::base::detail(&detail)),
            }
        }
        Base::Remove { name } => {
            let removed = dlm_flow::base::remove(&Home::new(wiring::home(global)?), name)?;
            console.info(&format!("base: removed {removed}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
