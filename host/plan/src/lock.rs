//! Comparing a store's determinism contract with the run that is about to start.
//!
//! Invariants: pure; no file is read or written. Every difference is reported with its severity; strictness raises
//! warnings to errors but never what is allowed.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use dlm_core::lock::{DlmLock, ENGINE_PIN};
use dlm_core::manifest::LicenseAcceptance;
use dlm_core::{FailureKind, Hints, Subject};
use serde::Serialize;

/// How much a difference weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Expected; told and never raised.
    Allow,
    /// Told, and refused under `--strict-lock`.
    Warn,
    /// Refused.
    Error,
}

/// What the lock flags ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// No flag: compare, refuse errors, write after success.
    Check,
    /// `--strict-lock`: as above, with warnings as errors.
    Strict,
    /// `--update-lock`: compare nothing, write after success.
    Update,
    /// `--ignore-lock`: compare nothing, write nothing.
    Ignore,
}

/// More than one of the three lock flags was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{first}` and `{second}` exclude each other")]
pub struct LockFlagsConflict {
    /// The first flag given.
    pub first: &'static str,
    /// The second.
    pub second: &'static str,
}

impl Hints for LockFlagsConflict {
    fn subject(&self) -> Subject {
        Subject::Error
    }

    fn kind(&self) -> FailureKind {
        FailureKind::Misuse
    }

    fn hints(&self) -> Vec<String> {
        vec!["give at most one of `--strict-lock`, `--update-lock`, `--ignore-lock`".to_owned()]
    }
}

/// The three lock flags as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockFlags {
    /// `--strict-lock`.
    pub strict: bool,
    /// `--update-lock`.
    pub update: bool,
    /// `--ignore-lock`.
    pub ignore: bool,
}

impl LockFlags {
    /// The mode that the flags ask for.
    ///
    /// **Errors** when more than one was given.
    pub fn mode(self) -> Result<LockMode, LockFlagsConflict> {
        let given: Vec<_> = [
            (self.strict, "--strict-lock", LockMode::Strict),
            (self.update, "--update-lock", LockMode::Update),
            (self.ignore, "--ignore-lock", LockMode::Ignore),
        ]
        .into_iter()
        .filter(|(is_given, _, _)| *is_given)
        .collect();
        match given.as_slice() {
            [] => Ok(LockMode::Check),
            [(_, _, mode)] => Ok(*mode),
            [(_, first, _), (_, second, _), ..] => Err(LockFlagsConflict { first, second }),
        }
    }
}

impl LockMode {
    /// Whether a lock that cannot be read is written over instead of stopping the run.
    pub fn replaces_unreadable(self) -> bool {
        self == LockMode::Update
    }

    /// Whether a lock is written after a successful run.
    pub fn writes(self) -> bool {
        self != LockMode::Ignore
    }
}

/// One difference between the recorded and the current contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockDifference {
    /// Name of the field, or of the pinned package.
    pub field: String,
    /// Recorded value; none when absent.
    pub recorded: Option<String>,
    /// Current value; none when absent.
    pub current: Option<String>,
    /// Its weight, after strictness.
    pub severity: Severity,
    /// The sentence for the user.
    pub message: String,
}

/// What to do about the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockDecision {
    /// Every difference in the order of the severity table; empty when nothing was compared.
    pub differences: Vec<LockDifference>,
    /// Whether the lock is written after success.
    pub writes_lock: bool,
}

impl LockDecision {
    /// The heaviest difference; none without differences.
    pub fn severity(&self) -> Option<Severity> {
        self.differences.iter().map(|difference| difference.severity).max()
    }

    /// The warnings to print before going on.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.differences
            .iter()
            .filter(|difference| difference.severity == Severity::Warn)
            .map(|difference| difference.message.as_str())
    }
}

/// The run may not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: lock validation failed ({})", path.display(), messages.join("; "))]
pub struct LockRefused {
    /// The lock file.
    pub path: PathBuf,
    /// Messages of the differences that are errors.
    pub messages: Vec<String>,
}

impl Hints for LockRefused {
    fn subject(&self) -> Subject {
        Subject::Lock
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "re-run with `--update-lock` to accept the change and record it".to_owned(),
            "or with `--ignore-lock` to go on once without recording it".to_owned(),
        ]
    }
}

