//! A cache that several processes use, that one was killed in, and a hub that does not answer or lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlm_core::ports::{BaseSource, BaseSourceError};
use dlm_core::{Cancel, Quiet};
use dlm_net::{Hub, HubSettings};

use super::{Repo, TOKENIZER, fetch, git_id, request, settings};
use crate::server::{Reply, Server};

#[test]
fn six_processes_at_once_fetch_a_repository_once() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| repo.answer(seen));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            // Each with a client of its own, as processes have; the system's locks keep them apart alike.
            scope.spawn(|| fetch(settings(&server, cache.path())).unwrap());
        }
    });
    let asked = server.seen();
    let weights = asked
        .iter()
        .filter(|seen| seen.path.ends_with("/model.safetensors"))
        .count();
    assert_eq!(weights, 1, "{asked:?}");
    assert!(!cache.path().join("models--org--name/.dlm-download.lock").exists());
}

#[test]
fn a_small_file_with_another_content_is_refused() {
    let (repo, cache) = (Repo::new(), tempfile::tempdir().unwrap());
    let server = Server::start(move |seen| match seen.path.ends_with("/tokenizer.json") {
        true => Reply::ok(TOKENIZER.replace("1.0", "6.6")),
        false => repo.answer(seen),
    });
    let error = fetch(settings(&server, cache.path())).unwrap_err();
    assert!(
        matches!(&error, BaseSourceError::Digest { file, expected, .. }
            if file == "tokenizer.json" && *expected == format!("git {}", git_id(TOKENIZER))),
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
fn a_raised_flag_ends_the_waiting_for_an_answer() {
    let cache = tempfile::tempdir().unwrap();
    // It takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = HubSettings {
        endpoint: format!("http://{}", silent.local_addr().unwrap()),
        ..HubSettings::new(cache.path().to_owned())
    };
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Hub::new(settings).unwrap().inspect(&request(), &cancel));
        let connection = silent.accept().unwrap();
        cancel.cancel();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, BaseSourceError::Cancelled { .. }), "{error}");
        drop(connection);
    });
}

/// Killed before any operation on the disk, a fetch leaves what the next one goes on from, and never half a snapshot.
#[test]
fn a_fetch_that_is_killed_at_any_operation_leaves_no_half_snapshot() {
    let repo = Repo::new();
    let answers = repo.clone();
    let server = Server::start(move |seen| answers.answer(seen));
    for last in 0.. {
        let cache = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        let disk = dlm_files::Disk::with_hook(Arc::new(move |_, _| {
            match count.fetch_add(1, Ordering::SeqCst) < last {
                true => Ok(()),
                false => Err(std::io::Error::other("killed")),
            }
        }));
        let dying = HubSettings {
            disk,
            ..settings(&server, cache.path())
        };
        let is_done = fetch(dying).is_ok();
        let hub = Hub::new(settings(&server, cache.path())).unwrap();
        let cached = hub.cached(&request()).unwrap();
        assert!(
            cached.as_ref().is_none_or(|snapshot| snapshot.files.len() == 3),
            "{last}: {cached:?}"
        );
        let snapshot = hub.fetch(&request(), &Quiet, &Cancel::new()).unwrap();
        assert_eq!(
            std::fs::read(snapshot.dir.join("model.safetensors")).unwrap(),
            repo.weights
        );
        if is_done {
            assert!(last > 15, "only {last} operations were seen");
            return;
        }
    }
}
