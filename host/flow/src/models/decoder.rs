//! A decoder behind the model port: a base, with the document's adapter where it has one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dlm_core::base::BaseRecord;
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelGeneration, ModelInfo, ModelMessage, ModelScore,
    ModelToken, ModelWeights, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::shell::quoted_path;
use dlm_core::{Cancel, Subject};
use dlm_model::chat::{Ending, Thinking};
use dlm_model::text::TextModel;
use dlm_model::{
    Adapter, Engine, GenerateJob, Generation, ManyOptions, PrecisionPaths, Reader, ReaderOptions, ScoreJob, Watch,
    generate_many, next_many, score_many,
};

use super::convert::{
    completion_ids, count, generate_error, generation, job, messages, prompt_ids, score_error, text_error, token,
};
use super::lock;
use super::open::failed;
use super::weights::Weights;
use crate::failure::Failure;

/// Most next tokens that are listed.
const TOP_MAX: u32 = 256;

/// The caches of answers side by side take at most one part in so many of the memory that the weights left free.
const CACHE_SHARE: u64 = 2;

/// A base and perhaps an adapter on it.
pub(super) struct DecoderModel {
    weights: Arc<Weights>,
    info: ModelInfo,
    text: TextModel,
    adapter: Option<PathBuf>,
    /// The document that the adapter was or would be trained from.
    document: Option<PathBuf>,
    /// Filled by the first call that asks for it.
    loaded: Mutex<Option<Arc<Adapter>>>,
}

/// The weights of one call.
struct Ready {
    engine: Arc<dyn Engine>,
    adapter: Option<Arc<Adapter>>,
    /// Bytes that the caches of answers may take.
    cache_bytes_max: u64,
}

impl Ready {
    /// Products of fixed precision paths: what is asked beside a request changes no bit of its answer.
    fn reader(&self, precision_paths: PrecisionPaths, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, ModelError> {
        let options = ReaderOptions {
            precision_paths,
            cancel: cancel.clone(),
        };
        let reader = self.engine.reader(self.adapter.as_deref(), options);
        reader.map_err(|error| failed(Failure::new(Subject::Model, error)))
    }
}

impl DecoderModel {
    pub fn new(
        weights: Arc<Weights>,
        record: &BaseRecord,
        text: TextModel,
        adapter: Option<(PathBuf, u32)>,
        document: Option<PathBuf>,
    ) -> DecoderModel {
        let config = weights.opened.config();
        let info = ModelInfo {
            name: record.key.clone(),
            revision: Some(record.revision.clone()),
            architecture: record.architecture.clone(),
            context_length: record.context_usable().min(count(config.context_max)),
            vocabulary_size: count(config.vocab),
            has_adapter: adapter.is_some(),
            adapter_version: adapter.as_ref().map(|(_, number)| *number),
            has_chat_template: text.template.is_some(),
        };
        DecoderModel {
            weights,
            info,
            text,
            adapter: adapter.map(|(directory, _)| directory),
            document,
            loaded: Mutex::new(None),
        }
    }

    fn context_max(&self) -> usize {
        self.info.context_length as usize
    }

    /// Refuses requests for an adapter that is not there.
    fn check(&self, wanted: ModelWeights) -> Result<(), ModelError> {
        if wanted == ModelWeights::Base || self.adapter.is_some() {
            return Ok(());
        }
        let name = &self.info.name;
        Err(ModelError::Unavailable(match &self.document {
            Some(document) => {
                let path = document.display();
                let typed = quoted_path(document);
                format!("{path} has no adapter on `{name}` yet (train it: dlm train {typed})")
            }
            None => format!("`{name}` was named as a base, so it has no adapter (ask for the weights of the base)"),
        }))
    }

    /// Loads what a call needs; `taken` is the run's turn.
    fn ready(&self, wanted: ModelWeights, taken: &mut u64) -> Result<Ready, ModelError> {
        let engine = self.weights.load(taken)?;
        let adapter = match (wanted, &self.adapter) {
            (ModelWeights::Adapter, Some(directory)) => {
                let mut loaded = lock(&self.loaded);
                if loaded.is_none() {
                    let adapter = engine.read_adapter(directory);
                    let adapter = adapter.map_err(|error| failed(Failure::new(Subject::Model, error)))?;
                    *loaded = Some(Arc::new(adapter));
                }
                loaded.clone()
            }
            _ => None,
        };
        let free = self
            .weights
            .run
            .around
            .hardware
            .memory_available_bytes
            .saturating_sub(*taken);
        Ok(Ready {
            engine,
            adapter,
            cache_bytes_max: free / CACHE_SHARE,
        })
    }

