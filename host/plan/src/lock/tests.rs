//! The severity table line by line, the modes, and what the flags exclude.

use std::collections::BTreeMap;

use dlm_core::Determinism;
use dlm_core::lock::{HardwareTier, LOCK_VERSION};
use dlm_core::manifest::{AcceptedVia, LicenseAcceptance};

use super::*;

fn lock() -> DlmLock {
    DlmLock {
        lock_version: LOCK_VERSION,
        created_at: "2026-04-19T18:30:14Z".to_owned(),
        dlm_id: "01HZ4X7TGZM3J1A2B3C4D5E6F7".to_owned(),
        dlm_sha256: "a".repeat(64),
        base_model_revision: "rev1".to_owned(),
        base_model_sha256: Some("b".repeat(64)),
        pinned_versions: BTreeMap::from([("engine".to_owned(), "1.2.3".to_owned())]),
        cuda_version: None,
        rocm_version: None,
        hardware_tier: HardwareTier::Cpu,
        seed: 42,
        determinism_flags: BTreeMap::new(),
        determinism_class: Determinism::Strong,
        license_acceptance: None,
        last_run_id: 1,
        world_size: 1,
    }
}

fn pin(name: &str, version: &str) -> DlmLock {
    let mut lock = lock();
    lock.pinned_versions.insert(name.to_owned(), version.to_owned());
    lock
}

fn acceptance(spdx: &str, url: &str) -> Option<LicenseAcceptance> {
    Some(LicenseAcceptance {
        accepted_at: "2026-04-19T18:30:14".to_owned(),
        license_url: url.to_owned(),
        license_spdx: spdx.to_owned(),
        via: AcceptedVia::CliFlag,
    })
}

/// Checks the only difference between two locks.
fn check(recorded: &DlmLock, current: &DlmLock, field: &str, severity: Severity) {
    let found = compare(recorded, current);
    let seen: Vec<_> = found.iter().map(|one| (one.field.as_str(), one.severity)).collect();
    assert_eq!(seen, [(field, severity)]);
    assert!(found[0].message.contains(field), "{}", found[0].message);
}

fn changed(change: impl FnOnce(&mut DlmLock)) -> DlmLock {
    let mut lock = lock();
    change(&mut lock);
    lock
}

#[test]
fn document_and_base() {
    use Severity::{Allow, Error};
    check(
        &lock(),
        &changed(|lock| lock.dlm_sha256 = "c".repeat(64)),
        "dlm_sha256",
        Allow,
    );
    let other = changed(|lock| lock.base_model_revision = "rev2".to_owned());
    check(&lock(), &other, "base_model_revision", Error);
    let other = changed(|lock| lock.base_model_sha256 = Some("c".repeat(64)));
    check(&lock(), &other, "base_model_sha256", Error);
    let other = changed(|lock| lock.base_model_sha256 = None);
    assert_eq!(compare(&lock(), &other), []);
    assert_eq!(compare(&other, &lock()), []);
}

#[test]
fn pinned_packages() {
    use Severity::{Error, Warn};
    for core in ["engine", "torch"] {
        check(&pin(core, "1.2.3"), &pin(core, "2.0.0"), core, Error);
        check(&pin(core, "1.2.3"), &pin(core, "1.3.0"), core, Warn);
        check(&pin(core, "1.2.3"), &pin(core, "1.2.4+cpu"), core, Warn);
        check(&pin(core, "1.2.3"), &pin(core, "b8816"), core, Warn);
    }
    let mut bare = lock();
    bare.pinned_versions.clear();
    check(&bare, &lock(), "engine", Warn);
    check(&lock(), &bare, "engine", Warn);
    for package in [
        "bitsandbytes",
        "transformers",
        "peft",
        "trl",
        "accelerate",
        "llama_cpp",
        "kernels",
    ] {
        check(&pin(package, "1.0"), &pin(package, "2.0"), package, Warn);
        check(&lock(), &pin(package, "2.0"), package, Warn);
        check(&pin(package, "2.0"), &lock(), package, Warn);
    }
}

