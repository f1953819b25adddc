//! Scripted ports: a model that says what the test says, a judge that scores by a function, teachers with a script.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use dlm_core::ports::judge::{Judge, JudgeInfo, JudgeItem, JudgeMode, JudgeSource, JudgeVerdict};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelFinish, ModelGeneration, ModelInfo, ModelMessage,
    ModelPrompt, ModelScore, ModelToken, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::ports::plugin::{PluginFailure, PluginFailureDetail, PluginIdentity};
use dlm_core::ports::teacher::{Teacher, TeacherCompletion, TeacherInfo, TeacherRequest, TeacherSource, TeacherUsage};
use dlm_core::{FailureKind, Subject};

pub fn failure(code: &'static str, kind: FailureKind, message: &str) -> PluginFailure {
    PluginFailure {
        code,
        subject: Subject::Judge,
        kind,
        message: message.into(),
        hints: Vec::new(),
        detail: None,
    }
}

/// A failure with the far side's status and wish to wait.
pub fn far_failure(code: &'static str, message: &str, status: Option<i32>, after_ms: Option<u32>) -> PluginFailure {
    PluginFailure {
        detail: Some(Box::new(PluginFailureDetail {
            plugin: "fake".into(),
            version: "1.0.0".into(),
            world: "judge",
            function: None,
            capability: None,
            limit: None,
            after_ms,
            status,
        })),
        ..failure(code, FailureKind::Runtime, message)
    }
}

pub fn identity(name: &str, granted: &[&str]) -> PluginIdentity {
    PluginIdentity {
        name: name.into(),
        plugin: "fake".into(),
        version: "1.0.0".into(),
        sha256: "00".into(),
        detail: None,
        granted: granted.iter().map(|g| (*g).to_owned()).collect(),
    }
}

type Generate = dyn Fn(&str, &GenerateRequest) -> (String, ModelFinish) + Send + Sync;
type ScoreOf = dyn Fn(&str, &ScoreRequest) -> f64 + Send + Sync;

/// A model that answers by a function of the last user message.
pub struct FakeModel {
    pub has_adapter: bool,
    pub generate: Box<Generate>,
    /// Log-probability per token.
    pub score: Box<ScoreOf>,
    pub generated: Mutex<Vec<Vec<GenerateRequest>>>,
}

impl FakeModel {
    /// A trained model whose n-th answer to a prompt is the n-th of the texts that the function gives.
    pub fn answering(texts: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Self {
        let counts: Mutex<std::collections::BTreeMap<String, usize>> = Mutex::default();
        Self::generating(move |prompt, _| {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(prompt.to_owned()).or_default();
            let texts = texts(prompt);
            let text = texts[*count % texts.len()].clone();
            *count += 1;
            (text, ModelFinish::Stop)
        })
    }

    pub fn generating(
        generate: impl Fn(&str, &GenerateRequest) -> (String, ModelFinish) + Send + Sync + 'static,
    ) -> Self {
        Self {
            has_adapter: true,
            generate: Box::new(generate),
            score: Box::new(|_, _| -1.0),
            generated: Mutex::default(),
        }
    }

    /// A model that only scores.
    pub fn scoring(score: impl Fn(&str, &ScoreRequest) -> f64 + Send + Sync + 'static) -> Self {
        Self {
            score: Box::new(score),
            ..Self::generating(|_, _| panic!("this model writes nothing"))
        }
    }

    /// Every prompt that was asked, one entry a sample.
    pub fn prompts(&self) -> Vec<String> {
        self.generated
            .lock()
            .unwrap()
            .iter()
            .flatten()
            .map(|r| last(&r.prompt))
            .collect()
    }
}

fn last(prompt: &ModelPrompt) -> String {
    match prompt {
        ModelPrompt::Raw(text) => text.clone(),
        ModelPrompt::Chat(messages) => messages.last().unwrap().content.clone(),
    }
}

/// Hands a model out as the run's own.
pub struct Current(pub Arc<FakeModel>);

impl Current {
    pub fn new(model: FakeModel) -> Self {
        Self(Arc::new(model))
    }
}

struct Handle(Arc<FakeModel>);

impl Model for Handle {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "fake".into(),
            revision: None,
            architecture: "llama".into(),
            context_length: 2048,
            vocabulary_size: 100,
            has_adapter: self.0.has_adapter,
            adapter_version: None,
            has_chat_template: true,
        }
    }

    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError> {
        self.0.generated.lock().unwrap().push(requests.to_vec());
        let answers = requests
            .iter()
            .map(|request| {
                let (text, finish) = (self.0.generate)(&last(&request.prompt), request);
                ModelGeneration {
                    text,
                    prompt_tokens: 1,
                    completion_tokens: 1,
                    finish,
                }
            })
            .collect();
        match allowance.cancel.is_cancelled() {
            true => Err(ModelError::Cancelled),
            false => Ok(answers),
        }
    }

    fn score(&self, requests: &[ScoreRequest], _: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        let score = |request: &ScoreRequest| ModelScore {
            logprob: 4.0 * (self.0.score)(&last(&request.prompt), request),
            token_count: 4,
            tokens: Vec::new(),
        };
        Ok(requests.iter().map(score).collect())
    }

    fn rank(&self, _: &[RankRequest], _: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        unreachable!("nothing here ranks")
    }

    fn next(&self, _: &[NextRequest], _: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        unreachable!("nothing here asks for next tokens")
    }

    fn tokenize(&self, _: &str) -> Result<Vec<u32>, ModelError> {
        unreachable!("nothing here tokenizes")
    }

    fn detokenize(&self, _: &[u32]) -> Result<String, ModelError> {
        unreachable!("nothing here detokenizes")
    }

    fn render(&self, _: &[ModelMessage], _: bool) -> Result<String, ModelError> {
        unreachable!("nothing here renders")
    }
}

