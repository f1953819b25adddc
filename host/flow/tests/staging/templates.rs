//! Templates: listing, what is refused, and documents that start from one.

use std::path::{Path, PathBuf};

use dlm_core::FailureKind;
use dlm_core::ports::plugin::{PluginFailure, PluginIdentity};
use dlm_core::ports::templates::{TemplateBundle, TemplateMeta, TemplateSource, Templates};
use dlm_flow::Failure;
use dlm_flow::init::{InitOptions, InitReport, init};
use dlm_flow::templates::{CheckedTemplate, fetch, list};

use crate::fakes::{failure, identity};
use crate::world::{HEAD, ID, World};

/// A source with these bundles.
#[derive(Clone)]
struct Gallery(Vec<TemplateBundle>);

struct Opened {
    bundles: Vec<TemplateBundle>,
    identity: PluginIdentity,
}

impl TemplateSource for Gallery {
    fn open_templates(&self, name: &str, location: &str) -> Result<Box<dyn Templates>, PluginFailure> {
        if name != "bundled" {
            assert_eq!(location, "https://t.example");
        }
        Ok(Box::new(Opened {
            bundles: self.0.clone(),
            identity: identity(name, &[]),
        }))
    }
}

impl Templates for Opened {
    fn identity(&self) -> &PluginIdentity {
        &self.identity
    }

    fn cache_seconds(&self) -> u32 {
        0
    }

    fn list(&mut self, query: Option<&str>) -> Result<Vec<TemplateMeta>, PluginFailure> {
        let matches = |meta: &&TemplateMeta| query.is_none_or(|query| meta.title.contains(query));
        Ok(self.bundles.iter().map(|b| &b.meta).filter(matches).cloned().collect())
    }

    fn fetch(&mut self, name: &str) -> Result<TemplateBundle, PluginFailure> {
        let found = self.bundles.iter().find(|bundle| bundle.meta.name == name);
        found
            .cloned()
            .ok_or_else(|| failure("plugin::not-found", FailureKind::Runtime, "no such template"))
    }
}

fn bundle(name: &str, front: &str, files: &[(&str, &str)]) -> TemplateBundle {
    TemplateBundle {
        meta: TemplateMeta {
            name: name.into(),
            title: format!("The {name}"),
            summary: "s".into(),
            tags: vec!["code".into()],
            recommended_base: "smollm2-135m".into(),
            expected_steps: Some(100),
            expected_duration: vec![("2 cores".into(), "2 min".into())],
            sample_prompts: vec!["p".into()],
            revision: "r1".into(),
            license: None,
        },
        document: format!("---\n# a comment\ndlm_id: {ID} # old\nbase_model: smollm2-135m\n{front}---\n\nText.\n"),
        files: files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
            .collect(),
    }
}

fn gallery(bundles: &[TemplateBundle]) -> Gallery {
    Gallery(bundles.to_vec())
}

fn start(
    world: &World,
    path: PathBuf,
    template: &CheckedTemplate,
    base: Option<&str>,
    force: bool,
) -> Result<InitReport, Failure> {
    let options = InitOptions {
        path,
        base: base.map(str::to_owned),
        export_probes: dlm_flow::base::ExportProbes::Run,
        accepts_license: false,
        overwrites: force,
    };
    init(&world.around(), &options, Some(template), &|question| {
        panic!("nobody is asked {question}")
    })
}

