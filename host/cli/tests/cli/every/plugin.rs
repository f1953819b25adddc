//! The rows of `dlm plugin`.

use super::{Table, check, hides, shows};
use crate::lab::Lab;
use crate::plugin::{pack, sway_case};

pub const TABLES: &[&Table] = &[
    &LIST, &INSTALL, &SIGNED, &OLDER, &REMOVE, &INSPECT, &PACK, &TRUST, &KEY, &KEYS, &VERIFY, &NEW, &TEST,
];

const LIST: Table = (
    "plugin list",
    &[
        hides("--kind", "", "--kind judge", "ollama"),
        hides("--outdated-api", "", "--outdated-api", "ollama"),
        shows("--json", "", "--json", "\"plugins\""),
    ],
);
const FILE: &str = "src/shelf.wasm";
const ZEROS: &str = "--sha256 0000000000000000000000000000000000000000000000000000000000000000";
const INSTALL: Table = (
    "plugin install",
    &[
        shows("--sha256", "src/shelf.wasm --grant-requested", ZEROS, "exit 1"),
        shows(
            "--grant",
            FILE,
            "--grant model:current",
            "FILE home/plugins/shelf/1.0.0/plugin.wasm",
        ),
        shows(
            "--grant-requested",
            FILE,
            "--grant-requested",
            "FILE home/plugins/shelf/1.0.0/plugin.wasm",
        ),
        shows(
            "--name",
            "src/shelf.wasm --grant-requested",
            "--name rack",
            "FILE home/plugins/rack/1.0.0/plugin.wasm",
        ),
        hides(
            "--dry-run",
            "src/shelf.wasm --grant-requested",
            "--dry-run",
            "FILE home/plugins/shelf",
        ),
        shows("--json", "src/shelf.wasm --dry-run", "--json", "\"offer\""),
    ],
);
/// Of a plugin whose power asks for a signature.
const SIGNED: Table = (
    "plugin install",
    &[hides(
        "--allow-unsigned",
        "src/shelf.wasm --grant-requested",
        "--allow-unsigned",
        "install it all the same",
    )],
);
/// Where a newer version is installed.
const OLDER: Table = (
    "plugin install",
    &[hides("--allow-downgrade", FILE, "--allow-downgrade", "0.9.0 is older")],
);
const REMOVE: Table = (
    "plugin remove",
    &[shows(
        "--keep-config",
        "shelf",
        "--keep-config",
        "[plugins.shelf.config]",
    )],
);
const INSPECT: Table = (
    "plugin inspect",
    &[
        shows("--wit", "sway", "--wit", "export dlm:plugin/judge@1.0.0;"),
        shows("--imports", "shelf", "--imports", "\n  write\n"),
        shows("--audit", "shelf", "--audit", "not signed"),
        shows("--json", "shelf", "--json", "\"granted\""),
    ],
);
const PACK: Table = (
    "plugin pack",
    &[
        shows("--wasm", "src", "--wasm nothing.wasm", "nothing.wasm"),
        shows("--out", "src", "--out out.wasm", "FILE out.wasm"),
    ],
);
const TRUST: Table = (
    "plugin trust",
    &[
        shows(
            "--grant",
            "shelf --revoke model:current",
            "--grant clock",
            "does not request `clock`",
        ),
        hides("--revoke", "shelf", "--revoke model:current", "in all: model:current"),
    ],
);
const SIGNER: &str = "RWSGqw7ftyWdoBJlGgx5mZ6klOXfHwukLdrYwA56SDFtpTin6ais8uxK";
const KEY: Table = (
    "plugin trust",
    &[shows(
        "--for-names",
        SIGNER,
        "--for-names acme-*",
        "it may sign: acme-*",
    )],
);
const KEYS: Table = (
    "plugin keys",
    &[
        shows(
            "--revoke",
            "",
            "--revoke RWSGqw7ftyWdoBJlGgx5mZ6klOXfHwukLdrYwA56SDFtpTin6ais8uxK",
            "is no longer trusted",
        ),
        shows("--json", "", "--json", "\"keys\""),
    ],
);
const VERIFY: Table = ("plugin verify", &[shows("--json", "", "--json", "\"name\": \"shelf\"")]);
const NEW: Table = (
    "plugin new",
    &[
        shows("--lang", "judge mine", "--lang python", ".py\n"),
        shows("--dir", "judge mine", "--dir elsewhere", "FILE elsewhere/plugin.toml"),
    ],
);
const TEST: Table = (
    "plugin test",
    &[
        shows("--case", "sway", "--case case.json", "ok     case ("),
        hides(
            "--update",
            "sway --case empty.json",
            "--update",
            "the case expects nothing",
        ),
        shows("--bench", "sway --case case.json --json", "--bench", "\"call_us\""),
        shows("--json", "sway --case case.json", "--json", "\"cases\""),
    ],
);

/// A plugin that asks for a model, packed.
fn packed() -> Lab {
    let lab = Lab::new();
    pack(
        &lab,
        "1.0.0",
        "[[request]]\ncapability = \"model:current\"\nreason = \"asks\"\n",
    );
    lab
}

/// The same, installed, with settings.
fn installed() -> Lab {
    let lab = packed();
    lab.run(&["plugin", "install", FILE, "--grant-requested"]).ok();
    lab.write("home/config.toml", "[plugins.shelf.config]\nx = 1\n");
    lab
}

#[test]
fn install() {
    let lab = packed();
    check(&lab, &INSTALL);
    check(&lab, &PACK);
    let powerful = Lab::new();
    let request = "[[request]]\ncapability = \"exec:ollama\"\nreason = \"runs it\"\n";
    pack(&powerful, "1.0.0", request);
    check(&powerful, &SIGNED);
    let newer = Lab::new();
    pack(&newer, "1.0.0", "");
    newer.run(&["plugin", "install", FILE]).ok();
    pack(&newer, "0.9.0", "");
    check(&newer, &OLDER);
}

#[test]
fn manage() {
    let lab = installed();
    lab.write("case.json", sway_case(2.0, "\"verdicts\": [{}]"));
    lab.write("empty.json", sway_case(2.0, ""));
    for table in [&LIST, &REMOVE, &INSPECT, &TRUST, &KEY, &VERIFY, &NEW, &TEST] {
        check(&lab, table);
    }
    lab.run(&["plugin", "trust", SIGNER]).ok();
    check(&lab, &KEYS);
}
