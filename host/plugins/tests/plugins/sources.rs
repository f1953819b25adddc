//! The built-in template sources, and the push destination `put`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dlm_core::Cancel;
use dlm_core::digest::sha256_hex;
use dlm_core::http_rule::{HttpRule, ParsedUrl};
use dlm_core::ports::destination::{DestinationSource, PushOptions, PushPack, PushReceipt};
use dlm_core::ports::guest_http::{GuestBody, GuestHttp, GuestHttpError, GuestMethod, GuestRequest, GuestResponse};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::templates::{TemplateSource, Templates};
use dlm_plugins::{Compile, GrantFlags, Plugins, Ports};
use serde_json::json;

use crate::fakes::{World, facts};

/// A web server that keeps what is put.
#[derive(Default)]
struct Web {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
}

impl Web {
    fn holding(files: &[(&str, &[u8])]) -> Arc<Web> {
        let file = |(url, bytes): &(&str, &[u8])| ((*url).to_owned(), bytes.to_vec());
        Arc::new(Web {
            files: Mutex::new(files.iter().map(file).collect()),
            asked: Mutex::default(),
        })
    }
}

impl GuestHttp for Web {
    fn send(&self, request: &GuestRequest, rules: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        let url = ParsedUrl::parse(&request.url).unwrap();
        assert!(
            rules.iter().any(|rule| rule.covers(&url)),
            "{} is not granted",
            request.url
        );
        self.asked
            .lock()
            .unwrap()
            .push(format!("{:?} {}", request.method, request.url));
        let mut files = self.files.lock().unwrap();
        let (status, body) = match request.method {
            GuestMethod::Put => {
                let bytes = match &request.body {
                    GuestBody::Bytes(bytes) => bytes.clone(),
                    GuestBody::File { path, .. } => std::fs::read(path).unwrap(),
                };
                files.insert(request.url.clone(), bytes);
                (201, Vec::new())
            }
            _ => files
                .get(&request.url)
                .map_or((404, Vec::new()), |bytes| (200, bytes.clone())),
        };
        Ok(GuestResponse {
            status,
            headers: Vec::new(),
            url: request.url.clone(),
            body,
        })
    }
}

fn plugins(world: &World, web: &Arc<Web>) -> Plugins {
    let ports = Ports {
        http: web.clone(),
        ..world.ports()
    };
    Plugins::new(facts(), ports, Compile::InMemory, &GrantFlags::default()).unwrap()
}

fn open(world: &World, web: &Arc<Web>, name: &str, location: &str) -> Result<Box<dyn Templates>, PluginFailure> {
    plugins(world, web).open_templates(name, location)
}

#[test]
fn the_gallery_lists_finds_and_hands_over() {
    let (world, web) = (World::new(), Arc::default());
    let mut gallery = open(&world, &web, "bundled", "").unwrap();
    let listed = gallery.list(None).unwrap();
    let names: Vec<&str> = listed.iter().map(|meta| meta.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "changelog",
            "coding-tutor",
            "domain-kb",
            "meeting-notes-summarizer",
            "personal-assistant",
            "regex-buddy",
            "shell-one-liner",
            "tool-use-example",
            "writing-partner"
        ]
    );
    assert_eq!(
        (listed[1].recommended_base.as_str(), listed[1].expected_steps),
        ("qwen2.5-coder-1.5b", Some(800))
    );
    let found = gallery.list(Some("Regex TUTOR")).unwrap();
    assert_eq!(
        found.iter().map(|meta| meta.name.as_str()).collect::<Vec<_>>(),
        ["regex-buddy"]
    );
    let bundle = gallery.fetch("regex-buddy").unwrap();
    assert!(bundle.document.starts_with("---\ndlm_id: ") && bundle.files.is_empty());
    assert_eq!(bundle.meta.revision, sha256_hex(bundle.document.as_bytes()));
    assert_eq!(gallery.fetch("cooking").unwrap_err().code, "plugin::not-found");
    assert!(open(&world, &web, "bundled", "elsewhere").is_err());
}