fn new_directory(world: &World) -> PathBuf {
    let directory = world.path.parent().unwrap().join("new");
    std::fs::create_dir(&directory).unwrap();
    directory
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_listing_has_every_key_and_refuses_bad_names() {
    let good = gallery(&[bundle("tutor", "", &[]), bundle("writer-2", "", &[])]);
    let rows = list(&good, "bundled", "", None).unwrap();
    let json = serde_json::to_value(&rows[0]).unwrap();
    for key in
        "name title domain_tags recommended_base expected_steps expected_duration summary sample_prompts".split(' ')
    {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["expected_duration"]["2 cores"], "2 min");
    assert_eq!(
        list(&good, "acme", "https://t.example", Some("writer")).unwrap().len(),
        1
    );
    for bad in ["", "Tutor", "../x", "a b", "-x", &"x".repeat(65)] {
        assert!(
            list(&gallery(&[bundle(bad, "", &[])]), "bundled", "", None).is_err(),
            "{bad}"
        );
    }
    let twice = gallery(&[bundle("a", "", &[]), bundle("a", "", &[])]);
    assert!(
        list(&twice, "bundled", "", None)
            .unwrap_err()
            .message()
            .contains("twice")
    );
}

#[test]
fn foreign_text_is_judged_before_it_is_taken() {
    let refused = |bundle: TemplateBundle, part: &str| {
        let name = bundle.meta.name.clone();
        let failure = fetch(&gallery(&[bundle]), "bundled", "", &name).unwrap_err();
        assert!(
            failure.kind.exit_code() == 1 && failure.message().contains(part),
            "{}",
            failure.message()
        );
    };
    refused(
        bundle("t", "training:\n  sources:\n    - path: /etc\n", &[]),
        "not relative",
    );
    refused(
        bundle("t", "training:\n  sources:\n    - path: ../x\n", &[]),
        "out of its directory",
    );
    refused(bundle("t", "plugins:\n  rubric: yes\n", &[]), "plugins");
    refused(bundle("t", "grants: [all]\n", &[]), "grants");
    refused(bundle("t", "", &[("../x", "")]), "out of its directory");
    refused(bundle("t", "", &[(".git/hooks/x", "")]), "hidden");
    refused(bundle("t", "", &[("a", ""), ("A", "")]), "twice");
    let mut large = bundle("t", "", &[]);
    large.document.push_str(&"x".repeat(5 << 20));
    refused(large, "limit");
    let mut escape = bundle("t", "", &[]);
    escape.document.push_str("::image path=\"../../secret.png\"::\n");
    refused(escape, "secret.png");
    let missing = fetch(&gallery(&[bundle("t", "", &[])]), "bundled", "", "x").unwrap_err();
    assert!(missing.message().contains("no template `x`") && missing.hints[0].contains('t'));
}

#[test]
fn a_document_starts_from_a_template_with_a_new_id_and_its_files() {
    let world = World::untrained("");
    let directory = new_directory(&world);
    let template = fetch(
        &gallery(&[bundle("t", "", &[("notes/a.md", "A"), ("b.md", "B")])]),
        "bundled",
        "",
        "t",
    )
    .unwrap();
    let report = start(&world, directory.join("my.dlm"), &template, Some("qwen2.5-1.5b"), false).unwrap();
    assert_eq!(report.base, "qwen2.5-1.5b");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("was written for the base `smollm2-135m`")),
        "{:?}",
        report.notes
    );
    let used = report.template.unwrap();
    assert_eq!(
        (used.name.as_str(), used.title.as_str(), used.files.len()),
        ("t", "The t", 2)
    );
    let text = std::fs::read_to_string(directory.join("my.dlm")).unwrap();
    let based = template
        .document
        .replace("base_model: smollm2-135m", "base_model: qwen2.5-1.5b");
    assert_eq!(text, based.replace(ID, report.dlm_id.as_str()));
    assert_ne!(report.dlm_id.as_str(), ID);
    assert_eq!(std::fs::read_to_string(directory.join("notes/a.md")).unwrap(), "A");
    assert!(report.store.join("manifest.json").is_file());
}

#[test]
fn files_replace_nothing_and_a_failure_takes_everything_back() {
    let world = World::untrained("");
    let directory = new_directory(&world);
    let template = fetch(
        &gallery(&[bundle("t", "", &[("notes/a.md", "A"), ("b.md", "B")])]),
        "bundled",
        "",
        "t",
    )
    .unwrap();
    std::fs::write(directory.join("b.md"), "mine").unwrap();
    let refused = start(&world, directory.join("my.dlm"), &template, None, true).unwrap_err();
    assert!(refused.message().contains("exists already"), "{}", refused.message());
    assert_eq!(names(&directory), ["b.md"]);
    std::fs::remove_file(directory.join("b.md")).unwrap();

    // The document's own place becomes a directory that cannot be replaced by a file.
    let own = fetch(&gallery(&[bundle("t", "", &[("my.dlm", "x")])]), "bundled", "", "t").unwrap_err();
    assert!(own.message().contains("is another document"), "{}", own.message());
    let blocked = fetch(
        &gallery(&[bundle("t", "", &[("b.md", "B"), ("my.dlm/x", "x")])]),
        "bundled",
        "",
        "t",
    )
    .unwrap();
    assert!(start(&world, directory.join("my.dlm"), &blocked, None, false).is_err());
    assert_eq!(names(&directory), Vec::<String>::new());
    let stores = world.path.parent().unwrap().join("home/store");
    assert!(!stores.exists() || names(&stores).is_empty());
    assert_eq!(world.text(), HEAD);
}
