//! `cargo xtask teach`: what the default recipe teaches the small base, on the document in `examples/`.
//!
//! `--optimizer NAME` writes that optimizer into the copy of the document.
//!
//! `teach quantized` compares bases in four bits with the same in floats.
//! `teach preferences` (`--document PATH` and `--rate R`, for the choice of the rate) and `teach adapters` do the same for the examples that have these.
//!
//! For each seed: train with the defaults of `dlm init`, then score the document's questions, paraphrases that are not in
//! it, and general questions that the base answers; the change of the loss on a fixed text; seconds; peak memory.

mod phases;
mod quantized;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program::{Program, number};
use crate::{base, repository};

/// Seeds of the two runs; `--seeds 1,2,3` names others. `--program PATH` takes a program that is built already, for
/// instance `target/debug/dlm`: its answers are those of the release binary, its seconds are not.
const SEEDS: [u64; 2] = [42, 43];

const HEAD: &str = "| seed | document | paraphrases | general | loss | steps | seconds | peak MiB |\n|---|---|---|---|---|---|---|---|";

/// What one run reached.
struct Figures {
    seed: u64,
    document: (f64, f64),
    paraphrases: (f64, f64),
    general: (f64, f64),
    loss_change: f64,
    seconds: f64,
    steps: f64,
    peak_mib: f64,
}

/// Trains and scores with every seed, and prints a table.
pub fn run(arguments: &[String]) -> Result<()> {
    let option = |name: &str| {
        let place = arguments.iter().position(|a| a == name)?;
        arguments.get(place + 1)
    };
    let seeds = match option("--seeds") {
        Some(list) => list
            .split(',')
            .map(|s| s.parse().context("--seeds takes numbers"))
            .collect::<Result<_>>()?,
        None => SEEDS.to_vec(),
    };
    let program = match option("--program") {
        Some(path) => Program::at(PathBuf::from(path), "teach-home")?,
        None => Program::build("teach-home")?,
    };
    let real = base::find_or_fetch()?;
    program.add_base(&real)?;
    match arguments.first().map(String::as_str) {
        Some("preferences") => return phases::preferences(&program, option("--document"), option("--rate")),
        Some("adapters") => return phases::adapters(&program),
        Some("quantized") => return quantized::run(&program, &real, &seeds, option("--program").is_some()),
        _ => {}
    }
    let example = Example::copy_to(&program.home)?;
    if let Some(optimizer) = option("--optimizer") {
        example.write_head("base_model: smollm2-135m", &format!("optimizer: {optimizer}"))?;
    }
    let before = example.score(&program, true)?;
    let mut all = Vec::new();
    for seed in seeds {
        let figures = one_run(&program, &example, &before, seed)?;
        print_row(&figures);
        all.push(figures);
    }
    println!("\n{HEAD}");
    all.iter().for_each(print_row);
    Ok(())
}

fn one_run(program: &Program, example: &Example, before: &Value, seed: u64) -> Result<Figures> {
    let arguments = [
        OsString::from("train"),
        example.document.clone().into(),
        "--fresh".into(),
        "--update-lock".into(),
        "--json".into(),
        "--seed".into(),
        seed.to_string().into(),
    ];
    let report = program.json(&arguments, true)?;
    let after = example.score(program, false)?;
    let pair = |pointer: &str| -> Result<(f64, f64)> {
        Ok((
            number(&after, &format!("{pointer}/accepted"))?,
            number(&after, &format!("{pointer}/asked"))?,
        ))
    };
    Ok(Figures {
        seed,
        document: pair("/groups/question")?,
        paraphrases: pair("/groups/paraphrases")?,
        general: pair("/groups/general")?,
        loss_change: number(&after, "/text_loss")? / number(before, "/text_loss")? - 1.0,
        seconds: number(&report, "/seconds_total")?,
        steps: number(&report, "/steps")?,
        peak_mib: number(&report, "/peak_memory_bytes")? / f64::from(1 << 20),
    })
}

fn print_row(f: &Figures) {
    println!(
        "| {} | {}/{} | {}/{} | {}/{} | {:+.1} % | {} | {:.0} | {:.0} |",
        f.seed,
        f.document.0,
        f.document.1,
        f.paraphrases.0,
        f.paraphrases.1,
        f.general.0,
        f.general.1,
        f.loss_change * 100.0,
        f.steps,
        f.seconds,
        f.peak_mib
    );
}

/// The example document with its questions, copied so that a run never changes the repository.
pub struct Example {
    pub document: PathBuf,
    pub questions: PathBuf,
    pub text: PathBuf,
}

impl Example {
    /// Copies the example into `directory`.
    pub fn copy_to(directory: &Path) -> Result<Self> {
        let examples = repository::root().join("examples");
        let copy = |name: &str| -> Result<PathBuf> {
            let target = directory.join(name);
            std::fs::copy(examples.join(name), &target).with_context(|| format!("copying {name}"))?;
            Ok(target)
        };
        Ok(Self {
            document: copy("quillon-ferry.dlm")?,
            questions: copy("quillon-ferry.eval.json")?,
            text: copy("general-text.txt")?,
        })
    }

    /// Writes the line of the base and a setting of the training into the copy's frontmatter.
    fn write_head(&self, base: &str, setting: &str) -> Result<()> {
        let text = std::fs::read_to_string(&self.document)?;
        let (head, body) = text.split_once("\n---\n").context("the example has no frontmatter")?;
        let head = head.replace("base_model: smollm2-135m", base);
        let text = format!("{head}\ntraining: {{{setting}}}\n---\n{body}");
        Ok(std::fs::write(&self.document, text)?)
    }

    /// Scores the document's model, or the base alone.
    pub fn score(&self, program: &Program, is_base: bool) -> Result<Value> {
        let mut arguments = vec![
            OsString::from("score"),
            self.document.clone().into(),
            "--questions".into(),
            self.questions.clone().into(),
            "--text".into(),
            self.text.clone().into(),
            "--json".into(),
        ];
        if is_base {
            arguments.push("--base-only".into());
        }
        program.json(&arguments, false)
    }
}
