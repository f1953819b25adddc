//! `cargo xtask demo`: the main job on a real model, from nothing to an exported file, ending with a page to read.

use std::ffi::OsString;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::base;
use crate::program::{Program, number, target_folder};
use crate::teach::Example;

/// Builds, gets the base, runs init, train, prompt before and after, export, and prints the page.
pub fn run(_arguments: &[String]) -> Result<()> {
    let program = Program::build("demo-home")?;
    println!("getting the base model SmolLM2-135M-Instruct");
    program.add_base(&base::find_or_fetch()?)?;
    let fresh = program.home.join("fresh.dlm");
    program.run(
        &[
            OsString::from("init"),
            fresh.into(),
            "--base".into(),
            "smollm2-135m".into(),
        ],
        true,
    )?;
    let example = Example::copy_to(&program.home)?;
    println!("asking the base");
    let before = example.score(&program, true)?;
    println!("training {}", example.document.display());
    let train = program.json(
        &[
            OsString::from("train"),
            example.document.clone().into(),
            "--json".into(),
        ],
        true,
    )?;
    println!("asking the trained model");
    let after = example.score(&program, false)?;
    println!("exporting");
    let export = [
        OsString::from("export"),
        example.document.clone().into(),
        "--target".into(),
        "llama-server".into(),
        "--quant".into(),
        "Q8_0".into(),
        "--json".into(),
    ];
    let export = program.json(&export, true)?;
    let page = page(&before, &train, &after, &export)?;
    let path = target_folder().join("demo.md");
    std::fs::write(&path, &page).with_context(|| format!("writing {}", path.display()))?;
    println!("\n{page}\nThis page is also in {}", path.display());
    Ok(())
}

fn page(before: &Value, train: &Value, after: &Value, export: &Value) -> Result<String> {
    let mut out = String::from("# What the model learned from examples/quillon-ferry.dlm\n\n");
    out.push_str("| question | before training | after training |\n|---|---|---|\n");
    let answers = |report: &Value| -> Vec<(String, String)> {
        let rows = report["answers"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .filter(|r| r["group"] == "question")
            .map(|r| (cell(&r["question"], 60), cell(&r["answer"], 70)))
            .collect()
    };
    for ((question, old), (_, new)) in answers(before).iter().zip(answers(after).iter()) {
        out.push_str(&format!("| {question} | {old} | {new} |\n"));
    }
    let counts = |report: &Value, group: &str| -> Result<String> {
        let n = |what: &str| number(report, &format!("/groups/{group}/{what}"));
        Ok(format!("{} of {}", n("accepted")?, n("asked")?))
    };
    out.push_str("\n| | base | trained |\n|---|---|---|\n");
    for (name, group) in [
        ("the document's questions", "question"),
        ("paraphrases that are not in it", "paraphrases"),
        ("general questions", "general"),
    ] {
        out.push_str(&format!(
            "| {name} | {} | {} |\n",
            counts(before, group)?,
            counts(after, group)?
        ));
    }
    out.push_str(&format!(
        "| mean loss on general text | {:.4} | {:.4} |\n\n",
        number(before, "/text_loss")?,
        number(after, "/text_loss")?
    ));
    out.push_str(&format!(
        "Training: {:.0} s, {} steps, {:.0} tokens/s, peak memory {:.0} MiB.\n\nExported:\n",
        number(train, "/seconds_total")?,
        number(train, "/steps")?,
        number(train, "/tokens_per_s")?,
        number(train, "/peak_memory_bytes")? / f64::from(1 << 20)
    ));
    for file in export["files"].as_array().into_iter().flatten() {
        let bytes = number(file, "/bytes")?;
        out.push_str(&format!(
            "- {} ({:.1} MB)\n",
            file["path"].as_str().unwrap_or("?"),
            bytes / 1e6
        ));
    }
    Ok(out)
}

/// One table cell: a single line of at most `limit` characters.
fn cell(value: &Value, limit: usize) -> String {
    let text = value.as_str().unwrap_or_default().replace(['\n', '|'], " ");
    if text.chars().count() <= limit {
        return text;
    }
    text.chars().take(limit - 1).collect::<String>() + "…"
}