impl Models for Current {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        Ok(Arc::new(Handle(self.0.clone())))
    }

    fn named(&self, _: &str) -> Result<Arc<dyn Model>, ModelError> {
        unreachable!("nothing here names a model")
    }
}

type ScoreText = dyn Fn(&JudgeItem, &str) -> f64;

/// A judge that scores texts by a function, and fails first with what is queued.
pub struct FakeJudges {
    pub name: &'static str,
    pub mode: JudgeMode,
    pub score: Rc<ScoreText>,
    pub seen: Rc<RefCell<Vec<JudgeItem>>>,
    pub failures: Rc<RefCell<VecDeque<PluginFailure>>>,
    /// Every call with this prompt fails.
    pub fails_on: Option<&'static str>,
}

impl FakeJudges {
    pub fn new(score: impl Fn(&JudgeItem, &str) -> f64 + 'static) -> Self {
        Self {
            name: "cli:shorter",
            mode: JudgeMode::Pointwise,
            score: Rc::new(score),
            seen: Rc::default(),
            failures: Rc::default(),
            fails_on: None,
        }
    }

    /// Prefers short texts.
    pub fn shorter() -> Self {
        Self::new(|_, text| -(text.chars().count() as f64))
    }

    pub fn failing(self, failures: impl IntoIterator<Item = PluginFailure>) -> Self {
        self.failures.borrow_mut().extend(failures);
        self
    }
}

struct FakeJudge {
    info: JudgeInfo,
    score: Rc<ScoreText>,
    seen: Rc<RefCell<Vec<JudgeItem>>>,
    failures: Rc<RefCell<VecDeque<PluginFailure>>>,
    fails_on: Option<&'static str>,
}

impl Judge for FakeJudge {
    fn info(&self) -> &JudgeInfo {
        &self.info
    }

    fn score(&mut self, items: &[JudgeItem]) -> Result<Vec<JudgeVerdict>, PluginFailure> {
        assert!(items.len() <= self.info.batch_max);
        if let Some(failure) = self.failures.borrow_mut().pop_front() {
            return Err(failure);
        }
        if items.iter().any(|item| Some(item.prompt.as_str()) == self.fails_on) {
            return Err(failure(
                "plugin::bad-result",
                FailureKind::Runtime,
                "`score` is missing",
            ));
        }
        let verdict = |item: &JudgeItem| {
            if self.info.mode == JudgeMode::Pairwise {
                assert_eq!(item.candidates.len(), 2);
            }
            JudgeVerdict {
                scores: item.candidates.iter().map(|text| (self.score)(item, text)).collect(),
                reasoning: None,
            }
        };
        self.seen.borrow_mut().extend(items.iter().cloned());
        Ok(items.iter().map(verdict).collect())
    }
}

impl JudgeSource for FakeJudges {
    fn open_judge(&self, selector: &str) -> Result<Box<dyn Judge>, PluginFailure> {
        if selector.is_empty() || selector == "nope" {
            return Err(failure("plugin::selector", FailureKind::Misuse, "invalid judge"));
        }
        Ok(Box::new(FakeJudge {
            info: JudgeInfo {
                identity: identity(self.name, &[]),
                mode: self.mode,
                suggested_threshold: 0.1,
                is_deterministic: true,
                batch_max: 3,
            },
            score: self.score.clone(),
            seen: self.seen.clone(),
            failures: self.failures.clone(),
            fails_on: self.fails_on,
        }))
    }
}

type Answer = dyn Fn(&TeacherRequest, usize) -> Result<String, PluginFailure> + Send + Sync;

/// Teachers that share one script; the number counts all requests.
pub struct FakeTeachers {
    pub name: &'static str,
    pub granted: Vec<&'static str>,
    pub concurrency: usize,
    pub supports_seed: bool,
    pub opening: Option<PluginFailure>,
    pub answer: Arc<Answer>,
    pub asked: Arc<Mutex<Vec<TeacherRequest>>>,
    pub opened: Arc<Mutex<usize>>,
}

impl FakeTeachers {
    pub fn new(
        answer: impl Fn(&TeacherRequest, usize) -> Result<String, PluginFailure> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: "self",
            granted: Vec::new(),
            concurrency: 1,
            supports_seed: true,
            opening: None,
            answer: Arc::new(answer),
            asked: Arc::default(),
            opened: Arc::default(),
        }
    }

    pub fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct FakeTeacher {
    info: TeacherInfo,
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<TeacherRequest>>>,
}

impl Teacher for FakeTeacher {
    fn info(&self) -> &TeacherInfo {
        &self.info
    }

    fn complete(&mut self, request: &TeacherRequest) -> Result<TeacherCompletion, PluginFailure> {
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.clone());
            asked.len()
        };
        let text = (self.answer)(request, number)?;
        Ok(TeacherCompletion {
            text,
            is_truncated: false,
            usage: TeacherUsage {
                prompt_tokens: 10,
                completion_tokens: 5,
                requests: 1,
            },
        })
    }
}

impl TeacherSource for FakeTeachers {
    fn open_teacher(&self, selector: &str) -> Result<Box<dyn Teacher>, PluginFailure> {
        if selector == "nope" {
            return Err(failure("plugin::selector", FailureKind::Misuse, "invalid teacher"));
        }
        if let Some(failure) = &self.opening {
            return Err(failure.clone());
        }
        *self.opened.lock().unwrap() += 1;
        Ok(Box::new(FakeTeacher {
            info: TeacherInfo {
                identity: identity(self.name, &self.granted),
                supports_seed: self.supports_seed,
                concurrency_max: self.concurrency,
            },
            answer: self.answer.clone(),
            asked: self.asked.clone(),
        }))
    }
}
