//! The commands that are killed, each with what it needs before, and the place that a round happens in.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::tree;
use crate::repository;

/// The tiny model.
const MODEL: &str = "tests/cases/lib/tiny";
/// Plugins of the examples.
const TEACHER: &str = "examples/plugins/cloze/cloze.wasm";
const TARGET: &str = "examples/plugins/compose/compose.wasm";

pub(super) const DOCUMENT: &str = "a.dlm";
/// The id in the document.
pub(super) const DOCUMENT_ID: &str = "01HZ4X7TGZM3J1A2B3C4D5E6D7";
const TEXT: &str = "---
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6D7
dlm_version: 15
base_model: tiny
---

The lamp of Varn is green. Its keeper is Marta Olsen. The tower is nine steps high.

::instruction::
### Q
Who keeps the lamp?
### A
Marta keeps the lamp.

### Q
What color is the lamp?
### A
The lamp is green.
";
/// A document of the first version.
const OLD: &str = "---
# mine
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6D7
base_model: tiny
training:
  dpo:
    enabled: true
---

body
";
/// A judge for whom the longer answer is the better one.
const JUDGE: &str = "#!/bin/sh\necho \"{\\\"score\\\": $(wc -c)}\"\n";

/// What happens before the command.
pub(super) enum Step {
    /// Runs dlm, which must succeed.
    Run(&'static [&'static str]),
    /// Writes a file.
    Write(&'static str, &'static str),
    /// Adds text to the document.
    Edit(&'static str),
    /// Runs dlm and interrupts it, as Ctrl-C does, once it says this.
    Interrupt(&'static [&'static str], &'static str),
}

/// How the same command may end next beside succeeding: it was done already.
pub(super) struct Done {
    pub code: i32,
    pub says: &'static str,
}

/// One command that is killed.
pub(super) struct Scene {
    pub name: &'static str,
    pub before: &'static [Step],
    pub command: &'static [&'static str],
    /// Endings of the next run that tell that the killed one had done it.
    pub done: &'static [Done],
    /// Commands that must succeed after the next run: what a user does then.
    pub then: &'static [&'static [&'static str]],
    /// Whether there is an adapter that must answer after the kill.
    pub has_adapter: bool,
}

impl Scene {
    const fn of(name: &'static str, before: &'static [Step], command: &'static [&'static str]) -> Scene {
        Scene {
            name,
            before,
            command,
            done: &[],
            then: &[],
            has_adapter: false,
        }
    }

    const fn trained(self) -> Scene {
        Scene {
            has_adapter: true,
            ..self
        }
    }

    const fn then(self, then: &'static [&'static [&'static str]]) -> Scene {
        Scene { then, ..self }
    }

    const fn done(self, done: &'static [Done]) -> Scene {
        Scene { done, ..self }
    }
}

const ADD: Step = Step::Run(&["base", "add", "tiny", "--from", "model"]);
const TRAIN: &[&str] = &["train", DOCUMENT, "--max-steps", "60", "--threads", "1"];
const TRAINED: &[Step] = &[
    ADD,
    Step::Run(&["train", DOCUMENT, "--max-steps", "4", "--threads", "1"]),
];
const EXPORT: &[&str] = &[
    "export",
    DOCUMENT,
    "--target",
    "llama-server",
    "--quant",
    "Q8_0",
    "--no-smoke",
];
const SYNTH: &[&str] = &[
    "synth",
    "instructions",
    DOCUMENT,
    "--teacher",
    "./cloze.wasm",
    "--filter",
    "none",
];
const MINE: &[&str] = &[
    "preference",
    "mine",
    DOCUMENT,
    "--judge",
    "cli:./judge.sh",
    "--threshold",
    "0",
];
const STAGED: &[Step] = &[ADD, Step::Run(SYNTH)];
const MINED: &[Step] = &[
    ADD,
    Step::Run(&["train", DOCUMENT, "--max-steps", "4", "--threads", "1"]),
    Step::Run(MINE),
];
const INSTALL: &[&str] = &[
    "plugin",
    "install",
    "./cloze.wasm",
    "--allow-unsigned",
    "--grant-requested",
];

