//! Kills a run between any two of its writes, or when it gets no memory, then opens the store again.
//!
//! The program starts itself as a child that sends itself the kill signal before its n-th operation on the disk, for
//! every n until a run gets through; and as one whose n-th request for memory is refused, for many n. After each end the
//! store must read well, the next writer must mend it, and the next run must neither lose nor repeat a section: on the same
//! document, and on one that was edited meanwhile.
#![expect(
    clippy::print_stdout,
    reason = "this test has its own main function and reports as the harness does"
)]

#[path = "store/scenario.rs"]
mod scenario;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use dlm_core::manifest::RunStatus;
use dlm_store::metrics::RunFilter;
use dlm_store::{AdapterSlot, Disk, Store, verify_version};
use scenario::{Run, id, train, wait};

const FIRST_MS: i64 = 1_776_623_414_000;
const SECOND_MS: i64 = FIRST_MS + 60_000;
const THIRD_MS: i64 = SECOND_MS + 60_000;

/// The document of the first run, and of the second: one section stays, one goes, two are new.
const KEPT: &str = "the kept section";
const AFTER: &[&str] = &[KEPT, "a new section", "another new section"];
/// What somebody makes of it while the run lies dead.
const EDITED: &[&str] = &[KEPT, "a new section, with a word more"];

/// A section that takes more than half of the corpus, so that dropping it makes compaction worth while.
fn removed() -> String {
    let numbers = (0u32..400).map(|number| number.wrapping_mul(2_654_435_761).to_string());
    numbers.collect::<Vec<_>>().join(" ")
}

/// A run has far fewer operations; more means that the child never gets through.
const OPERATIONS_MAX: u64 = 2000;
/// Requests for memory between two that are refused; no divisor of anything that a run repeats.
const ALLOCATIONS_STEP: u64 = 97;
/// A run has far fewer.
const ALLOCATIONS_MAX: u64 = 1_000_000;

/// Said by a run that was refused nothing.
const UNREFUSED: &str = "nothing was refused";

/// Requests for memory that are still granted.
static GRANTED: AtomicI64 = AtomicI64::new(i64::MAX);

/// Refuses one request, once: the standard library then aborts, as it does on a machine without memory.
struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

// SAFETY: every call is passed to the system's allocator as it came, or is answered with the null that means a refusal.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match GRANTED.fetch_sub(1, Ordering::Relaxed) {
            0 => std::ptr::null_mut(),
            // SAFETY: the caller's promise is passed on.
            _ => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on; what it gives back came from there.
        unsafe { System.dealloc(place, layout) }
    }
}

/// How a run is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Killed before its n-th operation on the disk.
    Killed,
    /// Refused its n-th request for memory.
    Refused,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            End::Killed => "killed",
            End::Refused => "refused",
        }
    }
}

/// The second run of a scenario.
#[derive(Clone, Copy)]
struct Scenario {
    /// The name of its test.
    name: &'static str,
    /// 0 makes eviction drop what is not in the document, and compaction cut it out.
    budget: u64,
    /// Whether sections that left the document stay remembered.
    keeps_removed: bool,
    /// Whether the store exists before the run that is killed.
    is_prepared: bool,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "second_run",
        budget: u64::MAX,
        keeps_removed: true,
        is_prepared: true,
    },
    Scenario {
        name: "second_run_with_eviction_and_compaction",
        budget: 0,
        keeps_removed: false,
        is_prepared: true,
    },
    Scenario {
        name: "first_run",
        budget: u64::MAX,
        keeps_removed: false,
        is_prepared: false,
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, root, scenario, stop] if role == End::Killed.word() => {
            child(Path::new(root), scenario.parse()?, stop.parse()?)
        }
        [role, root, scenario, stop] if role == End::Refused.word() => {
            let store = Store::at(root, Disk::new());
            let run = second_run(SCENARIOS[scenario.parse::<usize>()?]);
            GRANTED.store(stop.parse()?, Ordering::Relaxed);
            let done = train(&store, &run);
            // A request may be refused to somebody who can do without.
            if GRANTED.swap(i64::MAX, Ordering::Relaxed) > 0 {
                println!("{UNREFUSED}");
            }
            done.map(drop)
        }
        options if options.iter().any(|option| option == "--list") => {
            list(options);
            Ok(())
        }
        options => run_chosen(options),
    }
}

