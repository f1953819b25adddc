//! Uses an installed plugin by the command that its kind is for, on a document that was trained on a tiny model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::program::Program;
use crate::repository;

/// The document: prose for teachers, questions for judges.
const DOCUMENT: &str = "---\ndlm_id: 01HF7YAT0004106R0430MG2000\ndlm_version: 15\nbase_model: tiny\n---\n\n\
    # Harbour\n\nThe bell of the harbour was cast in 1904. It rings at noon. Its sound is heard in the village of Mirrow.\n\n\
    ::instruction::\n### Q\nWho rings the bell?\n\n### A\nThe keeper rings it.\n\n### Q\nWhen does it ring?\n\n### A\nAt noon.\n";

/// A trained document.
pub struct Uses {
    directory: PathBuf,
}

impl Uses {
    /// Adds the tiny model and trains a document on it.
    pub fn open(program: &Program, directory: &Path) -> Result<Uses> {
        super::clear(directory)?;
        std::fs::create_dir_all(directory).context("making a directory for the document")?;
        let model = directory.join("model");
        std::fs::create_dir_all(&model).context("making a directory for the model")?;
        for name in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            let from = repository::root().join("tests/golden/arch/llama").join(name);
            std::fs::copy(&from, model.join(name)).with_context(|| format!("copying {}", from.display()))?;
        }
        let uses = Uses {
            directory: directory.to_owned(),
        };
        std::fs::write(uses.path("notes.dlm"), DOCUMENT).context("writing the document")?;
        program.run(
            &[
                "base".as_ref(),
                "add".as_ref(),
                "tiny".as_ref(),
                "--from".as_ref(),
                model.as_path(),
            ],
            false,
        )?;
        program.run(&["train".as_ref(), uses.path("notes.dlm").as_path()], false)?;
        Ok(uses)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Uses the plugin called `name`, and says what that gave.
    pub fn project(&self, program: &Program, kind: &str, name: &str) -> Result<String> {
        let notes = self.path("notes.dlm").display().to_string();
        match kind {
            "judge" => {
                let mine = ["preference", "mine", &notes, "--judge", name, "--temp", "1.5", "--json"];
                let found = count(&program.json(&mine, false)?, "/additions", name)?;
                Ok(format!("{found} preference pairs"))
            }
            "teacher" => {
                let synth = [
                    "synth",
                    "instructions",
                    &notes,
                    "--teacher",
                    name,
                    "--filter",
                    "none",
                    "--json",
                ];
                let found = count(&program.json(&synth, false)?, "/additions", name)?;
                Ok(format!("{found} pairs"))
            }
            "target" => {
                let report = program.json(&["export", &notes, "--target", name, "--quant", "F16", "--json"], false)?;
                let directory = report["directory"].as_str().context("the report names no directory")?;
                let note = Path::new(directory).join("NOTE.txt");
                let text = std::fs::read_to_string(&note).with_context(|| format!("reading {}", note.display()))?;
                ensure!(text.contains(" at F16"), "NOTE.txt says {text:?}");
                Ok("NOTE.txt beside the model".to_owned())
            }
            "templates" => {
                let made = self.path("first.dlm").display().to_string();
                let template = format!("{name}:first");
                program.run(
                    &["init", &made, "--template", &template, "--force", "--i-accept-license"],
                    false,
                )?;
                program.run(&["check", &made], false)?;
                Ok("a document that passes `dlm check`".to_owned())
            }
            _ => push(program, &notes, name),
        }
    }
}

/// `dlm push` reaches destinations; until it is built, it must say so.
fn push(program: &Program, notes: &str, name: &str) -> Result<String> {
    match program.try_run(&["push", notes, "--to", &format!("{name}:there")], false)? {
        Ok(_) => Ok("pushed".to_owned()),
        Err((_, said)) => {
            ensure!(said.contains("not built yet"), "`dlm push` says: {said}");
            Ok("`dlm push` is not built yet".to_owned())
        }
    }
}

fn count(report: &Value, pointer: &str, name: &str) -> Result<usize> {
    let found = report.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(found > 0, "`{name}` gave nothing: {report:#}");
    Ok(found)
}
