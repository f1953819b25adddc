//! A sequence classifier behind the model port: it ranks, and does nothing else that needs weights.

use std::sync::{Arc, Mutex};

use dlm_core::base::BaseRecord;
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelGeneration, ModelInfo, ModelMessage, ModelPrompt,
    ModelScore, ModelToken, NextRequest, RankRequest, ScoreRequest,
};
use dlm_model::text::TextError;
use dlm_model::{Cpu, CpuOptions, OpenedRanker, Prepare, RankError, RankInput, Ranker};

use super::convert::{count, messages, text_error};
use super::decoder::{detokenize, render, unless_cancelled};
use super::open::{failed, said};
use super::weights::{loading, room};
use super::{Run, lock};

/// A reward model.
pub(super) struct ClassifierModel {
    run: Arc<Run>,
    opened: OpenedRanker,
    info: ModelInfo,
    /// Locked only by whoever has the run's turn.
    loaded: Mutex<Option<Ranker>>,
}

impl ClassifierModel {
    pub fn new(run: Arc<Run>, record: &BaseRecord, opened: OpenedRanker) -> ClassifierModel {
        let info = ModelInfo {
            name: record.key.clone(),
            revision: Some(record.revision.clone()),
            architecture: record.architecture.clone(),
            context_length: count(opened.config().context_max),
            vocabulary_size: count(opened.config().vocab),
            has_adapter: false,
            adapter_version: None,
            has_chat_template: opened.text().template.is_some(),
        };
        ClassifierModel {
            run,
            opened,
            info,
            loaded: Mutex::new(None),
        }
    }

    /// A prompt and an answer as the classifier reads them: a rendered chat, or where that cannot be, two texts.
    fn input(&self, request: &RankRequest) -> Result<RankInput, ModelError> {
        let chat = match &request.prompt {
            ModelPrompt::Raw(text) => return self.pair(text, &request.completion),
            ModelPrompt::Chat(chat) => chat,
        };
        match self.opened.chat_input(&messages(chat), &request.completion) {
            Ok(input) => Ok(input),
            Err(error @ (TextError::NoTemplate { .. } | TextError::Chat(_))) => {
                let why = format!("{}; prompt and answer are read as a pair of texts", said(error.into()));
                self.run.around.warn(why);
                let texts: Vec<&str> = chat.iter().map(|message| message.content.as_str()).collect();
                self.pair(&texts.join("\n"), &request.completion)
            }
            Err(error) => Err(text_error(error)),
        }
    }

    fn pair(&self, prompt: &str, answer: &str) -> Result<RankInput, ModelError> {
        self.opened.pair_input(prompt, answer).map_err(text_error)
    }

    fn only_ranks<T>(&self, what: &str) -> Result<T, ModelError> {
        Err(ModelError::Unsupported(format!(
            "`{}` is a {}, which only ranks; it cannot {what}",
            self.info.name, self.info.architecture
        )))
    }
}

fn rank_error(error: RankError) -> ModelError {
    match error {
        RankError::Cancelled => ModelError::Cancelled,
        RankError::Engine(error) if error.is_cancelled() => ModelError::Cancelled,
        RankError::Empty { .. } => ModelError::InvalidInput(error.to_string()),
        error => failed(error.into()),
    }
}

impl Model for ClassifierModel {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn generate(&self, _requests: &[GenerateRequest], _: &ModelAllowance) -> Result<Vec<ModelGeneration>, ModelError> {
        self.only_ranks("write answers")
    }

    fn score(&self, _requests: &[ScoreRequest], _: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        self.only_ranks("score completions")
    }

    fn rank(&self, requests: &[RankRequest], allowance: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        let cancel = &allowance.cancel;
        let input = |request| {
            unless_cancelled(cancel)?;
            let input = self.input(request)?;
            allowance.take(input.ids.len() as u64)?;
            Ok(input)
        };
        let inputs = requests.iter().map(input).collect::<Result<Vec<_>, ModelError>>()?;
        for input in inputs.iter().filter(|input| input.cut > 0) {
            let (name, context) = (&self.info.name, self.info.context_length);
            self.run.around.warn(format!(
                "`{name}` reads {context} tokens: the first {} of {} were left out",
                input.cut,
                input.cut + input.ids.len()
            ));
        }
        let mut taken = self.run.turn(cancel)?;
        let mut loaded = lock(&self.loaded);
        let ranker = match &mut *loaded {
            Some(ranker) => ranker,
            none => {
                let stored = self.opened.weights_memory_bytes();
                room(&self.run, &self.info.name, stored, *taken)?;
                let load = |cpu: &Cpu, options: &CpuOptions| self.opened.load(cpu, options);
                let ranker = loading(&self.run, &self.info.name, load, Prepare::Nothing).map_err(rank_error)?;
                *taken += stored;
                none.insert(ranker)
            }
        };
        ranker.rank(&inputs, cancel).map_err(rank_error)
    }

    fn next(&self, _requests: &[NextRequest], _: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        self.only_ranks("name next tokens")
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.opened
            .text()
            .tokenizer
            .encode(text)
            .map_err(|error| text_error(error.into()))
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, ModelError> {
        detokenize(self.opened.text(), ids)
    }

    fn render(&self, chat: &[ModelMessage], with_generation_prompt: bool) -> Result<String, ModelError> {
        render(self.opened.text(), chat, with_generation_prompt)
    }
}
