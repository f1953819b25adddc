//! `dlm templates`.

use std::process::ExitCode;

use dlm_flow::Failure;
use dlm_flow::templates::{BUNDLED, list};

use crate::args::Global;
use crate::args::align::{Templates, TemplatesList};
use crate::console::Console;
use crate::render;
use crate::wiring::{self, World};

/// Lists templates.
pub fn run(command: &Templates, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    let Templates::List(args) = command;
    let world = World::new(global, console)?;
    let plugins = wiring::plugins::open(&world, global, console, &args.plugins, None, 0)?;
    let source = source(args, console);
    let location = wiring::plugins::template_location(&world, source)?;
    let rows = list(&plugins.plugins, source, &location, args.query.as_deref());
    match &rows {
        Ok(rows) if args.json => console.json(rows),
        Ok(rows) if rows.is_empty() => console.info(&nothing(args, source)),
        Ok(rows) => console.result(&render::align::templates(rows)),
        Err(_) => {}
    }
    wiring::plugins::close(&world, console, &plugins.plugins, None);
    rows.map(|_| ExitCode::SUCCESS)
}

fn nothing(args: &TemplatesList, source: &str) -> String {
    match &args.query {
        Some(query) => format!("templates: nothing in `{source}` matches `{query}`\n  see all: dlm templates list"),
        None => format!("templates: `{source}` has none"),
    }
}

/// There is no upstream gallery yet, so refreshing falls back to the bundled one, as documented.
fn source<'a>(args: &'a TemplatesList, console: &Console) -> &'a str {
    if !args.refresh {
        return &args.source;
    }
    let unsigned = if args.accept_unsigned { ", signed or not" } else { "" };
    console.warning(&format!(
        "there is no upstream gallery yet{unsigned}: the bundled one is shown"
    ));
    BUNDLED
}
