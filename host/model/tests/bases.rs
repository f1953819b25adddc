//! Opening bases: what is known of them before any weight is loaded, fingerprints, refusals.

use std::path::{Path, PathBuf};

use dlm_core::Hints;
use dlm_core::base::TemplateDialect;
use dlm_kernels::{Ctx, Simd};
use dlm_model::gguf::GgufFile;
use dlm_model::{LoadOptions, TextModel, WeightStorage, device, open_base};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/arch")
        .join(name)
}

#[test]
fn a_directory_shows_its_facts() {
    let base = open_base(&golden("llama")).unwrap();
    let facts = base.facts();
    assert_eq!(
        (facts.architecture.as_str(), facts.storage.as_str()),
        ("LlamaForCausalLM", "F32")
    );
    assert_eq!(facts.bytes, 4 * facts.params);
    assert_eq!((facts.template, facts.context_length), (TemplateDialect::ChatMl, 512));
    assert_eq!(
        (
            facts.shape.d_model,
            facts.shape.n_kv_heads,
            facts.shape.vocab,
            facts.shape.tied
        ),
        (64, 2, 320, true)
    );
    assert_eq!((facts.gguf_arch.as_deref(), facts.tokenizer_pre), (Some("llama"), None));
    assert_eq!(base.weights_memory_bytes(WeightStorage::AsStored), facts.bytes);
    let mixtral = open_base(&golden("mixtral")).unwrap().facts();
    assert_eq!((mixtral.shape.n_experts, mixtral.shape.n_experts_used), (4, 2));
}

#[test]
fn the_memory_figure_is_what_loading_takes() {
    let base = open_base(&golden("llama")).unwrap();
    let model = base.load(LoadOptions::exact(Ctx::new(1, Simd::Scalar))).unwrap();
    let (weights, _) = model.weight_bytes();
    let expected = base.weights_memory_bytes(WeightStorage::Dequantized);
    // Norms are counted by the file and not by the model's matrices.
    assert!(
        weights as u64 <= expected && weights as u64 > expected * 9 / 10,
        "{weights} for {expected}"
    );
}

#[test]
fn the_fingerprint_follows_the_files_that_matter() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("base");
    std::fs::create_dir(&copy).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(golden("llama").join(name), copy.join(name)).unwrap();
    }
    let digest = || open_base(&copy).unwrap().sha256().unwrap();
    let first = digest();
    assert_eq!(first.len(), 64);
    std::fs::write(copy.join("README.md"), "notes").unwrap();
    assert_eq!(digest(), first);
    let mut weights = std::fs::read(copy.join("model.safetensors")).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    std::fs::write(copy.join("model.safetensors"), weights).unwrap();
    assert_ne!(digest(), first);
}

#[test]
fn what_cannot_be_used_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| open_base(path).unwrap_err().to_string();
    assert!(refusal(&dir.path().join("none")).contains("neither a directory nor a GGUF file"));
    assert!(refusal(dir.path()).contains("config.json"));
    std::fs::write(dir.path().join("x.gguf"), b"GGUF").unwrap();
    assert!(refusal(&dir.path().join("x.gguf")).contains("inside the version"));
    let copy = |name: &str| std::fs::copy(golden("llama").join(name), dir.path().join(name)).unwrap();
    copy("config.json");
    assert!(refusal(dir.path()).contains("has neither"));
    copy("model.safetensors");
    assert!(refusal(dir.path()).contains("has no `tokenizer.json`"));
    copy("tokenizer.json");
    assert!(refusal(dir.path()).contains("no chat template"));
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    assert!(refusal(dir.path()).contains("no known dialect"));
    copy("tokenizer_config.json");
    std::fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    assert!(open_base(dir.path()).is_ok());
    let small = std::fs::read_to_string(golden("llama").join("config.json")).unwrap();
    std::fs::write(
        dir.path().join("config.json"),
        small.replace("\"vocab_size\": 320", "\"vocab_size\": 300"),
    )
    .unwrap();
    assert!(refusal(dir.path()).contains("has the id 319, its embedding has 300 rows"));
}

/// A copy of the tiny Llama's directory.
fn llama(to: &Path) {
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(golden("llama").join(name), to.join(name)).expect("the golden files can be copied");
    }
}

