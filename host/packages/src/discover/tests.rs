use std::fs;

use dlm_core::Hints;

use super::*;
use crate::error::Diagnose;
use crate::lockfile::{GrantedBy, LockGrant};

fn wasm(name: &str, version: &str) -> Vec<u8> {
    let json = format!(
        r#"{{"schema":1,"name":"{name}","version":"{version}","kinds":["judge"],"request":[{{"capability":"model:current"}}]}}"#
    );
    let mut bytes = vec![0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    crate::manifest::append(&mut bytes, json.as_bytes());
    bytes
}

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn places(&self) -> Places {
        let at = |name: &str| self.directory.path().join(name);
        Places {
            home: at("home"),
            user: Some(at("user")),
            project: Some(at("project")),
            system: vec![at("system")],
            is_always_hashed: false,
        }
    }

    fn finder(&self) -> Finder {
        Finder::new(self.places())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn lock(&self, bytes: &[u8], path: Option<&Path>) {
        let manifest = Manifest::of_component(bytes).unwrap();
        let grant = |text: &str| LockGrant {
            capability: text.to_owned(),
            granted: "2026-11-21T19:00:05Z".to_owned(),
            by: GrantedBy::Flag,
        };
        Lock::change(&self.places().home, |lock| {
            lock.put(LockEntry {
                name: manifest.name,
                version: manifest.version,
                kinds: manifest.kinds,
                api: "1.0.0".to_owned(),
                sha256: sha256_hex(bytes),
                size: bytes.len() as u64,
                source: "file".to_owned(),
                path: path.map(place_of),
                signer: None,
                installed: "2026-11-21T19:00:00Z".to_owned(),
                grants: vec![grant("model:current"), grant("exec:sh **")],
            });
            Ok::<(), LockFileError>(())
        })
        .unwrap();
    }

    fn install(&self, name: &str, version: &str) -> PathBuf {
        let bytes = wasm(name, version);
        self.lock(&bytes, None);
        self.write(&format!("home/plugins/{name}/{version}/plugin.wasm"), &bytes)
    }

    /// Finds an installed plugin until its index is young enough to be believed.
    fn find_settled(&self, name: &str) -> FoundPlugin {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let found = self.find(name).unwrap();
            if matches!(found.code, Code::OnDisk) {
                return found;
            }
            assert!(std::time::Instant::now() < until, "the file is read again and again");
        }
    }

    fn find(&self, text: &str) -> Result<FoundPlugin, PackageError> {
        self.finder().find(&Selector::parse(text).unwrap(), Some(Kind::Judge))
    }
}

#[test]
fn an_installed_plugin_is_found_with_the_grants_its_manifest_asks_for() {
    let scene = Scene::new();
    scene.install("rubric", "1.2.0");
    let found = scene.find("rubric@^1:terse").unwrap();
    assert_eq!((found.origin, found.argument.as_str()), (Origin::User, "terse"));
    assert_eq!(found.granted, ["model:current"]);
    assert_eq!(found.read().unwrap(), wasm("rubric", "1.2.0"));
    let error = scene.find("rubric@^2").unwrap_err();
    assert_eq!(
        (error.code(), Hints::kind(&error)),
        ("plugin::unknown", dlm_core::FailureKind::Misuse)
    );
    assert!(
        error.to_string().contains("`rubric` is here in version 1.2.0, `@^2`"),
        "{error}"
    );
}

