//! `dlm plugin` as text.

use dlm_core::inert::inert;
use dlm_core::units::size;
use dlm_packages::ask;
use dlm_packages::inspect::Inspection;
use dlm_packages::install::Offer;
use dlm_packages::keys::TrustedKey;
use dlm_packages::list::ListedPlugin;
use dlm_packages::pack::PackedPlugin;
use dlm_packages::signature::SignatureStatus;
use dlm_packages::verify::Verification;
use dlm_packages::{Kind, Manifest, Request};
use dlm_plugins::trial::{Bench, CaseReport, Standing};
use serde_json::json;

use super::table;

/// Width of the column of capabilities on the consent screen.
const CAPABILITY_WIDTH: usize = 38;

/// All plugins in one table, with what is wrong below it.
pub fn list(rows: &[ListedPlugin]) -> String {
    if rows.is_empty() {
        return "no plugin fits\n".to_owned();
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                kinds(&row.kinds),
                inert(&row.version),
                row.api.clone().unwrap_or_else(|| "?".to_owned()),
                size(row.bytes),
                row.wasi.unwrap_or("?").to_owned(),
                row.signer.as_deref().map_or_else(|| "-".to_owned(), short_key),
                match row.problem {
                    Some(_) => "does not run".to_owned(),
                    None => grants(&row.granted),
                },
                row.origin.to_owned(),
            ]
        })
        .collect();
    let header = [
        "plugin", "kinds", "version", "api", "size", "wasi", "signer", "grants", "from",
    ];
    let mut out = table(&header, &cells);
    for row in rows {
        if let Some((code, message)) = &row.problem {
            out.push_str(&format!("{}: {code}: {message}\n", row.name));
        }
    }
    out
}

fn grants(granted: &[String]) -> String {
    match granted {
        [] => "none".to_owned(),
        [one] => inert(one),
        many => format!("{} (see inspect)", many.len()),
    }
}

fn kinds(kinds: &[Kind]) -> String {
    let words: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    words.join(" · ")
}

fn short_key(key: &str) -> String {
    format!("{}…", key.get(..8).unwrap_or(key))
}

/// `6f1c…9ab2`.
fn short_hash(hash: &str) -> String {
    match (hash.get(..4), hash.get(hash.len().saturating_sub(4)..)) {
        (Some(start), Some(end)) => format!("{start}…{end}"),
        _ => hash.to_owned(),
    }
}

/// The consent screen.
pub fn consent(offer: &Offer) -> String {
    let manifest = &offer.checked.manifest;
    let about = match manifest.description.as_str() {
        "" => String::new(),
        text => format!(" — {}", inert(text)),
    };
    let alias = match offer.name == manifest.name {
        true => String::new(),
        false => format!(" (calls itself {})", manifest.name),
    };
    let api = offer
        .checked
        .api
        .rsplit_once('.')
        .map_or(offer.checked.api.as_str(), |(minor, _)| minor);
    let signed = signed(&offer.signed);
    let hash = match (&offer.signed, offer.fetched.is_from_network) {
        // Somebody has to compare it with what the author says: all of it.
        (SignatureStatus::No | SignatureStatus::Stranger, true) => offer.checked.sha256.clone(),
        _ => short_hash(&offer.checked.sha256),
    };
    let mut out = format!(
        "{} {}{alias}{about}\n  {} · plugin API {api} · {} · wasi: {}\n  sha256 {hash}   {signed}\n",
        offer.name,
        manifest.version,
        kinds(&manifest.kinds),
        size(offer.checked.bytes),
        offer.checked.wasi.name(),
    );
    if let Some(previous) = &offer.previous {
        out.push_str(&format!("  replaces {} {}\n", previous.name, previous.version));
    }
    let is_new = |request: &&Request| offer.open_requests().any(|open| open == *request);
    let (new, kept): (Vec<&Request>, Vec<&Request>) = manifest.requests.iter().partition(is_new);
    for (title, requests) in [("asks for", &new), ("keeps", &kept)] {
        if !requests.is_empty() {
            out.push_str(&format!("\n  {title}\n"));
            requests.iter().for_each(|request| out.push_str(&request_line(request)));
        }
    }
    if offer.previous.is_some() {
        for request in &new {
            out.push_str(&format!(
                "  new in {}: {}\n",
                manifest.version,
                inert(&request.capability)
            ));
        }
    }
    if !offer.dropped.is_empty() {
        out.push_str(&format!(
            "\n  no longer asks for\n    {}\n",
            inert(&offer.dropped.join("\n    "))
        ));
    }
    if manifest.requests.is_empty() {
        out.push_str("\n  asks for nothing\n");
    }
    let cannot = ask::cannot(&manifest.kinds, &manifest.requests);
    out.push_str(&format!("  cannot\n    {}\n", cannot.join(" · ")));
    for remark in &offer.remarks {
        out.push_str(&format!("  note: {}\n", inert(remark)));
    }
    out
}

