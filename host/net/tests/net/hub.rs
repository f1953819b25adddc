//! Downloads: whole, cut and continued, wrong, gated, offline, too large, cancelled, redirected.

mod shared;

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dlm_core::digest::{Sha1, sha256_hex};
use dlm_core::event::Event;
use dlm_core::ports::{BaseRequest, BaseSource, BaseSourceError};
use dlm_core::{Cancel, Hints, Progress, Quiet};
use dlm_net::{Hub, HubSettings};
use serde_json::json;

use crate::server::{Reply, Seen, Server};

const COMMIT: &str = "12fd25f77366fa6b3b4b768ec3050bf629380bac";

/// A repository of three small files and weights of 600 kB, so that a cut in the middle is real progress.
#[derive(Clone)]
struct Repo {
    weights: Vec<u8>,
    sha256: String,
}

impl Repo {
    fn new() -> Repo {
        let weights: Vec<u8> = (0..600_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let sha256 = sha256_hex(&weights);
        Repo { weights, sha256 }
    }

    fn listing(&self) -> String {
        let text = |name: &str, body: &str| json!({"rfilename": name, "size": body.len(), "blobId": git_id(body)});
        json!({"id": "org/name", "sha": COMMIT, "siblings": [
            text("config.json", CONFIG),
            text("tokenizer.json", TOKENIZER),
            text("README.md", "# Name"),
            json!({"rfilename": "model.safetensors", "size": self.weights.len(), "blobId": "4".repeat(40),
                "lfs": {"sha256": self.sha256, "size": self.weights.len(), "pointerSize": 134}}),
            json!({"rfilename": "pytorch_model.bin", "size": 9, "blobId": "5".repeat(40),
                "lfs": {"sha256": "6".repeat(64), "size": 9}}),
        ]})
        .to_string()
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let file = seen.path.rsplit('/').next().unwrap();
        match file {
            _ if seen.path.starts_with("/api/models/org/name/revision/") => Reply::ok(self.listing()),
            "config.json" => Reply::ok(CONFIG),
            "tokenizer.json" => Reply::ok(TOKENIZER),
            "model.safetensors" => Reply::ranged(seen, &self.weights),
            _ => Reply::status(404),
        }
    }
}

/// What git calls a content.
fn git_id(body: &str) -> String {
    let mut digest = Sha1::of_blob(body.len() as u64);
    digest.update(body);
    digest.finish_hex()
}

const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"]}"#;
const TOKENIZER: &str = r#"{"version":"1.0"}"#;

fn settings(server: &Server, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: server.url(),
        retry_pause: Duration::ZERO,
        attempts: 3,
        ..HubSettings::new(cache.to_owned())
    }
}

fn request() -> BaseRequest {
    BaseRequest {
        hf_id: "org/name".into(),
        revision: Some(COMMIT.into()),
        license_url: None,
    }
}

fn fetch(settings: HubSettings) -> Result<dlm_core::ports::Snapshot, BaseSourceError> {
    Hub::new(settings).unwrap().fetch(&request(), &Quiet, &Cancel::new())
}

/// The part file of the weights, whatever they are called.
fn part(cache: &Path, repo: &Repo) -> std::path::PathBuf {
    cache
        .join("models--org--name/blobs")
        .join(format!("{}.part", repo.sha256))
}

