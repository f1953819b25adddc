//! Grants and files that are trusted after they were made or fetched.

use super::*;

fn granting(grants: &[String]) -> TrustFlags<'_> {
    TrustFlags {
        grants,
        ..TrustFlags::default()
    }
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
        trust_file(home.path(), Policy::default(), &file, granting(&gone), NOW)
            .unwrap()
            .is_new
    );
    let there = Finder::new(there.places().clone());
    assert_eq!(there.find(&grader, None).unwrap().granted, ["model:current"]);
    assert!(
        !trust_file(home.path(), Policy::default(), &file, granting(&[]), NOW)
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
    let changed = trust_file(home.path(), Policy::default(), &file, granting(&[]), LATER).unwrap();
    assert!(changed.is_new);
    assert!(changed.entry.granted().is_empty());
    let always = Policy {
        require_signature: RequireSignature::Always,
        ..Policy::default()
    };
    refused(
        trust_file(home.path(), always, &file, granting(&[]), LATER),
        "plugin::signature",
        "your settings require a signature",
    );
}

#[test]
fn a_trusted_file_keeps_its_grants_under_its_signer_alone() {
    let home = tempfile::tempdir().unwrap();
    let signer = Signer::new(1);
    keys::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let file = home.path().join("grader.wasm");
    let write = |version: &str, signer: Option<&Signer>| {
        let bytes = judge("grader", version, &[MODEL]);
        disk::write(&file, &bytes).unwrap();
        let beside = signature::signature_path(&file);
        match signer {
            Some(signer) => {
                disk::write(&beside, &signer.sign(&bytes, &format!("dlm-plugin grader {version}"))).unwrap()
            }
            None => disk::remove(&beside).unwrap(),
        }
    };
    let model = ["model:current".to_owned()];
    let trust = |grants: &[String]| trust_file(home.path(), Policy::default(), &file, granting(grants), NOW);
    write("1.0.0", Some(&signer));
    trust(&model).unwrap();
    write("1.1.0", Some(&signer));
    assert_eq!(trust(&[]).unwrap().entry.granted(), model);
    write("1.2.0", None);
    let error = refused(
        trust(&[]),
        "plugin::signature",
        "is not signed, and the file that is pinned is",
    );
    let hint = format!("dlm plugin remove {}, then trust it again", file.display());
    assert!(error.hints()[0].contains(&hint), "{:?}", error.hints());
    write("1.2.0", Some(&Signer::new(2)));
    refused(trust(&model), "plugin::signature", "by a key that you do not trust");
    assert_eq!(Lock::read(home.path()).unwrap().plugins[0].version, "1.1.0");
    // An older version is well signed, too.
    write("1.0.0", Some(&signer));
    refused(trust(&[]), "plugin::older", "1.0.0 is older");
    let going_back = TrustFlags {
        is_allowing_downgrade: true,
        ..TrustFlags::default()
    };
    let changed = trust_file(home.path(), Policy::default(), &file, going_back, NOW).unwrap();
    assert_eq!(
        (changed.entry.version.as_str(), changed.entry.granted()),
        ("1.0.0", model.to_vec())
    );
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
