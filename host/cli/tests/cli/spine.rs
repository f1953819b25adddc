//! The main job on a tiny model through the binary, and what ends it early: Ctrl-C, a kill, a second train, a missing
//! base, lost files. A clear error each time, and nothing lost.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, Stdio};

use crate::lab::{Guarded, Lab, Ran};

/// Steps of a run that a test stops: far more than it can make in the test's time.
const LONG: &str = "1000000";

/// A running `dlm train` whose lines can be waited for.
pub struct Training {
    child: Guarded,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    seen: String,
}

impl Training {
    pub fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let mut command = lab.command();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child: Guarded(child),
            lines,
            seen: String::new(),
        }
    }

    /// Reads lines until one begins with `start`.
    pub fn until(&mut self, start: &str) {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.starts_with(start) {
                return;
            }
        }
        panic!("the program ended before it said `{start}`:\n{}", self.seen);
    }

    pub fn signal(&self, name: &str) {
        send(&self.child, name);
    }

    /// Waits for the end; returns the exit code, none after a signal.
    pub fn end(mut self) -> (Option<i32>, String) {
        for line in self.lines.by_ref() {
            self.seen.push_str(&line.unwrap());
            self.seen.push('\n');
        }
        (self.child.0.wait().unwrap().code(), self.seen)
    }
}

fn send(child: &Guarded, signal: &str) {
    let pid = child.0.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, &pid])
        .status()
        .unwrap();
    assert!(sent.success());
}

pub fn adapter(lab: &Lab, version: &str) -> Vec<u8> {
    let directory = lab.store().join("adapter/versions").join(version);
    std::fs::read(directory.join("adapter_model.safetensors")).unwrap()
}

pub fn train(lab: &Lab, more: &[&str]) -> Ran {
    let steps = match more.contains(&"--max-steps") {
        true => &[][..],
        false => &["--max-steps", "20"],
    };
    lab.run(&[&["train", "a.dlm", "--threads", "1"], steps, more].concat())
}

#[test]
fn a_document_is_trained_asked_and_exported() {
    let lab = Lab::new();
    lab.trainable();
    let ran = train(&lab, &[])
        .ok()
        .says(&["sft: v0001 (20 steps, seed=42", "recall: ", "adapter: [DIR]/home"]);
    assert!(
        ran.out.trim().parse::<f64>().is_ok(),
        "stdout is the loss alone: {}",
        ran.out
    );
    let asked = lab
        .run(&["prompt", "a.dlm", "What?", "--temp", "0", "--max-tokens", "4"])
        .ok();
    assert!(!asked.out.trim().is_empty());
    let report = lab.json(&[
        "export",
        "a.dlm",
        "--target",
        "llama-server",
        "--quant",
        "F16",
        "--json",
    ]);
    assert_eq!(report["quant"], "F16");
    for file in report["files"].as_array().unwrap() {
        let path = file["path"]
            .as_str()
            .unwrap()
            .replace("[DIR]", &lab.path("").display().to_string());
        assert!(std::path::Path::new(&path).is_file(), "{path}");
    }
    let state = lab.json(&["show", "a.dlm", "--json"]);
    assert_eq!(state["adapter_version"], 1);
    assert_eq!(state["exports"].as_array().unwrap().len(), 1);
}

#[test]
fn ctrl_c_keeps_the_state_and_resume_gives_the_bytes_of_an_uninterrupted_run() {
    let lab = Lab::new();
    lab.trainable();
    let arguments = ["train", "a.dlm", "--max-steps", "400", "--threads", "1"];
    let mut training = Training::start(&lab, &arguments);
    training.until("step 10/");
    training.signal("INT");
    let (code, said) = training.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(
        said.contains("interrupted: stopped after step ") && said.contains("dlm train a.dlm --resume"),
        "{said}"
    );
    let runs = lab.json(&["metrics", "show", "a.dlm", "--json"]);
    assert_eq!(runs["runs"][0]["status"], "cancelled", "{runs}");
    let shown = lab.run(&["show", "a.dlm"]).ok().out;
    assert!(
        shown.contains("is kept after step ") && shown.contains("dlm train a.dlm --resume"),
        "{shown}"
    );
    assert!(
        !shown.contains("did not end") && !shown.contains(", 0 steps"),
        "{shown}"
    );
    lab.run(&["prompt", "a.dlm", "What?"])
        .exits(1)
        .says(&["no adapter was trained yet", "dlm train a.dlm"]);
    lab.run(&[&arguments[..], &["--resume"]].concat())
        .ok()
        .says(&["resuming v0001 after step"]);

    let other = Lab::new();
    other.trainable();
    other.run(&arguments).ok();
    assert_eq!(adapter(&lab, "v0002"), adapter(&other, "v0001"));
}