#[test]
fn a_download_is_verified_laid_out_and_found_again_without_a_connection() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let answers = repo.clone();
    let server = Server::start(move |seen| answers.answer(seen));
    let hub = Hub::new(settings(&server, cache.path())).unwrap();
    assert_eq!(hub.cached(&request()).unwrap(), None);
    let snapshot = hub.fetch(&request(), &Quiet, &Cancel::new()).unwrap();
    assert_eq!(snapshot.files, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(
        snapshot.bytes_fetched as usize,
        repo.weights.len() + CONFIG.len() + TOKENIZER.len()
    );
    assert_eq!(
        std::fs::read(snapshot.dir.join("model.safetensors")).unwrap(),
        repo.weights
    );
    assert!(snapshot.dir.ends_with(format!("models--org--name/snapshots/{COMMIT}")));
    let blob = cache.path().join("models--org--name/blobs").join(&repo.sha256);
    assert!(blob.is_file() && !part(cache.path(), &repo).exists());

    let requests = server.seen().len();
    let again = hub.fetch(&request(), &Quiet, &Cancel::new()).unwrap();
    assert_eq!((again.bytes_fetched, again.dir), (0, snapshot.dir));
    assert_eq!(server.seen().len(), requests, "a whole snapshot needs no request");
}

#[test]
fn an_inspection_names_files_and_config_and_stores_nothing() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| repo.answer(seen));
    let hub = Hub::new(settings(&server, cache.path())).unwrap();
    let remote = hub
        .inspect(
            &BaseRequest {
                revision: None,
                ..request()
            },
            &Cancel::new(),
        )
        .unwrap();
    assert_eq!(remote.commit, COMMIT);
    assert_eq!(remote.config_json, CONFIG);
    assert_eq!(remote.files.len(), 3);
    assert!(server.seen()[0].path.ends_with("/revision/main?blobs=true"));
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
}

#[test]
fn a_branch_is_resolved_once_and_remembered() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| repo.answer(seen));
    let branch = BaseRequest {
        revision: None,
        ..request()
    };
    Hub::new(settings(&server, cache.path()))
        .unwrap()
        .fetch(&branch, &Quiet, &Cancel::new())
        .unwrap();
    let offline = HubSettings {
        offline: Some("HF_HUB_OFFLINE=1".into()),
        ..settings(&server, cache.path())
    };
    let requests = server.seen().len();
    let snapshot = Hub::new(offline)
        .unwrap()
        .fetch(&branch, &Quiet, &Cancel::new())
        .unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(server.seen().len(), requests);
}

#[test]
fn a_cut_connection_is_continued_where_it_broke() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let (answers, cuts) = (repo.clone(), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        let mut reply = answers.answer(seen);
        if seen.path.ends_with("model.safetensors") && cuts.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.cut_after = Some(200_000);
        }
        reply
    });
    let snapshot = fetch(settings(&server, cache.path())).unwrap();
    assert_eq!(
        std::fs::read(snapshot.dir.join("model.safetensors")).unwrap(),
        repo.weights
    );
    let ranges: Vec<Option<String>> = server
        .seen()
        .iter()
        .filter(|seen| seen.path.ends_with("model.safetensors"))
        .map(|seen| seen.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, [None, Some("bytes=200000-".into())]);
}

#[test]
fn tries_without_progress_are_counted_and_what_came_is_kept_for_the_next_command() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let (answers, is_broken) = (repo.clone(), Arc::new(Mutex::new(true)));
    let broken = is_broken.clone();
    let server = Server::start(move |seen| {
        let mut reply = answers.answer(seen);
        if seen.path.ends_with("model.safetensors") && *broken.lock().unwrap() {
            let is_first = !seen.headers.contains_key("range");
            reply.cut_after = Some(if is_first { 100_000 } else { 0 });
        }
        reply
    });
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    let BaseSourceError::Interrupted {
        have, want, attempts, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*have, *want, *attempts), (100_000, 600_000, 3));
    assert!(error.hints()[0].contains("goes on where"));
    assert_eq!(std::fs::metadata(part(cache.path(), &repo)).unwrap().len(), 100_000);

    *is_broken.lock().unwrap() = false;
    let snapshot = fetch(settings(&server, cache.path())).unwrap();
    // The small files came first.
    assert_eq!(snapshot.bytes_fetched, 500_000);
    assert_eq!(
        std::fs::read(snapshot.dir.join("model.safetensors")).unwrap(),
        repo.weights
    );
}