/// Lists the tests as the usual harness does, for `cargo nextest`; none is ignored.
fn list(options: &[String]) {
    if !options.iter().any(|option| option == "--ignored") {
        for scenario in SCENARIOS {
            println!("{}: test", scenario.name);
        }
    }
}

/// Runs the scenarios that the options name, and reports as the usual harness does.
fn run_chosen(options: &[String]) -> Result<()> {
    let is_exact = options.iter().any(|option| option == "--exact");
    let names: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .filter(|option| !option.starts_with('-'))
        .collect();
    let is_chosen = |scenario: &Scenario| {
        let fits = |name: &&str| match is_exact {
            true => scenario.name == *name,
            false => scenario.name.contains(name),
        };
        names.is_empty() || names.iter().any(fits)
    };
    let mut passed = 0;
    for (index, scenario) in SCENARIOS.iter().enumerate().filter(|(_, scenario)| is_chosen(scenario)) {
        parent(index).with_context(|| format!("test {} ... FAILED", scenario.name))?;
        println!("test {} ... ok", scenario.name);
        passed += 1;
    }
    let left_out = SCENARIOS.len() - passed;
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; {left_out} filtered out");
    Ok(())
}

/// Makes the run and dies before operation `stop`.
fn child(root: &Path, scenario: usize, stop: u64) -> Result<()> {
    let count = AtomicU64::new(0);
    let disk = Disk::with_hook(Arc::new(move |_, _| {
        if count.fetch_add(1, Ordering::SeqCst) == stop {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL)?;
        }
        Ok(())
    }));
    let store = Store::at(root, disk);
    train(&store, &second_run(SCENARIOS[scenario]))?;
    Ok(())
}

fn second_run(scenario: Scenario) -> Run<'static> {
    Run {
        now_ms: SECOND_MS,
        sections: AFTER,
        replay_budget_bytes: scenario.budget,
    }
}

/// Kills the second run of a scenario at each of its operations.
fn parent(index: usize) -> Result<()> {
    let scenario = SCENARIOS[index];
    let directory = tempfile::Builder::new()
        .prefix("dlm-crash")
        .tempdir_in(fast_directory())?;
    let template = directory.path().join("template");
    fs::create_dir(&template)?;
    if scenario.is_prepared {
        let first = Run {
            now_ms: FIRST_MS,
            sections: &[KEPT, &removed()],
            replay_budget_bytes: u64::MAX,
        };
        train(&Store::at(&template, Disk::new()), &first)?;
    }
    let stops = end_at_every(directory.path(), &template, index, End::Killed, 1, OPERATIONS_MAX)?;
    println!("crash: {} was killed at each of its {stops} operations", scenario.name);
    // Fewer would mean that the hook is not asked.
    ensure!(stops > 50, "only {stops} operations were seen");
    let (step, most) = (ALLOCATIONS_STEP, ALLOCATIONS_MAX);
    let stops = end_at_every(directory.path(), &template, index, End::Refused, step, most)?;
    println!(
        "crash: {} was refused memory {} times, until {stops}",
        scenario.name,
        stops / step
    );
    ensure!(stops > 1000, "only {stops} requests for memory were seen");
    Ok(())
}

/// Memory where there is such a file system: the kill does not test the disk's cache, and flushing would take minutes.
fn fast_directory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