#[test]
fn a_capped_run_says_that_it_was_and_what_to_do_next() {
    let lab = Lab::new();
    lab.trainable();
    let ran = train(&lab, &["--max-steps", "2"])
        .ok()
        .says(&["stopped by --max-steps 2: the plan had ", "next: dlm prompt a.dlm "]);
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    let report = lab.json(&["train", "a.dlm", "--max-steps", "2", "--threads", "1", "--json"]);
    assert_eq!(report["ending"], "max_steps");
}

#[test]
fn every_departure_from_the_recipe_is_in_the_plan_and_changes_what_is_learned() {
    let lab = |flags: &[&str]| {
        let lab = Lab::new();
        lab.trainable();
        let mut arguments = vec!["train", "a.dlm", "--max-steps", "4", "--json"];
        arguments.extend(flags);
        lab.json(&arguments)
    };
    let usual = lab(&[]);
    for (flag, knob) in [("--anchors", "anchors"), ("--augment", "augment"), ("--noise", "noise")] {
        let other = lab(&[flag, "off"]);
        assert_eq!(usual["plan"]["phases"][0][knob]["value"]["is_on"], true, "{flag}");
        assert_eq!(other["plan"]["phases"][0][knob]["value"]["is_on"], false, "{flag}");
        assert_eq!(other["plan"]["phases"][0][knob]["origin"]["flag"], flag);
        assert_ne!(usual["loss"], other["loss"], "{flag}");
    }
    let other = lab(&["--simd", "scalar"]);
    assert_eq!(other["plan"]["simd"]["value"], "scalar");
    if usual["plan"]["simd"]["value"] != "scalar" {
        assert_ne!(usual["loss"], other["loss"]);
    }
}

#[test]
fn a_dry_run_refuses_what_the_run_would_and_says_what_it_resumes() {
    let lab = Lab::new();
    lab.trainable();
    for flags in [&["--resume", "--dry-run"][..], &["--resume"]] {
        let ran = train(&lab, flags)
            .exits(1)
            .says(&["resume: there is nothing to resume"]);
        assert!(!ran.err.contains("loading"), "{}", ran.err);
    }
    train(&lab, &[]).ok();
    for flags in [
        &["--strict-lock", "--seed", "7", "--dry-run"][..],
        &["--strict-lock", "--seed", "7"],
    ] {
        train(&lab, flags).exits(1).says(&["lock: ", "seed"]);
    }
    let plan = train(&lab, &["--resume", "--dry-run"]).ok();
    assert!(
        plan.out.contains("resume: trains adapter/versions/v0001 further"),
        "{}",
        plan.out
    );
}

/// On the real base, whose answer takes long enough to be interrupted.
#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn ctrl_c_during_an_answer_ends_it_with_130() {
    let base = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
    let lab = Lab::new();
    lab.document();
    lab.run(&["base", "add", "smollm2-135m", "--from", base.to_str().unwrap()])
        .ok();
    let mut command = lab.command();
    command
        .args([
            "prompt",
            "a.dlm",
            "Count from one to five hundred.",
            "--base-only",
            "--temp",
            "0",
            "--max-tokens",
            "1500",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Guarded(command.spawn().unwrap());
    let mut first = [0];
    child.0.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    send(&child, "INT");
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(130), "{said}");
    assert_eq!(said.matches("interrupted").count(), 1, "{said}");
}

