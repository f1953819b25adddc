//! `cargo xtask guests [--check] [NAME…]`: builds every plugin of `components/` into `plugins/<name>/`, those for tests (their directory's name
//! begins with `test-`) into `tests/guests/<name>/`.
//!
//! Per plugin two files are written: `plugin.wasm`, a component with its manifest inside, and `plugin.toml`, the record of
//! what it was built from. `--check` builds nothing that is up to date: it compares the hash of the sources always, and the
//! bytes of a rebuild when this machine has the recorded compiler. Nobody who only uses the plugins needs a compiler.

#[cfg(feature = "guests")]
mod component;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::repository;
use toolchain::Toolchain;

/// What each plugin inside dlm may do: a line `name capability` for each capability, a line `name` for a plugin without any.
const GRANTS: &str = "host/packages/src/builtin/grants.txt";

/// What `plugins/<name>/plugin.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    name: String,
    version: String,
    worlds: Vec<String>,
    capabilities: Vec<String>,
    size: u64,
    sha256: String,
    source_sha256: String,
    compiler: String,
}

/// One directory of `components/` that holds a plugin.
struct Guest {
    /// Directory name, which is also the crate's name.
    krate: String,
    directory: PathBuf,
    /// `plugin.toml`, parsed.
    manifest: toml::Table,
}

/// Runs the command.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (is_check, names) = match arguments {
        [flag, names @ ..] if flag == "--check" => (true, names),
        names => (false, names),
    };
    let root = repository::root();
    let guests = find(&root, names)?;
    // The encoder is a large dependency that no other chore needs, so it is compiled only where bytes are made.
    if !cfg!(feature = "guests") && (!is_check || is_rebuilt_here(&root, &guests)) {
        return rerun(arguments);
    }
    if is_check {
        check(&root, &guests)
    } else {
        build(&root, &guests)
    }
}

/// Says whether any plugin was built by the compiler of this machine, so that its bytes can be compared.
fn is_rebuilt_here(root: &Path, guests: &[Guest]) -> bool {
    let Ok(toolchain) = Toolchain::find() else {
        return false;
    };
    let compiler = |guest: &Guest| {
        let text = std::fs::read_to_string(root.join(guest.place().ok()?).join("plugin.toml")).ok()?;
        Some(toml::from_str::<Record>(&text).ok()?.compiler)
    };
    guests
        .iter()
        .any(|guest| compiler(guest).is_some_and(|compiler| compiler == toolchain.compiler))
}

/// Runs this command again in an xtask that holds the encoder.
fn rerun(arguments: &[String]) -> anyhow::Result<()> {
    let status = std::process::Command::new("cargo")
        .current_dir(repository::root())
        .args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--features",
            "guests",
            "--",
            "guests",
        ])
        .args(arguments)
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "see above");
    Ok(())
}

fn build(root: &Path, guests: &[Guest]) -> anyhow::Result<()> {
    let toolchain = Toolchain::find()?;
    println!("compiler: {}", toolchain.compiler);
    for guest in guests {
        let bytes = make(root, guest, &toolchain)?;
        let record = record(root, guest, &bytes, &toolchain.compiler)?;
        let directory = root.join(guest.place()?);
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        write(&directory.join("plugin.wasm"), &bytes)?;
        let text = format!(
            "# Written by `cargo xtask guests`.\n{}",
            toml::to_string_pretty(&record)?
        );
        write(&directory.join("plugin.toml"), text.as_bytes())?;
        println!(
            "{} {}: {} bytes, sha256 {}, imports {}",
            record.name,
            record.version,
            record.size,
            record.sha256,
            imports(&bytes)?.join(" ")
        );
        for line in unlisted(root, guest, &record)? {
            println!("to embed it in dlm, add to {GRANTS} the line: {line}");
        }
    }
    Ok(())
}

fn check(root: &Path, guests: &[Guest]) -> anyhow::Result<()> {
    let toolchain = Toolchain::find();
    let mut problems = Vec::new();
    for guest in guests {
        match check_one(root, guest, &toolchain) {
            Ok(verdict) => println!("{}: {verdict}", guest.place()?),
            Err(problem) => problems.push(format!("{}: {problem:#}", guest.place()?)),
        }
    }
    ensure!(problems.is_empty(), "{}\nrun `cargo xtask guests`", problems.join("\n"));
    Ok(())
}

/// Compares one plugin with its record, its sources and, where the recorded compiler is here, with a rebuild.
fn check_one(root: &Path, guest: &Guest, toolchain: &anyhow::Result<Toolchain>) -> anyhow::Result<String> {
    let directory = root.join(guest.place()?);
    let text = std::fs::read_to_string(directory.join("plugin.toml")).context("plugin.toml is missing")?;
    let old: Record = toml::from_str(&text).context("plugin.toml cannot be read")?;
    let bytes = std::fs::read(directory.join("plugin.wasm")).context("plugin.wasm is missing")?;
    ensure!(
        old == record(root, guest, &bytes, &old.compiler)?,
        "it does not match its sources or its record"
    );
    let missing = unlisted(root, guest, &old)?;
    ensure!(missing.is_empty(), "{GRANTS} lacks: {}", missing.join(", "));
    Ok(match toolchain {
        Ok(toolchain) if toolchain.compiler == old.compiler => {
            let started = std::time::Instant::now();
            ensure!(
                make(root, guest, toolchain)? == bytes,
                "a rebuild gives other bytes than the plugin has"
            );
            let seconds = started.elapsed().as_secs();
            format!("sources, hash and rebuilt bytes agree ({seconds} s)")
        }
        Ok(toolchain) => format!(
            "sources and hash agree; bytes not compared, built by `{}`, here is `{}`",
            old.compiler, toolchain.compiler
        ),
        Err(why) => format!("sources and hash agree; bytes not compared: {why:#}"),
    })
}

