//! `dlm init`.

use std::process::ExitCode;

use dlm_core::FailureKind;
use dlm_core::shell::quoted_path;
use dlm_flow::Failure;
use dlm_flow::init::{InitOptions, InitReport};
use dlm_flow::templates::{self, CheckedTemplate};

use crate::args::Global;
use crate::args::build::Init;
use crate::console::Console;
use crate::render::align::first_line;
use crate::unbuilt;
use crate::wiring::{self, World};

/// Makes a document and its store.
pub fn run(args: &Init, global: &Global, console: &Console) -> Result<ExitCode, Failure> {
    unbuilt::init(args)?;
    let world = World::new(global, console)?;
    let options = InitOptions {
        path: args.path.clone(),
        base: args.base.clone(),
        export_probes: wiring::export_probes(args.skip_export_probes),
        accepts_license: args.i_accept_license,
        overwrites: args.force,
        hub_root: world.hub_root().to_owned(),
    };
    let template = match &args.template {
        Some(text) => Some(template(text, args, global, console, &world)?),
        None => None,
    };
    let report = dlm_flow::init::init(&world.around(), &options, template.as_ref(), &|question| {
        world.ask(question)
    })?;
    tell(&report, console);
    Ok(ExitCode::SUCCESS)
}

/// Fetches and checks a template; its document and files are foreign until then.
fn template(
    text: &str,
    args: &Init,
    global: &Global,
    console: &Console,
    world: &World,
) -> Result<CheckedTemplate, Failure> {
    let (source, name) = templates::selector(text)?;
    let plugins = wiring::plugins::open(world, global, console, &args.plugins, None, 0)?;
    let location = wiring::plugins::template_location(world, source)?;
    let template = templates::fetch(&plugins.plugins, source, &location, name);
    wiring::plugins::close(world, console, &plugins.plugins, None);
    // An unknown source is the same mistake as an unknown template, which `spec/cli.md` section 4 gives exit 1.
    template.map_err(|failure| Failure {
        kind: FailureKind::Runtime,
        ..failure.under("init")
    })
}

fn tell(report: &InitReport, console: &Console) {
    let path = report.path.display();
    console.info(&format!("init: wrote {path}"));
    console.info(&format!("  id:    {}", report.dlm_id));
    if let Some(template) = &report.template {
        let title = first_line(&template.title);
        console.info(&format!(
            "  from:  template `{}` of `{}`: {title}",
            template.name, template.source
        ));
        for file in &template.files {
            console.info(&format!("  file:  {}", file.display()));
        }
        if let Some(license) = &template.license {
            console.info(&format!("  license of the template: {}", first_line(license)));
        }
    }
    console.info(&format!("  base:  {}", report.base));
    console.info(&format!("  store: {}", report.store.display()));
    if let Some(license) = &report.license {
        console.info(&format!(
            "  license accepted: {} ({})",
            license.license_spdx, license.license_url
        ));
    }
    if let Some(old) = &report.replaced {
        let id = old
            .dlm_id
            .as_ref()
            .map_or("an id that could not be read".to_owned(), |id| format!("id {id}"));
        console.info(&format!(
            "  the document that was replaced had {id}; the new one starts afresh"
        ));
        if let Some(store) = &old.store {
            console.info(&format!("  its store is kept: {}", store.display()));
        }
    }
    report
        .notes
        .iter()
        .for_each(|note| console.info(&format!("  note: {note}")));
    report.warnings.iter().for_each(|warning| console.warning(warning));
    let typed = quoted_path(&report.path);
    let next = match &report.better_base {
        Some(base) => format!(
            "next: change `base_model:` in {path} to `{base}` to train it on this machine, then write your text into it"
        ),
        None => format!("next: write your text into {path}, then `dlm train {typed}`"),
    };
    console.info(&next);
}
