//! The replay corpus on disk: append, come back, evict, compact, set aside, draw.

use std::collections::BTreeSet;
use std::fs;

use dlm_core::{SectionId, SectionKind};
use dlm_store::Store;
use dlm_store::replay::{MinedPreferences, Remember, ReplayError, SampleRequest, SampleScheme, Snapshot};

use super::scenario::{id, remember, stamp};
use super::{NOW_MS, lock, new_store};

const DAY_MS: i64 = 86_400_000;

fn append(store: &Store, contents: &[&str], run_id: u64, now_ms: i64) -> dlm_store::replay::AppendReport {
    let sections: Vec<_> = contents
        .iter()
        .map(|content| remember(content, run_id, stamp(now_ms)))
        .collect();
    let guard = lock(store);
    guard
        .replay_writer()
        .unwrap()
        .append(&sections, &BTreeSet::new(), u64::MAX)
        .unwrap()
}

fn contents(store: &Store) -> BTreeSet<String> {
    let corpus = store.replay().unwrap();
    let read = |entry| corpus.read(entry).unwrap().content;
    corpus.entries().iter().map(read).collect()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn appended_sections_read_back() {
    let (_directory, store) = new_store();
    let report = append(&store, &["one", "two"], 1, NOW_MS);
    assert_eq!(
        (report.added, report.refreshed, report.evicted, report.compacted),
        (2, 0, 0, false)
    );
    append(&store, &["three"], 2, NOW_MS + DAY_MS);
    assert_eq!(contents(&store), set(&["one", "two", "three"]));
    let corpus = store.replay().unwrap();
    assert_eq!(corpus.dead_bytes().unwrap(), 0);
    let ids: Vec<_> = corpus.entries().iter().map(|entry| entry.section_id.clone()).collect();
    assert!(ids.is_sorted());
    let empty = append(&store, &[], 3, NOW_MS);
    assert_eq!(empty, Default::default());
}

#[test]
fn a_section_that_comes_back_refreshes_its_entry() {
    let (_directory, store) = new_store();
    append(&store, &["one", "two"], 1, NOW_MS);
    let report = append(&store, &["one"], 3, NOW_MS + DAY_MS);
    assert_eq!((report.added, report.refreshed), (0, 1));
    let corpus = store.replay().unwrap();
    assert_eq!(corpus.entries().len(), 2);
    let entry = corpus
        .entries()
        .iter()
        .find(|entry| entry.section_id == id("one"))
        .unwrap();
    assert_eq!(entry.added_at, stamp(NOW_MS + DAY_MS));
    let snapshot = corpus.read(entry).unwrap();
    assert_eq!(snapshot.training_runs_seen, [1, 3]);
    assert_eq!(
        (snapshot.first_seen_at, snapshot.last_seen_at),
        (stamp(NOW_MS), stamp(NOW_MS + DAY_MS))
    );
    assert!(corpus.dead_bytes().unwrap() > 0);
}

#[test]
fn media_are_not_replayed() {
    let (_directory, store) = new_store();
    let mut section = remember("x", 1, stamp(NOW_MS));
    section.snapshot.section_type = SectionKind::Image;
    let guard = lock(&store);
    let error = guard
        .replay_writer()
        .unwrap()
        .append(&[section], &BTreeSet::new(), 0)
        .unwrap_err();
    assert!(
        error.to_string().contains("of type image, which is not replayed"),
        "{error}"
    );
}

#[test]
fn eviction_and_compaction_keep_the_rest() {
    let (_directory, store) = new_store();
    let big = (0u32..2000)
        .map(|number| number.wrapping_mul(2_654_435_761).to_string())
        .collect::<String>();
    append(&store, &[&big], 1, NOW_MS);
    append(&store, &["two", "three"], 2, NOW_MS + DAY_MS);
    let guard = lock(&store);
    let writer = guard.replay_writer().unwrap();
    let keep = BTreeSet::from([id("two")]);
    let all: u64 = store.replay().unwrap().entries().iter().map(|entry| entry.length).sum();
    let report = writer.append(&[], &keep, all - 1).unwrap();
    assert_eq!((report.evicted, report.compacted), (1, true), "the oldest goes first");
    assert_eq!(contents(&store), set(&["two", "three"]));
    assert_eq!(store.replay().unwrap().dead_bytes().unwrap(), 0);
    let report = writer.append(&[], &keep, 0).unwrap();
    assert_eq!(report.evicted, 1);
    assert_eq!(contents(&store), set(&["two"]), "a section of the document stays");
}

#[test]
fn bytes_that_no_entry_covers_are_no_error() {
    let (_directory, store) = new_store();
    append(&store, &["one"], 1, NOW_MS);
    let path = store.paths().replay().join("corpus.zst");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"half a frame");
    fs::write(&path, bytes).unwrap();
    assert_eq!(contents(&store), set(&["one"]));
    append(&store, &["two"], 2, NOW_MS);
    assert_eq!(contents(&store), set(&["one", "two"]));
}

