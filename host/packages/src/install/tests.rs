use dlm_core::Hints;

use super::*;
use crate::discover::{Finder, Places};
use crate::fetch::from_file;
use crate::inspect::{inspect, wit};
use crate::list::list;
use crate::remove::remove;
use crate::selector::Selector;
use crate::testing::{Signer, component, judge};
use crate::trust::{trust_file, trust_name};
use crate::verify::verify;

const NOW: &str = "2026-11-21T19:00:00Z";
const LATER: &str = "2026-11-22T19:00:00Z";

fn fetched(bytes: Vec<u8>, is_from_network: bool) -> Fetched {
    Fetched {
        bytes,
        signature: None,
        source: "rubric.wasm".to_owned(),
        is_from_network,
    }
}

fn flags(grants: &[&str]) -> InstallFlags {
    InstallFlags {
        grants: grants.iter().map(|text| (*text).to_owned()).collect(),
        ..InstallFlags::default()
    }
}

fn install_with(home: &Path, bytes: Vec<u8>, flags: &InstallFlags, now: &str) -> Result<LockEntry, ManageError> {
    let offer = offer(home, fetched(bytes, false), Policy::default(), flags)?;
    let consent = decide(&offer, flags, None)?;
    install(home, &offer, &consent, now)
}

fn finder(home: &Path) -> Finder {
    Finder::new(Places {
        home: home.to_owned(),
        ..Places::default()
    })
}

fn refused<T: std::fmt::Debug>(result: Result<T, ManageError>, code: &str, part: &str) -> ManageError {
    let error = result.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(part), "{error}");
    error
}

const MODEL: (&str, bool) = ("model:current", false);
const HTTP: (&str, bool) = ("http:https://api.example.com/v1", true);

#[test]
fn what_is_installed_is_found_with_its_grants_and_can_be_removed() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.2.0", &[MODEL, HTTP]);
    install_with(home.path(), bytes.clone(), &flags(&["model:current"]), NOW).unwrap();
    let found = finder(home.path())
        .find(&Selector::parse("rubric").unwrap(), None)
        .unwrap();
    assert_eq!(found.granted, ["model:current"]);
    assert_eq!(found.read().unwrap(), bytes);
    let entry = Lock::read(home.path()).unwrap().installed("rubric").cloned().unwrap();
    assert_eq!((entry.api.as_str(), entry.installed.as_str()), ("1.0.0", NOW));
    assert_eq!(entry.grants[0].by, GrantedBy::Flag);
    assert!(verify(home.path()).unwrap()[0].problem.is_none());

    let removed = remove(home.path(), "rubric").unwrap();
    assert_eq!(removed.entries, [entry]);
    assert!(!home.path().join("plugins/rubric").exists());
    refused(remove(home.path(), "rubric"), "plugin::unknown", "installed");
    refused(remove(home.path(), "ollama"), "plugin::unknown", "inside dlm");
}

#[test]
fn without_a_terminal_every_required_capability_needs_a_flag() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.2.0", &[MODEL, HTTP]);
    let error = refused(
        install_with(home.path(), bytes.clone(), &flags(&[]), NOW),
        "plugin::denied",
        "needs model:current, which was not granted",
    );
    assert_eq!(error.hints()[0], "grant it: --grant 'model:current'");
    assert!(!home.path().join("plugins/rubric").exists());
    let all = InstallFlags {
        is_granting_requested: true,
        ..flags(&[])
    };
    let entry = install_with(home.path(), bytes.clone(), &all, NOW).unwrap();
    assert_eq!(entry.granted(), ["model:current", "http:https://api.example.com/v1"]);
    let other = flags(&["model:current", "clock"]);
    refused(
        install_with(home.path(), bytes.clone(), &other, NOW),
        "plugin::invalid-input",
        "does not request `clock`",
    );
    refused(
        install_with(home.path(), bytes, &flags(&["modle:current"]), NOW),
        "plugin::invalid-input",
        "no known kind",
    );
}