pub(super) const SCENES: &[Scene] = &[
    Scene::of("init", &[ADD], &["init", "new.dlm", "--base", "tiny"])
        .done(&[Done {
            code: 1,
            says: "exists already",
        }])
        .then(&[&["train", "new.dlm", "--max-steps", "1", "--threads", "1"]]),
    Scene::of(
        "init-template",
        &[],
        &["init", "new.dlm", "--template", "domain-kb", "--i-accept-license"],
    )
    .done(&[Done {
        code: 1,
        says: "exists already",
    }]),
    Scene::of("init-force", &[ADD], &["init", "a.dlm", "--base", "tiny", "--force"]),
    Scene::of("templates-list", &[], &["templates", "list"]),
    Scene::of("migrate", &[Step::Write(DOCUMENT, OLD)], &["migrate", DOCUMENT]),
    Scene::of("base-add", &[], &["base", "add", "tiny", "--from", "model"]).done(&[Done {
        code: 1,
        says: "exists already",
    }]),
    Scene::of("base-remove", &[ADD], &["base", "remove", "tiny", "--force"])
        .done(&[Done { code: 1, says: "no " }])
        .then(&[&["base", "add", "other", "--from", "model"]]),
    Scene::of("train", &[ADD], TRAIN),
    Scene::of(
        "train-again",
        &[
            ADD,
            Step::Run(&["train", DOCUMENT, "--max-steps", "4", "--threads", "1"]),
            Step::Edit("\nThe new stair is made of oak.\n"),
        ],
        TRAIN,
    )
    .trained(),
    Scene::of(
        "train-resume",
        &[
            ADD,
            Step::Interrupt(&["train", DOCUMENT, "--max-steps", "120", "--threads", "1"], "step 30/"),
        ],
        &["train", DOCUMENT, "--max-steps", "120", "--threads", "1", "--resume"],
    )
    .done(&[Done {
        code: 1,
        says: "nothing to resume",
    }]),
    Scene::of(
        "train-fresh",
        TRAINED,
        &["train", DOCUMENT, "--max-steps", "20", "--threads", "1", "--fresh"],
    )
    .trained(),
    Scene::of(
        "prompt",
        TRAINED,
        &["prompt", DOCUMENT, "Who keeps the lamp?", "--max-tokens", "60"],
    )
    .trained(),
    Scene::of("export", TRAINED, EXPORT).trained(),
    Scene::of(
        "export-again",
        &[
            ADD,
            Step::Run(&["train", DOCUMENT, "--max-steps", "4", "--threads", "1"]),
            Step::Run(EXPORT),
            Step::Run(&["train", DOCUMENT, "--max-steps", "6", "--threads", "1"]),
        ],
        EXPORT,
    )
    .trained(),
    Scene::of("synth", &[ADD], SYNTH),
    Scene::of("synth-apply", STAGED, &["synth", "apply", DOCUMENT]).done(&[
        Done {
            code: 1,
            says: "nothing is staged",
        },
        Done {
            code: 2,
            says: "nothing of the staged plan is left",
        },
    ]),
    Scene::of(
        "synth-revert",
        &[ADD, Step::Run(SYNTH), Step::Run(&["synth", "apply", DOCUMENT])],
        &["synth", "revert", DOCUMENT],
    ),
    Scene::of("synth-drop", STAGED, &["synth", "drop", DOCUMENT]).done(&[Done {
        code: 1,
        says: "nothing is staged",
    }]),
    Scene::of("preference-mine", TRAINED, MINE).trained(),
    Scene::of("preference-apply", MINED, &["preference", "apply", DOCUMENT])
        .trained()
        .done(&[
            Done {
                code: 1,
                says: "nothing is staged",
            },
            Done {
                code: 2,
                says: "nothing of the staged plan is left",
            },
        ]),
    Scene::of(
        "preference-revert",
        &[
            ADD,
            Step::Run(&["train", DOCUMENT, "--max-steps", "4", "--threads", "1"]),
            Step::Run(MINE),
            Step::Run(&["preference", "apply", DOCUMENT]),
        ],
        &["preference", "revert", DOCUMENT],
    )
    .trained(),
    Scene::of("plugin-install", &[], INSTALL),
    Scene::of("plugin-install-again", &[Step::Run(INSTALL)], INSTALL),
    Scene::of("plugin-trust", &[], &["plugin", "trust", "./compose.wasm"]),
    Scene::of("plugin-remove", &[Step::Run(INSTALL)], &["plugin", "remove", "cloze"]).done(&[Done {
        code: 2,
        says: "no plugin called",
    }]),
    Scene::of(
        "plugin-new",
        &[],
        &["plugin", "new", "judge", "own-judge", "--dir", "own"],
    )
    .done(&[Done { code: 1, says: "own" }]),
];

