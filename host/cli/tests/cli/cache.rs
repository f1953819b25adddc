//! `dlm cache plugins`: what is kept, whose it is, and taking it out.

use std::time::{Duration, SystemTime};

use crate::lab::Lab;
use crate::plugin::pack;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes every record and piece of code look unused for so long.
fn age(lab: &Lab, unused: Duration) {
    for (name, _) in lab.files("home/cache/plugins") {
        let file = std::fs::File::open(lab.path("home/cache/plugins").join(name)).unwrap();
        file.set_modified(SystemTime::now() - unused).unwrap();
    }
}

fn entries(lab: &Lab) -> Vec<(String, u64, bool)> {
    let shown = lab.json(&["cache", "plugins", "--json"]);
    let entries = shown["entries"].as_array().unwrap().clone();
    assert_eq!(shown["entry_count"], entries.len());
    let row = |entry: &serde_json::Value| {
        (
            entry["plugin"].as_str().unwrap().to_owned(),
            entry["days_unused"].as_u64().unwrap(),
            entry["is_of_this_dlm"].as_bool().unwrap(),
        )
    };
    entries.iter().map(row).collect()
}

#[test]
fn the_cache_says_whose_code_it_is_and_is_emptied() {
    let lab = Lab::new();
    let empty = lab.run(&["cache", "plugins"]).ok().out;
    assert!(empty.contains("0 entries") && !lab.path("home").exists(), "{empty}");
    lab.run(&["templates", "list"]).ok();
    let file = pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
    let mut names: Vec<String> = entries(&lab).into_iter().map(|(name, ..)| name).collect();
    names.sort();
    assert_eq!(names, ["bundled (inside dlm)", "shelf 1.0.0"]);
    let text = lab.run(&["cache", "plugins"]).ok().out;
    assert!(text.starts_with("[DIR]/home/cache/plugins\n2 entries, "), "{text}");
    assert!(text.contains("today") && !text.contains("another dlm"), "{text}");
    std::fs::rename(lab.path("home/plugins"), lab.path("gone")).unwrap();
    assert!(entries(&lab).iter().any(|(name, ..)| name == "shelf (not installed)"));
    lab.run(&["cache", "plugins", "--clear"])
        .ok()
        .says(&["cache: removed 2 entries"]);
    assert!(entries(&lab).is_empty());
    lab.run(&["templates", "list"]).ok();
    assert_eq!(entries(&lab).len(), 1, "it is made again");
}

#[test]
fn code_that_is_used_stays_and_what_is_not_goes_after_a_run() {
    let lab = Lab::new();
    lab.run(&["templates", "list"]).ok();
    age(&lab, 40 * DAY);
    // Changed times are new to dlm: it looks at the bytes, finds them right, and the code counts as used now.
    assert_eq!(entries(&lab)[0].1, 40);
    lab.run(&["templates", "list"]).ok();
    assert_eq!(entries(&lab)[0].1, 0, "a use was not noted");
    let file = pack(&lab, "1.0.0", "");
    lab.run(&["plugin", "install", file.to_str().unwrap()]).ok();
    age(&lab, 40 * DAY);
    lab.run(&["templates", "list"]).ok();
    let left: Vec<String> = entries(&lab).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(left, ["bundled (inside dlm)"]);
    age(&lab, 40 * DAY);
    lab.run(&["cache", "plugins", "--prune"])
        .ok()
        .says(&["removed 1 entries"]);
}

#[test]
fn the_rest_of_the_command_is_refused_as_what_is_not_built() {
    let lab = Lab::new();
    for word in ["show", "prune", "clear"] {
        lab.run(&["cache", word, "a.dlm"]).exits(2).says(&["is not built yet"]);
    }
    lab.run(&["cache", "plugins", "--clear", "--prune"]).exits(2);
}

/// The kernel's own account of the process that compiles.
#[test]
fn a_compiler_is_held_to_its_processor_time() {
    let lab = Lab::new();
    let fifo = lab.path("component");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let child = lab
        .command()
        .args(["__compile", fifo.to_str().unwrap(), lab.path("code").to_str().unwrap()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = crate::lab::Guarded(child);
    let limits = format!("/proc/{}/limits", child.0.id());
    let has_limit = || {
        let text = std::fs::read_to_string(&limits).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with("Max cpu time"))
            .unwrap_or_default();
        line.split_whitespace().nth(3) == Some("120")
    };
    while !has_limit() {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended without such a limit");
        std::thread::yield_now();
    }
    std::fs::write(&fifo, b"nonsense").unwrap();
    assert_eq!(
        child.0.wait().unwrap().code(),
        Some(1),
        "a wrong component is told from the machine's trouble"
    );
}