#[test]
fn answers_on_a_terminal_are_recorded_as_such() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.2.0", &[MODEL, HTTP]);
    let offer = offer(home.path(), fetched(bytes, false), Policy::default(), &flags(&[])).unwrap();
    let mut asked = Vec::new();
    let mut ask = |question: &str| {
        asked.push(question.to_owned());
        Ok(!question.contains("optional"))
    };
    let consent = decide(&offer, &flags(&[]), Some(&mut ask)).unwrap();
    assert_eq!(consent.grants, [("model:current".to_owned(), GrantedBy::Prompt)]);
    assert_eq!(
        asked,
        [
            "Grant model:current?",
            "Grant http:https://api.example.com/v1 (optional)?"
        ]
    );
    let mut no = |_: &str| Ok(false);
    let error = decide(&offer, &flags(&[]), Some(&mut no)).unwrap_err();
    assert_eq!(error.hints(), ["nothing was installed"]);
}

#[test]
fn an_upgrade_keeps_unchanged_grants_drops_the_rest_and_asks_for_the_new() {
    let home = tempfile::tempdir().unwrap();
    let signer = Signer::new(1);
    signature::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let signed = |bytes: &[u8], version: &str| Fetched {
        signature: Some(signer.sign(bytes, &format!("dlm-plugin rubric {version}"))),
        ..fetched(bytes.to_vec(), false)
    };
    let install_signed = |bytes: &[u8], version: &str, flags: &InstallFlags, now: &str| {
        let offer = offer(home.path(), signed(bytes, version), Policy::default(), flags)?;
        install(home.path(), &offer, &decide(&offer, flags, None)?, now)
    };
    let first = judge("rubric", "1.2.0", &[MODEL, HTTP]);
    let all = InstallFlags {
        is_granting_requested: true,
        ..flags(&[])
    };
    install_signed(&first, "1.2.0", &all, NOW).unwrap();
    let second = judge(
        "rubric",
        "1.3.0",
        &[MODEL, ("http:https://telemetry.example.com", false)],
    );
    let error = refused(
        install_signed(&second, "1.3.0", &flags(&[]), LATER),
        "plugin::denied",
        "http:https://telemetry.example.com",
    );
    assert!(
        error.hints().contains(&"version 1.2.0 stays as it was".to_owned()),
        "{:?}",
        error.hints()
    );
    assert_eq!(
        Lock::read(home.path()).unwrap().installed("rubric").unwrap().version,
        "1.2.0"
    );

    let offered = offer(home.path(), signed(&second, "1.3.0"), Policy::default(), &flags(&[])).unwrap();
    assert_eq!(offered.dropped, ["http:https://api.example.com/v1"]);
    let open: Vec<&str> = offered
        .open_requests()
        .map(|request| request.capability.as_str())
        .collect();
    assert_eq!(open, ["http:https://telemetry.example.com"]);
    let entry = install_signed(&second, "1.3.0", &flags(&["http:https://telemetry.example.com"]), LATER).unwrap();
    assert_eq!(entry.granted(), ["model:current", "http:https://telemetry.example.com"]);
    assert_eq!(
        (entry.grants[0].granted.as_str(), entry.grants[1].granted.as_str()),
        (NOW, LATER)
    );
    assert!(!home.path().join("plugins/rubric/1.2.0").exists());
}

#[test]
fn a_hash_a_name_and_the_settings_are_held() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.2.0", &[]);
    let hash = crate::builtin::sha256(&bytes);
    let with = |sha256: &str, name: Option<&str>| InstallFlags {
        sha256: Some(sha256.to_owned()),
        name: name.map(str::to_owned),
        ..InstallFlags::default()
    };
    refused(
        install_with(home.path(), bytes.clone(), &with(&"0".repeat(64), None), NOW),
        "plugin::tampered",
        "was expected",
    );
    refused(
        install_with(home.path(), bytes.clone(), &with(&hash, Some("sway")), NOW),
        "plugin::invalid-input",
        "`sway`",
    );
    let entry = install_with(home.path(), bytes, &with(&hash.to_uppercase(), Some("mine")), NOW).unwrap();
    assert_eq!(entry.name, "mine");
    let found = finder(home.path())
        .find(&Selector::parse("mine").unwrap(), None)
        .unwrap();
    assert_eq!(found.manifest.name, "mine");
    assert!(verify(home.path()).unwrap()[0].problem.is_none());

    let wasi = component(
        &["wasi:io/poll@0.2.0"],
        &["dlm:plugin/judge@1.0.0"],
        r#"{"schema":1,"name":"with-wasi","version":"1.0.0","kinds":["judge"]}"#,
    );
    let strict = Policy {
        is_wasi_refused: true,
        ..Policy::default()
    };
    let error = offer(home.path(), fetched(wasi.clone(), false), strict, &flags(&[])).map(|_| ());
    refused(error, "plugin::import", "wasi");
    assert!(offer(home.path(), fetched(wasi, false), Policy::default(), &flags(&[])).is_ok());
}