fn end_at_every(directory: &Path, template: &Path, index: usize, end: End, step: u64, most: u64) -> Result<u64> {
    for stop in (0..most).step_by(step as usize) {
        let (root, edited) = (directory.join("store"), directory.join("edited"));
        for left in [&root, &edited] {
            if left.exists() {
                fs::remove_dir_all(left)?;
            }
        }
        copy_tree(template, &root)?;
        let output = Command::new(std::env::current_exe()?)
            .args([
                end.word(),
                &root.to_string_lossy(),
                &index.to_string(),
                &stop.to_string(),
            ])
            .output()?;
        let status = output.status;
        let scenario = SCENARIOS[index];
        copy_tree(&root, &edited)?;
        let checked = check(&root, scenario, status.success()).and_then(|()| check_edited(&edited, scenario));
        checked.with_context(|| {
            let kept = directory.join("store");
            format!("{}, {} at {stop}, store {}", scenario.name, end.word(), kept.display())
        })?;
        let is_through = match end {
            End::Killed => status.success(),
            End::Refused => String::from_utf8_lossy(&output.stdout).contains(UNREFUSED),
        };
        if is_through {
            ensure!(status.success(), "a run that nothing happened to failed: {status}");
            return Ok(stop);
        }
        // Whoever is refused memory may also fail, or do without.
        ensure!(
            status.code().is_none() || end == End::Refused,
            "the child failed instead of being ended: {status} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    bail!("the child was still {} at {most}", end.word())
}

fn check(root: &Path, scenario: Scenario, is_finished: bool) -> Result<()> {
    let store = Store::at(root, Disk::new());
    check_reader(&store, scenario)?;
    let version = check_writer(&store, scenario, is_finished)?;
    check_next_run(&store, scenario, version)
}

/// What a command without the lock sees right after the kill.
fn check_reader(store: &Store, scenario: Scenario) -> Result<()> {
    let inspection = store.inspect()?;
    ensure!(inspection.is_some() || !scenario.is_prepared, "the manifest is gone");
    let current = store.current_version(&AdapterSlot::Flat)?;
    match &current {
        Some(current) => verify_version(&current.directory)?,
        None => ensure!(!scenario.is_prepared, "the pointer is gone"),
    }
    let corpus = store.replay()?;
    for entry in corpus.entries() {
        corpus.read(entry)?;
    }
    let known: BTreeSet<_> = corpus.entries().iter().map(|entry| entry.section_id.clone()).collect();
    if scenario.is_prepared {
        ensure!(known.contains(&id(KEPT)), "a section of the document is gone");
        ensure!(
            known.contains(&id(&removed())) || !scenario.keeps_removed,
            "a section is gone"
        );
        let first = store.paths().versions(&AdapterSlot::Flat).join("v0001");
        ensure!(
            fs::read(first.join("adapter_model.safetensors"))? == scenario::weights(1.0),
            "v0001 changed"
        );
    }
    // The lock is written last, so the run that it names is recorded.
    if let (Some(lock), Some(inspection)) = (store.determinism_lock()?, inspection) {
        let mut runs = inspection.manifest.training_runs.iter();
        let is_recorded = runs.any(|run| run.run_id == lock.last_run_id && run.status == RunStatus::Completed);
        ensure!(is_recorded, "the lock is newer than its run");
    }
    if let Some(reader) = store.metrics_reader()? {
        reader.runs(&RunFilter::default())?;
    }
    Ok(())
}

/// What the next writer makes of it.
fn check_writer(store: &Store, scenario: Scenario, is_finished: bool) -> Result<u32> {
    let mut guard = store.lock(&wait(THIRD_MS))?;
    let notices = guard.take_notices();
    let current = guard.current_version(&AdapterSlot::Flat)?;
    let version = current.and_then(|current| current.number).unwrap_or(0);
    if is_finished {
        ensure!(notices.is_empty(), "a finished run needs no mending: {notices:?}");
        ensure!(
            version == if scenario.is_prepared { 2 } else { 1 },
            "v{version:04} is current"
        );
    }
    match guard.manifest()? {
        Some(manifest) => {
            ensure!(manifest.adapter_version == version, "manifest and pointer differ");
            let unfinished = manifest
                .training_runs
                .iter()
                .find(|run| run.status == RunStatus::Running);
            ensure!(unfinished.is_none(), "a dead run is still running: {unfinished:?}");
            let mut runs = manifest.training_runs.iter();
            let is_told = runs.any(|run| run.adapter_version == version && run.status == RunStatus::Completed);
            ensure!(version == 0 || is_told, "no run accounts for v{version:04}");
        }
        None => ensure!(version == 0, "a pointer without a manifest"),
    }
    if is_finished && scenario.budget == 0 {
        ensure!(guard.replay()?.dead_bytes()? == 0, "the corpus was not compacted");
    }
    if let Some(reader) = guard.metrics_reader()? {
        let runs = reader.runs(&RunFilter::default())?;
        let running = runs.iter().find(|run| run.status.as_deref() == Some("running"));
        ensure!(
            running.is_none(),
            "a dead run is still running in the metrics: {running:?}"
        );
    }
    let damage = guard.verify()?;
    ensure!(damage.is_empty(), "{damage:?}");
    ensure!(guard.release()?, "the lock was not ours");
    let left = leftovers(store.paths().root())?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(version)
}

/// The next run on the same document neither loses nor repeats a section.
fn check_next_run(store: &Store, scenario: Scenario, version: u32) -> Result<()> {
    let run = Run {
        now_ms: THIRD_MS,
        ..second_run(scenario)
    };
    let report = train(store, &run)?;
    ensure!(report.version.number > version, "a version was overwritten");
    let hashes: BTreeSet<_> = report.manifest.content_hashes.keys().cloned().collect();
    let expected: BTreeSet<_> = AFTER.iter().map(|content| id(content).to_string()).collect();
    ensure!(hashes == expected, "content hashes are {hashes:?}");
    let corpus = store.replay()?;
    let mut found: Vec<_> = corpus.entries().iter().map(|entry| entry.section_id.clone()).collect();
    let mut wanted: Vec<_> = AFTER.iter().map(|content| id(content)).collect();
    if scenario.keeps_removed {
        wanted.push(id(&removed()));
    }
    wanted.sort();
    found.sort();
    ensure!(found == wanted, "the corpus holds {found:?}, wanted {wanted:?}");
    let damage = store.verify()?;
    ensure!(damage.is_empty(), "{damage:?}");
    let lock = store.determinism_lock()?.context("a lock after success")?;
    ensure!(
        report.manifest.next_run_id() == lock.last_run_id + 1,
        "the lock names another run"
    );
    Ok(())
}

/// The next run after the document was edited while the dead run's version was current, or not: whatever that version
/// learned is remembered.
fn check_edited(root: &Path, scenario: Scenario) -> Result<()> {
    let store = Store::at(root, Disk::new());
    let trained = match store
        .current_version(&AdapterSlot::Flat)?
        .and_then(|current| current.number)
    {
        Some(2) => AFTER,
        Some(1) if !scenario.is_prepared => AFTER,
        _ => &[],
    };
    let run = Run {
        now_ms: THIRD_MS,
        sections: EDITED,
        // What is dropped for want of room is not what this looks for.
        replay_budget_bytes: u64::MAX,
    };
    let report = train(&store, &run)?;
    let hashes: BTreeSet<_> = report.manifest.content_hashes.keys().cloned().collect();
    let expected: BTreeSet<_> = EDITED.iter().map(|content| id(content).to_string()).collect();
    ensure!(hashes == expected, "content hashes are {hashes:?}");
    let corpus = store.replay()?;
    let known: BTreeSet<_> = corpus.entries().iter().map(|entry| entry.section_id.clone()).collect();
    ensure!(known.len() == corpus.entries().len(), "a section is repeated");
    for content in trained.iter().chain(EDITED) {
        ensure!(known.contains(&id(content)), "`{content}` was trained and is forgotten");
    }
    let damage = store.verify()?;
    ensure!(damage.is_empty(), "{damage:?}");
    Ok(())
}

fn leftovers(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(leftovers(&path)?);
        } else if name.contains(".tmp.") || [".lock", "commit.json"].contains(&&*name) || name.starts_with("compacted")
        {
            found.push(path);
        }
    }
    Ok(found)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
