//! `dlm base`.

use dlm_core::base::LocalBase;
use dlm_core::inert::inert_line;
use dlm_core::units::size;
use dlm_flow::base::{BaseDetail, BaseList, BaseRow, Removal};

use super::{parameters, table};
use crate::console::Console;

/// That a base was added, and what to type next.
pub fn added(base: &LocalBase, name: &str, console: &Console) {
    console.info(&format!("base: added {name}"));
    console.info(&summary(base));
    console.info(&format!("next: `dlm init <path> --base {name}`"));
}

/// The documents that need a base which is about to be deleted.
pub fn needed(removal: &Removal, console: &Console) {
    let documents = removal.needed_by.len();
    if documents > 0 {
        console.info(&format!("base: {} is needed by {documents} document(s):", removal.name));
        removal
            .needed_by
            .iter()
            .for_each(|path| console.info(&format!("  {path}")));
    }
}

/// All bases.
pub fn list(list: &BaseList, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(list),
        false => console.result(&bases(list)),
    }
}

/// Everything about one base.
pub fn detail(base: &BaseDetail, is_json: bool, console: &Console) {
    match is_json {
        true => console.json(base),
        false => console.result(&facts(base)),
    }
}

fn summary(base: &LocalBase) -> String {
    format!(
        "  {} {} parameters, {} in {}, sha256 {}",
        base.architecture,
        parameters(base.params),
        size(base.bytes),
        base.storage,
        &base.sha256.get(..12).unwrap_or(&base.sha256)
    )
}

fn bases(list: &BaseList) -> String {
    let rows: Vec<Vec<String>> = list.local.iter().chain(&list.registry).map(row).collect();
    table(
        &[
            "base",
            "parameters",
            "kind",
            "context",
            "license",
            "here",
            "training takes",
        ],
        &rows,
    )
}

fn row(base: &BaseRow) -> Vec<String> {
    let license = match base.requires_acceptance {
        true => format!("{} (gated)", base.license_spdx),
        false => base.license_spdx.clone(),
    };
    vec![
        base.key.clone(),
        parameters(base.params),
        base.modality.to_owned(),
        base.context_length.to_string(),
        license,
        if base.is_here { "yes" } else { "-" }.to_owned(),
        match (base.train_memory_bytes, base.train_refusal) {
            (Some(bytes), _) => size(bytes),
            (None, refusal) => refusal.unwrap_or("-").to_owned(),
        },
    ]
}

fn facts(base: &BaseDetail) -> String {
    let record = &base.record;
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let mut lines = vec![
        ("hub", record.hf_id.clone()),
        ("revision", record.revision.clone()),
        ("architecture", record.architecture.clone()),
        ("parameters", parameters(record.params)),
        ("kind", record.modality.name().to_owned()),
        ("template", record.template.name().to_owned()),
        ("context", record.context_usable().to_string()),
        ("license", license(base)),
        ("gated", yes(record.requires_acceptance)),
        ("may be shared", yes(record.redistributable)),
        ("here", yes(base.is_here)),
    ];
    if let Some(local) = &base.local {
        lines.push((
            "files",
            format!("{} ({}, {})", local.location, local.storage, size(local.bytes)),
        ));
        lines.push(("added from", local.added_from.clone()));
        lines.push(("sha256", local.sha256.clone()));
    }
    match (&base.train_refusal, base.train_memory_bytes) {
        (Some(refusal), _) => lines.push(("training", format!("not on this machine: {refusal}"))),
        (None, Some(bytes)) => lines.push(("training", format!("takes {}", size(bytes)))),
        (None, None) => {}
    }
    if record.trust_remote_code {
        lines.push((
            "security",
            "needs model code of its own, which never runs here".to_owned(),
        ));
    }
    if let Some(warning) = &record.capability_warning {
        lines.push(("warning", warning.clone()));
    }
    lines.extend(base.notes.iter().map(|note| ("note", note.clone())));
    let mut out = format!("{}\n", record.key);
    for (name, value) in lines {
        out.push_str(&format!("  {name:<14} {}\n", inert_line(&value)));
    }
    out
}

fn license(base: &BaseDetail) -> String {
    match &base.license_link {
        Some(link) => format!("{} ({link})", base.record.license_spdx),
        None => base.record.license_spdx.clone(),
    }
}