#[test]
fn a_reader_in_the_middle_of_a_compaction_sees_one_of_the_two_states() {
    let (_directory, store) = new_store();
    append(&store, &["one", "two"], 1, NOW_MS);
    append(&store, &["one"], 2, NOW_MS);
    let directory = store.paths().replay();
    let (corpus, index) = (directory.join("corpus.zst"), directory.join("index.json"));
    let old = (fs::read(&corpus).unwrap(), fs::read(&index).unwrap());
    let guard = lock(&store);
    // Three fresh frames of one section leave more dead bytes than live ones.
    for run in 3..6 {
        let again = [remember("one", run, stamp(NOW_MS)), remember("two", run, stamp(NOW_MS))];
        guard
            .replay_writer()
            .unwrap()
            .append(&again, &BTreeSet::new(), u64::MAX)
            .unwrap();
    }
    assert!(store.replay().unwrap().dead_bytes().unwrap() <= fs::metadata(&corpus).unwrap().len() / 2);
    let new = (fs::read(&corpus).unwrap(), fs::read(&index).unwrap());
    drop(guard);

    // Written, decided, half in place: every state of the journal.
    for decided in [false, true] {
        for is_corpus_moved in [false, true] {
            if is_corpus_moved && !decided {
                continue;
            }
            fs::write(&corpus, if is_corpus_moved { &new.0 } else { &old.0 }).unwrap();
            fs::write(&index, &old.1).unwrap();
            if !is_corpus_moved {
                fs::write(directory.join("compacted.zst"), &new.0).unwrap();
            }
            if decided {
                fs::write(directory.join("compacted.json"), &new.1).unwrap();
            }
            assert_eq!(contents(&store), set(&["one", "two"]));
            drop(lock(&store));
            assert_eq!(contents(&store), set(&["one", "two"]));
            assert!(!directory.join("compacted.zst").exists() && !directory.join("compacted.json").exists());
            let expected = if decided { &new } else { &old };
            assert_eq!(fs::read(&corpus).unwrap(), expected.0);
        }
    }
}

#[test]
fn damage_is_told_with_its_place_and_set_aside() {
    let (_directory, store) = new_store();
    append(&store, &["one", "two"], 1, NOW_MS);
    let corpus = store.replay().unwrap();
    let entry = corpus
        .entries()
        .iter()
        .find(|entry| entry.section_id == id("one"))
        .unwrap()
        .clone();
    let path = store.paths().replay().join("corpus.zst");
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(entry.byte_offset).unwrap()] ^= 0xff;
    fs::write(&path, bytes).unwrap();

    let candidates = store.replay().unwrap().section_candidates(&BTreeSet::new());
    assert_eq!((candidates.readable.len(), candidates.damaged.len()), (1, 1));
    let message = candidates.damaged[0].to_string();
    let place = format!("offset {}, length {}", entry.byte_offset, entry.length);
    assert!(message.contains(&place) && message.contains("corpus.zst"), "{message}");

    let guard = lock(&store);
    let writer = guard.replay_writer().unwrap();
    assert_eq!(writer.set_aside(&candidates.damaged).unwrap(), 1);
    assert_eq!(writer.set_aside(&candidates.damaged).unwrap(), 0);
    assert_eq!(contents(&store), set(&["two"]));
    let aside = fs::read_to_string(store.paths().replay().join("set-aside.json")).unwrap();
    assert!(aside.contains(id("one").as_str()), "{aside}");
    // The section is still in the document, so it comes back with its next run.
    writer
        .append(&[remember("one", 2, stamp(NOW_MS))], &BTreeSet::new(), u64::MAX)
        .unwrap();
    assert_eq!(contents(&store), set(&["one", "two"]));
}

