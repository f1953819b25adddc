//! The severity table: every difference between two contracts, with its weight and its sentence.
//!
//! Invariants: pure; strictness is not applied here. **Source:** `spec/store.md` section 6.1.

use std::fmt::Display;

use dlm_core::lock::{DlmLock, ENGINE_PIN};
use dlm_core::manifest::LicenseAcceptance;

use super::{LockDifference, Severity};

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
        recorded.determinism_class.run_word(),
        current.determinism_class.run_word(),
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
    use super::major_version;

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