#[test]
fn a_server_that_cannot_continue_makes_the_file_begin_again() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let answers = repo.clone();
    let server = Server::start(move |seen| {
        if seen.path.ends_with("model.safetensors") {
            Reply::ok(answers.weights.clone())
        } else {
            answers.answer(seen)
        }
    });
    std::fs::create_dir_all(part(cache.path(), &repo).parent().unwrap()).unwrap();
    std::fs::write(part(cache.path(), &repo), &repo.weights[..1000]).unwrap();
    let snapshot = fetch(settings(&server, cache.path())).unwrap();
    assert_eq!(
        std::fs::read(snapshot.dir.join("model.safetensors")).unwrap(),
        repo.weights
    );
}

#[test]
fn a_damaged_part_file_is_noticed_and_fetched_anew() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let answers = repo.clone();
    let server = Server::start(move |seen| answers.answer(seen));
    std::fs::create_dir_all(part(cache.path(), &repo).parent().unwrap()).unwrap();
    std::fs::write(part(cache.path(), &repo), vec![0; 5000]).unwrap();
    let snapshot = fetch(settings(&server, cache.path())).unwrap();
    assert_eq!(
        std::fs::read(snapshot.dir.join("model.safetensors")).unwrap(),
        repo.weights
    );
}

#[test]
fn wrong_content_is_refused_and_removed() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let mut liar = repo.clone();
    liar.weights[77] ^= 1;
    liar.sha256.clone_from(&repo.sha256);
    let server = Server::start(move |seen| liar.answer(seen));
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert!(matches!(error, BaseSourceError::Digest { .. }), "{error}");
    assert!(error.to_string().contains(&repo.sha256));
    assert!(!part(cache.path(), &repo).exists());
    assert_eq!(
        Hub::new(settings(&server, cache.path()))
            .unwrap()
            .cached(&request())
            .unwrap(),
        None
    );
}

#[test]
fn a_body_longer_than_the_listing_says_is_refused() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| {
        if seen.path.ends_with("config.json") {
            Reply::ok(vec![b' '; 10_000])
        } else {
            repo.answer(seen)
        }
    });
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert!(
        matches!(&error, BaseSourceError::TooLarge { file, .. } if file == "config.json"),
        "{error}"
    );
}

#[test]
fn a_huge_file_is_refused_before_anything_is_fetched() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| repo.answer(seen));
    let error = fetch(HubSettings {
        weight_bytes_max: 599_999,
        ..settings(&server, cache.path())
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`model.safetensors` of `org/name` has 600000 bytes, more than the 599999 that are allowed"
    );
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn gated_bases_lead_to_the_license_and_the_token() {
    for status in [401, 403] {
        let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
        let server = Server::start(move |seen| {
            if seen.path.contains("/resolve/") {
                Reply::status(status)
            } else {
                repo.answer(seen)
            }
        });
        let hub = Hub::new(settings(&server, cache.path())).unwrap();
        let licensed = BaseRequest {
            license_url: Some("{hub}/org/name/blob/main/LICENSE".into()),
            ..request()
        };
        let error = hub.fetch(&licensed, &Quiet, &Cancel::new()).unwrap_err();
        assert_eq!(error.subject().as_str(), "license");
        assert_eq!(
            error.hints()[0],
            format!(
                "read and accept the license at {}/org/name/blob/main/LICENSE",
                server.url()
            )
        );
        assert!(error.hints()[1].contains("HF_TOKEN"), "{:?}", error.hints());
    }
}

#[test]
fn an_unknown_repository_is_not_taken_for_a_gated_one() {
    let cache = tempfile::tempdir().unwrap();
    for reply in [
        Reply::status(404),
        Reply::status(401).header("X-Error-Code", "RepoNotFound"),
    ] {
        let server = Server::start(move |_| reply.clone());
        let error = fetch(settings(&server, cache.path())).unwrap_err();
        assert!(matches!(error, BaseSourceError::NotFound { .. }), "{error}");
        assert!(error.hints()[0].contains("dlm base add <name> --from"));
        assert_eq!(server.seen().len(), 1, "an answer of 404 is not retried");
    }
}

#[test]
fn the_token_stays_with_the_host_it_was_given_for() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let weights = repo.clone();
    let cdn = Server::start(move |seen| Reply::ranged(seen, &weights.weights));
    let elsewhere = format!("{}/blob/model.safetensors", cdn.url());
    let server = Server::start(move |seen| match seen.path.ends_with("model.safetensors") {
        true => Reply::status(302).header("Location", elsewhere.clone()),
        false => repo.answer(seen),
    });
    fetch(HubSettings {
        token: Some("secret".into()),
        ..settings(&server, cache.path())
    })
    .unwrap();
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.headers["authorization"] == "Bearer secret")
    );
    assert_eq!(cdn.seen().len(), 1);
    assert!(!cdn.seen()[0].headers.contains_key("authorization"));
}

