//! The record that `dlm.lock` holds: the determinism contract of a store's last successful run.
//!
//! Invariants: plain data. Comparing two records is the plan's work, reading and writing the file the store's. The
//! field set is an interchange contract and never grows.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::choice::Choice;
use crate::determinism::Determinism;
use crate::manifest::{LicenseAcceptance, RecordProblem, check_acceptance, non_empty, positive};

/// The lock format that this program reads and writes.
pub const LOCK_VERSION: u32 = 1;

/// Name of the pin of this program's own version.
pub const ENGINE_PIN: &str = "engine";
/// What earlier versions of this program called it in the locks that they wrote.
const ENGINE_PIN_BEFORE: &str = "dlm";

/// What the last successful run depended on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DlmLock {
    /// Always [`LOCK_VERSION`] in a value that was loaded.
    pub lock_version: u32,
    /// UTC time with zone, as written.
    pub created_at: String,
    /// The document's ULID.
    pub dlm_id: String,
    /// SHA-256 of the document's raw bytes, 64 lower-case hex digits.
    pub dlm_sha256: String,
    /// Commit or digest that pins the base.
    pub base_model_revision: String,
    /// Digest of the base's files.
    #[serde(default)]
    pub base_model_sha256: Option<String>,
    /// Versions of what influences numbers; our own under [`ENGINE_PIN`].
    #[serde(default, deserialize_with = "pins")]
    pub pinned_versions: BTreeMap<String, String>,
    /// CUDA driver or runtime version.
    #[serde(default)]
    pub cuda_version: Option<String>,
    /// ROCm version.
    #[serde(default)]
    pub rocm_version: Option<String>,
    /// Class of the hardware.
    pub hardware_tier: HardwareTier,
    /// Seed of the run.
    pub seed: i64,
    /// Free-form switches that were set.
    #[serde(default)]
    pub determinism_flags: BTreeMap<String, Value>,
    /// What the run may promise about repetition.
    pub determinism_class: Determinism,
    /// The license record of the manifest.
    #[serde(default)]
    pub license_acceptance: Option<LicenseAcceptance>,
    /// Number of the run.
    pub last_run_id: u64,
    /// Number of data-parallel workers.
    #[serde(default = "world_size_default")]
    pub world_size: u32,
}

/// Reads pins, our own also by its name before.
fn pins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut pins = BTreeMap::<String, String>::deserialize(deserializer)?;
    if let Some(version) = pins.remove(ENGINE_PIN_BEFORE) {
        pins.entry(ENGINE_PIN.to_owned()).or_insert(version);
    }
    Ok(pins)
}

fn world_size_default() -> u32 {
    1
}

/// Classes of hardware whose results are comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardwareTier {
    /// CUDA with compute capability 8.0 or newer.
    CudaSm80Plus,
    /// Older or unknown CUDA.
    CudaBelowSm80,
    /// Apple's Metal.
    Mps,
    /// The processor, and every unknown back end.
    Cpu,
    /// AMD's ROCm.
    Rocm,
}

impl Choice for HardwareTier {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("cuda-sm80+", Self::CudaSm80Plus),
        ("cuda-sm<80", Self::CudaBelowSm80),
        ("mps", Self::Mps),
        ("cpu", Self::Cpu),
        ("rocm", Self::Rocm),
    ];
}

crate::named_choices!(HardwareTier);

impl HardwareTier {
    /// The tier of a back end by its name and, for CUDA, the major compute capability.
    pub fn of(backend: &str, compute_capability_major: Option<u32>) -> Self {
        match backend {
            "cuda" if compute_capability_major.is_some_and(|major| major >= 8) => HardwareTier::CudaSm80Plus,
            "cuda" => HardwareTier::CudaBelowSm80,
            "mps" | "metal" => HardwareTier::Mps,
            "rocm" => HardwareTier::Rocm,
            _ => HardwareTier::Cpu,
        }
    }
}

impl DlmLock {
    /// Checks the rules that types cannot carry.
    ///
    /// **Errors** with the first field that breaks one.
    pub fn check(&self) -> Result<(), RecordProblem> {
        non_empty("dlm_id", &self.dlm_id)?;
        non_empty("base_model_revision", &self.base_model_revision)?;
        positive("last_run_id", self.last_run_id)?;
        positive("world_size", u64::from(self.world_size))?;
        sha256_hex("dlm_sha256", &self.dlm_sha256)?;
        if let Some(acceptance) = &self.license_acceptance {
            check_acceptance(acceptance)?;
        }
        Ok(())
    }
}

fn sha256_hex(field: &str, value: &str) -> Result<(), RecordProblem> {
    if crate::digest::is_hex(value, 64) {
        return Ok(());
    }
    Err(RecordProblem {
        field: field.to_owned(),
        found: value.to_owned(),
        expected: "64 lower-case hexadecimal digits",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_of_earlier_versions_is_read_as_the_engines() {
        let lock = |pins: Value| -> DlmLock {
            let written = serde_json::json!({
                "lock_version": 1, "created_at": "2026-04-19T18:30:14Z", "dlm_id": "x", "dlm_sha256": "",
                "base_model_revision": "r", "hardware_tier": "cpu", "seed": 1, "determinism_class": "strong",
                "last_run_id": 1, "pinned_versions": pins,
            });
            serde_json::from_str(&written.to_string()).expect("a lock")
        };
        let pins = |pins| lock(pins).pinned_versions.into_iter().collect::<Vec<_>>();
        let engine = |version: &str| [("engine".to_owned(), version.to_owned())];
        assert_eq!(pins(serde_json::json!({ "dlm": "0.1.0" })), engine("0.1.0"));
        assert_eq!(pins(serde_json::json!({ "engine": "0.2.0" })), engine("0.2.0"));
        assert_eq!(
            pins(serde_json::json!({ "engine": "0.2.0", "dlm": "0.1.0" })),
            engine("0.2.0")
        );
    }

    #[test]
    fn tiers_by_back_end() {
        let cases = [
            ("cuda", Some(9), "cuda-sm80+"),
            ("cuda", Some(8), "cuda-sm80+"),
            ("cuda", Some(7), "cuda-sm<80"),
            ("cuda", None, "cuda-sm<80"),
            ("metal", None, "mps"),
            ("rocm", None, "rocm"),
            ("abacus", Some(9), "cpu"),
        ];
        for (backend, major, expected) in cases {
            assert_eq!(HardwareTier::of(backend, major).name(), expected);
        }
    }
}
