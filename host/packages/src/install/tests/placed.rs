//! Trust belongs to a name, a place and bytes together: every combination of those that are the trusted ones and those that are not.

use super::*;
use crate::discover::Origin;
use crate::trust::TrustChange;

/// A home, and a project whose directory of plugins may hold anything.
struct Scene {
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn finder(&self) -> Finder {
        Finder::new(Places {
            home: self.home(),
            project: Some(self.root.path().join("project")),
            system: vec![self.root.path().join("system")],
            ..Places::default()
        })
    }

    fn find(&self, text: &str) -> Result<crate::discover::FoundPlugin, PackageError> {
        self.finder().find(&Selector::parse(text).unwrap(), None)
    }

    /// Puts a file into the project's directory.
    fn project(&self, file: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join("project/.dlm/plugins").join(file);
        disk::write(&path, bytes).unwrap();
        path
    }

    fn install(&self, bytes: &[u8]) {
        install_with(&self.home(), bytes.to_vec(), &flags(&["model:current"]), NOW).unwrap();
    }

    fn trust(&self, path: &Path) -> TrustChange {
        let grants = ["model:current".to_owned()];
        let flags = TrustFlags {
            grants: &grants,
            ..TrustFlags::default()
        };
        trust_file(&self.home(), Policy::default(), path, flags, NOW).unwrap()
    }

    fn trust_without_grants(&self, path: &Path) {
        trust_file(&self.home(), Policy::default(), path, TrustFlags::default(), NOW).unwrap();
    }
}

#[test]
fn a_file_is_trusted_by_name_and_place_and_bytes_together() {
    let bytes = judge("rubric", "1.2.0", &[MODEL]);
    let other_bytes = judge("rubric", "1.2.1", &[MODEL]);
    let other_name = judge("grader", "1.2.0", &[MODEL]);
    for (what, place, found, code) in [
        ("all three", "rubric.wasm", &bytes, None),
        ("other bytes", "rubric.wasm", &other_bytes, Some("plugin::tampered")),
        ("another place", "rubric/plugin.wasm", &bytes, Some("plugin::tampered")),
        (
            "another place and bytes",
            "rubric/plugin.wasm",
            &other_bytes,
            Some("plugin::tampered"),
        ),
    ] {
        let scene = Scene::new();
        let trusted = scene.project("rubric.wasm", &bytes);
        scene.trust(&trusted);
        fs::remove_file(&trusted).unwrap();
        scene.project(place, found);
        let got = scene.find("rubric");
        assert_eq!(got.as_ref().err().map(|error| error.code()), code, "{what}");
        if let Ok(found) = got {
            assert_eq!((found.origin, found.granted.len()), (Origin::Project, 1));
        }
    }
    // Another name: the bytes are trusted as `rubric`, and lie about theirs, or the name is another one's.
    let scene = Scene::new();
    scene.trust(&scene.project("rubric.wasm", &bytes));
    scene.project("grader.wasm", &bytes);
    refused(scene.find("grader").map(|_| ()), "plugin::tampered", "never trusted");
    scene.project("grader.wasm", &other_name);
    refused(scene.find("grader").map(|_| ()), "plugin::tampered", "never trusted");
}

#[test]
fn the_bytes_of_an_installed_plugin_are_worth_nothing_elsewhere() {
    let scene = Scene::new();
    let bytes = judge("rubric", "1.2.0", &[MODEL]);
    scene.install(&bytes);
    let copy = scene.project("rubric.wasm", &bytes);
    let found = scene.find("rubric").unwrap();
    assert_eq!(found.origin, Origin::User, "the copy neither runs nor hides it");
    assert!(
        found.remarks[0].contains("was never trusted and is not used"),
        "{:?}",
        found.remarks
    );
    let by_path = scene.find(copy.to_str().unwrap()).unwrap();
    assert!(by_path.granted.is_empty(), "{:?}", by_path.granted);
    // Installed under a name of the user's: the name inside is nobody's.
    remove(&scene.home(), "rubric").unwrap();
    let named = InstallFlags {
        name: Some("mine".to_owned()),
        ..flags(&["model:current"])
    };
    install_with(&scene.home(), bytes.clone(), &named, NOW).unwrap();
    refused(scene.find("rubric").map(|_| ()), "plugin::tampered", "never trusted");
    let seen = inspect(&scene.finder(), copy.to_str().unwrap()).unwrap().0;
    assert!(seen.lock.is_none() && seen.granted.is_empty());
}

#[test]
fn a_stranger_file_hides_nothing_and_a_version_reaches_the_one_that_fits() {
    let scene = Scene::new();
    scene.install(&judge("rubric", "1.2.0", &[MODEL]));
    let foreign = scene.project("rubric.wasm", &judge("rubric", "9.0.0", &[]));
    for text in ["rubric", "rubric@^1", "rubric@^1:terse"] {
        let found = scene.find(text).unwrap();
        assert_eq!(
            (found.origin, found.manifest.version.as_str()),
            (Origin::User, "1.2.0"),
            "{text}"
        );
    }
    let error = refused(
        scene.find("rubric@^9").map(|_| ()),
        "plugin::unknown",
        "in version 1.2.0",
    );
    assert!(error.hints()[1].contains("never trusted"), "{:?}", error.hints());
    let rows = list(&scene.finder()).unwrap();
    let row = |origin: &str| {
        rows.iter()
            .find(|row| row.name == "rubric" && row.origin == origin)
            .unwrap()
    };
    assert_eq!(row("project").problem.as_ref().unwrap().0, "plugin::tampered");
    assert_eq!(row("installed").problem, None);
    // Once trusted the project's comes first, and the installed one is still there for who asks for its version.
    scene.trust_without_grants(&foreign);
    assert_eq!(scene.find("rubric").unwrap().origin, Origin::Project);
    assert_eq!(scene.find("rubric@^1").unwrap().origin, Origin::User);
    let rows = list(&scene.finder()).unwrap();
    let hidden = rows
        .iter()
        .find(|row| row.name == "rubric" && row.origin == "installed")
        .unwrap();
    assert_eq!(hidden.problem.as_ref().unwrap().0, "plugin::hidden");
}