#[test]
fn a_redirect_off_this_machine_by_plain_http_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::status(302).header("Location", "http://outside.test/x"));
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert!(matches!(error, BaseSourceError::InsecureRedirect { .. }), "{error}");
    let looping = Server::start(|seen| Reply::status(302).header("Location", seen.path.clone()));
    let error = fetch(settings(&looping, cache.path())).unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");
    assert_eq!(looping.seen().len(), 6);
}

#[test]
fn another_commit_than_the_pin_is_refused() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| repo.answer(seen));
    let moved = BaseRequest {
        revision: Some("0".repeat(40)),
        ..request()
    };
    let error = Hub::new(settings(&server, cache.path()))
        .unwrap()
        .fetch(&moved, &Quiet, &Cancel::new())
        .unwrap_err();
    assert!(matches!(error, BaseSourceError::Revision { .. }), "{error}");
}

#[test]
fn offline_opens_no_connection() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| repo.answer(seen));
    let offline = HubSettings {
        offline: Some("HF_HUB_OFFLINE=1".into()),
        ..settings(&server, cache.path())
    };
    let error = fetch(offline).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`org/name` is not in the cache and this run is offline (HF_HUB_OFFLINE=1)"
    );
    assert!(error.hints()[1].contains("dlm base add <name> --from"));
    assert!(server.seen().is_empty());
}

#[test]
fn a_hub_out_of_reach_leads_to_local_bases_and_counts_its_tries() {
    let cache = tempfile::tempdir().unwrap();
    // A port that was just given back has nobody behind it.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let gone = HubSettings {
        endpoint: format!("http://127.0.0.1:{port}"),
        retry_pause: Duration::ZERO,
        attempts: 3,
        ..HubSettings::new(cache.path().to_owned())
    };
    let error = fetch(gone).unwrap_err();
    assert!(
        matches!(error, BaseSourceError::Unreachable { attempts: 3, .. }),
        "{error}"
    );
    assert_eq!(
        error.hints(),
        ["add a base from disk instead: `dlm base add <name> --from <dir|file.gguf|wheel>`"]
    );
}

#[test]
fn a_busy_hub_is_asked_again_and_then_reported_with_the_count() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::status(503).header("Retry-After", "0"));
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the hub answered 503 for the file list of `org/name` after 3 attempts"
    );
    assert_eq!(server.seen().len(), 3);
}

/// Raises the flag at the first byte.
struct CancelAtOnce(Cancel);

impl Progress for CancelAtOnce {
    fn event(&self, event: Event) {
        if matches!(event, Event::PhaseAdvanced { done, .. } if done > 100_000) {
            self.0.cancel();
        }
    }
}