/// Who signed, in words.
fn signed(signed: &SignatureStatus) -> String {
    match signed {
        SignatureStatus::No => "not signed".to_owned(),
        SignatureStatus::Stranger => "signed by a key that you do not trust".to_owned(),
        SignatureStatus::By {
            key,
            added: Some(added),
        } => {
            let day = added.get(..10).unwrap_or(added);
            format!("signed by {} (key added {day})", short_key(key))
        }
        SignatureStatus::By { key, added: None } => format!("signed by {}", short_key(key)),
    }
}

fn request_line(request: &Request) -> String {
    let capability = inert(&request.capability);
    let mut words = vec![inert(&request.reason)];
    words.extend(ask::remark(&request.capability).map(str::to_owned));
    words.extend(request.optional.then(|| "optional".to_owned()));
    words.retain(|word| !word.is_empty());
    let line = format!("    {capability:<CAPABILITY_WIDTH$} {}", words.join("   "));
    format!("{}\n", line.trim_end())
}

/// The same as data.
pub fn offer_json(offer: &Offer) -> serde_json::Value {
    let open: Vec<&Request> = offer.open_requests().collect();
    json!({ "offer": {
        "name": offer.name,
        "manifest": offer.checked.manifest,
        "sha256": offer.checked.sha256,
        "bytes": offer.checked.bytes,
        "api": offer.checked.api,
        "wasi": offer.checked.wasi.name(),
        "signer": offer.signed.signer(),
        "replaces": offer.previous.as_ref().map(|entry| &entry.version),
        "asks": open,
        "keeps": offer.kept,
        "drops": offer.dropped,
        "cannot": ask::cannot(&offer.checked.manifest.kinds, &offer.checked.manifest.requests),
        "remarks": offer.remarks,
    }})
}

/// Everything about one plugin.
pub fn inspection(seen: &Inspection) -> String {
    let mut lines: Vec<(&str, String)> = vec![("kinds", kinds(&seen.kinds)), ("from", seen.origin.to_owned())];
    let mut optional = |name: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push((name, inert(&value)));
        }
    };
    let manifest = seen.manifest.as_ref();
    optional("file", seen.path.clone());
    optional("about", manifest.map(|manifest| manifest.description.clone()));
    optional("authors", manifest.map(|manifest| manifest.authors.join(", ")));
    optional("license", manifest.and_then(|manifest| manifest.license.clone()));
    optional("homepage", manifest.and_then(|manifest| manifest.homepage.clone()));
    optional(
        "manifest",
        match &seen.manifest_flaw {
            Some(flaw) => Some(format!("broken, so that it does not run: {flaw}")),
            None => manifest.is_none().then(|| "none: it runs by path only".to_owned()),
        },
    );
    optional(
        "promises",
        manifest
            .filter(|manifest| manifest.deterministic)
            .map(|_| "the same answer to the same input".to_owned()),
    );
    lines.push((
        "plugin api",
        seen.api.clone().unwrap_or_else(|| "none that is supported".to_owned()),
    ));
    lines.push(("wasi", seen.wasi.to_owned()));
    lines.push(("size", size(seen.bytes)));
    lines.push(("sha256", seen.sha256.clone()));
    lines.push(("signature", seen.signature.clone()));
    if let Some(lock) = &seen.lock {
        lines.push(("installed", format!("{} from {}", lock.installed, inert(&lock.source))));
    }
    if !seen.producers.is_empty() {
        lines.push(("says made by", seen.producers.join(", ")));
    }
    let mut out = format!("{} {}\n", seen.name, inert(&seen.version));
    for (name, value) in lines {
        out.push_str(&format!("  {name:<14} {value}\n"));
    }
    out.push_str(&asked(seen));
    out.push_str(&settings(seen));
    out.push_str("imports\n");
    seen.imports
        .iter()
        .for_each(|item| out.push_str(&format!("  {}\n", inert(&item.name))));
    out.push_str("exports\n");
    seen.exports
        .iter()
        .for_each(|item| out.push_str(&format!("  {}\n", inert(&item.name))));
    out.push_str("parts\n");
    seen.parts
        .iter()
        .for_each(|part| out.push_str(&format!("  {:<36} {}\n", part.name, size(part.bytes))));
    if let Some((code, message)) = &seen.problem {
        out.push_str(&format!("does not run: {code}: {message}\n"));
    }
    seen.remarks
        .iter()
        .for_each(|remark| out.push_str(&format!("note: {remark}\n")));
    out
}

