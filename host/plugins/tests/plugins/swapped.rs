//! Files that somebody changes between their check and their use.

use std::fs;
use std::path::Path;

use dlm_core::FailureKind;
use dlm_core::ports::destination::{DestinationSource, PushOptions};
use dlm_core::ports::target::{ExportTarget, TargetSource};
use dlm_core::ports::templates::TemplateSource;
use dlm_plugins::GrantFlags;

use crate::fakes::{World, finished};
use crate::targets::plan;

/// Changes a file and keeps its size; a stamp of a file has its time to the nanosecond.
fn swap(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Takes `ollama` through an export; `change` is told each step that is over.
fn export(world: &World, change: impl Fn(&str)) -> Result<(), (String, String)> {
    world.answer_process(|words| match words[1].as_str() {
        "--version" => finished(0, "ollama version is 0.12.3\n", ""),
        "run" => finished(0, "Hi there.\n", ""),
        _ => finished(0, "success", ""),
    });
    let stage = world.stage();
    let mut target: Box<dyn ExportTarget> =
        TargetSource::open(&world.targets(&GrantFlags::default()), "ollama").unwrap();
    let steps = || {
        target.prepare(&plan(), &stage)?;
        change("prepare");
        target.install(&plan(), &stage)?;
        change("install");
        target.smoke(&plan(), &stage).map(drop)
    };
    let failed = |error: dlm_core::ports::target::PluginFailure| {
        assert_eq!(
            (error.code, error.kind),
            ("plugin::corrupt", FailureKind::Runtime),
            "{error}"
        );
        assert_eq!(error.hints, ["see what else writes there, then export again"]);
        (
            error.detail.as_ref().unwrap().function.unwrap_or_default().to_owned(),
            error.to_string(),
        )
    };
    let mut steps = steps;
    steps().map_err(failed)
}

#[test]
fn an_export_goes_on_with_the_files_that_were_checked_and_written() {
    export(&World::new(), |_| ()).unwrap();
    for (file, after, refused, runs) in [
        ("base.Q4_K_M.gguf", "prepare", "install", 0),
        ("adapter.gguf", "prepare", "install", 0),
        ("Modelfile", "prepare", "install", 0),
        ("base.Q4_K_M.gguf", "install", "smoke", 2),
        ("Modelfile", "install", "smoke", 2),
    ] {
        let world = World::new();
        let path = world.directory.path().join(file);
        let (function, message) = export(&world, |step| {
            if step == after {
                swap(&path);
            }
        })
        .unwrap_err();
        assert_eq!(function, refused, "{file}");
        assert_eq!(
            message,
            format!("`{}` was changed during the export in `{refused}`", path.display())
        );
        assert_eq!(
            world.process.ran.lock().unwrap().len(),
            runs,
            "{file}: what runs after the change"
        );
    }
}

#[test]
fn a_file_that_gave_way_to_a_link_or_is_gone_is_noticed() {
    type Change = fn(&Path);
    let changes: [Change; 2] = [
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let aside = path.with_extension("aside");
            fs::copy(path, &aside).unwrap();
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(&aside, path).unwrap();
        },
    ];
    for change in changes {
        let world = World::new();
        let path = world.directory.path().join("base.Q4_K_M.gguf");
        let refused = export(&world, |step| {
            if step == "prepare" {
                change(&path);
            }
        });
        assert_eq!(refused.unwrap_err().0, "install");
    }
}

#[test]
fn a_template_is_read_as_it_was_when_its_hash_was_told() {
    let world = World::new();
    let directory = world.directory.path().join("gallery");
    fs::create_dir(&directory).unwrap();
    let text = "---\ndlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7\nbase_model: smollm2-135m\n---\n\nText.\n";
    fs::write(directory.join("mine.dlm"), text).unwrap();
    let meta = "name: mine\ntitle: Mine\nsummary: All mine.\nrecommended_base: smollm2-135m\ndomain_tags: [a]\n";
    fs::write(directory.join("mine.meta.yaml"), meta).unwrap();
    let plugins = world.targets(&GrantFlags::default());
    let open = || plugins.open_templates("dir", &directory.display().to_string()).unwrap();
    let mut templates = open();
    assert_eq!(templates.fetch("mine").unwrap().document, text);
    fs::write(directory.join("mine.dlm"), text.replace("Text", "Took")).unwrap();
    let error = templates.fetch("mine").unwrap_err();
    assert_eq!(error.code, "plugin::corrupt", "{error}");
    assert!(
        error.to_string().contains("was changed since it was checked"),
        "{error}"
    );
    open().fetch("mine").unwrap();
}

#[test]
fn a_pack_of_another_size_than_was_told_is_not_sent() {
    let world = World::new();
    let flags = GrantFlags {
        granted: vec!["put=http:https://example.com".to_owned()],
        ..GrantFlags::default()
    };
    let plugins = world.targets(&flags);
    let pack = crate::sources::pack(&world, false);
    fs::write(&pack.path, b"longer").unwrap();
    let mut put = plugins.open_destination("put", "https://example.com/packs").unwrap();
    world.answer_http(|_| (404, String::new()));
    let error = put.push(&pack, &PushOptions::default()).unwrap_err();
    assert_eq!(error.code, "plugin::corrupt", "{error}");
    let sent = world.http.sent.lock().unwrap();
    assert!(
        sent.iter()
            .all(|request| request.url.ends_with(".sha256") || request.url.ends_with(".pack")),
        "{sent:?}"
    );
}
