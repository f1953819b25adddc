//! An export takes its place whole: refused before anything is written, killed, repeated, made twice at once.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::lab::{Guarded, ID, Lab};

const EXPORT: [&str; 6] = ["export", "a.dlm", "--target", "llama-server", "--quant", "F16"];

fn trained() -> Lab {
    let lab = Lab::new();
    lab.trainable();
    train(&lab);
    lab
}

fn train(lab: &Lab) {
    lab.run(&["train", "a.dlm", "--max-steps", "2", "--threads", "1"]).ok();
}

fn exports(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    lab.files(&format!("home/store/{ID}/exports"))
}

/// Holds every file that an export's record lists against its digest; says which adapter it is of.
fn whole(lab: &Lab, name: &str) -> u64 {
    let files: BTreeMap<String, Vec<u8>> = exports(lab).into_iter().collect();
    let record: serde_json::Value = serde_json::from_slice(&files[&format!("{name}/export_manifest.json")]).unwrap();
    for artifact in record["artifacts"].as_array().unwrap() {
        let path = format!("{name}/{}", artifact["path"].as_str().unwrap());
        let digest = dlm_core::digest::sha256_hex(&files[&path]);
        assert_eq!(artifact["sha256"], digest.as_str(), "{path}");
    }
    record["adapter_version"].as_u64().unwrap()
}

#[test]
fn what_is_refused_is_refused_before_anything_is_written() {
    let lab = trained();
    let refusals: [(&str, &[&str], &str); 4] = [
        ("", &["--name", "Bad Name!!"], "is not a model name for ollama"),
        (
            "system_prompt: 'say \"\"\" thrice'\n",
            &[],
            "three double quotes in a row",
        ),
        ("system_prompt: \"a\u{a0}b\"\n", &[], "U+00A0"),
        ("", &["--name=-x"], "is not a model name for ollama"),
    ];
    let plain = lab.read("a.dlm");
    for round in ["nothing was exported yet", "an export is there"] {
        let before = exports(&lab);
        for (settings, flags, why) in refusals {
            lab.write("a.dlm", plain.replace("base_model:", &format!("{settings}base_model:")));
            let line = [&["export", "a.dlm", "--skip-ollama", "--quant", "F16"][..], flags].concat();
            let ran = lab.run(&line);
            assert_ne!(ran.code, 0, "{round}, {why}: {}", ran.err);
            let ran = ran.says(&[why]);
            assert!(
                !ran.err.contains("loading") && !ran.err.contains("checking"),
                "{}",
                ran.err
            );
            assert_eq!(exports(&lab), before, "{round}, {why}");
        }
        lab.write("a.dlm", &plain);
        lab.run(&["export", "a.dlm", "--skip-ollama", "--quant", "F16"]).ok();
        whole(&lab, "F16");
    }
    // A quote at the end can be expressed.
    lab.write(
        "a.dlm",
        plain.replace("base_model:", "system_prompt: 'say \"yes\"'\nbase_model:"),
    );
    lab.run(&["export", "a.dlm", "--skip-ollama", "--quant", "F16"]).ok();
}

#[test]
fn an_export_takes_the_place_of_the_one_before_and_leaves_what_the_user_put_there() {
    let lab = trained();
    lab.run(&["export", "a.dlm", "--skip-ollama", "--quant", "F16"]).ok();
    lab.write(&format!("home/store/{ID}/exports/F16/notes.txt"), "mine");
    train(&lab);
    lab.run(&EXPORT).ok();
    assert_eq!(whole(&lab, "F16"), 2);
    let names: Vec<String> = exports(&lab).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"F16/notes.txt".to_owned()), "{names:?}");
    assert!(
        !names.iter().any(|name| name.contains("Modelfile")),
        "of the adapter before: {names:?}"
    );
    assert!(names.iter().all(|name| name.starts_with("F16/")), "{names:?}");
}

/// The digest of a file of an export.
fn exported(lab: &Lab, name: &str) -> String {
    dlm_core::digest::sha256_hex(std::fs::read(lab.store().join("exports").join(name)).unwrap())
}