fn asked(seen: &Inspection) -> String {
    let requests = seen
        .manifest
        .as_ref()
        .map(|manifest| manifest.requests.as_slice())
        .unwrap_or_default();
    if requests.is_empty() {
        return "asks for nothing\n".to_owned();
    }
    let mut out = "asks for\n".to_owned();
    for request in requests {
        let is_granted = seen.granted.contains(&request.capability);
        let state = if is_granted { "granted" } else { "not granted" };
        out.push_str(&format!(
            "  {state:<12}{}",
            request_line(request).trim_start_matches("   ")
        ));
    }
    out
}

fn settings(seen: &Inspection) -> String {
    let Some(manifest) = seen.manifest.as_ref().filter(|manifest| !manifest.config.is_empty()) else {
        return String::new();
    };
    let mut out = "settings\n".to_owned();
    for (name, key) in &manifest.config {
        let mut words = vec![format!("{:?}", key.kind).to_lowercase()];
        words.extend(key.default.as_ref().map(|value| format!("default {value}")));
        words.extend(key.minimum.map(|value| format!("at least {value}")));
        words.extend(key.maximum.map(|value| format!("at most {value}")));
        words.extend(key.required.then(|| "required".to_owned()));
        let line = format!("  {name:<20} {}   {}", words.join(", "), key.description);
        out.push_str(&inert(line.trim_end()));
        out.push('\n');
    }
    out
}

/// Imports with their functions.
pub fn imports(seen: &Inspection) -> String {
    let mut out = format!("wasi: {}\n", seen.wasi);
    for item in &seen.imports {
        out.push_str(&format!("{}\n", inert(&item.name)));
        item.functions
            .iter()
            .for_each(|function| out.push_str(&format!("  {}\n", inert(function))));
    }
    out
}

/// One line per risk.
pub fn audit(seen: &Inspection) -> String {
    match seen.risks.as_slice() {
        [] => "nothing to note\n".to_owned(),
        risks => risks.join("\n") + "\n",
    }
}

/// What was packed.
pub fn packed(packed: &PackedPlugin) -> String {
    let manifest = &packed.checked.manifest;
    let was = if packed.was_module {
        ", made from a core module"
    } else {
        ""
    };
    format!(
        "plugin: packed {} {} into {}{was}\n  {} · {} · wasi: {} · sha256 {}",
        manifest.name,
        manifest.version,
        packed.path.display(),
        kinds(&manifest.kinds),
        size(packed.checked.bytes),
        packed.checked.wasi.name(),
        packed.checked.sha256
    )
}

