//! The record that `dlm.lock` holds: the determinism contract of a store's last successful run.
//!
//! Invariants: plain data. Comparing two records is the plan's work, reading and writing the file the store's. The
//! field set is an interchange contract and never grows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::{LicenseAcceptance, RecordProblem, check_acceptance, non_empty, positive};

/// The lock format that this program reads and writes.
pub const LOCK_VERSION: u32 = 1;

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
    /// Versions of what influences numbers.
    #[serde(default)]
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
    pub determinism_class: DeterminismClass,
    /// The license record of the manifest.
    #[serde(default)]
    pub license_acceptance: Option<LicenseAcceptance>,
    /// Number of the run.
    pub last_run_id: u64,
    /// Number of data-parallel workers.
    #[serde(default = "world_size_default")]
    pub world_size: u32,
}

fn world_size_default() -> u32 {
    1
}

/// Classes of hardware whose results are comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HardwareTier {
    /// CUDA with compute capability 8.0 or newer.
    #[serde(rename = "cuda-sm80+")]
    CudaSm80Plus,
    /// Older or unknown CUDA.
    #[serde(rename = "cuda-sm<80")]
    CudaBelowSm80,
    /// Apple's Metal.
    #[serde(rename = "mps")]
    Mps,
    /// The processor, and every unknown back end.
    #[serde(rename = "cpu")]
    Cpu,
    /// AMD's ROCm.
    #[serde(rename = "rocm")]
    Rocm,
}

impl HardwareTier {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            HardwareTier::CudaSm80Plus => "cuda-sm80+",
            HardwareTier::CudaBelowSm80 => "cuda-sm<80",
            HardwareTier::Mps => "mps",
            HardwareTier::Cpu => "cpu",
            HardwareTier::Rocm => "rocm",
        }
    }

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

/// What a run may promise about repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeterminismClass {
    /// Same inputs, same bytes.
    Strong,
    /// Same inputs, nearly the same numbers.
    BestEffort,
    /// No promise.
    Advisory,
}

impl DeterminismClass {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            DeterminismClass::Strong => "strong",
            DeterminismClass::BestEffort => "best-effort",
            DeterminismClass::Advisory => "advisory",
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
            assert_eq!(HardwareTier::of(backend, major).as_str(), expected);
        }
    }
}