#[test]
fn environment() {
    use Severity::Warn;
    check(
        &lock(),
        &changed(|lock| lock.hardware_tier = HardwareTier::Mps),
        "hardware_tier",
        Warn,
    );
    let other = changed(|lock| lock.determinism_class = Determinism::Advisory);
    check(&lock(), &other, "determinism_class", Warn);
    let other = changed(|lock| {
        lock.determinism_flags.insert("threads".to_owned(), 2.into());
    });
    check(&lock(), &other, "determinism_flags", Warn);
    check(&lock(), &changed(|lock| lock.seed = 7), "seed", Warn);
    let other = changed(|lock| lock.cuda_version = Some("12.4".to_owned()));
    check(&lock(), &other, "cuda_version", Warn);
    let other = changed(|lock| lock.rocm_version = Some("6.1".to_owned()));
    check(&other, &lock(), "rocm_version", Warn);
    check(&lock(), &changed(|lock| lock.world_size = 2), "world_size", Warn);
}

#[test]
fn license() {
    let with = |acceptance| changed(|lock| lock.license_acceptance = acceptance);
    let mit = with(acceptance("MIT", "https://a"));
    check(&lock(), &mit, "license_acceptance", Severity::Warn);
    check(&mit, &lock(), "license_acceptance", Severity::Warn);
    let field = "license_acceptance.license_spdx";
    check(&mit, &with(acceptance("BSD", "https://a")), field, Severity::Warn);
    let field = "license_acceptance.license_url";
    check(&mit, &with(acceptance("MIT", "https://b")), field, Severity::Warn);
    assert_eq!(compare(&mit, &with(acceptance("MIT", "https://a"))), []);
}

#[test]
fn what_does_not_count() {
    let other = changed(|lock| {
        lock.created_at = "2027-01-01T00:00:00Z".to_owned();
        lock.last_run_id = 9;
    });
    assert_eq!(compare(&lock(), &other), []);
}

#[test]
fn modes() {
    let path = Path::new("/s/dlm.lock");
    let recorded = lock();
    let warned = changed(|lock| lock.seed = 7);
    let refused = changed(|lock| lock.base_model_revision = "rev2".to_owned());
    let allowed = changed(|lock| lock.dlm_sha256 = "c".repeat(64));

    let go = |current: &DlmLock, mode| decide(Some(&recorded), current, mode, path);
    let decision = go(&warned, LockMode::Check).expect("warnings pass");
    assert_eq!(decision.warnings().collect::<Vec<_>>(), ["seed changed (42 -> 7)"]);
    assert!(decision.writes_lock);
    let error = go(&warned, LockMode::Strict).expect_err("strict");
    assert_eq!(
        error.to_string(),
        "/s/dlm.lock: lock validation failed (seed changed (42 -> 7))"
    );
    assert!(go(&allowed, LockMode::Strict).is_ok());
    let error = go(&refused, LockMode::Check).expect_err("error");
    assert_eq!(
        error.to_string(),
        "/s/dlm.lock: lock validation failed (base_model_revision changed (rev1 -> rev2); \
         re-run with --update-lock to accept)"
    );
    assert_eq!(error.subject().as_str(), "lock");
    let hints = error.hints().join("\n");
    assert!(
        hints.contains("--update-lock") && hints.contains("--ignore-lock"),
        "{hints}"
    );

    for (mode, writes) in [(LockMode::Update, true), (LockMode::Ignore, false)] {
        let decision = go(&refused, mode).expect("not compared");
        assert_eq!((decision.differences.len(), decision.writes_lock), (0, writes));
    }
    let first = decide(None, &refused, LockMode::Strict, path).expect("no lock yet");
    assert_eq!((first.severity(), first.writes_lock), (None, true));
}

#[test]
fn flags_exclude_each_other() {
    let flags = |strict, update, ignore| LockFlags { strict, update, ignore }.mode();
    assert_eq!(flags(false, false, false), Ok(LockMode::Check));
    assert_eq!(flags(true, false, false), Ok(LockMode::Strict));
    assert_eq!(flags(false, true, false), Ok(LockMode::Update));
    assert_eq!(flags(false, false, true), Ok(LockMode::Ignore));
    for (strict, update, ignore) in [
        (true, true, false),
        (true, false, true),
        (false, true, true),
        (true, true, true),
    ] {
        let conflict = flags(strict, update, ignore).expect_err("two flags");
        assert_eq!(conflict.kind().exit_code(), 2);
    }
    assert!(LockMode::Update.replaces_unreadable());
    assert!(!LockMode::Ignore.replaces_unreadable());
}
