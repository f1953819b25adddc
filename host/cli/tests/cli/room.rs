//! Too little memory and too little disk: refused with the numbers before anything is loaded, or, where the disk fills up
//! in the middle, with everything that was there before still there.

use std::process::Command;

use crate::lab::{Lab, Ran};
use crate::memory::{WIDTHS, write_model};

/// Runs `dlm` under a limit of the shell's `ulimit`.
fn limited(lab: &Lab, limit: &str, arguments: &str) -> Ran {
    let mut command = lab.command();
    let program = command.get_program().to_owned();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" {arguments}")])
        .arg(program)
        .current_dir(lab.path(""))
        .env_clear();
    for (name, value) in command.env("HF_HUB_OFFLINE", "1").get_envs() {
        shell.env(name, value.unwrap());
    }
    lab.finish(&mut shell)
}

#[test]
fn a_base_that_does_not_fit_in_memory_is_refused_with_the_numbers_before_it_is_loaded() {
    let lab = Lab::new();
    write_model(&lab, WIDTHS[2]);
    lab.trainable_from("model");
    let text = lab.read("a.dlm");
    let long = "a word of many ".repeat(40);
    lab.write("a.dlm", format!("{text}\n### Q\nWhat is long?\n### A\n{long}\n"));
    // Kibibytes of address space: enough to start, to map the base and to read headers, not for a step on the long row.
    let ran = limited(&lab, "-v 340000", "train a.dlm").exits(1);
    assert!(
        ran.err
            .starts_with("doctor: `local:tiny` does not fit: training needs "),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains(" of memory may be used (") && !ran.err.contains("loading"),
        "{}",
        ran.err
    );
    assert!(!lab.store().join("adapter").exists());
    lab.run(&["train", "a.dlm", "--max-steps", "1", "--anchors", "off"])
        .ok();
}

/// The program opens few files at a time, and says what to do where even those are too many.
#[test]
fn few_file_handles_are_enough_and_fewer_are_told() {
    let lab = Lab::new();
    lab.trainable();
    limited(&lab, "-n 6", "train a.dlm --max-steps 1")
        .exits(1)
        .says(&["Too many open files", "ulimit -n 1024"]);
    limited(&lab, "-n 24", "train a.dlm --max-steps 1").ok();
    limited(&lab, "-n 24", "prompt a.dlm hi --max-tokens 2").ok();
    limited(&lab, "-n 24", "templates list").ok();
}

#[test]
fn a_hub_base_that_cannot_be_trained_here_is_refused_before_it_is_downloaded() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(lab.document()).unwrap();
    lab.write("a.dlm", text.replace("smollm2-135m", "mixtral-8x7b-instruct"));
    let ran = lab.run(&["train", "a.dlm", "--i-accept-license"]).exits(1);
    assert!(ran.err.starts_with("doctor: "), "no download was tried: {}", ran.err);
    assert!(!lab.path("home/store").exists());
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
/// Runs a script with a file system of `size` mounted at `small`; none where this user may not mount.
fn with_small_disk(lab: &Lab, size: &str, script: &str) -> Option<Ran> {
    std::fs::create_dir_all(lab.path("small")).unwrap();
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: `unshare -rm` is not allowed here, so no small disk was mounted");
        return None;
    }
    let mut command = lab.command();
    let program = command.get_program().to_owned();
    let mut shell = Command::new("unshare");
    shell
        .args(["-rm", "/bin/sh", "-c"])
        .arg(format!("mount -t tmpfs -o size={size} small small && {script}"))
        .arg(program)
        .current_dir(lab.path(""));
    for (name, value) in command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").get_envs() {
        shell.env(name, value.unwrap());
    }
    Some(lab.finish(&mut shell))
}

#[test]
fn a_disk_without_room_for_a_run_is_refused_before_weights_are_loaded() {
    let lab = Lab::new();
    lab.trainable();
    let script = "cp -r home/bases small/ && \"$0\" train a.dlm --home small";
    let Some(ran) = with_small_disk(&lab, "8m", script) else {
        return;
    };
    let ran = ran.exits(1);
    assert!(ran.err.starts_with("disk: [DIR]/small has "), "{}", ran.err);
    assert!(
        ran.err.contains("and the run needs ") && !ran.err.contains("loading"),
        "{}",
        ran.err
    );
}

#[test]
fn a_disk_that_fills_up_keeps_the_last_good_version() {
    let lab = Lab::new();
    lab.trainable();
    // Trained once; then all but some KiB are taken, so that writing stops at another place each time.
    let script = r#"cp -r home/bases small/ && export DLM_FORCE=1
        "$0" train a.dlm --home small --max-steps 2 -q || exit 90
        for free in 0 8 48 100 200 300 400 500; do
            dd if=/dev/zero of=small/filler bs=4k 2>/dev/null
            truncate -s -${free}k small/filler
            "$0" train a.dlm --home small --max-steps 2 -q && echo "fits: $free"
            "$0" export a.dlm --home small --quant F16 -q --no-smoke && echo "exported: $free"
            "$0" show a.dlm --home small >/dev/null || exit 91
            "$0" prompt a.dlm What? --max-tokens 2 --home small >/dev/null || exit 92
            rm small/filler
        done
        "$0" base add other --from model --home small || exit 93
        "$0" train a.dlm --home small --max-steps 2 -q || exit 94
        "$0" show a.dlm --home small"#;
    let Some(ran) = with_small_disk(&lab, "16m", script) else {
        return;
    };
    let ran = ran.ok();
    assert!(
        !ran.err.contains("panicked") && !ran.out.contains("fits: 0"),
        "{}\n{}",
        ran.out,
        ran.err
    );
    assert!(ran.err.matches("\ndisk: ").count() >= 6, "{}\n{}", ran.out, ran.err);
}
