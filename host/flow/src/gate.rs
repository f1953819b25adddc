//! The learned gate: made from a document's routed sections after its adapters were trained, asked when a question names none.
//!
//! Invariants: questions are embedded the same way in both places (bare text, the base alone); a gate that is not of these
//! adapters and this base is never asked, and that is said; nothing that goes wrong with a gate costs an adapter.

use dlm_core::Subject;
use dlm_core::training::GateMode;
use dlm_doc::{Rows, Section};
use dlm_model::text::TextModel;
use dlm_model::{Batch, Engine, Reader};
use dlm_store::gate::{GateConfig, GateRecord, GateTensors};
use dlm_store::metrics::{GateMetrics, Strictness};
use dlm_store::{Store, StoreGuard};
use dlm_train::gate::{Gate, GateOptions, GateSample, fit};
use serde::Serialize;

use crate::document::Document;
use crate::failure::Failure;
use crate::named_adapters;
use crate::surroundings::Surroundings;

/// Tokens of a prompt that are embedded (`spec/training.md` section 9).
const TOKENS_MAX: usize = 512;
/// Characters of a section of prose that are embedded.
const PROSE_CHARS_MAX: usize = 2048;

/// What became of the gate after a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReport {
    pub mode: GateMode,
    /// Samples of each adapter, and the mean weight that it is given over all.
    pub adapters: Vec<GateShare>,
    /// Share of the samples that a gate trained without them put right; none where none was trained.
    pub accuracy: Option<f64>,
    /// What always guessing the adapter with the most samples would reach.
    pub majority: Option<f64>,
    /// Running means at the end of its training: of the loss, and of the weights' entropy in nats.
    pub loss: Option<f64>,
    pub entropy: Option<f64>,
    /// Why it is uniform, where it is.
    pub why_uniform: Option<String>,
}

/// One adapter's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateShare {
    pub name: String,
    pub samples: usize,
    pub mean_weight: f64,
}

/// A gate in the making.
pub(crate) struct GateWork<'a> {
    pub around: &'a Surroundings,
    pub document: &'a Document,
    pub text: &'a TextModel,
    pub engine: &'a dyn Engine,
    /// Revision of the base.
    pub revision: &'a str,
    pub seed: u64,
    /// The run that the gate is recorded with.
    pub run_id: u64,
}

