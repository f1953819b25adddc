//! The commands whose outputs are pinned.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::mask::{mask, without_stamps};
use crate::program::Program;
use crate::repository;

/// Tiny bases: one of every kind of block, and what they are trained with.
const TINY: &[(&str, &[(&str, &str)])] = &[
    (
        "llama",
        &[("lora", "fp32"), ("lora", "bf16"), ("dora", "fp32"), ("dora", "bf16")],
    ),
    ("gemma2", &[("lora", "fp32"), ("dora", "bf16")]),
    ("qwen3", &[("lora", "bf16")]),
    ("phi3", &[("dora", "fp32")]),
    ("mixtral", &[("lora", "fp32")]),
    ("phi4-longrope", &[("lora", "bf16")]),
];
/// The name of the real base, and of the directory with its outputs.
pub const REAL_BASE: &str = "smollm2-135m";
/// What it is trained with.
const REAL: &[(&str, &str)] = &[("lora", "fp32"), ("lora", "bf16"), ("dora", "bf16")];
const QUANTS: &[&str] = &["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"];
const STEPS: &str = "12";

const BODY: &str = "\
# The lighthouse at Varn

The lighthouse at Varn has nine steps and a green lamp. Its keeper, Ida Roos, paints the door every spring.

::instruction::
### Q
Who keeps the lighthouse at Varn?
### A
Ida Roos keeps the lighthouse at Varn.

### Q
Which color has the lamp?
### A
The lamp is green.

### Q
How many steps are there?
### A
There are nine steps.

::preference::
### Prompt
Who paints the door?
### Chosen
Ida Roos paints it every spring.
### Rejected
Nobody knows.
";

/// Runs every command and leaves its masked outputs below `outputs`.
pub fn run(program: &Program, real: Option<&Path>, outputs: &Path) -> Result<()> {
    if outputs.exists() {
        std::fs::remove_dir_all(outputs).with_context(|| format!("clearing {}", outputs.display()))?;
    }
    let stage = Stage { program, outputs };
    for (base, runs) in TINY {
        stage.add(base, &repository::root().join("tests/golden/arch").join(base))?;
        for (adapter, precision) in *runs {
            stage.train_and_use(base, adapter, precision, QUANTS)?;
        }
    }
    stage.surface()?;
    stage.refusals("llama")?;
    stage.plugins()?;
    if let Some(path) = real {
        stage.add(REAL_BASE, path)?;
        for (adapter, precision) in REAL {
            stage.train_and_use(REAL_BASE, adapter, precision, &["Q8_0", "Q4_K_M"])?;
        }
    }
    Ok(())
}

struct Stage<'a> {
    program: &'a Program,
    outputs: &'a Path,
}

