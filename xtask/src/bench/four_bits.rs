//! A QLoRA step beside PEFT with bitsandbytes: the same rows on the same random weights, in NF4 with double quantization.

use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::{Bench, STEPS, THREADS, feed, first_line, machine, page, path, training_line};
use crate::repository;

const HEADING: &str = "## Four bits";

impl Bench {
    /// Measures both and returns the section.
    pub(super) fn four_bits(&self) -> Result<String> {
        let directory = self.directory.join("four-bits");
        self.ours(&["random".into(), path(&self.base), "135m".into(), path(&directory)])?;
        let mut job = self.short_rows()?;
        for (key, value) in [
            ("directory", json!(directory)),
            ("gguf", json!(directory)),
            ("threads", json!(THREADS)),
            ("steps", json!(STEPS)),
            ("four_bits", json!(true)),
            ("layout", json!("none")),
            (
                "targets",
                json!([
                    "q_proj",
                    "k_proj",
                    "v_proj",
                    "o_proj",
                    "gate_proj",
                    "up_proj",
                    "down_proj"
                ]),
            ),
        ] {
            job[key] = value;
        }
        let mut out = format!(
            "{HEADING}\n\nA step on the first eight pairs of the example, random weights in the shape of SmolLM2-135M in NF4 with double quantization, LoRA r 8 on \
             every matrix (`cargo xtask bench four-bits`). {} Our program: {}.\n\n| rows | who | ms a step | peak MiB | speed | memory |\n|---|---|---|---|---|---|\n",
            machine()?,
            self.profile()
        );
        let rows = "8 short rows of the example";
        for (name, dtype) in [("bf16", "bfloat16"), ("f32", "float32")] {
            job["dtype"] = json!(dtype);
            let mut python = Command::new(std::env::var("DLM_BENCH_PYTHON").unwrap_or("python3".to_owned()));
            python.arg(repository::root().join("xtask/peers/peft_step.py"));
            let peer = feed(&mut python, &job);
            let mut ours = Command::new(&self.measure);
            let ours = feed(ours.arg("step"), &job)?;
            out.push_str(&training_line(
                rows,
                &format!("dlm, {name} products"),
                &ours,
                peer.as_ref().ok(),
            )?);
            let who = format!("PEFT + bitsandbytes, {name}");
            match &peer {
                Ok(peer) => out.push_str(&training_line(rows, &who, peer, None)?),
                Err(error) => out.push_str(&format!(
                    "| {rows} | {who} | not measured: {} | | | |\n",
                    first_line(error)
                )),
            }
        }
        std::fs::remove_dir_all(&directory)?;
        Ok(out + "\n")
    }
}

/// Measures and writes that section alone.
pub(super) fn run(bench: &Bench) -> Result<()> {
    let section = bench.four_bits()?;
    page::write(HEADING, &section, "## Writing a GGUF file")?;
    println!("{section}");
    Ok(())
}
