//! `dlm base add|list|show|remove`.

use std::io::IsTerminal;
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
        Base::Remove { name, force } => remove(name, *force, global, console)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks on a terminal; elsewhere the documents that need the base are only named.
fn remove(name: &str, is_forced: bool, global: &Global, console: &Console) -> Result<(), Failure> {
    let home = Home::new(wiring::home(global)?);
    let removal = dlm_flow::base::removal(&home, name)?;
    let name = &removal.name;
    let documents = removal.needed_by.len();
    if documents > 0 {
        console.info(&format!("base: {name} is needed by {documents} document(s):"));
        removal
            .needed_by
            .iter()
            .for_each(|path| console.info(&format!("  {path}")));
    }
    let has_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if has_terminal && !is_forced {
        let is_sure = wiring::ask_plainly(&format!("remove the base {name}? [y/N] "));
        if !is_sure.map_err(|e| Failure::of("base", &e))? {
            console.info("base: nothing was removed");
            return Ok(());
        }
    }
    dlm_flow::base::remove(&home, &removal)?;
    console.info(&format!("base: removed {name}"));
    Ok(())
}
