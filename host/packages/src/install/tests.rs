//! Installing, from the offer to the lock, through the functions that the command line calls.

use dlm_core::Hints;

use super::*;
use crate::discover::{Finder, Places};
use crate::error::Diagnose;
use crate::fetch::from_file;
use crate::inspect::{inspect, wit};
use crate::list::list;
use crate::remove::{remove, untrust};
use crate::selector::Selector;
use crate::signature::RequireSignature;
use crate::testing::{Signer, component, judge};
use crate::trust::{TrustFlags, trust_file, trust_name};
use crate::verify::verify;

mod crash;
mod described;
mod hostile;
mod packed;
mod placed;
mod trusted;

const NOW: &str = "2026-11-21T19:00:00Z";
const LATER: &str = "2026-11-22T19:00:00Z";

fn fetched(bytes: Vec<u8>, is_from_network: bool) -> FetchedPlugin {
    FetchedPlugin {
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

fn install_with(home: &Path, bytes: Vec<u8>, flags: &InstallFlags, now: &str) -> Result<LockEntry, PackageError> {
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

fn refused<T: std::fmt::Debug>(
    result: Result<T, impl Into<PackageError> + std::fmt::Debug>,
    code: &str,
    part: &str,
) -> PackageError {
    let error: PackageError = result.unwrap_err().into();
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
    assert_eq!(removed.entry, Some(entry));
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
    keys::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let signed = |bytes: &[u8], version: &str| FetchedPlugin {
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
    let hash = dlm_core::digest::sha256_hex(&bytes);
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
    keys::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let signed = |version: &str| {
        let bytes = judge("rubric", version, &[]);
        FetchedPlugin {
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
    refused(
        decide(&unsigned, &none, None),
        "plugin::signature",
        "is not signed, and the file that is pinned is",
    );
    let mut yes = |question: &str| {
        assert!(question.contains("not signed by a trusted key"), "{question}");
        Ok(true)
    };
    assert!(decide(&unsigned, &none, Some(&mut yes)).is_ok());
    fs::remove_dir_all(keys::keys_directory(home.path())).unwrap();
    assert_eq!(
        verify(home.path()).unwrap()[0].problem.as_ref().unwrap().0,
        "plugin::signature"
    );
}
