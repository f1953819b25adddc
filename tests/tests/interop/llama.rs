//! Every architecture, exported and read by llama.cpp: the base at F16 and at a mixed level, with an adapter beside it, and
//! merged with a DoRA.
//!
//! llama.cpp rounds what it multiplies with: to halves beside a matrix of halves, to eight bits beside a quantized one. The
//! bounds are of that rounding, at about three times what was measured; a wrong name, order, setting or scale shows in whole
//! units (`tests/golden/arch/README.md`). What llama.cpp does otherwise for a whole architecture is noted when such a file is
//! written; here the model is read as llama.cpp reads it, so that nothing else can hide behind the note.

use std::path::{Path, PathBuf};
use std::process::Command;

use dlm_core::Quant;
use dlm_core::training::MixMethod;
use dlm_model::base::open_base;
use dlm_model::{Adapter, AdapterKind, DecoderConfig, LoadOptions, MergedSource, Model};
use dlm_testkit::tiny;
use serde_json::{Value, json};

use crate::distance::Distance;
use crate::files::{Asked, ctx, read};
use crate::peer::{ask, script, variable};

/// What may lie between the two programs on the same file.
struct Bound {
    kl_mean: f64,
    worst: f64,
}

const HALVES: Bound = Bound {
    kl_mean: 1.5e-5,
    worst: 0.1,
};
const BLOCKS: Bound = Bound {
    kl_mean: 0.01,
    worst: 2.0,
};

/// Thirty layers add up what rounding each row to eight bits does.
const DEEP_BLOCKS: Bound = Bound {
    kl_mean: 0.05,
    worst: 5.0,
};

/// A file, and what we say of it.
struct Case<'a> {
    what: &'static str,
    file: PathBuf,
    adapter_file: Option<PathBuf>,
    model: Model,
    adapter: Option<&'a Adapter>,
    bound: &'a Bound,
}

/// What llama.cpp does otherwise, by what an export notes of it.
fn as_llama_cpp_reads(config: &mut DecoderConfig, notes: &[String]) {
    for note in notes {
        if note.contains("llama.cpp lets it see all of them") {
            config.layers.iter_mut().for_each(|layer| layer.window = None);
        } else if note.contains("attention scores are scaled by") {
            config.attention_scale = 1.0 / (config.head_dim as f32).sqrt();
        }
    }
}

fn load(path: &Path, notes: &[String]) -> Model {
    let base = open_base(path).unwrap();
    let mut config = base.config().clone();
    as_llama_cpp_reads(&mut config, notes);
    Model::load(config, base.weights(), LoadOptions::exact(ctx())).unwrap()
}

