//! `cargo xtask cuda <setup|env|check|build>`: a CUDA toolkit out of PyPI wheels, and cargo run with it.
//!
//! Nothing is installed on the system: a virtual environment below `target/cuda` holds the toolkit, a directory beside it
//! the names that the linker looks for. `docs/internals/cuda.md` says what works with it. Pinned to 13.0: a driver of the 580 line
//! takes no newer PTX.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::program::target_directory;
use crate::repository;

/// The wheels that together are a toolkit.
const WHEELS: [&str; 8] = [
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-nvrtc==13.0.*",
    "nvidia-cublas==13.0.*",
    "nvidia-curand==10.4.*",
];
/// Libraries that are linked by an unversioned name, which wheels do not have.
const LIBRARIES: [&str; 5] = [
    "libcublas.so",
    "libcublasLt.so",
    "libcudart.so",
    "libcurand.so",
    "libnvrtc.so",
];
/// Compute capability that kernels are compiled for when none is named: H100 and H200.
const CAPABILITY: &str = "90";
/// The packages with a `cuda` feature.
const PACKAGES: [&str; 1] = ["dlm-candle"];

/// Runs one of the words.
pub fn run(arguments: &[String]) -> Result<()> {
    let directory = target_directory().join("cuda");
    match arguments.first().map(String::as_str) {
        Some("setup") => setup(&directory),
        Some("env") => {
            for (name, value) in environment(&directory)? {
                println!("export {name}='{value}'");
            }
            Ok(())
        }
        Some("check") => cargo(&directory, "check", &arguments[1..]),
        Some("build") => {
            link_names(&directory)?;
            cargo(&directory, "build", &arguments[1..])
        }
        _ => bail!("usage: cargo xtask cuda setup | env | check [cargo arguments] | build [cargo arguments]"),
    }
}

fn setup(directory: &Path) -> Result<()> {
    let venv = directory.join("venv");
    if !venv.join("bin/pip").exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&venv);
        done(&mut make, "install it with `apt-get install python3 python3-venv`")?;
    }
    println!("fetching the toolkit (about 1 GB) into {}", venv.display());
    let mut install = Command::new(venv.join("bin/pip"));
    install
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(WHEELS);
    done(
        &mut install,
        "the wheels come from PyPI; see `pip config list` for the index in use",
    )?;
    println!("toolkit: {}", toolkit(directory)?.display());
    link_names(directory)?;
    println!("next: `cargo xtask cuda check`");
    Ok(())
}

fn done(command: &mut Command, remedy: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}; {remedy}", command.get_program().display()))?;
    ensure!(
        status.success(),
        "{} ended with {status}; {remedy}",
        command.get_program().display()
    );
    Ok(())
}

/// The directory with `bin/nvcc`, `include` and `lib`.
fn toolkit(directory: &Path) -> Result<PathBuf> {
    let lib = directory.join("venv/lib");
    let pythons = std::fs::read_dir(&lib)
        .with_context(|| format!("{} is missing; run `cargo xtask cuda setup`", lib.display()))?;
    for python in pythons {
        let candidate = python?.path().join("site-packages/nvidia/cu13");
        if candidate.join("bin/nvcc").exists() {
            return Ok(candidate);
        }
    }
    bail!("{} holds no nvcc; run `cargo xtask cuda setup`", lib.display())
}

fn environment(directory: &Path) -> Result<Vec<(&'static str, String)>> {
    let toolkit = toolkit(directory)?;
    let text = |path: &Path| path.display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let libraries = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    Ok(vec![
        ("CUDA_HOME", text(&toolkit)),
        ("CUDA_PATH", text(&toolkit)),
        ("CUDA_ROOT", text(&toolkit)),
        (
            "CUDA_COMPUTE_CAP",
            std::env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| CAPABILITY.to_owned()),
        ),
        ("PATH", format!("{}:{path}", text(&toolkit.join("bin")))),
        ("LIBRARY_PATH", text(&directory.join("link"))),
        ("LD_LIBRARY_PATH", format!("{}:{libraries}", text(&toolkit.join("lib")))),
    ])
}

/// Runs cargo with the toolkit, in a target directory of its own so that the default build stays what it is.
fn cargo(directory: &Path, word: &str, more: &[String]) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .arg(word)
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .args(["--features", "cuda", "--target-dir"])
        .arg(directory.join("build"))
        .args(more)
        .current_dir(repository::root())
        .envs(environment(directory)?);
    done(&mut command, "see above")
}

/// Makes the directory with the linker's names: links to the toolkit's libraries and, without a driver, a stub of its library.
fn link_names(directory: &Path) -> Result<()> {
    let toolkit = toolkit(directory)?;
    let link = directory.join("link");
    std::fs::create_dir_all(&link).with_context(|| format!("cannot make {}", link.display()))?;
    for name in LIBRARIES {
        let real = newest(&toolkit.join("lib"), name)?;
        link_to(&real, &link.join(name))?;
    }
    let stub = link.join("libcuda.so");
    match driver_library() {
        Some(driver) => link_to(&driver, &stub),
        None => write_stub(&link, &stub),
    }
}

fn newest(directory: &Path, name: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}.")))
        })
        .collect();
    found.sort();
    found
        .pop()
        .with_context(|| format!("{} holds no {name}", directory.display()))
}

fn link_to(real: &Path, name: &Path) -> Result<()> {
    match std::fs::remove_file(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", name.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(real, name).with_context(|| format!("cannot link {}", name.display()))
}

fn driver_library() -> Option<PathBuf> {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/cuda/compat"]
        .map(|directory| Path::new(directory).join("libcuda.so.1"))
        .into_iter()
        .find(|path| path.exists())
}

/// Compiles a library with the driver's name that defines every function the bindings declare; it is for linking only.
fn write_stub(link: &Path, stub: &Path) -> Result<()> {
    let mut source = String::new();
    for name in driver_functions()? {
        source.push_str(&format!("int {name}(void) {{ return 100; }}\n"));
    }
    let file = link.join("libcuda.c");
    std::fs::write(&file, source).with_context(|| format!("cannot write {}", file.display()))?;
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(stub)
        .arg(&file);
    done(&mut compile, "install a C compiler with `apt-get install gcc`")
}

/// Names of the driver's functions, out of the source of the crate that binds them.
fn driver_functions() -> Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--all-features"])
        .current_dir(repository::root())
        .output()
        .context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata ended with {}", output.status);
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "cudarc")
        .find_map(|package| package["manifest_path"].as_str())
        .context("cudarc is not among the dependencies")?;
    let directory = Path::new(manifest)
        .parent()
        .context("a manifest has a directory")?
        .join("src/driver/sys");
    let mut names = BTreeSet::new();
    for file in repository::files_below(&directory)? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(words.filter(|word| is_driver_function(word)).map(str::to_owned));
    }
    ensure!(
        !names.is_empty(),
        "{} declares no function of the driver",
        directory.display()
    );
    Ok(names)
}

/// `cuInit`, `cuMemAlloc_v2`: `cu`, a capital, no type's underscore ending.
fn is_driver_function(word: &str) -> bool {
    let rest = word.strip_prefix("cu").unwrap_or_default();
    rest.starts_with(|c: char| c.is_ascii_uppercase()) && !word.ends_with("_t") && !word.ends_with("_st")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_driver_are_told_from_types() {
        for (word, verdict) in [
            ("cuInit", true),
            ("cuMemAlloc_v2", true),
            ("cuuint64_t", false),
            ("cudaError", false),
            ("CUresult", false),
            ("cuda", false),
        ] {
            assert_eq!(is_driver_function(word), verdict, "{word}");
        }
    }
}
