//! The real base of `DLM_TEST_BASE` (a GGUF file), exported at every level and read back.

use std::path::Path;
use std::sync::Arc;

use dlm_core::{Cancel, Quiet};
use dlm_export::{Identity, ModelExport, Quant, Vocabulary, plan_model, verify_model, write_model};
use dlm_kernels::{Ctx, Simd};
use dlm_model::config::config_from_gguf;
use dlm_model::gguf::{GgufFile, GgufWeights, Value};
use dlm_model::tokenizer::tokenizer_from_gguf;

#[test]
fn the_real_base_survives_every_level() {
    let Some(base) = std::env::var_os("DLM_TEST_BASE") else {
        eprintln!("SKIPPED: DLM_TEST_BASE is not set, so no real base was exported");
        return;
    };
    let file = Arc::new(GgufFile::open(Path::new(&base)).unwrap());
    let weights = GgufWeights::new(Arc::clone(&file)).unwrap();
    let config = config_from_gguf(&file).unwrap();
    let tokenizer = tokenizer_from_gguf(&file).unwrap();
    let vocabulary = Vocabulary::new(&tokenizer, config.vocab).unwrap();
    for (key, found) in [("tokens", &vocabulary.tokens), ("merges", &vocabulary.merges)] {
        let list = file
            .value(&format!("tokenizer.ggml.{key}"))
            .and_then(Value::as_array)
            .unwrap();
        assert!(
            list.iter()
                .map(Value::as_str)
                .eq(found.iter().map(|text| Some(text.as_str()))),
            "{key} differ"
        );
    }
    let template = file.value("tokenizer.chat_template").and_then(Value::as_str);
    let identity = Identity {
        name: "Exported".to_owned(),
        ..Identity::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("DLM_TEST_KEEP");
    let dir = keep.as_deref().map_or(dir.path(), Path::new);
    let ctx = Ctx::new(2, Simd::detect());
    for quant in Quant::ALL {
        let export = ModelExport {
            config: &config,
            weights: &weights,
            vocabulary: &vocabulary,
            chat_template: template,
            identity: &identity,
            quant,
        };
        let plan = plan_model(&export).unwrap();
        let path = dir.join(format!("base.{}.gguf", quant.name()));
        let start = std::time::Instant::now();
        let written = write_model(&ctx, &plan, &weights, None, &path, &Quiet, &Cancel::new()).unwrap();
        let wrote = start.elapsed();
        let report = verify_model(&ctx, &path, &plan, &config, &weights, Some(&tokenizer)).unwrap();
        eprintln!(
            "{}: {} bytes, written in {wrote:?}, checked in {:?}",
            quant.name(),
            written.bytes,
            start.elapsed() - wrote
        );
        for row in &report.errors {
            eprintln!(
                "  {} x {}: relative error {:.5} ({})",
                row.tensors, row.ty, row.relative, row.worst
            );
        }
        assert_eq!(report.tensors, 272);
    }
}