const DOCUMENT: &str =
    "---\ndlm_id: 01KAZ0GATTERY0000000000001\ndlm_version: 15\nbase_model: smollm2-135m\n---\n\nText.\n";
const META: &str =
    "name: tone\ntitle: Tone\nsummary: How we write.\nrecommended_base: smollm2-135m\ndomain_tags: [a, b]\n";

#[test]
fn a_directory_is_a_source() {
    let (world, web) = (World::new(), Arc::default());
    let directory = world.directory.path();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(directory.join(name).parent().unwrap()).unwrap();
        std::fs::write(directory.join(name), text).unwrap();
    };
    write("tone.dlm", DOCUMENT);
    write("tone.meta.yaml", META);
    write("tone/list.txt", "one\n");
    write("broken.dlm", DOCUMENT);
    write("broken.meta.yaml", &META.replace("tone", "other"));
    write("lonely.dlm", DOCUMENT);
    write("mismatch.dlm", DOCUMENT);
    write(
        "mismatch.meta.yaml",
        &META
            .replace("name: tone", "name: mismatch")
            .replace("smollm2-135m", "other"),
    );
    let location = directory.display().to_string();
    let mut source = open(&world, &web, "dir", &location).unwrap();
    let listed = source.list(None).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (listed[0].name.as_str(), listed[0].tags.as_slice()),
        ("tone", &["a".to_owned(), "b".to_owned()][..])
    );
    let warnings = world.warnings().join("\n");
    for part in ["`broken`", "`lonely.meta.yaml`", "recommends `other`"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let bundle = source.fetch("tone").unwrap();
    assert_eq!(bundle.document, DOCUMENT);
    assert_eq!(bundle.files, [("tone/list.txt".to_owned(), b"one\n".to_vec())]);
    assert_eq!(source.fetch("absent").unwrap_err().code, "plugin::not-found");
    assert_eq!(source.fetch("broken").unwrap_err().code, "plugin::corrupt");
    assert!(open(&world, &web, "dir", "").is_err());
}

#[test]
fn an_index_is_held_to_its_digests() {
    let index = |sum: &str| {
        json!({"schema": 1, "templates": [{"name": "tone", "title": "Tone", "summary": "s",
            "recommended_base": "smollm2-135m", "document": {"path": "v1/tone.dlm", "sha256": sum},
            "files": [{"name": "data/list.txt", "path": "v1/list.txt", "sha256": sha256_hex(b"one\n")}]}]})
        .to_string()
    };
    let good = index(&sha256_hex(DOCUMENT.as_bytes()));
    let serve = |index: &str| {
        Web::holding(&[
            ("https://example.com/t/index.json", index.as_bytes()),
            ("https://example.com/t/v1/tone.dlm", DOCUMENT.as_bytes()),
            ("https://example.com/t/v1/list.txt", b"one\n"),
        ])
    };
    let (world, web) = (World::new(), serve(&good));
    let mut source = open(&world, &web, "https", "https://example.com/t/index.json").unwrap();
    assert_eq!(source.list(None).unwrap()[0].name, "tone");
    let bundle = source.fetch("tone").unwrap();
    assert_eq!(bundle.document, DOCUMENT);
    assert_eq!(bundle.files, [("data/list.txt".to_owned(), b"one\n".to_vec())]);
    assert_eq!(web.asked.lock().unwrap().len(), 3, "the index is fetched once");
    let web = serve(&index(&sha256_hex(b"another document")));
    let mut source = open(&world, &web, "https", "https://example.com/t/index.json").unwrap();
    let error = source.fetch("tone").unwrap_err();
    assert_eq!(error.code, "plugin::corrupt");
    assert!(
        error.to_string().contains("tone.dlm") && error.to_string().contains("sha256"),
        "{error}"
    );
    for location in ["", "http://example.com/index.json", "https://example.com/"] {
        assert!(open(&world, &web, "https", location).is_err(), "{location}");
    }
    let empty = Web::holding(&[]);
    let error = open(&world, &empty, "https", "https://example.com/t/index.json")
        .unwrap()
        .list(None)
        .unwrap_err();
    assert_eq!(error.code, "plugin::not-found");
}