/// Decides whether a run may start; `path` is the lock's file, for the message.
///
/// **Errors** when a difference is an error under `mode`.
pub fn decide(
    recorded: Option<&DlmLock>,
    current: &DlmLock,
    mode: LockMode,
    path: &Path,
) -> Result<LockDecision, LockRefused> {
    let mut differences = match (mode, recorded) {
        (LockMode::Check | LockMode::Strict, Some(recorded)) => compare(recorded, current),
        _ => Vec::new(),
    };
    if mode == LockMode::Strict {
        for difference in &mut differences {
            if difference.severity == Severity::Warn {
                difference.severity = Severity::Error;
            }
        }
    }
    let messages: Vec<_> = differences
        .iter()
        .filter(|difference| difference.severity == Severity::Error)
        .map(|difference| difference.message.clone())
        .collect();
    if !messages.is_empty() {
        return Err(LockRefused {
            path: path.to_owned(),
            messages,
        });
    }
    Ok(LockDecision {
        differences,
        writes_lock: mode.writes(),
    })
}

/// Every difference of two contracts with its weight, in the order of the severity table.
pub fn compare(recorded: &DlmLock, current: &DlmLock) -> Vec<LockDifference> {
    let mut found = Vec::new();
    compare_document_and_base(&mut found, recorded, current);
    compare_pins(&mut found, recorded, current);
    compare_environment(&mut found, recorded, current);
    found
}

fn compare_document_and_base(found: &mut Vec<LockDifference>, recorded: &DlmLock, current: &DlmLock) {
    if recorded.dlm_sha256 != current.dlm_sha256 {
        let message = format!(
            "dlm_sha256 changed ({} -> {})",
            shorten(&recorded.dlm_sha256),
            shorten(&current.dlm_sha256)
        );
        push(
            found,
            "dlm_sha256",
            Severity::Allow,
            &recorded.dlm_sha256,
            &current.dlm_sha256,
            message,
        );
    }
    if recorded.base_model_revision != current.base_model_revision {
        let (old, new) = (&recorded.base_model_revision, &current.base_model_revision);
        let message = format!("base_model_revision changed ({old} -> {new}); re-run with --update-lock to accept");
        push(found, "base_model_revision", Severity::Error, old, new, message);
    }
    if let (Some(old), Some(new)) = (&recorded.base_model_sha256, &current.base_model_sha256)
        && old != new
    {
        let message = format!(
            "base_model_sha256 changed ({} -> {}): the files behind the revision were rewritten; \
             re-run with --update-lock to accept",
            shorten(old),
            shorten(new)
        );
        push(found, "base_model_sha256", Severity::Error, old, new, message);
    }
}

fn compare_pins(found: &mut Vec<LockDifference>, recorded: &DlmLock, current: &DlmLock) {
    let mut names: Vec<_> = recorded
        .pinned_versions
        .keys()
        .chain(current.pinned_versions.keys())
        .collect();
    // The packages that decide about refusal come first, the others by name.
    names.sort_by_key(|name| (!is_numeric_core(name), name.as_str()));
    names.dedup();
    for name in names {
        let old = recorded.pinned_versions.get(name);
        let new = current.pinned_versions.get(name);
        if old == new {
            continue;
        }
        let (severity, message) = weigh_pin(name, old, new);
        found.push(LockDifference {
            field: name.clone(),
            recorded: old.cloned(),
            current: new.cloned(),
            severity,
            message,
        });
    }
}

/// The packages whose major version changes the numbers themselves.
fn is_numeric_core(name: &str) -> bool {
    matches!(name, ENGINE_PIN | "torch")
}

fn weigh_pin(name: &str, old: Option<&String>, new: Option<&String>) -> (Severity, String) {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(old), None) => return (Severity::Warn, format!("{name} no longer pinned (was {old})")),
        (None, Some(new)) => return (Severity::Warn, format!("{name} newly pinned ({new})")),
        (None, None) => return (Severity::Allow, format!("{name} is not pinned")),
    };
    let majors = (major_version(old), major_version(new));
    let changes_major = matches!(majors, (Some(old), Some(new)) if old != new);
    if is_numeric_core(name) && changes_major {
        return (
            Severity::Error,
            format!("{name} major version changed ({old} -> {new}); re-run with --update-lock to accept"),
        );
    }
    let remark = if name == "bitsandbytes" {
        "; its kernels are sensitive to the version"
    } else {
        ""
    };
    (Severity::Warn, format!("{name} changed ({old} -> {new}){remark}"))
}