impl GateWork<'_> {
    /// Trains and keeps the gate that the document asks for; none where it asks for none.
    ///
    /// **Errors** are for a warning: the adapters are trained and current.
    pub(crate) fn make(&self, guard: &StoreGuard, store: &Store) -> Result<Option<GateReport>, Failure> {
        let front = self.document.parsed.frontmatter();
        let config = &front.training.gate;
        let (Some(names), true) = (named_adapters::declared(self.document), config.enabled) else {
            return Ok(None);
        };
        self.around
            .note("teaching the gate which adapter a question belongs to");
        let samples = self.samples(&names)?;
        let counts: Vec<usize> = (0..names.len())
            .map(|class| samples.iter().filter(|sample| sample.class == class).count())
            .collect();
        let floor = config.cold_start_floor as usize;
        let short = (0..names.len()).find(|class| counts[*class] < floor);
        let options = GateOptions {
            hidden: config.hidden_proj_dim as usize,
            steps: config.steps as usize,
            lr: config.lr,
            entropy_lambda: config.entropy_lambda,
            seed: self.seed,
        };
        let fitted = short.is_none().then(|| fit(&samples, names.len(), &options)).flatten();
        let why_uniform = match (short, &fitted) {
            (Some(class), _) => Some(format!(
                "`{}` has {} questions or sections of its own, and {floor} are needed",
                names[class], counts[class]
            )),
            (None, None) => None,
            (None, Some(fitted)) if !fitted.is_useful() => Some(format!(
                "it puts {:.0} % of unseen questions right, and always guessing one adapter {:.0} %",
                fitted.accuracy * 100.0,
                fitted.majority * 100.0
            )),
            (None, Some(_)) => None,
        };
        let mode = match (&fitted, short.is_none(), &why_uniform) {
            (None, true, _) => GateMode::Diverged,
            (_, _, Some(_)) => GateMode::Uniform,
            (_, _, None) => GateMode::Trained,
        };
        let trained = fitted.as_ref().filter(|_| mode == GateMode::Trained);
        let uniform = 1.0 / names.len() as f64;
        let report = GateReport {
            mode,
            adapters: (0..names.len())
                .map(|class| GateShare {
                    name: names[class].to_owned(),
                    samples: counts[class],
                    mean_weight: trained.map_or(uniform, |fitted| fitted.mean_weights[class]),
                })
                .collect(),
            accuracy: fitted.as_ref().map(|fitted| fitted.accuracy),
            majority: fitted.as_ref().map(|fitted| fitted.majority),
            loss: fitted.as_ref().map(|fitted| fitted.loss),
            entropy: fitted.as_ref().map(|fitted| fitted.entropy),
            why_uniform,
        };
        if mode != GateMode::Diverged {
            let width = samples.first().map_or(0, |sample| sample.embedding.len());
            guard.write_gate(&GateRecord {
                config: self.config(&names, width, &options, mode),
                tensors: trained.map(|fitted| to_tensors(&fitted.gate)),
            })?;
        }
        self.record(store, &report)?;
        Ok(Some(report))
    }

    fn config(&self, names: &[&str], width: usize, options: &GateOptions, mode: GateMode) -> GateConfig {
        GateConfig {
            input_dim: width,
            hidden_proj_dim: options.hidden,
            adapter_names: names.iter().map(|name| (*name).to_owned()).collect(),
            mode,
            entropy_lambda: options.entropy_lambda,
            base_model_revision: Some(self.revision.to_owned()),
        }
    }

    /// Embeds what each adapter was given by name: every question, every preference's prompt, the beginning of prose.
    fn samples(&self, names: &[&str]) -> Result<Vec<GateSample>, Failure> {
        let mut reader = base_reader(self.around, self.engine)?;
        let mut samples = Vec::new();
        for section in self.document.parsed.sections() {
            let class = section
                .adapter
                .as_deref()
                .and_then(|adapter| names.iter().position(|name| *name == adapter));
            let Some(class) = class else {
                continue;
            };
            for prompt in prompts(section) {
                let embedding = embed(&mut *reader, self.text, &prompt)?;
                samples.push(GateSample { embedding, class });
            }
        }
        Ok(samples)
    }

    fn record(&self, store: &Store, report: &GateReport) -> Result<(), Failure> {
        let mut metrics = store.metrics_recorder(Strictness::Lenient)?;
        for share in &report.adapters {
            let lost = metrics.gate(&GateMetrics {
                run_id: self.run_id,
                adapter_name: share.name.clone(),
                mean_weight: share.mean_weight,
                sample_count: share.samples as u64,
                mode: report.mode.name().to_owned(),
                at: self.around.now(),
            })?;
            if let Some(lost) = lost {
                self.around.warn(format!("metrics: {lost}"));
            }
        }
        Ok(())
    }
}

/// What a routed section asks the gate to recognize.
fn prompts(section: &Section) -> Vec<String> {
    match dlm_doc::rows(section) {
        Ok(Rows::None) if !section.kind.is_media() && !section.content.trim().is_empty() => {
            vec![section.content.trim().chars().take(PROSE_CHARS_MAX).collect()]
        }
        rows => rows.map(Rows::prompts).unwrap_or_default(),
    }
}

/// The weights of a document's adapters for one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterWeight {
    pub name: String,
    pub weight: f32,
}

/// Who decides between the adapters of a document where none was named.
pub enum Decision {
    /// The learned gate, question by question.
    Gate(Box<Gate>),
    /// Every adapter alike.
    Uniform,
}

/// Finds the gate that `--gate auto` asks.
///
/// **Errors** are misuse: there is none, or none that fits, so an adapter must be named.
pub(crate) fn decide(
    around: &Surroundings,
    document: &Document,
    store: &Store,
    revision: &str,
    subject: Subject,
) -> Result<Decision, Failure> {
    let unnamed = || match named_adapters::slot(document, None, subject.clone()) {
        Err(failure) => {
            failure.hint("or set `training.gate.enabled: true` in the document and train: a gate is learned")
        }
        Ok(_) => unreachable!("the document has several adapters"),
    };
    let record = match store.gate() {
        Ok(Some(record)) => record,
        Ok(None) => return Err(unnamed()),
        Err(error) => {
            around.warn(format!("the gate is not used: {error}"));
            return Err(unnamed());
        }
    };
    if let Some(why) = stale(&record.config, document, revision) {
        around.warn(format!("the gate is not used: {why}"));
        return Err(unnamed().hint("or train again: the gate is made anew"));
    }
    Ok(match record.tensors {
        Some(tensors) => Decision::Gate(Box::new(from_tensors(&record.config, tensors))),
        None => {
            around.note("the gate is uniform: every adapter has the same weight");
            Decision::Uniform
        }
    })
}

