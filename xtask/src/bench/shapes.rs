//! What a base of a size costs: ten steps of `dlm train` on random weights in the shape of a real base, in the memory that a
//! machine may have, beside what the plan said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Bench, machine, page, path};

const HEADING: &str = "## What a size costs";
pub(super) const ALL: [&str; 4] = ["135m", "360m", "0.5b", "1.5b"];
const STEPS: &str = "10";
const DOCUMENT: &str = include_str!("light.dlm");
const HEAD: &str = "| shape | base | limit | layout, checkpointing | planned MiB | peak MiB | planned to peak | s a step |\n\
                    |---|---|---|---|---|---|---|---|\n";
/// Address space that is no memory: the mapped file of the base, the program, stacks, what the allocator reserves.
const RESERVED_KIB: u64 = 1 << 20;

/// One run: how the base is stored, and the memory it may take.
struct Case {
    name: &'static str,
    file: &'static str,
    adapter: &'static str,
    limit_gib: Option<f64>,
}

const fn case(name: &'static str, file: &'static str, adapter: &'static str, limit_gib: Option<f64>) -> Case {
    Case {
        name,
        file,
        adapter,
        limit_gib,
    }
}

/// Every shape as it comes, in four bits, and as the file that llama.cpp would run.
fn cases(shape: &str) -> Vec<Case> {
    let (wide, narrow) = match shape {
        "1.5b" => (Some(8.0), Some(3.5)),
        _ => (None, None),
    };
    vec![
        case("bf16", "bf16", "lora", wide),
        case("NF4 (`qlora`)", "bf16", "qlora", narrow),
        case("Q4_K_M as stored (`qlora`)", "Q4_K_M.gguf", "qlora", narrow),
    ]
}

impl Bench {
    /// Measures the shapes and returns the section.
    pub(super) fn shapes(&self, shapes: &[String]) -> Result<String> {
        let mut out = format!(
            "{HEADING}\n\n`dlm train --max-steps {STEPS}` on eight short questions (`cargo xtask bench shapes`), random weights in the shapes of SmolLM2-135M \
             and -360M, Qwen2.5-0.5B and -1.5B, the adapter that the plan chooses. A limit is one of the address space, beside the mapped file and \
             1 GiB that is reserved and not used: what the plan may use, and what the run would die of. {} Our program: {}.\n\n{HEAD}",
            machine()?,
            self.profile()
        );
        for shape in shapes {
            let directory = self.directory.join("shapes").join(shape);
            std::fs::create_dir_all(&directory)?;
            let base = directory.join("bf16");
            self.ours(&["random".into(), path(&self.base), shape.clone(), path(&base)])?;
            let quantized = directory.join("Q4_K_M.gguf");
            self.ours(&[
                "quantize".into(),
                path(&base),
                path(&quantized),
                "Q4_K_M".into(),
                "2".into(),
            ])?;
            for case in cases(shape) {
                let line = self.shape(shape, &directory, &case)?;
                print!("{line}");
                out.push_str(&line);
            }
            std::fs::remove_dir_all(&directory)?;
        }
        Ok(out + "\n")
    }

    fn shape(&self, shape: &str, directory: &Path, case: &Case) -> Result<String> {
        let home = directory.join("home");
        let _gone = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home)?;
        let document = home.join("light.dlm");
        let text = DOCUMENT.replace("BASE", "measured").replace("ADAPTER", case.adapter);
        std::fs::write(&document, text)?;
        let file = directory.join(case.file);
        let added = Command::new(self.dlm())
            .args(["base", "add", "measured", "--from"])
            .arg(&file)
            .env("DLM_HOME", &home)
            .output()?;
        ensure!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let limit_kib = case.limit_gib.map(|gib| (gib * 1024.0 * 1024.0) as u64);
        let mapped_kib = size_of_base(&file)? / 1024;
        let limit = limit_kib.map_or("unlimited".to_owned(), |kib| {
            (kib + mapped_kib + RESERVED_KIB).to_string()
        });
        let script = format!("ulimit -v {limit}; exec \"$0\" train \"$1\" --max-steps {STEPS} --json");
        let mut run = Command::new("sh");
        run.args(["-c", &script])
            .arg(self.dlm())
            .arg(&document)
            .env("DLM_HOME", &home);
        let (report, peak) = watched(&mut run)?;
        let plan = &report["plan"];
        let planned = plan["memory"]["total"].as_f64().context("no plan of the memory")? / f64::from(1 << 20);
        let steps = report["steps"].as_f64().context("no steps")?;
        let seconds = report["seconds_training"].as_f64().context("no seconds")? / steps;
        let within = case.limit_gib.is_none_or(|gib| peak <= gib * 1024.0);
        ensure!(within, "{shape} {}: {peak:.0} MiB are more than the limit", case.name);
        let recomputed = &plan["phases"][0]["checkpointing"]["value"]["every"];
        Ok(format!(
            "| {shape} | {} | {} | {}, {} | {planned:.0} | {peak:.0} | {:.2} | {seconds:.2} |\n",
            case.name,
            case.limit_gib.map_or("none".to_owned(), |gib| format!("{gib} GiB")),
            plan["packing"]["value"].as_str().unwrap_or("?"),
            match recomputed.as_u64() {
                Some(0) => "no block anew".to_owned(),
                every => format!("one block of {} anew", every.unwrap_or(0)),
            },
            planned / peak
        ))
    }

    /// The program beside the one that measures.
    fn dlm(&self) -> PathBuf {
        self.measure.with_file_name("dlm")
    }
}

/// Bytes of the weights of a base.
fn size_of_base(base: &Path) -> Result<u64> {
    let file = match base.is_dir() {
        true => base.join("model.safetensors"),
        false => base.to_owned(),
    };
    Ok(std::fs::metadata(file)?.len())
}

/// Runs a command to its end; returns the JSON that it printed and its peak in MiB.
fn watched(command: &mut Command) -> Result<(Value, f64)> {
    const LOOK: Duration = Duration::from_millis(20);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let stderr = child.stderr.take().context("no standard error")?;
    let stdout = child.stdout.take().context("no standard output")?;
    // Both are read to their end beside the process, which would wait for a full pipe otherwise.
    let told = std::thread::spawn(move || std::io::read_to_string(stderr));
    let printed = std::thread::spawn(move || std::io::read_to_string(stdout));
    let mut peak = 0.0f64;
    let ended = loop {
        peak = peak.max(peak_of(&status).unwrap_or(0.0));
        match child.try_wait()? {
            Some(ended) => break ended,
            None => std::thread::sleep(LOOK),
        }
    };
    let told = told.join().map_err(|_| anyhow::anyhow!("reading failed"))??;
    let printed = printed.join().map_err(|_| anyhow::anyhow!("reading failed"))??;
    if !ended.success() {
        bail!("{}", told.lines().rev().take(4).collect::<Vec<_>>().join("; "));
    }
    Ok((serde_json::from_str(&printed)?, peak))
}

fn peak_of(status: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// Measures the named shapes, or all, and writes that section alone.
pub(super) fn run(bench: &Bench, named: &[String]) -> Result<()> {
    let all = ALL.map(str::to_owned);
    let section = bench.shapes(if named.is_empty() { &all } else { named })?;
    if named.is_empty() {
        page::write(HEADING, &section, "## Writing a GGUF file")?;
    }
    println!("{section}");
    Ok(())
}