/// The leading number of a version such as `2.5.1+cu121`; none for tags such as `b8816`.
fn major_version(version: &str) -> Option<u64> {
    let version = version.trim().strip_prefix('v').unwrap_or(version.trim());
    // A requirement may leave parts out, as such versions do; a whole version may not.
    semver::Comparator::parse(version).ok().map(|version| version.major)
}

fn compare_environment(found: &mut Vec<LockDifference>, recorded: &DlmLock, current: &DlmLock) {
    warn_plain(
        found,
        "hardware_tier",
        recorded.hardware_tier.name(),
        current.hardware_tier.name(),
        "; the plan may differ",
    );
    warn_plain(
        found,
        "determinism_class",
        recorded.determinism_class.name(),
        current.determinism_class.name(),
        "",
    );
    let flags = |lock: &DlmLock| {
        let each = lock
            .determinism_flags
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        each.collect::<Vec<_>>().join(" ")
    };
    warn_plain(found, "determinism_flags", flags(recorded), flags(current), "");
    warn_plain(found, "seed", recorded.seed, current.seed, "");
    warn_optional(found, "cuda_version", &recorded.cuda_version, &current.cuda_version);
    warn_optional(found, "rocm_version", &recorded.rocm_version, &current.rocm_version);
    compare_license(
        found,
        recorded.license_acceptance.as_ref(),
        current.license_acceptance.as_ref(),
    );
    warn_plain(
        found,
        "world_size",
        recorded.world_size,
        current.world_size,
        "; checksums will drift",
    );
}

fn compare_license(found: &mut Vec<LockDifference>, old: Option<&LicenseAcceptance>, new: Option<&LicenseAcceptance>) {
    let field = "license_acceptance";
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            let message = format!("{field} appeared ({})", new.license_spdx);
            push_optional(found, field, None, Some(new.license_spdx.clone()), message);
        }
        (Some(old), None) => {
            let message = format!("{field} was cleared (was {})", old.license_spdx);
            push_optional(found, field, Some(old.license_spdx.clone()), None, message);
        }
        (Some(old), Some(new)) => {
            warn_plain(
                found,
                "license_acceptance.license_spdx",
                &old.license_spdx,
                &new.license_spdx,
                "",
            );
            warn_plain(
                found,
                "license_acceptance.license_url",
                &old.license_url,
                &new.license_url,
                "",
            );
        }
    }
}

fn warn_plain<T: Display + PartialEq>(found: &mut Vec<LockDifference>, field: &str, old: T, new: T, remark: &str) {
    if old != new {
        let message = format!("{field} changed ({old} -> {new}){remark}");
        push(
            found,
            field,
            Severity::Warn,
            &old.to_string(),
            &new.to_string(),
            message,
        );
    }
}

fn warn_optional(found: &mut Vec<LockDifference>, field: &str, old: &Option<String>, new: &Option<String>) {
    if old != new {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let message = format!("{field} changed ({} -> {})", text(old), text(new));
        push_optional(found, field, old.clone(), new.clone(), message);
    }
}

fn push_optional(
    found: &mut Vec<LockDifference>,
    field: &str,
    recorded: Option<String>,
    current: Option<String>,
    message: String,
) {
    found.push(LockDifference {
        field: field.to_owned(),
        recorded,
        current,
        severity: Severity::Warn,
        message,
    });
}

fn push(found: &mut Vec<LockDifference>, field: &str, severity: Severity, old: &str, new: &str, message: String) {
    found.push(LockDifference {
        field: field.to_owned(),
        recorded: Some(old.to_owned()),
        current: Some(new.to_owned()),
        severity,
        message,
    });
}

/// The first digits of a digest, enough to tell two apart.
fn shorten(digest: &str) -> String {
    digest.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlm_core::Determinism;
    use dlm_core::lock::{HardwareTier, LOCK_VERSION};
    use dlm_core::manifest::AcceptedVia;
    use std::collections::BTreeMap;

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

    #[test]
    fn majors() {
        for (version, expected) in [
            ("2.5.1+cu121", Some(2)),
            ("v3", Some(3)),
            ("10.0", Some(10)),
            ("b8816", None),
            ("", None),
            ("1rc1", None),
        ] {
            assert_eq!(major_version(version), expected, "{version}");
        }
    }
}