/// Why a gate is of other adapters or another base, where it is.
fn stale(config: &GateConfig, document: &Document, revision: &str) -> Option<String> {
    let declared = named_adapters::declared(document).unwrap_or_default();
    if config.adapter_names != declared {
        return Some(format!(
            "it chooses between `{}`, and the document declares `{}`",
            config.adapter_names.join("`, `"),
            declared.join("`, `")
        ));
    }
    match &config.base_model_revision {
        Some(then) if then != revision => Some("it was learned on another base".to_owned()),
        _ => None,
    }
}

impl Decision {
    /// Returns the weight of each of `names` for a question, in their order; they sum to 1.
    ///
    /// **Errors:** an engine that fails, a gate of a base with hidden states of another width.
    pub(crate) fn weights(
        &self,
        around: &Surroundings,
        engine: &dyn Engine,
        text: &TextModel,
        question: &str,
        names: &[String],
    ) -> Result<Vec<AdapterWeight>, Failure> {
        let weights = match self {
            Decision::Uniform => vec![1.0 / names.len() as f32; names.len()],
            Decision::Gate(gate) => {
                let embedding = embed(&mut *base_reader(around, engine)?, text, question)?;
                if embedding.len() != gate.inputs {
                    let what = format!(
                        "the gate takes hidden states of width {}, and the base has {}",
                        gate.inputs,
                        embedding.len()
                    );
                    return Err(Failure::new(Subject::Inference, what).hint("train again: the gate is made anew"));
                }
                gate.weights(&embedding)
            }
        };
        let named = |(name, weight): (&String, f32)| AdapterWeight {
            name: name.clone(),
            weight,
        };
        Ok(names.iter().zip(weights).map(named).collect())
    }
}

/// The base alone, read exactly: a gate's answer does not depend on how the base was loaded.
fn base_reader<'e>(around: &Surroundings, engine: &'e dyn Engine) -> Result<Box<dyn Reader + 'e>, Failure> {
    let reading = engine.facts().exact_reading(&around.cancel);
    engine
        .reader(None, reading)
        .map_err(|e| Failure::new(Subject::Inference, e))
}

/// The mean of the base's final hidden states over a text, the chat template left out.
fn embed(reader: &mut dyn Reader, text: &TextModel, prompt: &str) -> Result<Vec<f32>, Failure> {
    let mut ids = text.text_ids(prompt)?;
    ids.truncate(TOKENS_MAX);
    let mut batch = Batch::default();
    batch.push(&ids, 0..0);
    let rows: Vec<usize> = (0..ids.len()).collect();
    let hidden = reader
        .hidden(&batch, &rows)
        .map_err(|e| Failure::new(Subject::Inference, e))?;
    let width = hidden.len() / rows.len().max(1);
    let mut mean = vec![0.0f32; width];
    for row in hidden.chunks_exact(width.max(1)) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(sum, x)| *sum += x / rows.len() as f32);
    }
    Ok(mean)
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}

fn to_tensors(gate: &Gate) -> GateTensors {
    GateTensors {
        first: transposed(&gate.first, gate.hidden),
        first_bias: gate.first_bias.clone(),
        second: transposed(&gate.second, gate.outputs),
        second_bias: gate.second_bias.clone(),
    }
}

fn from_tensors(config: &GateConfig, tensors: GateTensors) -> Gate {
    Gate {
        inputs: config.input_dim,
        hidden: config.hidden_proj_dim,
        outputs: config.adapter_names.len(),
        first: transposed(&tensors.first, config.input_dim),
        first_bias: tensors.first_bias,
        second: transposed(&tensors.second, config.hidden_proj_dim),
        second_bias: tensors.second_bias,
    }
}