/// One line per entry of the lock.
pub fn verified(all: &[Verification]) -> String {
    if all.is_empty() {
        return "nothing is installed or trusted\n".to_owned();
    }
    let mut out = String::new();
    for one in all {
        match &one.problem {
            None => out.push_str(&format!("{} {}: as pinned\n", one.name, one.version)),
            Some((code, message)) => out.push_str(&format!("{} {}: {code}: {message}\n", one.name, one.version)),
        }
    }
    out
}

/// Cases and checks of a test.
pub fn trial(
    manifest: &Manifest,
    reports: &[CaseReport],
    standing: &[Standing],
    benches: &[Result<Bench, String>],
) -> String {
    let mut out = String::new();
    let mut told: Vec<(String, String)> = Vec::new();
    let mut line = |name: &str, problems: &[String], said: &[String], ms: Option<f64>| {
        let time = ms.map(|ms| format!(" ({ms:.1} ms)")).unwrap_or_default();
        let word = if problems.is_empty() { "ok    " } else { "FAILED" };
        out.push_str(&format!("{word} {name}{time}\n"));
        for problem in problems {
            // A plugin that fails always fails the same way: told once, named after that.
            let first = told.iter().find(|(_, before)| before == problem).map(|(name, _)| name);
            let text = match first {
                Some(first) => format!("as in `{first}`"),
                None => problem.trim_end().to_owned(),
            };
            if first.is_none() {
                told.push((name.to_owned(), problem.clone()));
            }
            inert(&text)
                .lines()
                .for_each(|line| out.push_str(&format!("         {line}\n")));
        }
        // What a message tells already is not said twice.
        for said in said
            .iter()
            .filter(|said| !problems.iter().any(|problem| problem.contains(*said)))
        {
            out.push_str(&format!("       │ {}\n", inert(said)));
        }
    };
    for report in reports {
        line(&report.name, &report.problems, &report.said, Some(report.ms));
    }
    for check in standing {
        let shown = check.shown.iter().filter(|_| check.problem.is_some());
        let problems: Vec<String> = check.problem.iter().chain(shown).cloned().collect();
        line(&check.name, &problems, &[], None);
    }
    for bench in benches {
        match bench {
            Ok(bench) => out.push_str(&format!(
                "bench  {}: open {:.1} µs ({} instructions), call {:.1} µs ({} instructions); memory {}; medians of {}\n",
                bench.name,
                bench.open_us,
                grouped(bench.open_instructions),
                bench.call_us,
                grouped(bench.call_instructions),
                size(bench.memory_peak_bytes),
                bench.calls
            )),
            Err(cause) => out.push_str(&format!("bench  {}\n", inert(cause))),
        }
    }
    let failed = reports.iter().filter(|report| !report.is_passed()).count()
        + standing.iter().filter(|check| check.problem.is_some()).count();
    let all = reports.len() + standing.len();
    out.push_str(&format!("{} {}: ", manifest.name, inert(&manifest.version)));
    match failed {
        0 => out.push_str(&format!("{all} passed\n")),
        failed => out.push_str(&format!("{failed} of {all} failed\n")),
    }
    if reports.is_empty() {
        out.push_str("no case was found: put JSON files into cases/ beside the file, or name one with --case\n");
    }
    out
}

/// `12 345 678`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// What a key may sign, as a line below it.
pub fn may_sign(names: &[String]) -> String {
    match names {
        [] => "  it may sign every plugin".to_owned(),
        names => format!("  it may sign: {}", names.join(", ")),
    }
}

/// Trusted keys, each with what is here and was signed by it.
pub fn keys(rows: &[(&TrustedKey, Vec<String>)]) -> String {
    if rows.is_empty() {
        return "no key is trusted; to trust one: dlm plugin trust KEY\n".to_owned();
    }
    let mut out = String::new();
    for (key, signed) in rows {
        out.push_str(&format!("{}\n{}\n", key.text, may_sign(&key.names)));
        if let Some(added) = &key.added {
            out.push_str(&format!("  added {added}\n"));
        }
        if !signed.is_empty() {
            out.push_str(&format!("  signed {}\n", inert(&signed.join(", "))));
        }
    }
    out
}
