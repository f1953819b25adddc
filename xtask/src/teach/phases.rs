//! `cargo xtask teach preferences` and `teach adapters`: the two examples with more than questions and answers.
//!
//! Neither document was looked at when a constant was chosen.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program::{Program, number};
use crate::repository;

fn copied(program: &Program, name: &str) -> Result<PathBuf> {
    let target = program.home.join(name);
    std::fs::copy(repository::root().join("examples").join(name), &target)
        .with_context(|| format!("copying {name}"))?;
    Ok(target)
}

fn trained(program: &Program, document: &Path) -> Result<Value> {
    let arguments: [&OsStr; 4] = [
        "train".as_ref(),
        document.as_os_str(),
        "--update-lock".as_ref(),
        "--json".as_ref(),
    ];
    program.json(&arguments, true)
}

/// Trains a document of questions and preferences, the example or another, and says what the second phase gained and cost.
pub fn preferences(program: &Program, document: Option<&String>, rate: Option<&String>) -> Result<()> {
    let document = match document {
        None => copied(program, "vell-mill.dlm")?,
        Some(path) => {
            let target = program.home.join("document.dlm");
            std::fs::copy(path, &target).with_context(|| format!("copying {path}"))?;
            target
        }
    };
    if let Some(rate) = rate {
        let text = std::fs::read_to_string(&document)?;
        let block = format!("training:\n  preference:\n    hyperparams:\n      learning_rate: {rate}\n---\n\n");
        std::fs::write(&document, text.replacen("---\n\n", &block, 1))?;
    }
    let report = trained(program, &document)?;
    let preference = &report["preference"];
    let before = report.pointer("/earlier/0").context("the first phase has no report")?;
    let of = |place: &str, key: &str| number(preference, &format!("/{place}/{key}"));
    println!("| | before | after |\n|---|---|---|");
    let pairs = number(preference, "/pairs")?;
    println!(
        "| chosen answer likelier | {} of {pairs} | {} of {pairs} |",
        of("before", "preferred")?,
        of("after", "preferred")?
    );
    println!(
        "| mean log-probability, chosen less rejected, nats | {:.1} | {:.1} |",
        of("before", "logprob_margin")?,
        of("after", "logprob_margin")?
    );
    println!(
        "| reward margin (accuracy) | {:.2} ({:.2}) | {:.2} ({:.2}) |",
        of("before", "rewards/margin")?,
        of("before", "rewards/accuracy")?,
        of("after", "rewards/margin")?,
        of("after", "rewards/accuracy")?
    );
    println!(
        "| answers recalled | {} | {} |",
        number(before, "/recalled")?,
        number(&report, "/recalled")?
    );
    println!(
        "| seconds | {:.0} | {:.0} |",
        number(before, "/seconds_total")?,
        number(&report, "/seconds_total")?
    );
    println!("share of the change that is kept: {}", number(preference, "/scale")?);
    println!(
        "peak memory of both phases: {:.0} MiB",
        number(&report, "/peak_memory_bytes")? / f64::from(1 << 20)
    );
    Ok(())
}

/// Trains two adapters and a gate, asks each adapter both sets of questions, and the gate questions that are in no document.
pub fn adapters(program: &Program) -> Result<()> {
    let document = copied(program, "two-adapters.dlm")?;
    let file = copied(program, "two-adapters.eval.json")?;
    let questions: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let report = trained(program, &document)?;
    let names: Vec<String> = questions.as_object().context("no object")?.keys().cloned().collect();
    println!("| asked with | questions of | asked as written | in other words |\n|---|---|---|---|");
    for set in &names {
        let path = program.home.join(format!("{set}.json"));
        std::fs::write(&path, questions[set].to_string())?;
        for adapter in &names {
            let arguments: [OsString; 7] = [
                "score".into(),
                document.clone().into(),
                "--questions".into(),
                path.clone().into(),
                "--adapter".into(),
                adapter.into(),
                "--json".into(),
            ];
            let value = program.json(&arguments, false)?;
            let count = |group: &str| -> Result<String> {
                Ok(format!(
                    "{} of {}",
                    number(&value, &format!("/groups/{group}/accepted"))?,
                    number(&value, &format!("/groups/{group}/asked"))?
                ))
            };
            println!(
                "| `{adapter}` | {set} | {} | {} |",
                count("question")?,
                count("paraphrases")?
            );
        }
    }
    println!("gate: {}", report["gate"]);
    let (mut hits, mut asked) = (0, 0);
    for set in &names {
        for pair in questions[set]["pairs"].as_array().into_iter().flatten() {
            for question in pair["paraphrases"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                let largest = chosen(program, &document, question)?;
                hits += usize::from(largest == *set);
                asked += 1;
                if largest != *set {
                    println!("gate: `{question}` goes to {largest}");
                }
            }
        }
    }
    println!("gate: {hits} of {asked} questions in other words go to their adapter");
    Ok(())
}

/// The adapter with the largest weight for a question, from what `--verbose` prints.
fn chosen(program: &Program, document: &Path, question: &str) -> Result<String> {
    let flags = ["--max-tokens", "1", "--temp", "0", "--verbose"].map(OsStr::new);
    let words = ["prompt".as_ref(), document.as_os_str(), question.as_ref()];
    let told = program
        .run(&[words.as_slice(), flags.as_slice()].concat(), false)?
        .stderr;
    let mut lines = told.lines();
    let line = lines.find_map(|line| line.split_once("adapters: "));
    let line = line.context("no weights were shown")?.1;
    let mut shares: Vec<(f64, &str)> = line
        .split(", ")
        .filter_map(|share| share.rsplit_once(' '))
        .filter_map(|(name, weight)| Some((weight.parse().ok()?, name)))
        .collect();
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(shares.first().context("no weight was shown")?.1.to_owned())
}