#[test]
fn k_quants_are_rounded_by_an_importance_matrix_that_is_measured_once() {
    let lab = trained();
    let export = |more: &[&str]| {
        let line = ["export", "a.dlm", "--target", "llama-server", "--no-smoke", "--quant"];
        lab.run(&[&line[..], more].concat())
    };
    let plain = export(&["Q4_K_M", "--no-imatrix"]).ok();
    assert!(!plain.err.contains("imatrix"), "{}", plain.err);
    let even = exported(&lab, "Q4_K_M/base.Q4_K_M.gguf");
    assert!(!lab.store().join("imatrix").exists());
    export(&["Q4_K_M"]).ok().says(&["imatrix ("]);
    let weighted = exported(&lab, "Q4_K_M/base.Q4_K_M.gguf");
    assert_ne!(even, weighted);
    whole(&lab, "Q4_K_M");
    let record = lab.read(&format!("home/store/{ID}/exports/Q4_K_M/export_manifest.json"));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let matrix = exported(&lab, "Q4_K_M/imatrix.gguf");
    assert_eq!(record["imatrix_sha256"], matrix.as_str());
    std::fs::copy(lab.store().join("imatrix/imatrix.gguf"), lab.path("other.gguf")).unwrap();
    // Another level, and merged weights, take the same one; a level without scales to search for takes none.
    for (level, file) in [("Q5_K_M", "base.Q5_K_M.gguf"), ("Q5_K_M", "merged.Q5_K_M.gguf")] {
        let merged: &[&str] = if file.starts_with("merged") { &["--merged"] } else { &[] };
        let ran = export(&[&[level][..], merged].concat()).ok();
        assert!(!ran.err.contains("imatrix ("), "{}", ran.err);
        assert_eq!(exported(&lab, "Q5_K_M/imatrix.gguf"), matrix);
        exported(&lab, &format!("Q5_K_M/{file}"));
    }
    export(&["Q8_0"]).ok();
    assert!(!lab.store().join("exports/Q8_0/imatrix.gguf").exists());
    // Damaged, it is measured again, to the same bytes.
    std::fs::write(lab.store().join("imatrix/imatrix.gguf"), "broken").unwrap();
    export(&["Q4_K_M"]).ok().says(&["imatrix ("]);
    assert_eq!(exported(&lab, "Q4_K_M/imatrix.gguf"), matrix);
    // Rows that the base was not read with yet are read.
    let text = lab.read("a.dlm") + "\n### Q\nWho?\n\n### A\nNobody that anybody knows.\n";
    lab.write("a.dlm", text);
    train(&lab);
    export(&["Q4_K_M"]).ok().says(&["imatrix ("]);
    assert_ne!(exported(&lab, "Q4_K_M/imatrix.gguf"), matrix);
    // A file is taken as it is, and what is none is refused before anything is loaded.
    export(&["Q4_K_M", "--imatrix", "other.gguf"]).ok();
    assert_eq!(exported(&lab, "Q4_K_M/base.Q4_K_M.gguf"), weighted);
    let before = exports(&lab);
    let refused = [
        (vec!["Q4_K_M", "--imatrix", "a.dlm"], 1, "importance matrix: `a.dlm`"),
        (
            vec!["Q8_0", "--imatrix", "other.gguf"],
            2,
            "`--imatrix` changes nothing at Q8_0",
        ),
        (
            vec!["Q4_K_M", "--imatrix", "x", "--no-imatrix"],
            2,
            "cannot be used with",
        ),
    ];
    for (more, code, why) in refused {
        let ran = export(&more).exits(code).says(&[why]);
        assert!(!ran.err.contains("checking"), "{}", ran.err);
    }
    assert_eq!(exports(&lab), before);
}

#[test]
fn a_killed_export_leaves_the_old_one_or_the_new_one() {
    let lab = trained();
    lab.run(&EXPORT).ok();
    train(&lab);
    // Killed when it says something, and when files have come to be.
    for moment in 0..8u32 {
        let mut command = lab.command();
        command.args(EXPORT).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = Guarded(command.spawn().unwrap());
        let aside = lab.store().join("exports/.F16.new");
        let wanted = (moment % 4) as usize;
        loop {
            let there = std::fs::read_dir(&aside).map_or(0, |entries| entries.count());
            if (aside.exists() && there >= wanted) || child.0.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::yield_now();
        }
        let _ = child.0.kill();
        child.0.wait().unwrap();
        let version = whole(&lab, "F16");
        assert!((1..=2).contains(&version), "{moment}");
    }
    lab.run(&EXPORT).ok();
    assert_eq!(whole(&lab, "F16"), 2);
    assert!(
        exports(&lab).iter().all(|(name, _)| name.starts_with("F16/")),
        "something was left"
    );
    lab.run(&["show", "a.dlm", "--verify"]).ok();
}

#[test]
fn exports_at_once_take_turns() {
    let lab = trained();
    for count in [2, 6] {
        let children: Vec<_> = (0..count)
            .map(|_| {
                let mut command = lab.command();
                command.args(EXPORT).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for child in children {
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(ended.status.success(), "{count}: {said}");
        }
        whole(&lab, "F16");
        assert!(
            exports(&lab).iter().all(|(name, _)| name.starts_with("F16/")),
            "something was left"
        );
    }
    assert_eq!(
        lab.json(&["show", "a.dlm", "--json"])["exports"]
            .as_array()
            .unwrap()
            .len(),
        8
    );
}

#[cfg(unix)]
#[test]
fn what_fails_its_smoke_test_takes_no_place_and_is_kept_apart() {
    use std::os::unix::fs::PermissionsExt;
    let lab = trained();
    lab.run(&EXPORT).ok();
    let before = exports(&lab);
    train(&lab);
    std::fs::create_dir(lab.path("bin")).unwrap();
    let program = lab.write("bin/llama-server", "#!/bin/sh\nexit 3\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", lab.path("bin").display());
    let ran = lab.finish(lab.command().env("PATH", path).args(EXPORT)).exits(1);
    ran.says(&["F16.failed", "the earlier export stays as it was"]);
    let after = exports(&lab);
    let (kept, rest): (Vec<_>, Vec<_>) = after.into_iter().partition(|(name, _)| name.starts_with("F16.failed/"));
    assert_eq!(rest, before);
    assert!(kept.iter().any(|(name, _)| name.ends_with("llama-server_launch.sh")));
    lab.run(&["show", "a.dlm", "--verify"]).ok();
    // What passes clears it away.
    lab.run(&EXPORT).ok();
    assert_eq!(whole(&lab, "F16"), 2);
    assert!(exports(&lab).iter().all(|(name, _)| name.starts_with("F16/")));
}