#[test]
fn an_interrupted_download_keeps_what_came() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let answers = repo.clone();
    let server = Server::start(move |seen| answers.answer(seen));
    let cancel = Cancel::new();
    let hub = Hub::new(settings(&server, cache.path())).unwrap();
    let error = hub
        .fetch(&request(), &CancelAtOnce(cancel.clone()), &cancel)
        .unwrap_err();
    assert_eq!(error.kind().exit_code(), 130);
    let kept = std::fs::metadata(part(cache.path(), &repo)).unwrap().len();
    assert!(kept > 0 && kept < 600_000, "{kept}");
    let snapshot = hub.fetch(&request(), &Quiet, &Cancel::new()).unwrap();
    assert_eq!(snapshot.bytes_fetched, 600_000 - kept);
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let answers = repo.clone();
    let server = Server::start(move |seen| answers.answer(seen));
    std::fs::create_dir_all(part(cache.path(), &repo).parent().unwrap()).unwrap();
    let other = std::fs::File::create(part(cache.path(), &repo)).unwrap();
    other.lock().unwrap();
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert!(
        error.to_string().contains("another download of this file is running"),
        "{error}"
    );
    drop(other);
    fetch(settings(&server, cache.path())).unwrap();
}

#[test]
fn a_shard_that_the_index_names_must_exist() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let server = Server::start(move |seen| {
        let listing = repo
            .listing()
            .replace("\"model.safetensors\"", "\"model-00001-of-00002.safetensors\"");
        let mut listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
        listing["siblings"]
            .as_array_mut()
            .unwrap()
            .push(json!({"rfilename": "model.safetensors.index.json", "size": index.len(), "blobId": git_id(index)}));
        match seen.path.rsplit('/').next().unwrap() {
            _ if seen.path.starts_with("/api/") => Reply::ok(listing.to_string()),
            "model.safetensors.index.json" => Reply::ok(index),
            "model-00001-of-00002.safetensors" => Reply::ranged(seen, &repo.weights),
            _ => repo.answer(seen),
        }
    });
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert!(
        error.to_string().contains("model-00002-of-00002.safetensors"),
        "{error}"
    );
    assert_eq!(
        Hub::new(settings(&server, cache.path()))
            .unwrap()
            .cached(&request())
            .unwrap(),
        None
    );
}

#[test]
fn addresses_and_names_that_could_lead_astray_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    for endpoint in [
        "http://hub.test",
        "ftp://hub.test",
        "hub.test",
        "https://user:pw@hub.test",
    ] {
        let settings = HubSettings {
            endpoint: endpoint.into(),
            ..HubSettings::new(cache.path().to_owned())
        };
        let error = Hub::new(settings).unwrap_err();
        assert!(
            matches!(error, BaseSourceError::BadEndpoint { .. }),
            "{endpoint}: {error}"
        );
    }
    let hub = Hub::new(HubSettings::new(cache.path().to_owned())).unwrap();
    for hf_id in ["../x", "a/../b", "a/b?c", "a", "a/b/c", "a/.b"] {
        let request = BaseRequest {
            hf_id: hf_id.into(),
            ..request()
        };
        let error = hub.fetch(&request, &Quiet, &Cancel::new()).unwrap_err();
        assert!(matches!(error, BaseSourceError::BadAnswer { .. }), "{hf_id}: {error}");
    }
}

#[test]
fn settings_that_make_no_client_are_named() {
    let cache = tempfile::tempdir().unwrap();
    let usual = || HubSettings::new(cache.path().to_owned());
    let refused = |settings: HubSettings| Hub::new(settings).unwrap_err().to_string();
    let no_certificates = HubSettings {
        ca_pem: Some(b"nothing".to_vec()),
        ..usual()
    };
    assert_eq!(
        refused(no_certificates),
        "the file of root certificates cannot be used: it holds no PEM certificate"
    );
    let bad_proxy = HubSettings {
        proxy: Some("no such thing".into()),
        ..usual()
    };
    assert!(refused(bad_proxy).starts_with("the proxy cannot be used"));
}
