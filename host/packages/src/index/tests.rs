//! An index that is made is read; a hostile one is refused, whatever it does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use dlm_core::Cancel;
use dlm_core::digest::sha256_hex;
use dlm_core::http_rule::HttpRule;
use dlm_core::ports::guest_http::{GuestHttp, GuestHttpError, GuestRequest, GuestResponse};
use serde_json::{Value, json};

use super::*;
use crate::error::{Diagnose, PackageError};
use crate::keys::trust_key;
use crate::lockfile::Lock;
use crate::testing::{Signer, judge};

const NOW: &str = "2026-11-30T12:00:00Z";
const BASE: &str = "https://plugins.example/a/";

/// A server: the answer of each address, as status, location and body. Refuses what its rules do not name, as the real one does.
#[derive(Default)]
struct Server {
    answers: BTreeMap<String, (u16, Option<&'static str>, Vec<u8>)>,
    asked: Mutex<Vec<(String, bool)>>,
}

impl Server {
    fn with(mut self, name: &str, body: &[u8]) -> Server {
        self.answers.insert(format!("{BASE}{name}"), (200, None, body.to_vec()));
        self
    }
}

impl GuestHttp for Server {
    fn send(&self, request: &GuestRequest, rules: &[HttpRule], _: &Cancel) -> Result<GuestResponse, GuestHttpError> {
        self.asked
            .lock()
            .unwrap()
            .push((request.url.clone(), rules[0].is_typed));
        let (status, location, body) = self
            .answers
            .get(&request.url)
            .cloned()
            .unwrap_or((404, None, Vec::new()));
        if body.len() as u64 > request.response_bytes_max {
            return Err(GuestHttpError::Invalid("the response is too large".to_owned()));
        }
        Ok(GuestResponse {
            status,
            headers: location
                .map(|to| ("location".to_owned(), to.to_owned()))
                .into_iter()
                .collect(),
            url: request.url.clone(),
            body,
        })
    }
}

fn entry(bytes: &[u8], version: &str) -> Value {
    json!({ "version": version, "kinds": ["judge"], "api": "1.0.0", "sha256": sha256_hex(bytes), "size": bytes.len(),
            "file": format!("rubric-{version}.wasm"), "request": [{ "capability": "model:current", "reason": "to test" }] })
}

fn index_of(serial: u64, releases: &[Value]) -> Value {
    json!({ "format": 1, "serial": serial, "date": NOW, "plugins": [{ "name": "rubric", "releases": releases }] })
}

fn home_trusting(signer: &Signer, names: &[String]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    trust_key(home.path(), &signer.public(), names, NOW).unwrap();
    home
}

fn served(index: &Value, signer: &Signer) -> Server {
    let text = index.to_string();
    let comment = format!("dlm-index {}", index["serial"]);
    Server::default()
        .with(INDEX_FILE, text.as_bytes())
        .with("index.json.minisig", &signer.sign(text.as_bytes(), &comment))
}

fn read(home: &Path, server: &Server) -> Result<ReadIndex, PackageError> {
    let source = IndexSource::parse(BASE, |text| text.into()).unwrap();
    read_index(home, &source, server, "dlm/0", &Cancel::new())
}

fn requests() -> Vec<(&'static str, bool)> {
    vec![("model:current", false)]
}

#[test]
fn a_directory_of_plugins_becomes_an_index_that_is_searched_and_fetched_from() {
    let signer = Signer::new(7);
    let home = home_trusting(&signer, &[]);
    let place = tempfile::tempdir().unwrap();
    for version in ["1.0.0", "1.2.0", "2.0.0-beta"] {
        let bytes = judge("rubric", version, &requests());
        std::fs::write(place.path().join(format!("r{version}.wasm")), bytes).unwrap();
    }
    let made = make(place.path(), NOW).unwrap();
    write(&made).unwrap();
    assert_eq!((made.index.serial, made.unsigned.len()), (1, 3));
    let source = IndexSource::parse(&place.path().join(INDEX_FILE).to_string_lossy(), |text| text.into()).unwrap();
    let read = |sign: bool| {
        let text = std::fs::read(place.path().join(INDEX_FILE)).unwrap();
        let serial = Index::parse(&text).unwrap().serial;
        if sign {
            let signature = signer.sign(&text, &format!("dlm-index {serial}"));
            std::fs::write(place.path().join("index.json.minisig"), signature).unwrap();
        }
        read_index(home.path(), &source, &Server::default(), "dlm/0", &Cancel::new())
    };
    let unsigned = read(false).unwrap_err();
    assert_eq!(unsigned.code(), "plugin::signature");
    let first = read(true).unwrap();
    let found = search(&first.index, &Lock::default(), Some("A JUDGE"), Some(Kind::Judge));
    assert_eq!(
        (found.len(), found[0].version.as_str()),
        (1, "1.2.0"),
        "no version before its release"
    );
    assert_eq!(found[0].versions, ["2.0.0-beta", "1.2.0", "1.0.0"]);
    assert!(search(&first.index, &Lock::default(), None, Some(Kind::Target)).is_empty());
    let plugin = first.index.plugin("rubric").unwrap();
    let old = plugin.choose(Some(&VersionReq::parse("<1.2").unwrap())).unwrap();
    let fetched = fetch_release(&first, "rubric", old, &Server::default(), "dlm/0", &Cancel::new()).unwrap();
    assert_eq!(fetched.bytes, judge("rubric", "1.0.0", &requests()));
    assert!(!fetched.is_from_network && fetched.source.ends_with("/r1.0.0.wasm"));
    let error = plugin.choose(Some(&VersionReq::parse("^3").unwrap())).unwrap_err();
    assert_eq!(error.diagnosis().hints[0], "it has: 2.0.0-beta, 1.2.0, 1.0.0");

    write(&make(place.path(), NOW).unwrap()).unwrap();
    assert!(
        !place.path().join("index.json.minisig").exists(),
        "an old signature stayed"
    );
    assert_eq!(read(true).unwrap().index.serial, 2);
    std::fs::write(place.path().join("again.wasm"), judge("rubric", "1.2.0", &[])).unwrap();
    let republished = make(place.path(), NOW).unwrap_err();
    assert!(
        republished.to_string().contains("1.2.0 was published with other bytes"),
        "{republished}"
    );
    for (file, requests) in [("again.wasm", requests()), ("more.wasm", Vec::new())] {
        std::fs::write(place.path().join(file), judge("rubric", "3.0.0", &requests)).unwrap();
    }
    let twice = make(place.path(), NOW).unwrap_err();
    assert!(twice.to_string().contains("3.0.0 is there twice"), "{twice}");
}

#[test]
fn an_older_index_is_refused_and_so_is_another_one_with_the_same_number() {
    let signer = Signer::new(7);
    let home = home_trusting(&signer, &[]);
    let file = judge("rubric", "1.0.0", &requests());
    let serve = |serial| served(&index_of(serial, &[entry(&file, "1.0.0")]), &signer);
    read(home.path(), &serve(5)).unwrap();
    read(home.path(), &serve(5)).unwrap();
    let other = served(&index_of(5, &[entry(&file, "1.0.1")]), &signer);
    for server in [serve(4), other] {
        let error = read(home.path(), &server).unwrap_err();
        assert_eq!(error.code(), "plugin::tampered", "{error}");
        assert!(error.to_string().contains("number 5 of"), "{error}");
    }
    read(home.path(), &serve(6)).unwrap();
    assert!(read(home.path(), &serve(5)).is_err());
}

#[test]
fn only_a_trusted_key_vouches_and_only_for_this_index_and_its_names() {
    let signer = Signer::new(7);
    let file = judge("rubric", "1.0.0", &requests());
    let index = index_of(1, &[entry(&file, "1.0.0")]);
    let text = index.to_string();
    let with = |signature: Option<Vec<u8>>| {
        let server = Server::default().with(INDEX_FILE, text.as_bytes());
        match signature {
            Some(bytes) => server.with("index.json.minisig", &bytes),
            None => server,
        }
    };
    let home = home_trusting(&signer, &[]);
    for (server, part) in [
        (with(None), "is not signed"),
        (with(Some(b"x".to_vec())), "cannot be read"),
        (
            with(Some(Signer::new(8).sign(text.as_bytes(), "dlm-index 1"))),
            "do not trust",
        ),
        (
            with(Some(signer.sign(b"other", "dlm-index 1"))),
            "changed after it was signed",
        ),
        (
            with(Some(signer.sign(text.as_bytes(), "dlm-index 2"))),
            "made for something else",
        ),
        (
            with(Some(signer.sign(text.as_bytes(), "dlm-plugin rubric 1.0.0"))),
            "something else",
        ),
    ] {
        let error = read(home.path(), &server).unwrap_err();
        assert_eq!(error.code(), "plugin::signature", "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let limited = home_trusting(&signer, &["acme-*".to_owned()]);
    let error = read(limited.path(), &served(&index, &signer)).unwrap_err();
    assert!(error.to_string().contains("its key may sign acme-* only"), "{error}");
    assert!(
        !limited.path().join("plugins/indexes.toml").exists(),
        "nothing of it is remembered"
    );
}

#[test]
fn names_numbers_and_paths_of_a_hostile_index_are_refused() {
    let file = judge("rubric", "1.0.0", &requests());
    let good = entry(&file, "1.0.0");
    let with = |key: &str, value: Value| {
        let mut release = good.clone();
        release[key] = value;
        index_of(1, &[release])
    };
    let named = |name: &str| json!({ "format": 1, "serial": 1, "date": NOW, "plugins": [{ "name": name, "releases": [good] }] });
    assert!(Index::parse(index_of(1, std::slice::from_ref(&good)).to_string().as_bytes()).is_ok());
    for (index, part) in [
        (with("file", json!("../rubric.wasm")), "no plain name"),
        (with("file", json!("/etc/rubric.wasm")), "no plain name"),
        (with("file", json!("https://evil.example/r.wasm")), "no plain name"),
        (with("file", json!("a/../../r.wasm")), "no plain name"),
        (with("file", json!("a%2f..%2fr.wasm")), "no plain name"),
        (with("file", json!("a\\..\\r.wasm")), "no plain name"),
        (with("file", json!("r.wasm?x=.wasm")), "no plain name"),
        (with("file", json!("a/b/c/d/r.wasm")), "no plain name"),
        (with("file", json!("\u{1b}[2Jr.wasm")), "no plain name"),
        (with("file", json!("rubric.txt")), "no plain name"),
        (
            with("file", json!(format!("{}.wasm", "r".repeat(300)))),
            "no plain name",
        ),
        (with("sha256", json!("6F")), "64 lower-case hex digits"),
        (with("size", json!(1u64 << 40)), "its size is"),
        (with("size", json!(0)), "its size is"),
        (with("version", json!("newest")), "newest"),
        (with("api", json!("one")), "API version"),
        (with("kinds", json!([])), "no kind"),
        (with("kinds", json!(["wizard"])), "unknown variant"),
        (with("description", json!("x".repeat(5000))), "longer than a manifest's"),
        (
            with("request", json!([{ "capability": "everything" }])),
            "of no known kind",
        ),
        (
            with("request", json!([{ "capability": "http:https://A.example" }])),
            "must be written",
        ),
        (
            with("request", json!(vec![json!({ "capability": "clock" }); 101])),
            "list of requests",
        ),
        (named("../rubric"), "not a plugin name"),
        (named("ru\u{1b}[31mbric"), "not a plugin name"),
        (named("sway"), "inside dlm"),
        (index_of(1, &[]), "has 0 versions"),
        (index_of(1, &vec![good.clone(); 501]), "has 501 versions"),
        (index_of(1, &[good.clone(), good.clone()]), "there twice"),
        (
            json!({ "format": 2, "serial": 1, "date": NOW, "plugins": [] }),
            "format 2",
        ),
        (
            json!({ "format": 1, "serial": 1, "date": "soon", "plugins": [] }),
            "its date",
        ),
        (
            json!({ "format": 1, "serial": -1, "date": NOW, "plugins": [] }),
            "invalid value",
        ),
        (json!([]), "invalid"),
    ] {
        let cause = Index::parse(index.to_string().as_bytes()).unwrap_err();
        assert!(cause.contains(part), "{part}: {cause}");
        assert!(!cause.contains('\u{1b}'), "{cause:?}");
    }
    let large = vec![b' '; usize::try_from(INDEX_BYTES_MAX).unwrap() + 1];
    assert!(Index::parse(&large).unwrap_err().contains("larger than 4 MiB"));
    assert!(Index::parse(b"\xff").unwrap_err().contains("UTF-8"));
}

#[test]
fn a_file_that_is_not_the_listed_one_is_refused() {
    let signer = Signer::new(7);
    let file = judge("rubric", "1.0.0", &requests());
    let server = || served(&index_of(1, &[entry(&file, "1.0.0")]), &signer);
    let get = |server: &Server| {
        let home = home_trusting(&signer, &[]);
        let index = read(home.path(), server).unwrap();
        let release = index.index.plugin("rubric").unwrap().choose(None).unwrap().clone();
        fetch_release(&index, "rubric", &release, server, "dlm/0", &Cancel::new())
    };
    let fetched = get(&server().with("rubric-1.0.0.wasm", &file)).unwrap();
    assert_eq!(fetched.source, format!("{BASE}rubric-1.0.0.wasm"));
    assert!(fetched.is_from_network && fetched.signature.is_none());
    let mut other = file.clone();
    *other.last_mut().unwrap() ^= 1;
    let error = get(&server().with("rubric-1.0.0.wasm", &other)).unwrap_err();
    assert_eq!(error.code(), "plugin::tampered", "{error}");
    assert_eq!(get(&server()).unwrap_err().code(), "plugin::tampered", "it is missing");
    let longer = [file.as_slice(), &[0; 100]].concat();
    let error = get(&server().with("rubric-1.0.0.wasm", &longer)).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");

    // The manifest in the file decides what is asked for; an entry that hides some of it is not believed.
    let hidden = judge(
        "rubric",
        "1.0.0",
        &[("model:current", false), ("exec:git status", false)],
    );
    let checked = crate::check::check(Path::new("r.wasm"), &hidden).unwrap();
    let release: Release = serde_json::from_value(entry(&hidden, "1.0.0")).unwrap();
    let error = release.compare("rubric", &checked).unwrap_err();
    assert!(error.to_string().contains("about its requests"), "{error}");
    let mut lies = entry(&file, "1.0.0");
    lies["request"][0]["optional"] = json!(true);
    let checked_file = crate::check::check(Path::new("r.wasm"), &file).unwrap();
    let lying: Release = serde_json::from_value(lies).unwrap();
    assert!(lying.compare("rubric", &checked_file).is_err(), "it is not optional");
    let honest: Release = serde_json::from_value(entry(&file, "1.0.0")).unwrap();
    assert_eq!(honest.compare("rubric", &checked_file), Ok(()));
    assert_eq!(
        release.compare("grader", &checked).unwrap_err().code(),
        "plugin::tampered"
    );
}

#[test]
fn a_redirect_elsewhere_is_asked_without_the_right_to_a_private_network() {
    let signer = Signer::new(7);
    let home = home_trusting(&signer, &[]);
    for (to, is_followed) in [
        ("https://10.0.0.1/index.json", true),
        ("https://localhost/index.json", true),
        ("http://plugins.example/index.json", false),
        ("file:///etc/passwd", false),
    ] {
        let mut server = Server::default();
        server
            .answers
            .insert(format!("{BASE}{INDEX_FILE}"), (302, Some(to), Vec::new()));
        assert!(read(home.path(), &server).is_err());
        let asked = server.asked.into_inner().unwrap();
        let followed: Vec<&(String, bool)> = asked.iter().filter(|(url, _)| url == to).collect();
        assert_eq!(followed.len(), usize::from(is_followed), "{asked:?}");
        assert!(
            followed.iter().all(|(_, is_typed)| !is_typed),
            "the rule lets it into a private network"
        );
    }
}

#[test]
fn what_is_newer_is_told_with_what_it_would_ask_for() {
    let signer = Signer::new(7);
    let home = home_trusting(&signer, &[]);
    let file = judge("rubric", "1.0.0", &requests());
    let mut newer = entry(&file, "1.3.0");
    newer["request"] = json!([{ "capability": "model:current" }, { "capability": "http:https://t.example" }]);
    let mut future = entry(&file, "2.0.0");
    future["api"] = json!("2.0.0");
    let index = read(home.path(), &served(&index_of(1, &[newer, future]), &signer)).unwrap();
    let text = |source: &str, version: &str| {
        format!(
            "version = 1\n[[plugin]]\nname = \"rubric\"\nversion = \"{version}\"\nkinds = [\"judge\"]\napi = \"1.0.0\"\n\
             sha256 = \"{}\"\nsize = 1\nsource = \"{source}\"\ninstalled = \"{NOW}\"\n\
             [[plugin.grant]]\ncapability = \"model:current\"\ngranted = \"{NOW}\"\nby = \"flag\"\n",
            "6f".repeat(32)
        )
    };
    let rows = |source: &str, version: &str| outdated(&index, &Lock::parse(text(source, version).as_bytes()).unwrap());
    let row = &rows(&format!("{BASE}rubric-1.0.0.wasm"), "1.0.0")[0];
    assert_eq!(
        (row.newest.as_str(), row.is_from_here),
        ("1.3.0", true),
        "2.0.0 needs a newer dlm"
    );
    assert_eq!(row.new_requests, ["http:https://t.example"]);
    assert!(!rows("/tmp/rubric.wasm", "1.0.0")[0].is_from_here);
    assert!(rows("/tmp/rubric.wasm", "1.3.0").is_empty());
}

#[test]
fn places_are_addresses_or_directories() {
    let parse = |text: &str| IndexSource::parse(text, |text| text.into());
    for text in [
        "https://p.example/x",
        "https://p.example/x/",
        "https://p.example/x/index.json",
    ] {
        assert_eq!(parse(text).unwrap().place(), "https://p.example/x/");
    }
    for (text, code) in [
        ("http://p.example/", "plugin::unsupported"),
        ("oci:ghcr.example/x", "plugin::unsupported"),
        ("https://p.example/?a=b", "plugin::invalid-input"),
    ] {
        assert_eq!(parse(text).unwrap_err().code(), code, "{text}");
    }
}
