//! The rows of what reads an index of plugins, and of the code cache.

use super::{Row, Table, check, hides, shows};
use crate::index::outdated_shelf;

pub const TABLES: &[&Table] = &[&SEARCH, &ADD, &ADD_SHOWN, &OUTDATED, &UPDATE, &CACHE];

const SEARCH: Table = (
    "plugin search",
    &[
        hides("--kind", "--index dist", "--kind judge", "shelf 1.1.0"),
        shows("--index", "", "--index dist", "shelf 1.1.0"),
        shows("--json", "--index dist", "--json", "\"plugins\""),
    ],
);
/// What is there once the newer version is installed.
const NEWER: &str = "FILE home/plugins/shelf/1.1.0/plugin.wasm";
/// What `add` and `update` ask for alike.
const CONSENT: &[Row] = &[
    shows(
        "--index",
        "shelf --grant-requested --allow-unsigned",
        "--index dist",
        NEWER,
    ),
    shows(
        "--grant",
        "shelf --index dist --allow-unsigned",
        "--grant exec:ollama",
        NEWER,
    ),
    shows(
        "--grant-requested",
        "shelf --index dist --allow-unsigned",
        "--grant-requested",
        NEWER,
    ),
    shows(
        "--allow-unsigned",
        "shelf --index dist --grant-requested",
        "--allow-unsigned",
        NEWER,
    ),
    hides(
        "--dry-run",
        "shelf --index dist --grant-requested --allow-unsigned",
        "--dry-run",
        NEWER,
    ),
];
const ADD: Table = ("plugin add", CONSENT);
const ADD_SHOWN: Table = (
    "plugin add",
    &[shows("--json", "shelf --index dist --dry-run", "--json", "\"offer\"")],
);
const OUTDATED: Table = (
    "plugin outdated",
    &[
        shows("--index", "", "--index dist", "1.0.0 -> 1.1.0"),
        shows("--json", "--index dist", "--json", "\"new_requests\""),
    ],
);
const UPDATE: Table = ("plugin update", CONSENT);
const CACHE: Table = (
    "cache plugins",
    &[
        shows("--prune", "", "--prune", "cache: removed 0 entries"),
        shows("--clear", "", "--clear", "cache: removed 1 entries"),
        shows("--json", "", "--json", "\"entry_count\": 1"),
    ],
);

#[test]
fn the_flags_of_plugins_by_name_and_of_their_code() {
    let lab = outdated_shelf();
    TABLES.iter().for_each(|table| check(&lab, table));
}
