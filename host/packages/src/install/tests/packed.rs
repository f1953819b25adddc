//! What an author packs.

use super::*;
use crate::pack::{PackOptions, author, pack, sign_command, write};

#[test]
fn packing_embeds_the_manifest_and_signs() {
    let directory = tempfile::tempdir().unwrap();
    let toml = "schema = 1\nname = \"rubric\"\nversion = \"1.2.0\"\nkinds = [\"judge\"]\n[build]\nwasm = \"out.wasm\"\ncommand = \"make\"\n";
    fs::write(directory.path().join("plugin.toml"), toml).unwrap();
    let options = PackOptions {
        directory: directory.path().to_owned(),
        ..PackOptions::default()
    };
    let error = refused(pack(&options).map(|_| ()), "plugin::pack", "no such file");
    assert_eq!(error.hints(), ["build it first: make"]);
    let old = judge("old-name", "0.1.0", &[]);
    fs::write(directory.path().join("out.wasm"), old).unwrap();
    let packed = pack(&options).unwrap();
    assert_eq!(packed.checked.manifest.name, "rubric");
    assert_eq!(
        packed.remarks,
        ["it imports what needs `model:`, `http:`, `exec:`, and requests none of them: every use will be denied"]
    );
    write(&packed).unwrap();
    assert_eq!(packed.path, directory.path().join("rubric.wasm"));

    let command = sign_command(&packed, Path::new("/k/minisign.key"));
    assert_eq!(command.last().unwrap(), "dlm-plugin rubric 1.2.0");
    let signer = Signer::new(1);
    fs::write(
        signature::signature_path(&packed.path),
        signer.sign(&packed.bytes, "dlm-plugin rubric 1.2.0"),
    )
    .unwrap();
    let home = tempfile::tempdir().unwrap();
    keys::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let fetched = from_file(&packed.path).unwrap();
    let offered = offer(home.path(), fetched, Policy::default(), &flags(&[])).unwrap();
    assert!(offered.signed.signer().is_some());
    // A new pack takes the old signature away.
    write(&packed).unwrap();
    assert!(from_file(&packed.path).unwrap().signature.is_none());
    fs::write(directory.path().join("plugin.toml"), toml.replace("schema", "shema")).unwrap();
    refused(author(directory.path()).map(|_| ()), "plugin::manifest", "schema");
    fs::write(directory.path().join("plugin.toml"), toml).unwrap();
    fs::write(
        directory.path().join("out.wasm"),
        component(&["dlm:plugin/output@1.0.0"], &["dlm:plugin/judge@1.0.0"], ""),
    )
    .unwrap();
    refused(pack(&options).map(|_| ()), "plugin::import", "output");
    fs::write(directory.path().join("out.wasm"), wat::parse_str("(module)").unwrap()).unwrap();
    refused(
        pack(&options).map(|_| ()),
        "plugin::pack",
        "`dlm:plugin/judge@1.0.0` function `open`",
    );
}