    /// Runs `call` for the requests of either kind of weights and puts the answers back in order.
    fn by_weights<R, A>(
        &self,
        requests: &[R],
        weights: impl Fn(&R) -> ModelWeights,
        cancel: &Cancel,
        mut call: impl FnMut(&Ready, &[usize]) -> Result<Vec<A>, ModelError>,
    ) -> Result<Vec<A>, ModelError> {
        for request in requests {
            self.check(weights(request))?;
        }
        let mut answers: Vec<Option<A>> = requests.iter().map(|_| None).collect();
        let mut turn = self.weights.run.turn(cancel)?;
        for wanted in [ModelWeights::Base, ModelWeights::Adapter] {
            let places: Vec<usize> = (0..requests.len())
                .filter(|at| weights(&requests[*at]) == wanted)
                .collect();
            if places.is_empty() {
                continue;
            }
            let ready = self.ready(wanted, &mut turn)?;
            for (place, answer) in places.iter().zip(call(&ready, &places)?) {
                answers[*place] = Some(answer);
            }
        }
        let answers = answers.into_iter();
        Ok(answers
            .map(|answer| answer.expect("every request has weights of one kind"))
            .collect())
    }
}

impl DecoderModel {
    /// Writes the answers of the jobs at `places`, greedy ones and sampled ones apart.
    ///
    /// A greedy answer is a promise of exactness, so its products are exact; sampled ones take the faster
    /// products, as `dlm prompt` does.
    fn write(
        &self,
        ready: &Ready,
        jobs: &[GenerateJob],
        places: &[usize],
        allowance: &ModelAllowance,
    ) -> Result<Vec<Generation>, ModelError> {
        let cancel = &allowance.cancel;
        let is_greedy = |place: &usize| jobs[*place].options.sampling.temperature == 0.0;
        let mut written: BTreeMap<usize, Generation> = BTreeMap::new();
        for greedy in [false, true] {
            let chosen: Vec<usize> = places.iter().copied().filter(|at| is_greedy(at) == greedy).collect();
            let batch: Vec<GenerateJob> = chosen.iter().map(|at| jobs[*at].clone()).collect();
            let paths = match greedy {
                true => ready.engine.facts().exact_paths(),
                false => PrecisionPaths::STREAMED,
            };
            let mut reader = ready.reader(paths, cancel)?;
            let options = ManyOptions {
                context_max: self.context_max(),
                cache_bytes_max: ready.cache_bytes_max,
                watch: Watch {
                    goes_on: &|tokens| allowance.take(tokens as u64).is_ok(),
                    ..Watch::default()
                },
            };
            let answers = generate_many(&mut *reader, &self.text.tokenizer, &batch, &options);
            let answers = answers.map_err(|error| match cancel.is_cancelled() {
                true => ModelError::Cancelled,
                false => generate_error(error),
            })?;
            written.extend(chosen.into_iter().zip(answers));
        }
        Ok(places.iter().filter_map(|at| written.remove(at)).collect())
    }
}

impl Model for DecoderModel {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError> {
        let cancel = &allowance.cancel;
        let job = |request| {
            unless_cancelled(cancel)?;
            let job = job(&self.text, request, self.weights.run.around.random_seed(), cancel)?;
            allowance.take(job.prompt.len() as u64)?;
            Ok(job)
        };
        let jobs = requests.iter().map(job).collect::<Result<Vec<_>, ModelError>>()?;
        let call = |ready: &Ready, places: &[usize]| self.write(ready, &jobs, places, allowance);
        let answers = self.by_weights(requests, |request| request.weights, cancel, call)?;
        answers.into_iter().map(generation).collect()
    }