#[test]
fn a_trusted_file_has_its_grants_by_its_path_until_it_changes() {
    let scene = Scene::new();
    let file = scene.root.path().join("x.wasm");
    disk::write(&file, &judge("rubric", "1.0.0", &[MODEL])).unwrap();
    assert!(scene.find(file.to_str().unwrap()).unwrap().granted.is_empty());
    scene.trust(&file);
    let found = scene.find(file.to_str().unwrap()).unwrap();
    assert_eq!(
        (found.origin, found.granted.as_slice()),
        (Origin::Path, &["model:current".to_owned()][..])
    );
    assert!(found.remarks.is_empty());
    disk::write(&file, &judge("rubric", "1.0.1", &[MODEL])).unwrap();
    let found = scene.find(file.to_str().unwrap()).unwrap();
    assert!(found.granted.is_empty());
    assert!(
        found.remarks[0].contains("without the grants: dlm plugin trust"),
        "{:?}",
        found.remarks
    );
}

#[test]
fn a_file_that_could_not_be_found_by_its_name_is_not_trusted_in_a_directory_of_plugins() {
    let scene = Scene::new();
    let bytes = judge("rubric", "1.0.0", &[MODEL]);
    for file in ["grader.wasm", "grader/plugin.wasm"] {
        let path = scene.project(file, &bytes);
        let trusted = trust_file(&scene.home(), Policy::default(), &path, TrustFlags::default(), NOW);
        refused(
            trusted,
            "plugin::manifest",
            "its file is that of `grader`; call it rubric.wasm",
        );
    }
    scene.trust(&scene.project("rubric/plugin.wasm", &bytes));
}

#[cfg(unix)]
#[test]
fn a_link_is_not_the_trusted_file_that_it_leads_to() {
    let scene = Scene::new();
    let file = scene.root.path().join("rubric.wasm");
    disk::write(&file, &judge("rubric", "1.0.0", &[MODEL])).unwrap();
    scene.trust(&file);
    let link = scene.project("other.wasm", b"").with_file_name("rubric.wasm");
    std::os::unix::fs::symlink(&file, link).unwrap();
    refused(scene.find("rubric").map(|_| ()), "plugin::tampered", "never trusted");
}

#[test]
fn removing_takes_one() {
    let scene = Scene::new();
    let bytes = judge("rubric", "1.2.0", &[MODEL]);
    scene.install(&bytes);
    let (one, two) = (
        scene.project("rubric.wasm", &bytes),
        scene.project("rubric/plugin.wasm", &bytes),
    );
    scene.trust(&one);
    scene.trust(&two);
    let left = || Lock::read(&scene.home()).unwrap().plugins.len();
    assert_eq!(remove(&scene.home(), "rubric").unwrap().entry.unwrap().path, None);
    assert_eq!(left(), 2);
    let error = refused(
        remove(&scene.home(), "rubric"),
        "plugin::unknown",
        "2 files called `rubric`",
    );
    assert!(error.hints()[0].contains("dlm plugin remove"), "{:?}", error.hints());
    fs::remove_file(&two).unwrap();
    untrust(&scene.home(), &two).unwrap();
    assert_eq!(left(), 1);
    refused(
        untrust(&scene.home(), &two),
        "plugin::unknown",
        "is not trusted where it lies",
    );
    assert!(remove(&scene.home(), "rubric").unwrap().entry.unwrap().path.is_some());
    assert!(one.is_file());
    refused(remove(&scene.home(), "rubric"), "plugin::unknown", "is installed");
}

#[test]
fn an_older_version_needs_a_yes_whoever_signed_it() {
    let home = tempfile::tempdir().unwrap();
    let signer = Signer::new(1);
    keys::trust_key(home.path(), &signer.public(), &[], NOW).unwrap();
    let offered = |version: &str, is_signed: bool| {
        let bytes = judge("rubric", version, &[]);
        let signature = is_signed.then(|| signer.sign(&bytes, &format!("dlm-plugin rubric {version}")));
        let fetched = FetchedPlugin {
            signature,
            ..fetched(bytes, true)
        };
        offer(home.path(), fetched, Policy::default(), &flags(&[])).unwrap()
    };
    let newer = offered("1.10.0", true);
    install(home.path(), &newer, &decide(&newer, &flags(&[]), None).unwrap(), NOW).unwrap();
    let older = offered("1.9.0", true);
    let error = refused(decide(&older, &flags(&[]), None), "plugin::older", "1.9.0 is older");
    assert!(error.hints()[0].contains("--allow-downgrade"));
    let mut asked = Vec::new();
    let mut no = |question: &str| {
        asked.push(question.to_owned());
        Ok(false)
    };
    refused(
        decide(&older, &flags(&[]), Some(&mut no)),
        "plugin::older",
        "1.9.0 is older",
    );
    assert_eq!(asked, ["Version 1.10.0 is installed, 1.9.0 is older. Install it?"]);
    assert!(decide(&older, &flags(&[]), Some(&mut |_| Ok(true))).is_ok());
    let allowing = InstallFlags {
        is_allowing_downgrade: true,
        ..flags(&[])
    };
    assert!(decide(&older, &allowing, None).is_ok());
    assert!(decide(&offered("1.10.1", true), &flags(&[]), None).is_ok());
    assert!(
        decide(&offered("1.10.0", true), &flags(&[]), None).is_ok(),
        "the same again"
    );
}