#[test]
fn a_component_that_does_not_fit_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let manifest = |kinds: &str| format!(r#"{{"schema":1,"name":"rubric","version":"1.0.0","kinds":[{kinds}]}}"#);
    let judge_export = "dlm:plugin/judge@1.0.0";
    for (imports, exports, kinds, code, part) in [
        (
            &[][..],
            &[][..],
            "\"judge\"",
            "plugin::wrong-kind",
            "none of the interfaces",
        ),
        (
            &[],
            &[judge_export],
            "\"target\"",
            "plugin::manifest",
            "exports judge, its manifest says target",
        ),
        (
            &[],
            &[judge_export, "dlm:plugin/templates@1.0.0"],
            "\"judge\"",
            "plugin::manifest",
            "exports judge and templates, its manifest says judge",
        ),
        (
            &[],
            &["dlm:plugin/judge@2.0.0"],
            "\"judge\"",
            "plugin::api",
            "built for plugin API 2.0.0",
        ),
        (
            &[],
            &[judge_export, "dlm:plugin/templates@2.0.0"],
            "\"judge\",\"templates\"",
            "plugin::api",
            "1.0.0 and 2.0.0",
        ),
        (
            &["dlm:plugin/output@1.0.0"],
            &[judge_export],
            "\"judge\"",
            "plugin::import",
            "which a judge may not",
        ),
        (
            &["wasi:keyvalue/store@0.2.0"],
            &[judge_export],
            "\"judge\"",
            "plugin::import",
            "keyvalue",
        ),
    ] {
        let bytes = component(imports, exports, &manifest(kinds));
        refused(install_with(home.path(), bytes, &flags(&[]), NOW), code, part);
    }
    let two = component(
        &["dlm:plugin/http@1.0.0"],
        &[judge_export, "dlm:plugin/templates@1.0.0"],
        &manifest("\"templates\",\"judge\""),
    );
    assert!(install_with(home.path(), two, &flags(&[]), NOW).is_ok());
    let bare = component(&[], &[judge_export], "");
    refused(
        install_with(home.path(), bare, &flags(&[]), NOW),
        "plugin::manifest",
        "missing",
    );
}

#[test]
fn power_decides_what_an_unsigned_file_needs() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.0.0", &[("exec:git status", false)]);
    let all = InstallFlags {
        is_granting_requested: true,
        ..flags(&[])
    };
    let of = |is_from_network: bool, flags: &InstallFlags| {
        let offer = offer(
            home.path(),
            fetched(bytes.clone(), is_from_network),
            Policy::default(),
            flags,
        )
        .unwrap();
        decide(&offer, flags, None)
    };
    let error = refused(of(false, &all), "plugin::signature", "is not signed");
    assert!(error.hints()[0].contains("--allow-unsigned"));
    refused(of(true, &all), "plugin::signature", "comes from the network");
    let allowed = InstallFlags {
        is_allowing_unsigned: true,
        ..all
    };
    assert!(of(false, &allowed).is_ok() && of(true, &allowed).is_ok());
    let always = Policy {
        require_signature: RequireSignature::Always,
        ..Policy::default()
    };
    let offer = offer(
        home.path(),
        fetched(judge("rubric", "1.0.0", &[]), false),
        always,
        &allowed,
    )
    .unwrap();
    refused(
        decide(&offer, &allowed, None),
        "plugin::signature",
        "your settings require",
    );
}

