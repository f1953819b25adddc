//! The compiled code of plugins that is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use dlm_core::inert::inert_line;
use dlm_core::units::size;
use dlm_plugins::{CodeCache, KeptCode, RemovedCode};
use serde_json::json;

use super::table;
use crate::console::Console;

/// What is shown of the cache.
pub struct Shown {
    pub kept: Vec<KeptCode>,
    /// Plugins by the hash of their component.
    pub owners: BTreeMap<String, String>,
    /// Keys of the code that this dlm loads.
    pub keys: Vec<String>,
    pub now: SystemTime,
}

impl Shown {
    /// Whose code a piece is.
    fn owner(&self, piece: &KeptCode) -> String {
        match (self.owners.get(&piece.sha256), piece.plugin.as_str()) {
            (Some(owner), _) => owner.clone(),
            (None, "") => "of no plugin that is installed".to_owned(),
            (None, name) => format!("{} (not installed)", inert_line(name)),
        }
    }

    fn is_current(&self, piece: &KeptCode) -> bool {
        self.keys.contains(&piece.key)
    }

    fn days_unused(&self, piece: &KeptCode) -> u64 {
        let unused = self.now.duration_since(piece.used).unwrap_or_default();
        unused.as_secs() / (24 * 60 * 60)
    }

    fn bytes(&self) -> u64 {
        self.kept.iter().map(|piece| piece.bytes).sum()
    }
}

/// The directory, its size, and each piece with the plugin that it belongs to.
pub fn plugins(shown: &Shown, directory: &Path, is_json: bool, console: &Console) {
    if is_json {
        let entries = shown.kept.iter().map(|piece| {
            json!({
                "plugin": shown.owner(piece),
                "sha256": piece.sha256,
                "bytes": piece.bytes,
                "days_unused": shown.days_unused(piece),
                "is_of_this_dlm": shown.is_current(piece),
            })
        });
        return console.json(&json!({
            "cache_path": directory,
            "entry_count": shown.kept.len(),
            "bytes": shown.bytes(),
            "entries": entries.collect::<Vec<_>>(),
        }));
    }
    let mut out = format!(
        "{}\n{} entries, {}\n",
        inert_line(&directory.display().to_string()),
        shown.kept.len(),
        size(shown.bytes())
    );
    if !shown.kept.is_empty() {
        let rows = shown.kept.iter().map(|piece| {
            let unused = match shown.days_unused(piece) {
                0 => "today".to_owned(),
                days => format!("{days} d ago"),
            };
            let remark = if shown.is_current(piece) {
                ""
            } else {
                "of another dlm or processor"
            };
            vec![shown.owner(piece), size(piece.bytes), unused, remark.to_owned()]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        out.push_str(&table(&["plugin", "size", "used", ""], &rows));
    }
    console.result(&out);
}

/// What was taken out.
pub fn removed(removed: &RemovedCode, cache: &CodeCache, is_json: bool, console: &Console) {
    let left = cache.kept();
    let bytes: u64 = left.iter().map(|piece| piece.bytes).sum();
    if is_json {
        return console.json(&json!({
            "removed": removed.pieces,
            "removed_bytes": removed.bytes,
            "entry_count": left.len(),
            "bytes": bytes,
        }));
    }
    console.info(&format!(
        "cache: removed {} entries, {}; {} entries, {} are left",
        removed.pieces,
        size(removed.bytes),
        left.len(),
        size(bytes)
    ));
}
