//! Every kind of tokenizer goes the whole way: added, trained, asked, exported, and the merged export is a base again.

use dlm_testkit::sentencepiece::{Family, write_family};

use crate::lab::Lab;

/// A base with the tokenizer of a family on the tiny model's weights.
fn with_tokenizer_of(family: Family) -> Lab {
    let lab = Lab::new();
    lab.tiny_model();
    write_family(&lab.path("model"), family).unwrap();
    lab.trainable_from("model");
    lab
}

fn exported(lab: &Lab, name: &str, flags: &[&str]) -> std::path::PathBuf {
    let line = ["export", "a.dlm", "--target", "llama-server", "--no-smoke", "--json"];
    let report = lab.json(&[&line[..], flags].concat());
    let files = report["files"].as_array().unwrap();
    let path = files.iter().find_map(|file| {
        let path = file["path"].as_str()?;
        let is_it = path.ends_with(".gguf") && path.rsplit('/').next()?.starts_with(name);
        is_it.then(|| path.replace("[DIR]", &lab.path("").display().to_string()))
    });
    path.unwrap_or_else(|| panic!("{report}")).into()
}

/// The check after writing read vocabularies of one kind alone, so every other export failed when its files were there.
#[test]
fn every_kind_is_trained_exported_and_read_again() {
    for family in Family::ALL {
        let lab = with_tokenizer_of(family);
        lab.run(&["train", "a.dlm", "--max-steps", "2", "--threads", "1"]).ok();
        let ask = ["prompt", "a.dlm", "What?", "--temp", "0", "--max-tokens", "6"];
        lab.run(&ask).ok();
        let base = exported(&lab, "base", &["--quant", "F16"]);
        // The base's own file is a base that learns the same document.
        lab.run(&["base", "add", "again", "--from", base.to_str().unwrap()])
            .ok();
        // The merged model takes the place of the one before.
        let merged = exported(&lab, "merged", &["--quant", "F16", "--merged"]);
        assert!(merged.is_file() && !base.exists(), "{family:?}: {}", merged.display());
        let text = lab.read("a.dlm").replace("base_model: tiny", "base_model: again");
        lab.write("a.dlm", text);
        lab.run(&[
            "train",
            "a.dlm",
            "--fresh",
            "--update-lock",
            "--max-steps",
            "2",
            "--threads",
            "1",
        ])
        .ok();
        lab.run(&ask).ok();
    }
}
