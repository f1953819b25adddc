//! What this machine offers: processor, instruction set, memory.
//!
//! Invariants: reads `/proc` and the control group's files and nothing else; figures are of the moment of the call.
//! A machine that does not show its memory there is reported as such, never guessed.

use std::path::PathBuf;

use dlm_core::Hints;
use dlm_core::hardware::{Backend, CudaDevice, Hardware, SimdLevel};
use dlm_kernels::Simd;

const MEMINFO: &str = "/proc/meminfo";
const CPUINFO: &str = "/proc/cpuinfo";
const GROUP_LIMIT: &str = "/sys/fs/cgroup/memory.max";
const GROUP_USED: &str = "/sys/fs/cgroup/memory.current";

/// A machine that cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("probe the machine: read `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("probe the machine: `{path}` does not state `{field}`")]
    Field { path: PathBuf, field: &'static str },
}

impl Hints for DeviceError {
    fn subject(&self) -> &str {
        "doctor"
    }
}

/// Bytes of memory: installed, and free for a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// A field of `/proc/meminfo`, which counts in kibibytes.
fn meminfo_field(text: &str, field: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Reads the figures out of `/proc/meminfo`; the name of the first missing field otherwise.
fn parse_meminfo(text: &str) -> Result<Memory, &'static str> {
    let field = |name| meminfo_field(text, name).ok_or(name);
    Ok(Memory {
        total_bytes: field("MemTotal")?,
        available_bytes: field("MemAvailable")?,
    })
}

/// Narrows the figures to a control group's limit; `max` stands for none.
fn limit_to_group(memory: Memory, limit: Option<&str>, used: Option<&str>) -> Memory {
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let Some(limit) = number(limit) else {
        return memory;
    };
    let free = limit.saturating_sub(number(used).unwrap_or(0));
    Memory {
        total_bytes: memory.total_bytes.min(limit),
        available_bytes: memory.available_bytes.min(free),
    }
}

fn parse_cpu_name(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Reads the memory figures of this machine, a container's limit included.
///
/// **Errors:** a system without `/proc/meminfo`, or one that leaves the figures out.
pub fn memory() -> Result<Memory, DeviceError> {
    let path = PathBuf::from(MEMINFO);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(cause) => return Err(DeviceError::Io { path, cause }),
    };
    let memory = parse_meminfo(&text).map_err(|field| DeviceError::Field { path, field })?;
    // Most machines have no such files: no limit.
    let limit = std::fs::read_to_string(GROUP_LIMIT).ok();
    let used = std::fs::read_to_string(GROUP_USED).ok();
    Ok(limit_to_group(memory, limit.as_deref(), used.as_deref()))
}

/// Translates the kernels' instruction set for plans.
pub fn simd_level(simd: Simd) -> SimdLevel {
    match simd {
        Simd::Scalar => SimdLevel::Scalar,
        Simd::Avx2 => SimdLevel::Avx2,
        Simd::Avx512 => SimdLevel::Avx512,
        Simd::Avx512Bf16 => SimdLevel::Avx512Bf16,
    }
}

/// Probes this machine. `cuda` lists the devices that a build with CUDA found; a build without it passes none.
///
/// **Errors:** memory figures that cannot be had.
pub fn probe(cuda: Vec<CudaDevice>) -> Result<Hardware, DeviceError> {
    let memory = memory()?;
    let cpu_name = std::fs::read_to_string(CPUINFO)
        .ok()
        .and_then(|text| parse_cpu_name(&text));
    let cpu_name = cpu_name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Hardware {
        backend: if cuda.is_empty() { Backend::Cpu } else { Backend::Cuda },
        device_name: cuda.first().map_or(cpu_name, |device| device.name.clone()),
        cpu_cores: u32::try_from(cores).unwrap_or(u32::MAX),
        memory_total_bytes: memory.total_bytes,
        memory_available_bytes: memory.available_bytes,
        simd: simd_level(Simd::detect()),
        cuda,
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

#[cfg(test)]
mod tests {
    use super::{Memory, limit_to_group, parse_cpu_name, parse_meminfo};

    const MEMINFO: &str = "MemTotal:       16000 kB\nMemFree:         100 kB\nMemAvailable:    8000 kB\n";

    #[test]
    fn figures_come_in_bytes() {
        let memory = parse_meminfo(MEMINFO).unwrap();
        assert_eq!((memory.total_bytes, memory.available_bytes), (16_384_000, 8_192_000));
        assert_eq!(parse_meminfo("MemTotal: 1 kB\n"), Err("MemAvailable"));
        assert_eq!(parse_meminfo("MemTotal: many kB\n"), Err("MemTotal"));
    }

    #[test]
    fn a_container_has_less() {
        let memory = Memory {
            total_bytes: 1000,
            available_bytes: 800,
        };
        let narrowed = |limit, used| limit_to_group(memory, limit, used).available_bytes;
        assert_eq!(narrowed(Some("max\n"), Some("5")), 800);
        assert_eq!(narrowed(Some("600\n"), Some("100\n")), 500);
        assert_eq!(narrowed(Some("600"), Some("700")), 0);
        assert_eq!(narrowed(None, None), 800);
        assert_eq!(limit_to_group(memory, Some("600"), None).total_bytes, 600);
    }

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(
            parse_cpu_name("processor: 0\nmodel name\t: Fast One\n").as_deref(),
            Some("Fast One")
        );
        assert_eq!(parse_cpu_name(""), None);
    }
}
