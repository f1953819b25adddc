//! The page of the store's layout, with paths from the layout's own functions.

use std::path::Path;

use dlm_core::stamp::Stamp;
use dlm_store::layout::base_directory;
use dlm_store::{AdapterSlot, Home, StorePaths};

/// A place and what it holds.
type Row = (String, &'static str);

fn below(path: &Path, rest: &str) -> String {
    format!("{}/{rest}", path.display())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What all documents share.
fn of_home() -> Vec<Row> {
    let home = Home::new("~/.dlm");
    let base = base_directory(&home, "name").expect("a fine name");
    vec![
        (
            below(&base, ""),
            "a local base: its files and `base.json`, the record of what they are",
        ),
        (
            below(&home.bases(), ".hold/"),
            "answers of a base that training holds on to; made again when deleted",
        ),
        (
            below(&home.seen(), ""),
            "digests of bases and adapters with what the system says of their files: what nobody touched is not read again",
        ),
        (
            below(&home.text_verdicts(), ""),
            "verdicts on tokenizers and chat templates of bases, by the hash of what was tried",
        ),
        (
            below(&home.plugin_code(), ""),
            "compiled plugins, a directory for each version of the compiler and processor; what is older than 90 days, and the \
             oldest beyond 1 GiB, is removed when something is compiled. `cache/` as a whole may be deleted at any time",
        ),
        (shown(&home.history()), "questions typed into `dlm repl`"),
    ]
}

/// What belongs to one document.
fn of_store() -> Vec<Row> {
    let paths = StorePaths::new("~/.dlm/store/<dlm_id>");
    let named = AdapterSlot::named("name").expect("a fine name");
    let log = StorePaths::run_log_stem(1, Stamp::from_unix_ms(1_776_623_414_000));
    let export = paths.export("Q4_K_M").expect("a fine name");
    vec![
        (below(paths.root(), ""), "the store of one document"),
        (
            shown(&paths.manifest()),
            "what was trained and exported: runs, versions, content hashes, license",
        ),
        (
            shown(&paths.determinism_lock()),
            "what influenced the numbers of the last run; the next run is compared with it",
        ),
        (shown(&paths.exclusive_lock()), "held by the one command that writes"),
        (
            shown(&paths.journal()),
            "what is to be recorded of a run whose version becomes current; there for that moment, and finished by the next \
             command that writes",
        ),
        (
            shown(&paths.pointer(&AdapterSlot::Flat)),
            "name of the current version; written last",
        ),
        (
            below(&paths.versions(&AdapterSlot::Flat), "v0001/"),
            "one version: the adapter in PEFT's layout, tokenizer, training state, recall of every pair, and `SHA256SUMS` of all of it",
        ),
        (below(&paths.versions(&named), "v0001/"), "the same for a named adapter"),
        (below(&paths.replay(), ""), "sections of earlier runs"),
        (
            below(&export, ""),
            "the last export of a type, with `export_manifest.json`; put in place as a whole",
        ),
        (
            shown(&paths.root().join(log + ".jsonl")),
            "log of a run, a JSON object a line; beside it the summary",
        ),
        (
            shown(&paths.plugin_record("export", Stamp::from_unix_ms(1_776_623_414_000))),
            "what the plugins of a command were, might do and used",
        ),
        (
            below(&paths.imatrix(), ""),
            "the importance matrix of the base, with what it was made of; made again when it is deleted",
        ),
        (
            shown(&paths.metrics()),
            "loss, rate, evaluations and exports of every run, for `dlm metrics`",
        ),
        (below(&paths.tokenized_cache(), ""), "tokenized sources"),
        (below(&paths.blobs(), ""), "images and audio"),
    ]
}

/// Makes the page.
pub fn page() -> String {
    let mut out = String::from(
        "# The store\n\nWritten by `cargo xtask docs`. Everything lies below one home directory: `--home`, else `DLM_HOME`, else `~/.dlm`. Every file\n\
         is written beside its place, synced and renamed, so that a program that is killed leaves the old file or the new one. Stores are for
their user alone.\n\n| place | holds |\n|---|---|\n",
    );
    for (place, holds) in of_home().into_iter().chain(of_store()) {
        out.push_str(&format!("| `{place}` | {holds} |\n"));
    }
    out
}
