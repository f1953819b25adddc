//! Asked models and adapters, as the files that other programs load.

use std::path::{Path, PathBuf};

use dlm_core::training::MixMethod;
use dlm_core::{Cancel, Quant, Quiet};
use dlm_export::{
    AdapterExport, AdapterModule, Identity, ModelExport, Vocabulary, WriteOptions, plan_adapter, plan_model,
    write_adapter, write_model,
};
use dlm_kernels::{Ctx, Simd};
use dlm_model::base::{OpenedBase, open_base};
use dlm_model::weights::WeightSource;
use dlm_model::{Adapter, AdapterKind, Batch, CpuEngine, Engine, LoadOptions, Model};
use dlm_testkit::tiny;
use serde_json::Value;

use crate::distance::log_softmax;

/// A model with the rows that it is asked, from `tests/golden/arch` or a file.
pub struct Asked {
    pub base: OpenedBase,
    engine: CpuEngine,
    pub dir: PathBuf,
    /// Token ids, without padding.
    pub rows: Vec<Vec<u32>>,
}

pub fn ctx() -> Ctx {
    Ctx::new(2, Simd::detect())
}

impl Asked {
    pub fn open(name: &str) -> Asked {
        let dir = dlm_testkit::architectures::dir(name);
        let golden: Value = serde_json::from_slice(&std::fs::read(dir.join("golden.json")).unwrap()).unwrap();
        let base = open_base(&dir).unwrap();
        let model = base.load(LoadOptions::exact(ctx())).unwrap();
        Asked {
            base,
            engine: CpuEngine::new(model),
            rows: rows(&golden),
            dir,
        }
    }

    /// A model of a file, asked one text.
    pub fn of_file(path: &Path, text: &str) -> Asked {
        let base = open_base(path).unwrap();
        let model = base.load(LoadOptions::exact(ctx())).unwrap();
        Asked {
            rows: vec![base.text().tokenizer.encode(text).unwrap()],
            base,
            engine: CpuEngine::new(model),
            dir: path.to_owned(),
        }
    }

    pub fn model(&self) -> &Model {
        self.engine.model()
    }

    /// Tokens from which a row is read with other rotary frequencies.
    pub fn long_from(&self) -> Option<usize> {
        self.engine.facts().long_from
    }

    /// The adapter that is in the directory.
    pub fn adapter(&self, place: &str) -> Adapter {
        Adapter::load_peft(&self.dir.join(place), self.model()).unwrap()
    }

    /// Several adapters on different modules as one.
    pub fn mixed(&self, method: MixMethod) -> Adapter {
        let one = tiny::adapter(self.model(), AdapterKind::Lora, 0.0);
        let mut two = tiny::adapter_on(self.model(), AdapterKind::Lora, 0.0, &["attention"]);
        for module in two.modules.clone() {
            two.params[module.b].reverse();
            two.params[module.a].reverse();
        }
        self.engine.mix(&[(&one, 0.75), (&two, 0.5)], method).unwrap()
    }

    fn identity(&self) -> Identity {
        Identity {
            name: "Tiny".to_owned(),
            ..Identity::default()
        }
    }

    /// Writes a model file of `weights`; returns what was noted.
    pub fn write(&self, weights: &dyn WeightSource, quant: Quant, path: &Path) -> Vec<String> {
        let config = self.base.config();
        let vocabulary = Vocabulary::new(&self.base.text().tokenizer, config.vocab).unwrap();
        let plan = plan_model(&ModelExport {
            config,
            weights,
            vocabulary: &vocabulary,
            chat_template: self.base.text().template.as_ref().map(|template| template.source()),
            identity: &self.identity(),
            quant,
            is_weighted: false,
        })
        .unwrap();
        let options = WriteOptions {
            importance: None,
            progress: &Quiet,
            cancel: &Cancel::new(),
        };
        write_model(&ctx(), &plan, weights, path, &options).unwrap();
        plan.notes
    }

    /// Writes an adapter file.
    pub fn write_adapter(&self, adapter: &Adapter, path: &Path) {
        let plan = plan_adapter(&AdapterExport {
            config: self.base.config(),
            modules: &AdapterModule::of(adapter),
            identity: &self.identity(),
        });
        write_adapter(&plan.unwrap(), path).unwrap();
    }
}

/// The rows of a golden file: the batch without its padding, then the long one.
fn rows(golden: &Value) -> Vec<Vec<u32>> {
    let ids = |row: &Value| -> Vec<u32> { serde_json::from_value(row.clone()).unwrap() };
    let masked = golden["input_ids"].as_array().unwrap().iter();
    let masked = masked
        .zip(golden["attention_mask"].as_array().unwrap())
        .map(|(row, mask)| {
            let kept: usize = ids(mask).iter().map(|kept| *kept as usize).sum();
            ids(row)[..kept].to_vec()
        });
    masked.chain([ids(&golden["long_input_ids"][0])]).collect()
}

/// Log-probabilities of every token at every position of a row.
pub fn read(model: &Model, adapter: Option<&Adapter>, row: &[u32]) -> Vec<Vec<f64>> {
    let forward = model.forward_eval(adapter, &Batch::packed(&[row.to_vec()])).unwrap();
    let logits = model.logits(forward.hidden());
    logits.chunks_exact(model.config.vocab).map(log_softmax).collect()
}
