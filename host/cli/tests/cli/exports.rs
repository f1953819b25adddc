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

fn names_of(lab: &Lab) -> Vec<String> {
    exports(lab).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn several_targets_and_quantizations_are_exported_in_one_run() {
    let lab = trained();
    let line = [
        "export",
        "a.dlm",
        "--no-smoke",
        "--skip-ollama",
        "--target",
        "llama-server,ollama,vllm",
    ];
    let line = [&line[..], &["--quant", "F16,Q8_0", "--json"]].concat();
    let reports = lab.json(&line);
    let places: Vec<(&str, &str, bool)> = reports
        .as_array()
        .unwrap()
        .iter()
        .map(|report| {
            let text = |key: &str| report[key].as_str().unwrap();
            (
                text("target"),
                text("quant"),
                report["is_base_cached"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("llama-server", "F16", false),
            ("llama-server", "Q8_0", false),
            ("ollama", "F16", true),
            ("ollama", "Q8_0", true),
            ("vllm", "hf", false),
        ]
    );
    for level in ["F16", "Q8_0"] {
        whole(&lab, level);
        for file in ["Modelfile", "llama-server_launch.sh", "adapter.gguf"] {
            assert!(names_of(&lab).contains(&format!("{level}/{file}")), "{level} {file}");
        }
    }
    whole(&lab, "vllm");
    let before = exports(&lab);
    for (more, why) in [
        (vec!["--quant", "F16,F16"], "`F16` is asked for twice"),
        (vec!["--target", "vllm,vllm"], "`vllm` is asked for twice"),
        (vec!["--target", "llama-server,nowhere"], "nowhere"),
    ] {
        lab.run(&[&["export", "a.dlm"][..], &more].concat())
            .exits(2)
            .says(&[why]);
    }
    // A local base without safetensors is none that vLLM could fetch; it is told before the other is made.
    std::fs::create_dir(lab.path("gguf")).unwrap();
    let file = lab.store().join("exports/F16/base.F16.gguf");
    std::fs::copy(file, lab.path("gguf/model.gguf")).unwrap();
    lab.run(&["base", "add", "whole", "--from", "gguf/model.gguf"]).ok();
    let text = lab
        .read("a.dlm")
        .replace("tiny", "whole")
        .replace(ID, "01HF7YAT0004106R0430MG2009");
    lab.write("w.dlm", text);
    lab.run(&["train", "w.dlm", "--max-steps", "1", "--threads", "1"]).ok();
    lab.run(&[
        "export",
        "w.dlm",
        "--target",
        "llama-server,vllm",
        "--quant",
        "F16",
        "--no-smoke",
    ])
    .exits(2)
    .says(&["vllm fetches the base by its name"]);
    assert!(!lab.path("home/store/01HF7YAT0004106R0430MG2009/exports/F16").exists());
    // What one of them refuses keeps the others from being written.
    lab.run(&[
        "export",
        "a.dlm",
        "--target",
        "llama-server,ollama",
        "--skip-ollama",
        "--name",
        "Bad Name!!",
    ])
    .exits(2)
    .says(&["is not a model name for ollama"]);
    assert_eq!(exports(&lab), before);
}

#[test]
fn a_base_that_would_be_written_the_same_is_taken_from_the_export_before() {
    let lab = trained();
    let export = |more: &[&str]| {
        let line = ["export", "a.dlm", "--target", "llama-server", "--no-smoke"];
        let ran = lab.run(&[&line[..], more].concat()).ok();
        ran.err.contains("(cached base)")
    };
    let level = ["--quant", "Q4_K_M"];
    assert!(!export(&level));
    let first = exported(&lab, "Q4_K_M/base.Q4_K_M.gguf");
    train(&lab);
    assert!(export(&level), "another adapter has the same base");
    assert_eq!(exported(&lab, "Q4_K_M/base.Q4_K_M.gguf"), first);
    assert_eq!(whole(&lab, "Q4_K_M"), 2);
    assert!(!export(&["--quant", "Q4_K_M", "--no-imatrix"]), "other rounding");
    assert!(export(&["--quant", "Q4_K_M", "--no-imatrix"]));
    assert!(!export(&["--quant", "Q4_K_M", "--merged"]), "a merged one is no base");
    assert!(!export(&level));
    assert_eq!(exported(&lab, "Q4_K_M/base.Q4_K_M.gguf"), first);
    // One that is no longer what was written is written again.
    let path = lab.store().join("exports/Q4_K_M/base.Q4_K_M.gguf");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(!export(&level));
    assert_eq!(exported(&lab, "Q4_K_M/base.Q4_K_M.gguf"), first);
    // Another system prompt changes no base; another name does, for the file says it.
    std::fs::rename(lab.path("a.dlm"), lab.path("b.dlm")).unwrap();
    let ran = lab.run(&[
        "export",
        "b.dlm",
        "--target",
        "llama-server",
        "--no-smoke",
        "--quant",
        "Q4_K_M",
    ]);
    assert!(!ran.ok().err.contains("(cached base)"));
}

#[test]
fn a_dry_run_shows_what_would_be_written_and_writes_nothing() {
    let lab = trained();
    let before = lab.files("home/store");
    let line = [
        "export",
        "a.dlm",
        "--target",
        "llama-server,vllm",
        "--quant",
        "Q4_K_M,F16",
        "--dry-run",
    ];
    lab.run(&line).ok().says(&[
        "Q4_K_M/base.Q4_K_M.gguf (",
        "Q4_K_M/imatrix.gguf",
        "F16/base.F16.gguf (",
        "F16/llama-server_launch.sh",
        "adapter_model.safetensors (",
        "dry-run: nothing was exported",
    ]);
    let planned = lab.json(&[
        "export",
        "a.dlm",
        "--target",
        "llama-server",
        "--quant",
        "F16",
        "--dry-run",
        "--json",
    ]);
    assert_eq!(lab.files("home/store"), before);
    lab.run(&[
        "export",
        "a.dlm",
        "--target",
        "llama-server",
        "--quant",
        "F16",
        "--no-smoke",
    ])
    .ok();
    let written = std::fs::metadata(lab.store().join("exports/F16/base.F16.gguf"))
        .unwrap()
        .len();
    assert_eq!(planned["files"][0]["bytes"], written);
    let refused = ["export", "a.dlm", "--skip-ollama", "--dry-run", "--name", "Bad Name!!"];
    lab.run(&refused).exits(2).says(&["is not a model name for ollama"]);
}

#[test]
fn a_draft_stands_in_the_modelfile_alone() {
    let lab = trained();
    let line = ["export", "a.dlm", "--skip-ollama", "--quant", "F16"];
    let modelfile = |more: &[&str]| {
        lab.run(&[&line[..], more].concat()).ok();
        lab.read(&format!("home/store/{ID}/exports/F16/Modelfile"))
    };
    assert!(!modelfile(&[]).contains("draft"));
    let with = modelfile(&["--draft", "smollm2:135m"]);
    assert!(
        with.contains("# draft model for speculative decoding: smollm2:135m"),
        "{with}"
    );
    assert!(!with.contains("PARAMETER draft"), "{with}");
    lab.run(&[&line[..], &["--draft", "two words"]].concat())
        .exits(2)
        .says(&["`two words` is not a model name for ollama"]);
    lab.run(&[&line[..], &["--draft", "x", "--no-draft"]].concat())
        .exits(2)
        .says(&["cannot be used with"]);
    lab.run(&["export", "a.dlm", "--target", "vllm", "--no-smoke", "--draft", "x"])
        .ok()
        .says(&["has no use for --draft"]);
}

#[test]
fn a_suite_of_probes_is_written_beside_every_kind_of_export() {
    let lab = trained();
    let preference = "\n::preference::\n### Prompt\nWhat \"one\"?\n### Chosen\nThat.\n### Rejected\nThis.\n";
    lab.write("a.dlm", lab.read("a.dlm") + preference);
    for (target, place) in [("llama-server", "F16"), ("vllm", "vllm")] {
        let ran = lab.run(&[
            "export",
            "a.dlm",
            "--target",
            target,
            "--quant",
            "F16",
            "--no-smoke",
            "--emit-sway-json",
        ]);
        ran.ok().says(&["next: sway run "]);
        let text = lab.read(&format!("home/store/{ID}/exports/{place}/sway.yaml"));
        let keys: Vec<&str> = text.lines().filter(|line| !line.starts_with([' ', '-'])).collect();
        let keys: Vec<&str> = keys.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(keys, ["version", "models", "defaults", "suite", "dlm_source"]);
        let kinds: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  kind: ")).collect();
        let expected = [
            "null_adapter",
            "delta_kl",
            "adapter_revert",
            "prompt_collapse",
            "section_internalization",
            "paraphrase_invariance",
            "preference_flip",
            "style_fingerprint",
            "calibration_drift",
            "leakage",
            "adapter_ablation",
        ];
        assert_eq!(kinds, expected);
        assert!(
            text.contains("    adapter: \"") && text.contains("adapter/versions/v0001\""),
            "{text}"
        );
        whole(&lab, place);
    }
}

#[test]
fn the_report_measures_every_level_and_keeps_nothing() {
    let lab = trained();
    let before = lab.files(&format!("home/store/{ID}/exports"));
    let report = lab.json(&["export", "a.dlm", "--quant-report", "--json"]);
    let levels = report["levels"].as_array().unwrap();
    let names: Vec<&str> = levels.iter().map(|level| level["quant"].as_str().unwrap()).collect();
    assert_eq!(names, ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M"]);
    let number = |level: &serde_json::Value, place: &str| level.pointer(place).unwrap().as_f64().unwrap();
    // Of the tiny rows the last two levels have other blocks than of long ones.
    let is_smaller = |pair: &[serde_json::Value]| pair[0]["bytes"].as_u64() >= pair[1]["bytes"].as_u64();
    assert!(levels[..5].windows(2).all(is_smaller));
    for text in ["document", "general"] {
        let divergence: Vec<f64> = levels
            .iter()
            .map(|l| number(l, &format!("/{text}/divergence")))
            .collect();
        assert!(divergence[0] < 1e-5, "halves: {divergence:?}");
        assert!(divergence[1] < divergence[4] && divergence[4] < 1.0, "{divergence:?}");
        let perplexity = report[format!("{text}_perplexity")].as_f64().unwrap();
        let halves = number(&levels[0], &format!("/{text}/perplexity"));
        assert!((halves / perplexity - 1.0).abs() < 1e-3, "{halves} {perplexity}");
    }
    assert_eq!(levels[4]["is_weighted"], true);
    assert_eq!(levels[1]["is_weighted"], false);
    let even = lab.json(&[
        "export",
        "a.dlm",
        "--quant-report",
        "--quant",
        "Q4_K_M",
        "--no-imatrix",
        "--json",
    ]);
    assert_eq!(even["levels"].as_array().unwrap().len(), 1);
    assert_eq!(even["levels"][0]["is_weighted"], false);
    let shown = lab.run(&["export", "a.dlm", "--quant-report", "--quant", "Q8_0"]).ok();
    assert!(
        shown.out.contains("perplexity") && shown.out.contains("Q8_0"),
        "{}",
        shown.out
    );
    assert_eq!(lab.files(&format!("home/store/{ID}/exports")), before);
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
