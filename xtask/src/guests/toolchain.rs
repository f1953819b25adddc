//! The compiler of the guests.
//!
//! Two ways, the first that is there is taken:
//! - Debian's `rustc-web cargo-web rust-web-src lld-19` (or 16): the standard library is built from its source;
//! - rustup's compiler with the target `wasm32-unknown-unknown`.
//!
//! Invariant: the bytes depend on the compiler and the sources, not on where they lie: path prefixes are remapped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

const TARGET: &str = "wasm32-unknown-unknown";
const LINKERS: [&str; 3] = ["wasm-ld-19", "wasm-ld-16", "wasm-ld"];

/// A compiler that can make guests.
pub struct Toolchain {
    /// What is recorded beside each plugin: version, commit, and how the standard library came.
    pub compiler: String,
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    /// The linker to name when the standard library is built from source.
    linker: Option<&'static str>,
}

impl Toolchain {
    /// Finds a compiler on this machine.
    pub fn find() -> anyhow::Result<Toolchain> {
        if let Some(found) = Self::debian()? {
            return Ok(found);
        }
        if let Some(found) = Self::rustup()? {
            return Ok(found);
        }
        bail!(
            "no compiler for {TARGET}: run `rustup target add {TARGET}`, or on Debian \
             `apt-get install rustc-web cargo-web rust-web-src lld-19`"
        )
    }

    fn debian() -> anyhow::Result<Option<Toolchain>> {
        let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
        if !cargo.exists() || !rustc.exists() {
            return Ok(None);
        }
        let sysroot = sysroot(&rustc)?;
        let linker = LINKERS
            .into_iter()
            .find(|linker| Path::new("/usr/bin").join(linker).exists());
        if linker.is_none() || !sysroot.join("lib/rustlib/src/rust/library").exists() {
            return Ok(None);
        }
        Ok(Some(Toolchain {
            compiler: format!("{}, std from source", version(&rustc)?),
            cargo,
            rustc,
            sysroot,
            linker,
        }))
    }

    fn rustup() -> anyhow::Result<Option<Toolchain>> {
        let rustc = PathBuf::from("rustc");
        let sysroot = sysroot(&rustc)?;
        if !sysroot.join("lib/rustlib").join(TARGET).exists() {
            return Ok(None);
        }
        Ok(Some(Toolchain {
            compiler: format!("{}, std of rustup", version(&rustc)?),
            cargo: PathBuf::from("cargo"),
            rustc,
            sysroot,
            linker: None,
        }))
    }

    /// Builds one crate of `components/` and gives the bytes of its core module.
    pub fn build(&self, root: &Path, krate: &str) -> anyhow::Result<Vec<u8>> {
        let components = root.join("components");
        let target_dir =
            std::env::var_os("DLM_GUEST_TARGET_DIR").map_or_else(|| root.join("target").join("guests"), PathBuf::from);
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(&components)
            .args(["build", "--locked", "--release", "--target", TARGET, "-p", krate])
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("RUSTFLAGS", self.remapped(&components)?);
        if let Some(linker) = self.linker {
            command
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        println!("building {krate}; the first build on a machine compiles the standard library (one to two minutes)");
        let status = command
            .status()
            .with_context(|| format!("cannot start {}", self.cargo.display()))?;
        ensure!(status.success(), "building {krate} failed");
        let module = target_dir
            .join(TARGET)
            .join("release")
            .join(format!("{}.wasm", krate.replace('-', "_")));
        std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))
    }

    /// Flags that give every path prefix of this machine a name that is the same everywhere.
    fn remapped(&self, components: &Path) -> anyhow::Result<String> {
        let mut pairs = vec![
            (components.to_owned(), "components".to_owned()),
            (self.sysroot.clone(), "sysroot".to_owned()),
        ];
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
            .context("neither CARGO_HOME nor HOME is set")?;
        let registries = home.join("registry/src");
        if let Ok(entries) = std::fs::read_dir(&registries) {
            for entry in entries {
                pairs.push((entry?.path(), "registry".to_owned()));
            }
        }
        let flags: Vec<String> = pairs
            .into_iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .collect();
        ensure!(
            flags.iter().all(|flag| !flag.contains(' ')),
            "a directory name with a space cannot be remapped: {}",
            flags.join(", ")
        );
        Ok(flags.join(" "))
    }
}

fn version(rustc: &Path) -> anyhow::Result<String> {
    Ok(said(rustc, &["--version"])?.trim().to_owned())
}

fn sysroot(rustc: &Path) -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(said(rustc, &["--print", "sysroot"])?.trim()))
}

fn said(rustc: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(rustc)
        .args(arguments)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .with_context(|| format!("cannot start {}", rustc.display()))?;
    ensure!(
        output.status.success(),
        "{} {} failed",
        rustc.display(),
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?)
}