fn check(name: &str) {
    let mut tiny = Asked::open(name);
    if let Some(border) = tiny.long_from() {
        // llama.cpp chooses between the factors of LongRope by the size of its context, which is never that small: only a row
        // past the border is read alike.
        tiny.rows.retain(|row| row.len() >= border);
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |file: &str| directory.path().join(file);
    let weights = tiny.base.weights();
    let lora = tiny.adapter("adapter");
    let mixed = tiny.mixed(MixMethod::Linear);
    let dora = tiny::adapter(tiny.model(), AdapterKind::Dora, 0.0);
    let notes = tiny.write(weights, Quant::F16, &at("base.F16.gguf"));
    for quant in [Quant::Q4_K_M, Quant::IQ4_XS, Quant::Q3_K_M] {
        tiny.write(weights, quant, &at(&format!("base.{}.gguf", quant.name())));
    }
    tiny.write(&MergedSource::new(weights, &dora), Quant::F16, &at("merged.F16.gguf"));
    tiny.write_adapter(&lora, &at("adapter.gguf"));
    // Experts are stacked in the base's file, and no adapter of one of them can lie beside it.
    let has_mix = name != "mixtral";
    if has_mix {
        tiny.write_adapter(&mixed, &at("mixed.gguf"));
    }
    let case = |what, file: &str, bound| Case {
        what,
        file: at(file),
        adapter_file: None,
        model: load(&at(file), &notes),
        adapter: None,
        bound,
    };
    let cases = [
        case("F16", "base.F16.gguf", &HALVES),
        case("Q4_K_M", "base.Q4_K_M.gguf", &BLOCKS),
        case("IQ4_XS", "base.IQ4_XS.gguf", &BLOCKS),
        case("Q3_K_M", "base.Q3_K_M.gguf", &BLOCKS),
        case("merged F16", "merged.F16.gguf", &HALVES),
        Case {
            adapter_file: Some(at("adapter.gguf")),
            adapter: Some(&lora),
            ..case("F16 with an adapter", "base.F16.gguf", &HALVES)
        },
    ];
    compare(name, &tiny, &cases);
    if has_mix {
        let beside = Case {
            adapter_file: Some(at("mixed.gguf")),
            adapter: Some(&mixed),
            ..case("F16 with a mix", "base.F16.gguf", &HALVES)
        };
        compare(name, &tiny, &[beside]);
    }
}

fn compare(name: &str, tiny: &Asked, cases: &[Case<'_>]) {
    let jobs = cases
        .iter()
        .map(|case| json!({ "model": case.file, "adapter": case.adapter_file, "rows": tiny.rows }));
    let mut node = Command::new("node");
    node.arg(script("llama.mjs")).arg(variable("DLM_TEST_LLAMA_CPP"));
    let answers = ask(&mut node, &Value::Array(jobs.collect()));
    let mut faults = Vec::new();
    for (case, answers) in cases.iter().zip(answers.as_array().unwrap()) {
        let mut distance = Distance::default();
        for (row, answer) in tiny.rows.iter().zip(answers.as_array().unwrap()) {
            let theirs: Vec<Vec<f64>> = serde_json::from_value(answer.clone()).unwrap();
            let ours = read(&case.model, case.adapter, row);
            assert_eq!(ours.len(), theirs.len(), "{name}: positions");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                // Their sum is one in `f32` only, which shows with tens of thousands of tokens.
                let sum: f64 = theirs.iter().sum();
                let theirs: Vec<f64> = theirs.iter().map(|p| (p / sum).ln()).collect();
                distance.add(ours, &theirs);
            }
        }
        let figures = format!(
            "{name:<14} {:<20} {:>3} positions: KL {:.1e}, worst log-probability {:.1e}, another choice at {}",
            case.what, distance.positions, distance.kl_mean, distance.worst, distance.argmax_differs
        );
        eprintln!("{figures}");
        if !(distance.kl_mean <= case.bound.kl_mean && distance.worst <= case.bound.worst) {
            faults.push(figures);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

macro_rules! architectures {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            #[ignore = "needs llama.cpp: cargo xtask interop"]
            fn $test() {
                check($name);
            }
        )*
    };
}

dlm_testkit::each_architecture!(architectures);

/// The real base, whose file has the pre-tokenizer, the merges and the chat template of a model in use.
#[test]
#[ignore = "needs llama.cpp and the real base: cargo xtask interop"]
fn the_real_base() {
    let base = PathBuf::from(variable("DLM_TEST_BASE"));
    let text = "The quick brown fox jumps over the lazy dog, and in 1969 two people walked on the Moon.";
    let asked = Asked::of_file(&base, text);
    let directory = tempfile::tempdir().unwrap();
    let cases = Quant::ALL.map(|quant| {
        let bound = if quant == Quant::F16 { &HALVES } else { &DEEP_BLOCKS };
        let file = directory.path().join(format!("base.{}.gguf", quant.name()));
        let notes = asked.write(asked.base.weights(), quant, &file);
        Case {
            what: quant.name(),
            model: load(&file, &notes),
            file,
            adapter_file: None,
            adapter: None,
            bound,
        }
    });
    compare("real base", &asked, &cases);
}