/// The lines of the list of grants that a plugin for dlm itself needs and that are not there.
fn unlisted(root: &Path, guest: &Guest, record: &Record) -> anyhow::Result<Vec<String>> {
    if guest.is_for_tests() {
        return Ok(Vec::new());
    }
    let listed = std::fs::read_to_string(root.join(GRANTS)).with_context(|| format!("cannot read {GRANTS}"))?;
    let name = &record.name;
    let mut lines: Vec<String> = record
        .capabilities
        .iter()
        .map(|text| format!("{name} {text}"))
        .collect();
    if lines.is_empty() {
        lines.push(name.clone());
    }
    lines.retain(|line| !listed.lines().any(|other| other == line));
    Ok(lines)
}

/// Builds one guest into the bytes of its component, manifest inside.
fn make(root: &Path, guest: &Guest, toolchain: &Toolchain) -> anyhow::Result<Vec<u8>> {
    let module = toolchain.build(root, &guest.krate)?;
    let manifest = serde_json::to_vec(&guest.manifest)?;
    encode(&module, &manifest).with_context(|| format!("{} is no plugin", guest.krate))
}

#[cfg(feature = "guests")]
use component::{encode, imports};

#[cfg(not(feature = "guests"))]
fn encode(_module: &[u8], _manifest: &[u8]) -> anyhow::Result<Vec<u8>> {
    bail!("this xtask was built without the feature `guests`")
}

#[cfg(not(feature = "guests"))]
fn imports(_component: &[u8]) -> anyhow::Result<Vec<String>> {
    bail!("this xtask was built without the feature `guests`")
}

fn record(root: &Path, guest: &Guest, bytes: &[u8], compiler: &str) -> anyhow::Result<Record> {
    let requests = guest.manifest.get("request").and_then(toml::Value::as_array);
    let capabilities = requests
        .into_iter()
        .flatten()
        .filter_map(|request| request.get("capability")?.as_str().map(str::to_owned))
        .collect();
    let kinds = guest.manifest.get("kinds").and_then(toml::Value::as_array);
    let kinds = kinds
        .context("`kinds` is missing")?
        .iter()
        .filter_map(toml::Value::as_str);
    Ok(Record {
        name: guest.name()?.to_owned(),
        version: guest.text("version")?.to_owned(),
        worlds: kinds.map(world).collect(),
        capabilities,
        size: bytes.len() as u64,
        sha256: repository::sha256(bytes),
        source_sha256: source_sha256(root, guest)?,
        compiler: compiler.to_owned(),
    })
}

/// The world of a kind.
fn world(kind: &str) -> String {
    match kind {
        "destination" => "push-plugin".to_owned(),
        "templates" => "template-plugin".to_owned(),
        other => format!("{other}-plugin"),
    }
}

/// Hash of everything a guest is built from: its directory, the SDK, the workspace files of `components/`, and `wit/`.
fn source_sha256(root: &Path, guest: &Guest) -> anyhow::Result<String> {
    let components = root.join("components");
    let mut files = repository::files_below(&guest.directory)?;
    files.extend(repository::files_below(&components.join("sdk"))?);
    files.extend(repository::files_below(&root.join("wit"))?);
    files.extend([components.join("Cargo.toml"), components.join("Cargo.lock")]);
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root).expect("listed below the root");
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = name.to_string_lossy().replace('\\', "/");
        hash.update(format!("{name}\0{}\0{}\n", bytes.len(), repository::sha256(&bytes)));
    }
    Ok(repository::hex(&hash.finalize()))
}

/// The guests of these directory or plugin names, or all.
fn find(root: &Path, names: &[String]) -> anyhow::Result<Vec<Guest>> {
    let components = root.join("components");
    let mut guests = Vec::new();
    for entry in std::fs::read_dir(&components).with_context(|| format!("cannot list {}", components.display()))? {
        let directory = entry?.path();
        let Ok(text) = std::fs::read_to_string(directory.join("plugin.toml")) else {
            continue;
        };
        let krate = directory
            .file_name()
            .expect("a listed entry has a name")
            .to_string_lossy()
            .into_owned();
        let manifest = toml::from_str(&text).with_context(|| format!("components/{krate}/plugin.toml"))?;
        guests.push(Guest {
            krate,
            directory,
            manifest,
        });
    }
    guests.sort_by(|a, b| a.krate.cmp(&b.krate));
    let is_called = |guest: &Guest, name: &String| guest.krate == *name || guest.name().is_ok_and(|own| own == name);
    if let Some(unknown) = names
        .iter()
        .find(|name| !guests.iter().any(|guest| is_called(guest, name)))
    {
        let known: Vec<&str> = guests.iter().map(|guest| guest.krate.as_str()).collect();
        bail!("no guest `{unknown}`; the guests are {}", known.join(", "));
    }
    guests.retain(|guest| names.is_empty() || names.iter().any(|name| is_called(guest, name)));
    Ok(guests)
}

impl Guest {
    fn name(&self) -> anyhow::Result<&str> {
        self.text("name")
    }

    /// The directory of what is built, relative to the repository.
    fn place(&self) -> anyhow::Result<String> {
        let directory = if self.is_for_tests() { "tests/guests" } else { "plugins" };
        Ok(format!("{directory}/{}", self.name()?))
    }

    fn is_for_tests(&self) -> bool {
        self.krate.starts_with("test-")
    }

    fn text(&self, key: &str) -> anyhow::Result<&str> {
        let value = self.manifest.get(key).and_then(toml::Value::as_str);
        value.with_context(|| format!("components/{}/plugin.toml has no `{key}`", self.krate))
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