#[test]
fn an_index_that_points_elsewhere_is_told() {
    let (_directory, store) = new_store();
    append(&store, &["one", "two"], 1, NOW_MS);
    let path = store.paths().replay().join("index.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"byte_offset\": 0", "\"byte_offset\": 100000")).unwrap();
    let damaged = store.replay().unwrap().section_candidates(&BTreeSet::new()).damaged;
    assert!(damaged[0].to_string().contains("only 0 bytes are left"), "{damaged:?}");

    let swapped = text.replace(id("one").as_str(), "ffffffffffffffff");
    fs::write(&path, swapped).unwrap();
    let damaged = store.replay().unwrap().section_candidates(&BTreeSet::new()).damaged;
    assert!(matches!(damaged[0], ReplayError::Mismatch { .. }), "{damaged:?}");

    fs::write(&path, "{").unwrap();
    let error = store.replay().unwrap_err();
    assert!(
        error.to_string().contains("replay index is corrupt: invalid JSON"),
        "{error}"
    );
    // A writer moves it out of the way and begins anew.
    let guard = lock(&store);
    let writer = guard.replay_writer().unwrap();
    let place = writer.set_index_aside().unwrap();
    assert_eq!(fs::read_to_string(place).unwrap(), "{");
    writer
        .append(&[remember("three", 2, stamp(NOW_MS))], &BTreeSet::new(), u64::MAX)
        .unwrap();
    assert_eq!(contents(&store), set(&["three"]));
}

fn preference(content: &str, auto_mined: bool) -> Remember {
    let mut section = remember(content, 1, stamp(NOW_MS));
    section.snapshot = Snapshot {
        section_id: SectionId::of_content(SectionKind::Preference, content),
        section_type: SectionKind::Preference,
        auto_mined,
        ..section.snapshot
    };
    section
}

#[test]
fn candidates_leave_out_what_must_not_be_drawn() {
    let (_directory, store) = new_store();
    append(&store, &["current", "edited", "deleted"], 1, NOW_MS);
    let guard = lock(&store);
    let writer = guard.replay_writer().unwrap();
    let preferences = [preference("by hand", false), preference("mined", true)];
    writer.append(&preferences, &BTreeSet::new(), u64::MAX).unwrap();
    writer
        .supersede(&[(id("edited"), id("current")), (id("unknown"), id("current"))])
        .unwrap();

    let corpus = store.replay().unwrap();
    let current = BTreeSet::from([id("current")]);
    let names = |candidates: dlm_store::replay::Candidates| -> BTreeSet<String> {
        candidates
            .readable
            .into_iter()
            .map(|(_, snapshot)| snapshot.content)
            .collect()
    };
    assert_eq!(names(corpus.section_candidates(&current)), set(&["deleted"]));
    let none = BTreeSet::new();
    let all = corpus.preference_candidates(&none, MinedPreferences::Include);
    assert_eq!(names(all), set(&["by hand", "mined"]));
    let by_hand = corpus.preference_candidates(&none, MinedPreferences::Exclude);
    assert_eq!(names(by_hand), set(&["by hand"]));

    // A section that comes back is drawn again once it has left.
    writer
        .append(&[remember("edited", 2, stamp(NOW_MS))], &none, u64::MAX)
        .unwrap();
    let corpus = store.replay().unwrap();
    assert_eq!(names(corpus.section_candidates(&current)), set(&["deleted", "edited"]));
}

#[test]
fn losing_what_is_only_ours_is_harmless() {
    let (_directory, store) = new_store();
    append(&store, &["one", "two"], 1, NOW_MS);
    let guard = lock(&store);
    guard
        .replay_writer()
        .unwrap()
        .supersede(&[(id("one"), id("two"))])
        .unwrap();
    let path = store.paths().replay().join("extra.json");
    assert!(path.is_file());
    fs::write(&path, "{").unwrap();
    let corpus = store.replay().unwrap();
    assert!(
        corpus
            .extra_flaw
            .as_ref()
            .is_some_and(|flaw| flaw.contains("extra.json")),
        "{:?}",
        corpus.extra_flaw
    );
    assert_eq!(corpus.section_candidates(&BTreeSet::new()).readable.len(), 2);
}

#[test]
fn draws_are_the_same_for_the_same_seed() {
    let (_directory, store) = new_store();
    let names: Vec<_> = (0..40).map(|number| format!("section {number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    append(&store, &names, 1, NOW_MS);
    let candidates = store.replay().unwrap().section_candidates(&BTreeSet::new());
    let request = SampleRequest {
        count: 32,
        now: stamp(NOW_MS),
        seed: 43,
        scheme: SampleScheme::Recency,
    };
    let first = candidates.draw(&request);
    assert_eq!((first.len(), &first), (32, &candidates.draw(&request)));
    let other = SampleRequest { seed: 44, ..request };
    assert_ne!(first, candidates.draw(&other));
}
