//! What an index of plugins has, and what of it is new.

use dlm_core::inert::{inert, inert_line};
use dlm_core::stamp::Stamp;
use dlm_core::units::size;
use dlm_packages::index::{Found, MadeIndex, OutdatedPlugin, ReadIndex};
use serde_json::json;

use super::table;

/// Days after which an index is called old: whoever holds an old one back hides what is newer.
const OLD_DAYS: i64 = 90;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Where an index lies, how new it is, who signed it.
pub fn line(read: &ReadIndex) -> String {
    let (index, place) = (&read.index, inert(&read.source.place()));
    let count = index.plugins.len();
    format!(
        "index               {place}: number {} of {}, {count} plugin(s), signed by {}",
        index.serial, index.date, read.signer
    )
}

/// The same as data.
pub fn facts(read: &ReadIndex) -> serde_json::Value {
    json!({
        "place": read.source.place(),
        "serial": read.index.serial,
        "date": read.index.date,
        "signer": read.signer,
    })
}

/// Says that an index is old, where it is; `now` is written as its date.
pub fn age(date: &str, now: &str) -> Option<String> {
    let ms = |text: &str| Stamp::parse_zoned(text).ok().map(|stamp| stamp.unix_ms());
    let days = (ms(now)? - ms(date)?) / DAY_MS;
    (days >= OLD_DAYS).then(|| format!("this index is {days} days old: newer versions may be missing"))
}

/// What a search found, each with what it asks for.
pub fn found(found: &[Found]) -> String {
    if found.is_empty() {
        return "nothing in this index fits\n".to_owned();
    }
    let mut out = String::new();
    for row in found {
        let kinds: Vec<&str> = row.kinds.iter().map(|kind| kind.name()).collect();
        let installed = match &row.installed {
            Some(version) => format!("   installed: {}", inert_line(version)),
            None => String::new(),
        };
        out.push_str(&format!(
            "{} {}   {}   {}{installed}\n",
            row.name,
            inert_line(&row.version),
            kinds.join(", "),
            size(row.size)
        ));
        if !row.description.is_empty() {
            out.push_str(&format!("  {}\n", inert_line(&row.description)));
        }
        match row.requests.as_slice() {
            [] => out.push_str("  asks for nothing\n"),
            requests => requests.iter().for_each(|request| {
                let optional = if request.optional { " (optional)" } else { "" };
                out.push_str(&format!("  asks for {}{optional}\n", inert_line(&request.capability)));
            }),
        }
    }
    out
}

/// What is newer than what is installed, each with what it asks for beyond that.
pub fn outdated(rows: &[OutdatedPlugin]) -> String {
    if rows.is_empty() {
        return "everything that is installed is as new as in this index\n".to_owned();
    }
    let lines = rows.iter().map(|row| {
        let asks = match row.new_requests.as_slice() {
            [] => "asks for nothing new".to_owned(),
            new => format!("would also ask for {}", inert_line(&new.join("; "))),
        };
        let place = if row.is_from_here {
            ""
        } else {
            "installed from elsewhere"
        };
        vec![
            row.name.clone(),
            format!("{} -> {}", inert_line(&row.installed), inert_line(&row.newest)),
            asks,
            place.to_owned(),
        ]
    });
    table(&["name", "version", "asks", ""], &lines.collect::<Vec<_>>())
}

/// A newer version of something that came from elsewhere, which is not touched unless it is named.
pub fn elsewhere(row: &OutdatedPlugin) -> String {
    format!(
        "plugin: {} {} was installed from elsewhere and stays; this index has {}: dlm plugin update {}",
        row.name,
        inert_line(&row.installed),
        inert_line(&row.newest),
        row.name
    )
}

/// An index that was just written.
pub fn made(made: &MadeIndex) -> String {
    let mut out = format!(
        "plugin: wrote {}: number {}, {} plugin(s)",
        inert(&made.path.display().to_string()),
        made.index.serial,
        made.index.plugins.len()
    );
    for plugin in &made.index.plugins {
        let versions: Vec<&str> = plugin.releases.iter().map(|release| release.version.as_str()).collect();
        out.push_str(&format!("\n  {} {}", plugin.name, inert_line(&versions.join(", "))));
    }
    if !made.unsigned.is_empty() {
        out.push_str(&format!(
            "\n  not signed themselves, so that some users must say yes once more: {}",
            inert_line(&made.unsigned.join(", "))
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_index_is_called_old() {
        let now = "2026-11-30T12:00:00Z";
        assert_eq!(age("2026-11-01T12:00:00Z", now), None);
        assert_eq!(age("2027-11-01T12:00:00Z", now), None);
        let old = age("2026-08-01T12:00:00Z", now).unwrap();
        assert!(old.contains("121 days old"), "{old}");
    }
}