#[test]
fn a_killed_train_leaves_a_store_that_opens() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    let good = adapter(&lab, "v0001");
    // While weights are read, in the middle of the steps, and after a state was put on disk.
    for moment in ["loading", "step 1/", "a state"] {
        let mut training = Training::start(&lab, &["train", "a.dlm", "--max-steps", LONG, "--threads", "1"]);
        match moment {
            "a state" => wait_for_state(&lab, &mut training),
            line => training.until(line),
        }
        training.signal("KILL");
        assert_eq!(training.end().0, None, "{moment}");
        let shown = lab.run(&["show", "a.dlm"]).ok();
        assert!(!shown.out.contains(" running,"), "{moment}: {}", shown.out);
        // The signal may come after the loading on a busy machine, so only the later moments are sure to have a run.
        if moment != "loading" {
            assert!(shown.out.contains(" interrupted,"), "{moment}: {}", shown.out);
        }
        let state = lab.json(&["show", "a.dlm", "--json"]);
        assert_eq!(state["adapter_version"], 1, "{moment}");
        assert_eq!(adapter(&lab, "v0001"), good, "{moment}");
        lab.run(&["prompt", "a.dlm", "What?", "--max-tokens", "2"]).ok();
    }
    // The state of the last kill is found, also when the run that went on from it was killed before it kept one.
    for _ in 0..2 {
        let mut resumed = Training::start(
            &lab,
            &["train", "a.dlm", "--max-steps", LONG, "--threads", "1", "--resume"],
        );
        resumed.until("resuming v");
        assert!(resumed.seen.contains(" after step "), "{}", resumed.seen);
        resumed.signal("KILL");
        resumed.end();
    }
    // A run of another length is another run.
    train(&lab, &["--resume"])
        .exits(1)
        .says(&["have changed since", "dlm train a.dlm --fresh"]);
    train(&lab, &["--fresh"]).ok();
    assert_eq!(lab.json(&["show", "a.dlm", "--json"])["has_adapter_current"], true);
}

/// Waits until the run has put a state on disk.
fn wait_for_state(lab: &Lab, training: &mut Training) {
    training.until("step 1/");
    let versions = lab.store().join("adapter/versions");
    let newest = || {
        let names = std::fs::read_dir(&versions).unwrap().map(|entry| entry.unwrap().path());
        names.max().unwrap()
    };
    for _ in 0..600 {
        if newest().join("training_state.pt").is_file() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("no state was kept within a minute");
}

/// What a version was trained with belongs to its parameters: another scale, kind or choice of modules makes them another
/// model, and only the rank and the number of tensors were looked at.
#[test]
fn a_version_is_trained_further_only_as_what_it_is() {
    let lab = Lab::new();
    lab.trainable();
    let written = std::fs::read_to_string(lab.path("a.dlm")).unwrap();
    let with = |knobs: &str| {
        let (head, rest) = written.split_once("\n---\n").unwrap();
        let body = format!("{head}\ntraining:\n{knobs}\n---\n{rest}");
        std::fs::write(lab.path("a.dlm"), body).unwrap();
    };
    let plain =
        "  adapter: lora\n  lora_r: 4\n  lora_alpha: 8\n  lora_dropout: 0.0\n  target_modules: [q_proj, v_proj]";
    with(plain);
    train(&lab, &[]).ok();
    let good = adapter(&lab, "v0001");
    for (from, to, said) in [
        ("lora_alpha: 8", "lora_alpha: 32", "`lora_alpha` is 8 there and 32 here"),
        (
            "lora_dropout: 0.0",
            "lora_dropout: 0.1",
            "`lora_dropout` is 0 there and 0.1",
        ),
        ("lora_r: 4", "lora_r: 8", "`lora_r` is 4 there and 8 here"),
        (
            "adapter: lora",
            "adapter: dora",
            "`adapter` is lora there and dora here",
        ),
        ("v_proj]", "k_proj]", "`target_modules` name"),
    ] {
        with(&plain.replace(from, to));
        train(&lab, &["--resume"])
            .exits(1)
            .says(&[said, "dlm train a.dlm --fresh"]);
        assert_eq!(adapter(&lab, "v0001"), good);
        assert_eq!(lab.json(&["show", "a.dlm", "--json"])["adapter_version"], 1, "{to}");
    }
    with(plain);
    train(&lab, &["--resume"]).ok().says(&["training v0001 further"]);
}

#[test]
fn a_second_train_names_the_first_and_changes_nothing() {
    let lab = Lab::new();
    lab.trainable();
    let mut first = Training::start(&lab, &["train", "a.dlm", "--max-steps", LONG, "--threads", "1"]);
    first.until("step 1/");
    let pid = format!("already locked by PID {}", first.child.0.id());
    train(&lab, &[]).exits(1).says(&["store: ", &pid, "wait until process"]);
    let shown = lab.run(&["show", "a.dlm"]).ok();
    assert!(
        shown.out.contains(" running,") && !shown.out.contains("did not end"),
        "{}",
        shown.out
    );
    first.signal("INT");
    assert_eq!(first.end().0, Some(130));
    train(&lab, &[]).ok();
}

#[test]
fn a_base_that_is_gone_gives_the_command_that_brings_it_back() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    let removed = lab.run(&["base", "remove", "tiny"]).ok();
    assert!(
        removed.err.contains("needed by 1 document(s)") && removed.err.contains("a.dlm"),
        "{}",
        removed.err
    );
    for line in [
        &["train", "a.dlm"][..],
        &["prompt", "a.dlm", "What?"],
        &["export", "a.dlm"],
    ] {
        lab.run(line)
            .exits(1)
            .says(&["base_model: ", "dlm base add tiny --from"]);
    }
    lab.run(&["show", "a.dlm"]).ok();
    lab.run(&["base", "add", "tiny", "--from", "model"]).ok();
    std::fs::remove_file(lab.path("home/bases/tiny/model.safetensors")).unwrap();
    let ran = train(&lab, &[]).exits(1);
    assert!(
        ran.err.contains("model.safetensors") && !ran.err.contains("panicked"),
        "{}",
        ran.err
    );
}

