//! `dlm init`.

use dlm_core::shell::quoted_path;
use dlm_flow::init::InitReport;

use super::first_line;
use crate::console::Console;

/// What was made, and what to type next.
pub fn report(report: &InitReport, console: &Console) {
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
    console.detail(&format!("  revision of the base: {}", report.base_revision));
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
            "next: change `base_model:` in {path} to `{base}`, which this machine trains in less time, then write your text into it"
        ),
        None => format!("next: write your text into {path}, then `dlm train {typed}`"),
    };
    console.info(&next);
}