#[test]
fn another_signer_needs_a_yes() {
    let home = tempfile::tempdir().unwrap();
    let signer = Signer::new(1);
    signature::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let signed = |version: &str| {
        let bytes = judge("rubric", version, &[]);
        Fetched {
            signature: Some(signer.sign(&bytes, &format!("dlm-plugin rubric {version}"))),
            ..fetched(bytes, true)
        }
    };
    let none = flags(&[]);
    let first = offer(home.path(), signed("1.0.0"), Policy::default(), &none).unwrap();
    let entry = install(home.path(), &first, &decide(&first, &none, None).unwrap(), NOW).unwrap();
    assert_eq!(entry.signer.as_deref(), first.signed.signer());
    assert!(entry.signer.is_some());
    assert!(home.path().join("plugins/rubric/1.0.0/plugin.wasm.minisig").exists());
    let second = offer(home.path(), signed("1.1.0"), Policy::default(), &none).unwrap();
    assert!(!second.is_other_signer());
    let unsigned = offer(
        home.path(),
        fetched(judge("rubric", "1.1.0", &[]), false),
        Policy::default(),
        &none,
    )
    .unwrap();
    refused(decide(&unsigned, &none, None), "plugin::signature", "by another key");
    let mut yes = |question: &str| {
        assert!(question.contains("not signed by a trusted key"), "{question}");
        Ok(true)
    };
    assert!(decide(&unsigned, &none, Some(&mut yes)).is_ok());
    fs::remove_dir_all(signature::keys_directory(home.path())).unwrap();
    assert_eq!(
        verify(home.path()).unwrap()[0].problem.as_ref().unwrap().0,
        "plugin::signature"
    );
}

#[test]
fn trust_changes_grants_and_pins_files_in_place() {
    let home = tempfile::tempdir().unwrap();
    install_with(
        home.path(),
        judge("rubric", "1.2.0", &[MODEL, HTTP]),
        &flags(&["model:current"]),
        NOW,
    )
    .unwrap();
    let add = ["http:https://api.example.com/v1".to_owned()];
    let gone = ["model:current".to_owned()];
    let changed = trust_name(&finder(home.path()), "rubric", &add, &gone, LATER).unwrap();
    assert_eq!(
        (changed.added.as_slice(), changed.revoked.as_slice()),
        (&add[..], &gone[..])
    );
    let found = finder(home.path())
        .find(&Selector::parse("rubric").unwrap(), None)
        .unwrap();
    assert_eq!(found.granted, add);
    let again = trust_name(&finder(home.path()), "rubric", &[], &gone, LATER);
    refused(again, "plugin::invalid-input", "has no grant `model:current`");
    let clock = ["clock".to_owned()];
    refused(
        trust_name(&finder(home.path()), "rubric", &clock, &[], LATER),
        "plugin::invalid-input",
        "does not request `clock`",
    );
    refused(
        trust_name(&finder(home.path()), "ollama", &[], &[], LATER),
        "plugin::unknown",
        "inside dlm",
    );

    let file = home.path().join("project/.dlm/plugins/grader.wasm");
    disk::write(&file, &judge("grader", "1.0.0", &[MODEL])).unwrap();
    let there = Finder::new(Places {
        home: home.path().to_owned(),
        project: Some(home.path().join("project")),
        ..Places::default()
    });
    let grader = Selector::parse("grader").unwrap();
    refused(
        there.find(&grader, None).map(|_| ()),
        "plugin::tampered",
        "never trusted",
    );
    assert!(
        trust_file(home.path(), Policy::default(), &file, &gone, &[], NOW)
            .unwrap()
            .is_new
    );
    let there = Finder::new(there.places().clone());
    assert_eq!(there.find(&grader, None).unwrap().granted, ["model:current"]);
    assert!(
        !trust_file(home.path(), Policy::default(), &file, &[], &[], NOW)
            .unwrap()
            .is_new
    );
    // Another file in its place is not trusted, and has none of the grants once it is.
    disk::write(&file, &judge("grader", "1.0.1", &[MODEL])).unwrap();
    let there = Finder::new(there.places().clone());
    refused(
        there.find(&grader, None).map(|_| ()),
        "plugin::tampered",
        "not the file that was trusted",
    );
    let changed = trust_file(home.path(), Policy::default(), &file, &[], &[], LATER).unwrap();
    assert!(changed.is_new);
    assert!(changed.entry.granted().is_empty());
    let always = Policy {
        require_signature: RequireSignature::Always,
        ..Policy::default()
    };
    refused(
        trust_file(home.path(), always, &file, &[], &[], LATER),
        "plugin::signature",
        "your settings require a signature",
    );
}