impl Stage<'_> {
    /// Runs one command and keeps exit code, stdout and stderr under `name`; a failure is an output like another.
    fn keep(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.program.path)
            .args(arguments)
            .current_dir(&self.program.home)
            .env_clear()
            .env("HOME", self.program.home.join("user"))
            .env("DLM_HOME", self.program.home.join("home"))
            .env("HF_HUB_OFFLINE", "1")
            .env("COLUMNS", "100")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.program.path.display()))?;
        let home = self.program.home.display().to_string();
        let code = output.status.code().unwrap_or(-1);
        self.write(
            &format!("{name}.out"),
            mask(&String::from_utf8_lossy(&output.stdout), &home).as_bytes(),
        )?;
        let err = mask(&String::from_utf8_lossy(&output.stderr), &home);
        self.write(&format!("{name}.err"), format!("exit {code}\n{err}").as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.outputs.join(name);
        let directory = path.parent().expect("an output lies in a directory");
        std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Keeps the files below a directory: texts masked, weights as digests.
    fn keep_files(&self, name: &str, directory: &Path) -> Result<()> {
        let home = self.program.home.display().to_string();
        for path in repository::files_below(directory)? {
            let relative = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if matches!(extension, "db" | "sqlite" | "sqlite3" | "lock" | "db-wal" | "db-shm") {
                continue;
            }
            let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let kept = match String::from_utf8(bytes) {
                Ok(text) => mask(&text, &home).into_bytes(),
                Err(error) => repository::sha256(error.as_bytes()).into_bytes(),
            };
            // How many plugin logs there are depends on the second in which each run began.
            if relative.starts_with("plugins-") {
                continue;
            }
            let relative = without_stamps(&relative);
            self.write(&format!("{name}/{relative}"), &kept)?;
        }
        Ok(())
    }

    fn add(&self, name: &str, from: &Path) -> Result<()> {
        let from = match from.is_dir() {
            true => self.model_alone(name, from)?,
            false => from.to_owned(),
        };
        self.keep(
            &format!("{name}/base-add"),
            &["base", "add", name, "--from", &from.display().to_string()],
        )?;
        self.keep(&format!("{name}/base-show"), &["base", "show", name, "--json"])
    }

    /// A copy of a golden model without the golden numbers beside it.
    fn model_alone(&self, name: &str, from: &Path) -> Result<PathBuf> {
        let to = self.program.home.join("models").join(name);
        std::fs::create_dir_all(&to).with_context(|| format!("creating {}", to.display()))?;
        for file in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            std::fs::copy(from.join(file), to.join(file)).with_context(|| format!("copying {file} of {name}"))?;
        }
        Ok(to)
    }

    /// Trains twelve steps, asks, scores, exports, trains further with `--resume`, and keeps everything.
    fn train_and_use(&self, base: &str, adapter: &str, precision: &str, quants: &[&str]) -> Result<()> {
        let name = format!("{base}/{adapter}-{precision}");
        let file = format!("{base}-{adapter}-{precision}.dlm");
        let id = document_id(&file);
        let text = format!(
            "---\ndlm_id: {id}\ndlm_version: 15\nbase_model: {base}\ntraining:\n  adapter: {adapter}\n  precision: {precision}\n---\n\n{BODY}"
        );
        std::fs::write(self.program.home.join(&file), text).with_context(|| format!("writing {file}"))?;
        std::fs::write(self.program.home.join("questions.json"), QUESTIONS).context("writing the questions")?;
        let store = self.program.home.join("home/store").join(&id);
        let version = |number: u32| store.join(format!("adapter/versions/v{number:04}"));
        let steps = ["--max-steps", STEPS];
        let run = |what: &str, verb: &[&str], rest: &[&str]| {
            let arguments = [verb, &[file.as_str()], rest, &["--threads", "2"]].concat();
            self.keep(&format!("{name}/{what}"), &arguments)
        };
        run("check", &["check"], &["--json"])?;
        run("plan", &["train"], &[&steps[..], &["--dry-run", "--json"]].concat())?;
        run("plan-text", &["train"], &[&steps[..], &["--dry-run"]].concat())?;
        run("train", &["train"], &[&steps[..], &["--json"]].concat())?;
        self.keep_files(&format!("{name}/v1"), &version(1))?;
        for (what, sampling) in [("prompt", ["--temp", "0"]), ("prompt-seeded", ["--seed", "7"])] {
            let question = ["Who keeps the lighthouse at Varn?", "--max-tokens", "24"];
            run(what, &["prompt"], &[&question[..], &sampling].concat())?;
        }
        run("score", &["score"], &["--questions", "questions.json", "--json"])?;
        for quant in quants {
            let export = ["--target", "llama-server", "--quant", quant, "--no-smoke", "--json"];
            run(&format!("export-{quant}"), &["export"], &export)?;
            run(
                &format!("export-merged-{quant}"),
                &["export"],
                &[&export[..], &["--merged"]].concat(),
            )?;
        }
        run(
            "export-ollama",
            &["export"],
            &["--skip-ollama", "--quant", "Q8_0", "--json"],
        )?;
        run("resume", &["train"], &[&steps[..], &["--resume", "--json"]].concat())?;
        self.keep_files(&format!("{name}/v2"), &version(2))?;
        run("show", &["show"], &["--json"])?;
        run("show-text", &["show"], &[])?;
        run("metrics", &["metrics", "show"], &["--json"])?;
        self.keep_files(&format!("{name}/logs"), &store.join("logs"))?;
        self.keep_files(&format!("{name}/exports"), &store.join("exports"))
    }

    /// Help, lists and the reference.
    fn surface(&self) -> Result<()> {
        for (name, arguments) in [
            ("help", &["--help"][..]),
            ("base-list", &["base", "list", "--json"]),
            ("plugin-list", &["plugin", "list", "--json"]),
            ("templates-list", &["templates", "list", "--json"]),
        ] {
            self.keep(&format!("surface/{name}"), arguments)?;
        }
        for verb in [
            "init",
            "train",
            "prompt",
            "score",
            "export",
            "show",
            "check",
            "base",
            "plugin",
            "preference",
            "synth",
            "metrics",
        ] {
            self.keep(&format!("surface/help-{verb}"), &[verb, "--help"])?;
        }
        Ok(())
    }

    /// What bad input is answered with.
    fn refusals(&self, base: &str) -> Result<()> {
        let head = format!(
            "---\ndlm_id: {}\ndlm_version: 15\nbase_model: {base}\n",
            document_id("refusals")
        );
        let documents = [
            ("no-frontmatter", "just text\n".to_owned()),
            (
                "unknown-key",
                format!("{head}training:\n  adaptor: lora\n---\n\nText.\n"),
            ),
            (
                "bad-choice",
                format!("{head}training:\n  adapter: lara\n---\n\nText.\n"),
            ),
            ("no-answer", format!("{head}---\n\n::instruction::\n### Q\nWhat?\n")),
            ("no-rows", format!("{head}---\n\n")),
            ("unknown-base", head.replace(base, "no-such-base") + "---\n\nText.\n"),
            (
                "adapters",
                format!("{head}training:\n  adapters:\n    a: {{}}\n    b: {{}}\n---\n\nText.\n"),
            ),
            ("image", format!("{head}---\n\n::image path=\"a.png\"::\n")),
        ];
        for (name, text) in documents {
            let file = format!("{name}.dlm");
            std::fs::write(self.program.home.join(&file), text).with_context(|| format!("writing {file}"))?;
            self.keep(&format!("refusals/{name}-check"), &["check", &file])?;
            self.keep(&format!("refusals/{name}-train"), &["train", &file, "--dry-run"])?;
            self.keep(&format!("refusals/{name}-prompt"), &["prompt", &file, "Who?"])?;
            self.keep(&format!("refusals/{name}-export"), &["export", &file])?;
        }
        for (name, arguments) in [
            ("no-file", &["train", "no-such-file.dlm"][..]),
            ("watch", &["train", "no-rows.dlm", "--watch"]),
            ("quant", &["export", "no-rows.dlm", "--quant", "Q3"]),
            ("flags", &["train", "no-rows.dlm", "--resume", "--fresh"]),
            ("temp", &["prompt", "no-rows.dlm", "a", "--temp", "-1"]),
            ("target", &["export", "llama-lora-fp32.dlm", "--target", "nowhere"]),
            (
                "judge",
                &["preference", "mine", "llama-lora-fp32.dlm", "--judge", "nobody"],
            ),
            ("plugin", &["plugin", "inspect", "nobody"]),
        ] {
            self.keep(&format!("refusals/{name}"), arguments)?;
        }
        Ok(())
    }

    /// Packs an example plugin that needs no build, and shows a built-in one.
    fn plugins(&self) -> Result<()> {
        let plugins = repository::root().join("plugins");
        for name in ["sway", "llama-server"] {
            let directory = plugins.join(name);
            ensure!(directory.is_dir(), "{} is not there", directory.display());
            let packed = self.program.home.join(format!("{name}.dlmplugin"));
            let arguments: Vec<OsString> = vec![directory.into(), packed.clone().into()];
            let text: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
            self.keep(
                &format!("plugins/{name}-pack"),
                &["plugin", "pack", &text[0], "--out", &text[1]],
            )?;
            if packed.is_file() {
                let bytes = std::fs::read(&packed).with_context(|| format!("reading {}", packed.display()))?;
                self.write(&format!("plugins/{name}.digest"), repository::sha256(&bytes).as_bytes())?;
            }
            self.keep(&format!("plugins/{name}-inspect"), &["plugin", "inspect", name])?;
        }
        Ok(())
    }
}

const QUESTIONS: &str = r#"{"pairs": [{"question": "Who keeps the lighthouse at Varn?", "accept": ["Ida Roos"], "paraphrases": ["Whose lighthouse is it?"]}], "general": [{"question": "What is two and two?", "accept": ["4", "four"]}]}"#;

/// A ULID that is the same in every run: 26 letters of a digest of the name, the first small enough.
fn document_id(name: &str) -> String {
    let digest = repository::sha256(name.as_bytes()).to_uppercase();
    format!("0{}", &digest[..25])
}