pub fn pack(world: &World, signature: bool) -> PushPack {
    let path = world.directory.path().join("tone.dlm.pack");
    std::fs::write(&path, b"pack").unwrap();
    let signature = signature.then(|| {
        let path = world.directory.path().join("tone.dlm.pack.minisig");
        std::fs::write(&path, b"signed").unwrap();
        path
    });
    PushPack {
        path,
        file_name: "tone.dlm.pack".to_owned(),
        size: 4,
        sha256: sha256_hex(b"pack"),
        document_id: "01HQ".to_owned(),
        document_name: "tone".to_owned(),
        base_model: "smollm2-135m".to_owned(),
        adapter_version: Some(3),
        license: None,
        signature,
        readme: String::new(),
    }
}

const PLACE: &str = "https://example.com/packs";
const FILE: &str = "https://example.com/packs/tone.dlm.pack";

fn push(world: &World, web: &Arc<Web>, options: &PushOptions) -> Result<PushReceipt, PluginFailure> {
    plugins(world, web)
        .open_destination("put", PLACE)?
        .push(&pack(world, true), options)
}

#[test]
fn a_pack_is_put_with_its_signature_and_its_sum_last() {
    let (world, web) = (World::new(), Arc::default());
    let mut put = plugins(&world, &web).open_destination("put", PLACE).unwrap();
    assert_eq!(put.info().contacts, ["http:https://example.com"]);
    let steps = put.preview(&pack(&world, true), &PushOptions::default()).unwrap();
    assert_eq!(steps.len(), 4);
    assert!(web.asked.lock().unwrap().is_empty(), "a preview asks nobody");
    let receipt = push(&world, &web, &PushOptions::default()).unwrap();
    assert_eq!((receipt.location.as_str(), receipt.is_unchanged), (FILE, false));
    let asked = web.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            format!("Get {FILE}.sha256"),
            format!("Head {FILE}"),
            format!("Put {FILE}"),
            format!("Put {FILE}.minisig"),
            format!("Put {FILE}.sha256"),
        ]
    );
    let files = web.files.lock().unwrap();
    assert_eq!(
        (files[FILE].as_slice(), files[&format!("{FILE}.minisig")].as_slice()),
        (&b"pack"[..], &b"signed"[..])
    );
    let sum = String::from_utf8(files[&format!("{FILE}.sha256")].clone()).unwrap();
    assert_eq!(sum, format!("{}  tone.dlm.pack\n", sha256_hex(b"pack")));
}

#[test]
fn what_is_there_is_kept_unless_forced() {
    let (world, web) = (World::new(), Arc::default());
    push(&world, &web, &PushOptions::default()).unwrap();
    let again = push(&world, &web, &PushOptions::default()).unwrap();
    assert_eq!((again.is_unchanged, again.bytes_sent), (true, 0));
    let other = Web::holding(&[(FILE, b"other"), (&format!("{FILE}.sha256"), b"ff  tone.dlm.pack\n")]);
    let bare = Web::holding(&[(FILE, b"other")]);
    for web in [&other, &bare] {
        let error = push(&world, web, &PushOptions::default()).unwrap_err();
        assert_eq!(error.code, "plugin::conflict", "{error}");
        assert_eq!(web.files.lock().unwrap()[FILE], b"other");
        let forced = PushOptions {
            is_forced: true,
            ..PushOptions::default()
        };
        assert!(!push(&world, web, &forced).unwrap().is_unchanged);
        assert_eq!(web.files.lock().unwrap()[FILE], b"pack");
    }
    let private = PushOptions {
        is_private: true,
        ..PushOptions::default()
    };
    assert_eq!(push(&world, &web, &private).unwrap_err().code, "plugin::unsupported");
}