/// The place of a round: a home, a directory to work in, and a temporary directory, all of its own.
pub(super) struct Stage {
    pub root: PathBuf,
    binary: PathBuf,
}

impl Stage {
    pub(super) fn new(binary: &Path, root: &Path) -> Stage {
        Stage {
            root: root.to_owned(),
            binary: binary.to_owned(),
        }
    }

    /// The program that this stage runs.
    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Makes what the command needs.
    pub(super) fn prepare(&self, scene: &Scene) -> Result<()> {
        for name in ["home", "user", "tmp", "work"] {
            tree::make(&self.root.join(name))?;
        }
        tree::copy(&repository::root().join(MODEL), &self.work("model"))?;
        for plugin in [TEACHER, TARGET] {
            let name = Path::new(plugin).file_name().expect("a plugin is a file");
            tree::copy_file(&repository::root().join(plugin), &self.root.join("work").join(name))?;
        }
        self.write(DOCUMENT, TEXT)?;
        self.write("judge.sh", JUDGE)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.work("judge.sh"), mode).context("making the judge a program")?;
        scene.before.iter().try_for_each(|step| self.step(step))
    }

    fn step(&self, step: &Step) -> Result<()> {
        match step {
            Step::Write(name, text) => self.write(name, text),
            Step::Edit(text) => {
                let old = std::fs::read_to_string(self.work(DOCUMENT)).context("reading the document")?;
                self.write(DOCUMENT, &format!("{old}{text}"))
            }
            Step::Run(arguments) => {
                let ran = self.run(arguments)?;
                ensure!(
                    ran.code == 0,
                    "dlm {} ended with {}: {}",
                    arguments.join(" "),
                    ran.code,
                    ran.said
                );
                Ok(())
            }
            Step::Interrupt(arguments, sign) => self.interrupt(arguments, sign),
        }
    }

    fn interrupt(&self, arguments: &[&str], sign: &str) -> Result<()> {
        use std::io::{BufRead, BufReader};
        let mut child = self
            .command(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .context("starting dlm")?;
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut is_told = false;
        for line in lines.map_while(std::result::Result::ok) {
            if !is_told && line.contains(sign) {
                is_told = true;
                let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
                ensure!(sent.context("starting kill")?.success(), "dlm was gone already");
            }
        }
        let status = child.wait().context("waiting for dlm")?;
        ensure!(
            status.code() == Some(130),
            "dlm {} ended with {status}",
            arguments.join(" ")
        );
        Ok(())
    }

    /// A copy of this stage.
    pub(super) fn copy(&self, root: &Path) -> Result<Stage> {
        tree::clear(root)?;
        tree::copy(&self.root, root)?;
        Ok(Stage::new(&self.binary, root))
    }

    /// A file that the command works on.
    pub(super) fn work(&self, name: &str) -> PathBuf {
        self.root.join("work").join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.work(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// dlm in this stage, silent.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(self.root.join("work"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.root.join("user"))
            .env("DLM_HOME", self.root.join("home"))
            .env("TMPDIR", self.root.join("tmp"))
            .env("HF_HUB_OFFLINE", "1")
            .env("DLM_SKIP_EXPORT_PROBES", "1")
            .env("COLUMNS", "100")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs dlm to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let started = Instant::now();
        let mut command = self.command(arguments);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        let output = output.context("starting dlm")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            said: text(&output.stderr),
            out: text(&output.stdout),
            time: started.elapsed(),
        })
    }
}

/// A run that ended.
pub(super) struct Ran {
    pub code: i32,
    /// What went to stderr.
    pub said: String,
    pub out: String,
    pub time: Duration,
}
