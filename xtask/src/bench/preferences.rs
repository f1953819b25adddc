//! DPO beside TRL's trainer: steps over the preferences of the example, one program after the other.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bench, THREADS, feed, first_line, machine, numbers, page, path, training_line};
use crate::repository;

const HEADING: &str = "## Preferences";
/// Steps of a measurement; the first is left out of the median.
const STEPS: usize = 10;
/// Pairs of a step: eight rows, as the plan has them.
const PAIRS: usize = 4;

impl Bench {
    /// Measures both and returns the section.
    pub(super) fn preferences(&self) -> Result<String> {
        let document = repository::root().join("examples/vell-mill.dlm");
        let texts = self.ours(&["pairs".into(), path(&self.base), path(&document)])?;
        let job = |dtype: &str| {
            json!({
                "gguf": self.base, "threads": THREADS, "dtype": dtype, "steps": STEPS, "pairs_per_step": PAIRS, "beta": 0.1,
                "lr": 5e-5, "r": 16, "alpha": 32, "pairs": texts["pairs"],
                "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            })
        };
        let count = texts["pairs"].as_array().map_or(0, Vec::len);
        let mut out = format!(
            "{HEADING}\n\nDPO on the {count} pairs of `examples/vell-mill.dlm`, SmolLM2-135M, LoRA r 16 on every matrix, {PAIRS} pairs a step, against the base \
             (`cargo xtask bench preferences`). {} Our program: {}.\n\n| rows | who | ms a step | peak MiB | speed | memory |\n|---|---|---|---|---|---|\n",
            machine()?,
            self.profile()
        );
        let mut python = Command::new(std::env::var("DLM_BENCH_PYTHON").unwrap_or("python3".to_owned()));
        python.arg(repository::root().join("xtask/peers/trl_dpo.py"));
        let peer = feed(&mut python, &job("float32"));
        let rows = format!("{PAIRS} pairs");
        let mut notes = String::new();
        for (who, dtype) in [("dlm, bf16 products", "bfloat16"), ("dlm, f32 products", "float32")] {
            let mut ours = Command::new(&self.measure);
            let ours = feed(ours.arg("preferences").arg(&document), &job(dtype))?;
            out.push_str(&training_line(&rows, who, &ours, peer.as_ref().ok())?);
            notes.push_str(&after(who, &ours)?);
        }
        match &peer {
            Ok(peer) => {
                out.push_str(&training_line(&rows, "TRL DPOTrainer + PEFT, f32", peer, None)?);
                notes.push_str(&after("TRL", peer)?);
            }
            Err(error) => out.push_str(&format!(
                "| {rows} | TRL | not measured: {} | | | |\n",
                first_line(error)
            )),
        }
        Ok(format!("{out}\n{notes}\n"))
    }
}

/// The losses of a run, and what it did before the first step.
fn after(who: &str, value: &Value) -> Result<String> {
    let losses = numbers(&value["losses"]);
    let (first, last) = (losses.first().context("no loss")?, losses.last().context("no loss")?);
    let reference = value["reference_ms"].as_f64();
    let reference = reference.map_or(String::new(), |ms| {
        format!("; the reference is read once, in {ms:.0} ms for all pairs")
    });
    Ok(format!(
        "- {who}: loss {first:.4} to {last:.4} in {} steps{reference}\n",
        losses.len()
    ))
}

/// Measures and writes that section alone.
pub(super) fn run(bench: &Bench) -> Result<()> {
    let section = bench.preferences()?;
    page::write(HEADING, &section, "## Writing a GGUF file")?;
    println!("{section}");
    Ok(())
}
