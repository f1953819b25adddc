//! What the plugins of a command used, kept beside the logs of the document's runs.
//!
//! Invariant: a document without a store gets no record, and a record that cannot be written is told and stops nothing.

use std::path::Path;

use dlm_core::ports::plugin::PluginUse;
use serde_json::json;

use crate::document;
use crate::surroundings::Surroundings;

/// Writes `<store>/logs/plugins-<time>-<command>.json` for the document at `path`: name, version and hash of each plugin,
/// what it might do, and what it used.
pub fn record(around: &Surroundings, path: &Path, command: &str, used: &[PluginUse]) {
    // A document that cannot be read was told by the command itself.
    let Ok(document) = document::load(path) else { return };
    let store = around.store(&document.parsed.frontmatter().dlm_id);
    if used.is_empty() || !store.paths().root().is_dir() {
        return;
    }
    let at = around.now();
    let value = json!({ "command": command, "at": at, "dlm": around.version, "plugins": used });
    let text = serde_json::to_string_pretty(&value).expect("a record is plain data") + "\n";
    let disk = store.disk();
    let written = disk
        .create_directories(&store.paths().logs())
        .and_then(|()| disk.write(&store.paths().plugin_record(command, at), text.as_bytes()));
    if let Err(error) = written {
        let what = format!("what the plugins used is not recorded: {error}");
        around.warn(what);
    }
}