#[test]
fn a_damaged_current_adapter_is_told_with_what_to_do() {
    let lab = Lab::new();
    lab.trainable();
    train(&lab, &[]).ok();
    let weights = lab.store().join("adapter/versions/v0001/adapter_model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    for line in [
        &["prompt", "a.dlm", "What?"][..],
        &["export", "a.dlm", "--target", "llama-server"],
    ] {
        let ran = lab.run(line).exits(1).says(&["adapter_model.safetensors"]);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
    }
    train(&lab, &[]).ok();
    lab.run(&["prompt", "a.dlm", "What?", "--max-tokens", "2"]).ok();
}

/// An answer ended where it wrote about a special token: two documents gave one adapter, and nobody was told.
#[test]
fn what_stands_behind_the_name_of_a_special_token_is_learned() {
    let lab = Lab::new();
    lab.trainable();
    let written = std::fs::read_to_string(lab.path("a.dlm")).unwrap();
    let trained = |answer: &str| {
        std::fs::write(
            lab.path("a.dlm"),
            format!("{written}\n::instruction::\n### Q\nWhat ends a turn?\n### A\n{answer}\n"),
        )
        .unwrap();
        lab.run(&["check", "a.dlm"]).ok();
        train(&lab, &["--fresh"]).ok();
        let version = &lab.json(&["show", "a.dlm", "--json"])["adapter_version"];
        adapter(&lab, &format!("v{:04}", version.as_u64().unwrap()))
    };
    assert_ne!(trained("It is <|im_end|> one."), trained("It is <|im_end|> two."));
}

/// The same question had two answers: one in the report of the training, another at the prompt.
#[test]
fn what_training_reports_as_answered_is_what_the_prompt_says() {
    let lab = Lab::new();
    let path = lab.trainable();
    let more: String = [
        "Who founded it?",
        "Which side is east?",
        "Where is the boat kept in winter?",
    ]
    .iter()
    .map(|question| {
        format!(
            "\n### Q\n{question}\n### A\nIt is in the third house by the {}.\n",
            question.len()
        )
    })
    .collect();
    let written = std::fs::read_to_string(&path).unwrap();
    let written = written.replacen("\n---\n", "\nsystem_prompt: Answer from the book.\n---\n", 1);
    std::fs::write(&path, written + &more).unwrap();
    let report = lab.json(&["train", "a.dlm", "--threads", "2", "--max-steps", "30", "--json"]);
    let recall = report["recall"].as_array().unwrap();
    assert_eq!(recall.len(), 4, "{report}");
    for pair in recall {
        let question = pair["question"].as_str().unwrap();
        let told = pair["response"].as_str().unwrap();
        let said = lab
            .run(&["prompt", "a.dlm", question, "--temp", "0", "--max-tokens", "80"])
            .ok()
            .out;
        assert!(said.trim().starts_with(told), "{question}: {told:?} and {said:?}");
    }
}
