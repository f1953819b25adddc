//! What this machine offers: processor, instruction set, memory.
//!
//! Invariants: reads `/proc` and the control group's files and nothing else; figures are of the moment of the call.
//! A machine that does not show its memory there is reported as such, never guessed. What limits this process (its control
//! group and those around it, `ulimit -v`) narrows what the machine has.

use std::path::{Path, PathBuf};

use dlm_core::hardware::{Backend, CudaDevice, Hardware, SimdLevel};
use dlm_core::{Hints, Subject};
use dlm_kernels::Simd;

const MEMINFO: &str = "/proc/meminfo";
const CPUINFO: &str = "/proc/cpuinfo";
/// Names the control group of this process.
const OWN_GROUP: &str = "/proc/self/cgroup";
const LIMITS: &str = "/proc/self/limits";
const STATUS: &str = "/proc/self/status";

/// A machine that cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("probe the machine: read `{path}`: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("probe the machine: `{path}` does not state `{field}`")]
    Field { path: PathBuf, field: &'static str },
}

impl Hints for DeviceError {
    fn subject(&self) -> Subject {
        Subject::Doctor
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

/// A way in which the system lays out its control groups.
struct Hierarchy {
    /// What stands in front of the path in [`OWN_GROUP`].
    prefix: &'static str,
    /// Where it is mounted.
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` that counts cached file pages.
    cached: &'static str,
}

/// The unified hierarchy, and the older one of memory alone.
const HIERARCHIES: [Hierarchy; 2] = [
    Hierarchy {
        prefix: "0::/",
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        used: "memory.current",
        cached: "inactive_file ",
    },
    Hierarchy {
        prefix: "memory:/",
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        cached: "total_inactive_file ",
    },
];

impl Hierarchy {
    /// The directories of this process's control group and of those around it, innermost first.
    fn directories(&self, own: &str) -> Vec<PathBuf> {
        // A line is `number:names:path`; only the unified hierarchy has number 0 and no names.
        let path = own.lines().find_map(|line| match line.strip_prefix(self.prefix) {
            Some(path) => Some(path),
            None => line.split_once(':')?.1.strip_prefix(self.prefix),
        });
        let path = Path::new(path.unwrap_or_default());
        path.ancestors().map(|part| Path::new(self.root).join(part)).collect()
    }

    /// Narrows the figures to a group's limit; `max` stands for none.
    ///
    /// Cached file pages count as used, but the system takes them back before it refuses memory, so they are free.
    fn narrow(&self, memory: Memory, limit: Option<&str>, used: Option<&str>, stat: Option<&str>) -> Memory {
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok());
        let Some(limit) = number(limit) else {
            return memory;
        };
        let mut lines = stat.into_iter().flat_map(str::lines);
        let cached = lines.find_map(|line| line.strip_prefix(self.cached));
        let used = number(used).unwrap_or(0).saturating_sub(number(cached).unwrap_or(0));
        Memory {
            total_bytes: memory.total_bytes.min(limit),
            available_bytes: memory.available_bytes.min(limit.saturating_sub(used)),
        }
    }
}

/// Narrows the figures to the address space that `ulimit -v` leaves.
fn limit_to_address_space(memory: Memory, limits: &str, status: &str) -> Memory {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let limit = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let Some(limit) = limit else {
        return memory;
    };
    let free = limit.saturating_sub(meminfo_field(status, "VmSize").unwrap_or(0));
    Memory {
        total_bytes: memory.total_bytes.min(limit),
        available_bytes: memory.available_bytes.min(free),
    }
}

fn parse_cpu_name(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Reads the memory figures of this machine, the limits of a container or of `ulimit -v` included.
///
/// **Errors:** a system without `/proc/meminfo`, or one that leaves the figures out.
pub fn memory() -> Result<Memory, DeviceError> {
    let path = PathBuf::from(MEMINFO);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(cause) => return Err(DeviceError::Io { path, cause }),
    };
    let mut memory = parse_meminfo(&text).map_err(|field| DeviceError::Field { path, field })?;
    // A file that is not there sets no limit, which most machines have none of.
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let own = read(OWN_GROUP.into()).unwrap_or_default();
    for hierarchy in &HIERARCHIES {
        for directory in hierarchy.directories(&own) {
            let [limit, used, stat] =
                [hierarchy.limit, hierarchy.used, "memory.stat"].map(|name| read(directory.join(name)));
            memory = hierarchy.narrow(memory, limit.as_deref(), used.as_deref(), stat.as_deref());
        }
    }
    let (limits, status) = (read(LIMITS.into()), read(STATUS.into()));
    Ok(limit_to_address_space(
        memory,
        &limits.unwrap_or_default(),
        &status.unwrap_or_default(),
    ))
}

/// Translates the kernels' instruction set for plans.
pub fn simd_level(simd: Simd) -> SimdLevel {
    match simd {
        Simd::Scalar => SimdLevel::Scalar,
        Simd::Avx2 => SimdLevel::Avx2,
        Simd::Avx512 => SimdLevel::Avx512,
        Simd::Avx512Bf16 => SimdLevel::Avx512Bf16,
        Simd::Amx => SimdLevel::Amx,
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
    use std::path::Path;

    use super::{HIERARCHIES, Memory, limit_to_address_space, parse_cpu_name, parse_meminfo};

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
        let [unified, older] = &HIERARCHIES;
        let narrowed = |limit, used, stat| unified.narrow(memory, limit, used, stat).available_bytes;
        assert_eq!(narrowed(Some("max\n"), Some("5"), None), 800);
        assert_eq!(narrowed(Some("600\n"), Some("100\n"), None), 500);
        assert_eq!(narrowed(Some("600"), Some("700"), None), 0);
        assert_eq!(narrowed(None, None, None), 800);
        assert_eq!(unified.narrow(memory, Some("600"), None, None).total_bytes, 600);
        // 300 of the 500 used bytes are cached pages.
        let stat = "anon 200\ninactive_file 300\ntotal_inactive_file 400\n";
        assert_eq!(narrowed(Some("600"), Some("500"), Some(stat)), 400);
        assert_eq!(
            older
                .narrow(memory, Some("600"), Some("500"), Some(stat))
                .available_bytes,
            500
        );
    }

    #[test]
    fn groups_around_the_own_one_count_too() {
        let [unified, older] = &HIERARCHIES;
        let own = "4:memory:/box\n1:name=systemd:/x\n0::/user.slice/session\n";
        let expected = [
            "/sys/fs/cgroup/user.slice/session",
            "/sys/fs/cgroup/user.slice",
            "/sys/fs/cgroup/",
        ];
        assert_eq!(unified.directories(own), expected.map(Path::new));
        assert_eq!(
            older.directories(own),
            ["/sys/fs/cgroup/memory/box", "/sys/fs/cgroup/memory/"].map(Path::new)
        );
        assert_eq!(unified.directories(""), [Path::new("/sys/fs/cgroup/")]);
    }

    #[test]
    fn an_address_space_limit_counts_what_is_taken_already() {
        let memory = Memory {
            total_bytes: 10 << 20,
            available_bytes: 8 << 20,
        };
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax address space         4194304      unlimited   bytes\n";
        let narrowed = limit_to_address_space(memory, limits, "VmSize:\t    1024 kB\n");
        assert_eq!((narrowed.total_bytes, narrowed.available_bytes), (4 << 20, 3 << 20));
        let unlimited = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(limit_to_address_space(memory, unlimited, ""), memory);
        assert_eq!(limit_to_address_space(memory, "", ""), memory);
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