#[test]
fn a_trusted_file_keeps_its_grants_under_its_signer_alone() {
    let home = tempfile::tempdir().unwrap();
    let signer = Signer::new(1);
    signature::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let file = home.path().join("grader.wasm");
    let write = |version: &str, signer: Option<&Signer>| {
        let bytes = judge("grader", version, &[MODEL]);
        disk::write(&file, &bytes).unwrap();
        let beside = signature::signature_path(&file);
        match signer {
            Some(signer) => {
                disk::write(&beside, &signer.sign(&bytes, &format!("dlm-plugin grader {version}"))).unwrap()
            }
            None => remove_file(&beside).unwrap(),
        }
    };
    let model = ["model:current".to_owned()];
    let trust = |grants: &[String]| trust_file(home.path(), Policy::default(), &file, grants, &[], NOW);
    write("1.0.0", Some(&signer));
    trust(&model).unwrap();
    write("1.1.0", Some(&signer));
    assert_eq!(trust(&[]).unwrap().entry.granted(), model);
    write("1.2.0", None);
    let error = refused(trust(&[]), "plugin::signature", "by another key");
    assert!(error.hints()[0].contains("dlm plugin remove grader, then trust it again"));
    write("1.2.0", Some(&Signer::new(2)));
    refused(trust(&model), "plugin::signature", "by another key");
    assert_eq!(Lock::read(home.path()).unwrap().plugins[0].version, "1.1.0");
}

#[test]
fn grants_follow_the_author_and_not_the_name() {
    let home = tempfile::tempdir().unwrap();
    install_with(
        home.path(),
        judge("rubric", "1.2.0", &[MODEL]),
        &flags(&["model:current"]),
        NOW,
    )
    .unwrap();
    let strangers = judge("rubric", "1.3.0", &[MODEL]);
    let offered = offer(
        home.path(),
        fetched(strangers.clone(), false),
        Policy::default(),
        &flags(&[]),
    )
    .unwrap();
    assert!(offered.kept.is_empty() && offered.dropped.is_empty());
    assert_eq!(offered.open_requests().count(), 1);
    assert!(
        offered
            .remarks
            .iter()
            .any(|text| text.contains("no trusted key signed both"))
    );
    refused(
        install_with(home.path(), strangers.clone(), &flags(&[]), LATER),
        "plugin::denied",
        "needs model:current",
    );
    let entry = install_with(home.path(), strangers.clone(), &flags(&["model:current"]), LATER).unwrap();
    assert_eq!(entry.grants[0].granted, LATER);
    // The same bytes again are the same author's.
    let again = install_with(home.path(), strangers, &flags(&[]), NOW).unwrap();
    assert_eq!(again.grants, entry.grants);
}

#[test]
fn a_request_is_shown_as_it_is_read() {
    let home = tempfile::tempdir().unwrap();
    for (capability, part) in [
        (
            "secret:OPENAI_API_KEY@\u{430}pi.openai.com",
            "must be written `secret:OPENAI_API_KEY@xn--pi-6kc.openai.com`",
        ),
        (
            "http:https://\u{430}pi.openai.com",
            "must be written `http:https://xn--pi-6kc.openai.com`",
        ),
        ("http:http://0x7f.1/", "must be written `http:http://127.0.0.1`"),
        (
            "http:https://API.example.com",
            "must be written `http:https://api.example.com`",
        ),
        ("exec:git stat\u{430}s", "letters outside ASCII"),
        ("limit:color=1", "memory"),
    ] {
        let bytes = judge("rubric", "1.0.0", &[(capability, false)]);
        refused(
            offer(home.path(), fetched(bytes, false), Policy::default(), &flags(&[])).map(|_| ()),
            "plugin::invalid-input",
            part,
        );
    }
    let bytes = judge("rubric", "1.0.0", &[("http:https://xn--pi-6kc.openai.com", false)]);
    assert!(offer(home.path(), fetched(bytes, false), Policy::default(), &flags(&[])).is_ok());
}