#[test]
fn a_second_look_does_not_read_an_untouched_file_and_a_touched_one_is_read() {
    let scene = Scene::new();
    let path = scene.install("rubric", "1.2.0");
    assert!(matches!(scene.find("rubric").unwrap().code, Code::Held(_)));
    let second = scene.find_settled("rubric");
    let always = Finder::new(Places {
        is_always_hashed: true,
        ..scene.places()
    });
    let third = always.find(&Selector::parse("rubric").unwrap(), None).unwrap();
    assert!(matches!(third.code, Code::Held(_)));
    // Changed after it was found: the read sees it, and so does the next look.
    fs::write(&path, wasm("rubric", "1.2.1")).unwrap();
    assert_eq!(second.read().unwrap_err().code(), "plugin::tampered");
    let error = scene.find("rubric").unwrap_err();
    assert_eq!(error.code(), "plugin::tampered");
    assert!(error.hints()[1].contains("dlm plugin remove rubric"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_index_that_others_may_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    scene.install("rubric", "1.2.0");
    scene.find_settled("rubric");
    let index = scene.places().home.join("cache/plugins/seen.json");
    fs::set_permissions(&index, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(scene.find("rubric").unwrap().code, Code::Held(_)));
}

#[test]
fn a_project_file_runs_only_once_trusted_and_only_unchanged() {
    let scene = Scene::new();
    let bytes = wasm("rubric", "2.0.0");
    let path = scene.write("project/.dlm/plugins/rubric.wasm", &bytes);
    let error = scene.find("rubric").unwrap_err();
    assert_eq!(error.code(), "plugin::tampered");
    assert!(error.hints()[1].ends_with(&format!("dlm plugin trust '{}'", path.display())));
    scene.lock(&bytes, Some(&path));
    let found = scene.find("rubric").unwrap();
    assert_eq!(
        (found.origin, found.manifest.version.as_str()),
        (Origin::Project, "2.0.0")
    );
    fs::write(&path, wasm("rubric", "2.0.1")).unwrap();
    let error = scene.find("rubric").unwrap_err();
    assert!(error.to_string().contains("pinned is"), "{error}");
}

#[test]
fn system_directories_come_last_and_need_trust_too() {
    let scene = Scene::new();
    let bytes = wasm("grader", "1.0.0");
    let path = scene.write("system/grader/plugin.wasm", &bytes);
    assert_eq!(scene.find("grader").unwrap_err().code(), "plugin::tampered");
    scene.lock(&bytes, Some(&path));
    assert_eq!(scene.find("grader").unwrap().origin, Origin::System);
    scene.install("grader", "0.9.0");
    assert_eq!(scene.find("grader").unwrap().origin, Origin::User);
}

#[test]
fn a_path_runs_without_an_entry_and_without_grants() {
    let scene = Scene::new();
    let path = scene.write("x/rubric.wasm", &wasm("rubric", "1.0.0"));
    let found = scene.find(&format!("{}:a", path.display())).unwrap();
    assert_eq!(
        (found.origin, found.granted.len(), found.argument.as_str()),
        (Origin::Path, 0, "a")
    );
    let bare = scene.write("user/My Judge.wasm", &[0, b'a', b's', b'm', 0x0d, 0, 1, 0]);
    let found = scene.find("~/My Judge.wasm").unwrap();
    assert_eq!((found.manifest.name.as_str(), found.has_manifest), ("my-judge", false));
    assert_eq!(found.path, Some(bare));
    for (file, bytes, code) in [
        ("sway.wasm", wasm("sway", "1.0.0"), "plugin::manifest"),
        ("cut.wasm", wasm("cut-off", "1.0.0")[..30].to_vec(), "plugin::malformed"),
        (
            "module.wasm",
            crate::manifest::MODULE_HEAD.to_vec(),
            "plugin::not-a-component",
        ),
        ("empty.wasm", Vec::new(), "plugin::malformed"),
    ] {
        let path = scene.write(file, &bytes);
        assert_eq!(
            scene.find(&path.display().to_string()).unwrap_err().code(),
            code,
            "{file}"
        );
    }
    let gone = scene.find("./not-there.wasm").unwrap_err();
    assert!(gone.to_string().contains("no such file"), "{gone}");
}

#[test]
fn builtins_win_and_a_wrong_kind_is_told() {
    let scene = Scene::new();
    scene.write("project/.dlm/plugins/ollama.wasm", &wasm("ollama", "9.0.0"));
    let ollama = Selector::parse("ollama").unwrap();
    let found = scene.finder().find(&ollama, Some(Kind::Target)).unwrap();
    assert_eq!(found.origin, Origin::Builtin);
    assert!(!found.granted.is_empty());
    let error = scene.find("ollama").unwrap_err();
    assert_eq!(error.code(), "plugin::wrong-kind");
    assert!(
        error.to_string().contains("`ollama` is no judge; it is a target"),
        "{error}"
    );
}

#[test]
fn an_unknown_name_says_what_is_near_and_where_it_looked() {
    let scene = Scene::new();
    scene.install("rubric", "1.2.0");
    scene.write("system/rubrik.wasm", &wasm("rubrik", "1.0.0"));
    let selector = Selector::parse("rubirc").unwrap();
    let error = scene.finder().find(&selector, None).unwrap_err();
    assert!(error.to_string().contains("did you mean rubric or rubrik?"), "{error}");
    let looked = error.hints().join("\n");
    for part in [
        "inside dlm: ",
        "no such directory",
        "plugins: rubric",
        "system: rubrik",
        "dlm plugin list",
    ] {
        assert!(looked.contains(part), "{part} in {looked}");
    }
    assert!(scene.find("zzzzz").unwrap_err().to_string().ends_with("called `zzzzz`"));
}

#[test]
fn a_file_that_lies_about_its_name_or_is_gone_is_refused() {
    let scene = Scene::new();
    let bytes = wasm("other", "1.0.0");
    let path = scene.write("project/.dlm/plugins/rubric.wasm", &bytes);
    scene.lock(&bytes, Some(&path));
    assert_eq!(scene.find("rubric").unwrap_err().code(), "plugin::tampered");
    let path = scene.install("grader", "1.0.0");
    fs::remove_file(path).unwrap();
    let error = scene.find("grader").unwrap_err();
    assert_eq!(error.code(), "plugin::not-found");
    assert!(error.hints()[0].contains("dlm plugin install 'file'"), "{error}");
}

#[test]
fn an_unknown_name_of_a_kind_gives_the_choices_of_that_kind_and_the_command_that_asked() {
    let scene = Scene::new();
    scene.install("rubric", "1.2.0");
    let selector = Selector::parse("slef").unwrap();
    for (wanted, message, has, lacks, subject) in [
        (
            Kind::Judge,
            "no judge is called `slef`",
            "rubric",
            "ollama",
            "preference",
        ),
        (Kind::Teacher, "did you mean self?", "self", "sway", "synth"),
        (Kind::Target, "no target is called", "ollama", "sway", "export"),
    ] {
        let error = scene.finder().find(&selector, Some(wanted)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let hints = error.hints().join("\n");
        assert!(hints.contains(has) && !hints.contains(lacks), "{hints}");
        assert_eq!(error.subject().as_str(), subject);
    }
}

/// A mistyped name once read every file of the folders to learn its kind.
#[test]
fn a_mistyped_judge_reads_no_file() {
    let scene = Scene::new();
    let bytes = wasm("trusted", "1.0.0");
    let path = scene.write("project/.dlm/plugins/trusted.wasm", &bytes);
    scene.lock(&bytes, Some(&path));
    scene.write("project/.dlm/plugins/rubric.wasm", &wasm("rubric", "1.0.0"));
    // A file that is no plugin any more would not be offered, had it been read.
    fs::write(&path, b"changed").unwrap();
    let error = scene.find("rubirc").unwrap_err();
    assert!(error.to_string().contains("did you mean rubric?"), "{error}");
    let hints = error.hints();
    assert!(
        hints[0].starts_with("choose one of: ") && hints[0].ends_with("trusted"),
        "{hints:?}"
    );
    assert!(
        hints[1].contains("not trusted yet") && hints[1].ends_with(": rubric"),
        "{hints:?}"
    );
}

#[test]
fn what_is_no_plugin_is_said_to_be_what_it_is() {
    let scene = Scene::new();
    let directory = scene.write("mine/plugin.toml", b"").parent().unwrap().to_owned();
    let document = scene.write("notes.dlm", b"---\n");
    let explained = |typed: &std::path::Path| {
        let typed = typed.to_str().unwrap();
        let finder = scene.finder();
        let error = finder.explain(typed, PackageError::Cancelled);
        format!("{error}\n{}", error.hints().join("\n"))
    };
    assert!(
        explained(&directory).contains("dlm plugin pack"),
        "{}",
        explained(&directory)
    );
    scene.write("mine/plugin.wasm", b"");
    assert!(
        explained(&directory).contains("mine/plugin.wasm"),
        "{}",
        explained(&directory)
    );
    assert!(
        explained(&document).contains("end in `.wasm`"),
        "{}",
        explained(&document)
    );
    assert!(explained(&document.with_extension("wasm")).starts_with("cancelled"));
}

#[test]
fn a_plugin_inside_dlm_with_other_bytes_is_refused() {
    let damaged = crate::builtin::damaged();
    let error = inside(&damaged).unwrap_err();
    assert_eq!(error.code(), "plugin::tampered");
    assert!(error.to_string().contains(damaged.name));
}