/// huggingface/transformers#27923: the files of a clone without Git LFS.
#[test]
fn a_pointer_in_place_of_a_file_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let dir = tempfile::tempdir().unwrap();
        llama(dir.path());
        std::fs::write(dir.path().join(name), pointer).unwrap();
        let error = open_base(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("Git LFS pointer") && error.to_string().contains(name),
            "{error}"
        );
        assert!(error.hints()[0].contains("git lfs pull"), "{:?}", error.hints());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, pointer).unwrap();
    assert!(open_base(&path).unwrap_err().to_string().contains("Git LFS pointer"));
}

/// lmstudio-ai/lms#347: what a file is, its first bytes say.
#[test]
fn a_gguf_file_needs_no_ending_and_a_part_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let blob = dir.path().join("sha256-0f1e2d3c");
    std::fs::write(&blob, dlm_testkit::gguf::GgufBytes::default().bytes()).unwrap();
    assert!(
        open_base(&blob)
            .unwrap_err()
            .to_string()
            .contains("`general.architecture` is missing")
    );
    let part = dlm_testkit::gguf::GgufBytes::default()
        .u32("split.no", 1)
        .u32("split.count", 3);
    std::fs::write(&blob, part.bytes()).unwrap();
    let error = open_base(&blob).unwrap_err();
    assert!(error.to_string().contains("it is part 2 of 3"), "{error}");
    assert!(
        error.hints()[0].contains("llama-gguf-split --merge"),
        "{:?}",
        error.hints()
    );
    std::fs::write(&blob, "text").unwrap();
    assert!(open_base(&blob).unwrap_err().to_string().contains("nor a GGUF file"));
}

/// CoSER#3 and FreeToken#336: which weight files belong to a model.
#[test]
fn the_whole_file_is_read_and_a_missing_shard_is_named() {
    let dir = tempfile::tempdir().unwrap();
    llama(dir.path());
    let facts = open_base(dir.path()).unwrap().facts();
    let index = r#"{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#;
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(open_base(dir.path()).unwrap().facts(), facts, "the index is stale");
    std::fs::rename(
        dir.path().join("model.safetensors"),
        dir.path().join("model-00001-of-00004.safetensors"),
    )
    .unwrap();
    let error = open_base(dir.path()).unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("names `model-00001-of-00002.safetensors`, which is not there"),
        "{told}"
    );
    assert!(told.contains("`model-00001-of-00004.safetensors` is"), "{told}");
    assert!(
        error.hints()[0].contains("model.safetensors.index.json"),
        "{:?}",
        error.hints()
    );
}

#[test]
#[ignore = "needs the real base: DLM_TEST_BASE"]
fn the_real_base_shows_its_facts() {
    let path = std::env::var_os("DLM_TEST_BASE").expect("DLM_TEST_BASE names the real base");
    let base = open_base(Path::new(&path)).unwrap();
    let facts = base.facts();
    assert_eq!((facts.params, facts.storage.as_str()), (134_515_008, "Q4_1"));
    assert_eq!(facts.tokenizer_pre.as_deref(), Some("smollm"));
    assert_eq!(
        (facts.template, facts.license_spdx.as_deref()),
        (TemplateDialect::ChatMl, Some("apache-2.0"))
    );
    assert_eq!(base.weights_memory_bytes(WeightStorage::AsStored), facts.bytes);
    assert_eq!(base.weights_memory_bytes(WeightStorage::Dequantized), 4 * facts.params);
    let sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    assert_eq!(base.sha256().unwrap(), sha256);
}

#[test]
fn this_machine_can_be_probed() {
    let hardware = device::probe(Vec::new()).unwrap();
    assert!(hardware.cpu_cores >= 1 && hardware.memory_available_bytes <= hardware.memory_total_bytes);
    assert!(!hardware.device_name.is_empty());
}

#[test]
fn a_gguf_file_may_have_its_template_beside_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::copy(golden("../sentencepiece/gemma.gguf"), &path).unwrap();
    let read = || TextModel::from_gguf(&GgufFile::open(&path).unwrap(), None).unwrap();
    assert!(read().template.is_none());
    let frame = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}";
    std::fs::write(dir.path().join("chat_template.jinja"), frame).unwrap();
    assert_eq!(read().dialect(), Some(TemplateDialect::Gemma2));
}