#[test]
fn inspect_and_list_read_without_running() {
    let home = tempfile::tempdir().unwrap();
    let bytes = judge("rubric", "1.2.0", &[MODEL, ("exec:git **", true)]);
    let file = home.path().join("rubric.wasm");
    fs::write(&file, &bytes).unwrap();
    let typed = file.to_str().unwrap();
    let (seen, _) = inspect(&finder(home.path()), typed).unwrap();
    assert_eq!((seen.name.as_str(), seen.wasi, seen.origin), ("rubric", "none", "path"));
    assert_eq!((seen.signature.as_str(), seen.problem), ("none", None));
    assert_eq!(seen.imports.len(), 3);
    let risks = seen.risks.join("\n");
    for part in [
        "any arguments: exec:git **",
        "not signed",
        "imports dlm:plugin/http@1.0.0 and requests no http:",
    ] {
        assert!(risks.contains(part), "{part} in {risks}");
    }
    assert!(wit(&file, &bytes).unwrap().contains("export dlm:plugin/judge@1.0.0"));

    let allow = InstallFlags {
        is_allowing_unsigned: true,
        ..flags(&["model:current"])
    };
    let fetched = from_file(&file).unwrap();
    let offered = offer(home.path(), fetched, Policy::default(), &allow).unwrap();
    install(home.path(), &offered, &decide(&offered, &allow, None).unwrap(), NOW).unwrap();
    let (seen, _) = inspect(&finder(home.path()), "rubric").unwrap();
    assert_eq!(
        seen.lock.unwrap().source,
        file.canonicalize().unwrap().to_string_lossy()
    );
    assert_eq!(seen.granted, ["model:current"]);
    let (builtin, _) = inspect(&finder(home.path()), "ollama").unwrap();
    assert_eq!(
        (builtin.origin, builtin.signature.as_str(), builtin.problem),
        ("built in", "part of dlm", None)
    );
    assert!(
        builtin
            .imports
            .iter()
            .any(|item| item.functions.contains(&"write".to_owned()))
    );

    let listed = list(&finder(home.path())).unwrap();
    let row = listed.iter().find(|row| row.name == "rubric").unwrap();
    assert_eq!(
        (row.version.as_str(), row.wasi, row.api.as_deref()),
        ("1.2.0", Some("none"), Some("1.0.0"))
    );
    assert!(
        listed
            .iter()
            .any(|row| row.name == "ollama" && row.origin == "built in")
    );
    fs::write(home.path().join("plugins/rubric/1.2.0/plugin.wasm"), b"changed").unwrap();
    let listed = list(&finder(home.path())).unwrap();
    let row = listed.iter().find(|row| row.name == "rubric").unwrap();
    assert_eq!(row.problem.as_ref().unwrap().0, "plugin::tampered");
    assert_eq!(
        verify(home.path()).unwrap()[0].problem.as_ref().unwrap().0,
        "plugin::tampered"
    );
}

#[test]
fn packing_embeds_the_manifest_and_signs() {
    use crate::pack::{PackOptions, author, pack, sign_command, write};
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
    signature::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
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

mod hostile {
    use proptest::prelude::*;

    use super::*;
    use crate::check::check;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Whatever is cut off, overwritten or inserted, the readers answer.
        #[test]
        fn damaged_components_never_break_a_reader(
            at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(), how in 0u8..4, is_builtin: bool,
        ) {
            let mut bytes = match is_builtin {
                true => crate::builtin::builtins()[0].wasm.to_vec(),
                false => judge("rubric", "1.2.0", &[MODEL]),
            };
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, byte),
                _ => { bytes.drain(at..at + cut.index(bytes.len() - at)); }
            }
            let path = Path::new("x");
            if check(path, &bytes).is_ok() {
                let _ = wit(path, &bytes);
            }
            let _ = crate::component::Shape::read(path, &bytes);
        }
    }
}