    fn score(&self, requests: &[ScoreRequest], allowance: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        let cancel = &allowance.cancel;
        let job = |request: &ScoreRequest| {
            unless_cancelled(cancel)?;
            let job = ScoreJob {
                prompt: prompt_ids(&self.text, &request.prompt)?,
                completion: completion_ids(&self.text, &request.prompt, &request.completion)?,
            };
            allowance.take((job.prompt.len() + job.completion.len()) as u64)?;
            Ok(job)
        };
        let jobs = requests.iter().map(job).collect::<Result<Vec<_>, ModelError>>()?;
        let scores = self.by_weights(
            requests,
            |request| request.weights,
            cancel,
            |ready, places| {
                let batch: Vec<ScoreJob> = places.iter().map(|at| jobs[*at].clone()).collect();
                let mut reader = ready.reader(PrecisionPaths::PACKED, cancel)?;
                score_many(&mut *reader, &batch, self.context_max(), cancel).map_err(score_error)
            },
        )?;
        let score = |((request, job), logprobs): ((&ScoreRequest, &ScoreJob), Vec<f32>)| {
            let tokens = match request.is_per_token {
                true => job
                    .completion
                    .iter()
                    .zip(&logprobs)
                    .map(|(id, l)| token(&self.text, *id, *l))
                    .collect(),
                false => Ok(Vec::new()),
            };
            Ok(ModelScore {
                logprob: logprobs.iter().map(|logprob| f64::from(*logprob)).sum(),
                token_count: count(logprobs.len()),
                tokens: tokens?,
            })
        };
        requests.iter().zip(&jobs).zip(scores).map(score).collect()
    }

    fn rank(&self, _requests: &[RankRequest], _: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        Err(ModelError::Unsupported(format!(
            "`{}` is a {}, which predicts tokens; ranking takes a sequence classifier with one label",
            self.info.name, self.info.architecture
        )))
    }

    fn next(&self, requests: &[NextRequest], allowance: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        let cancel = &allowance.cancel;
        let asked = |request: &NextRequest| match request.top {
            top @ 1..=TOP_MAX => {
                unless_cancelled(cancel)?;
                let prompt = prompt_ids(&self.text, &request.prompt)?;
                allowance.take(prompt.len() as u64)?;
                Ok((prompt, top as usize))
            }
            top => Err(ModelError::InvalidInput(format!(
                "`top` is {top}, expected 1 to {TOP_MAX}"
            ))),
        };
        let prompts = requests.iter().map(asked).collect::<Result<Vec<_>, ModelError>>()?;
        let lists = self.by_weights(
            requests,
            |request| request.weights,
            cancel,
            |ready, places| {
                let batch: Vec<_> = places.iter().map(|at| prompts[*at].clone()).collect();
                let mut reader = ready.reader(PrecisionPaths::PACKED, cancel)?;
                next_many(&mut *reader, &batch, self.context_max(), cancel).map_err(score_error)
            },
        )?;
        let named = |list: Vec<(u32, f32)>| list.into_iter().map(|(id, l)| token(&self.text, id, l)).collect();
        lists.into_iter().map(named).collect()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.text
            .tokenizer
            .encode(text)
            .map_err(|error| text_error(error.into()))
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError> {
        detokenize(&self.text, ids)
    }

    fn render(&self, chat: &[ModelMessage], with_generation_prompt: bool) -> Result<String, ModelError> {
        render(&self.text, chat, with_generation_prompt)
    }
}

/// Texts are tokenized one after the other; a raised flag ends that, too.
pub(super) fn unless_cancelled(cancel: &Cancel) -> Result<(), ModelError> {
    match cancel.is_cancelled() {
        true => Err(ModelError::Cancelled),
        false => Ok(()),
    }
}

/// The text of ids, special tokens written out.
pub(super) fn detokenize(text: &TextModel, ids: &[u32]) -> Result<String, ModelError> {
    if let Some(id) = ids.iter().find(|id| text.tokenizer.token(**id).is_none()) {
        return Err(ModelError::InvalidInput(format!("`{}` has no token {id}", text.name)));
    }
    text.tokenizer.decode_all(ids).map_err(|error| text_error(error.into()))
}

pub(super) fn render(
    text: &TextModel,
    chat: &[ModelMessage],
    with_generation_prompt: bool,
) -> Result<String, ModelError> {
    let ending = match with_generation_prompt {
        true => Ending::GenerationPrompt,
        false => Ending::Complete,
    };
    text.render(&messages(chat), ending, Thinking::default())
        .map_err(text_error)
}
