//! The built-in judges: `sway` and `hf` over a model that is played, `cli` over programs that are played.

use std::sync::{Arc, Mutex};

use dlm_core::FailureKind;
use dlm_core::ports::judge::{Judge, JudgeItem, JudgeMode, JudgeSource, JudgeVerdict};
use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelFinish, ModelGeneration, ModelInfo, ModelMessage,
    ModelPrompt, ModelRole, ModelScore, ModelToken, ModelWeights, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::ports::plugin::PluginFailure;
use dlm_plugins::{Compile, GrantFlags, Plugins, Ports};
use serde_json::{Value, json};

use crate::fakes::{World, facts, finished};

/// A model that scores by a table and keeps what it was asked.
pub struct FakeModel {
    pub has_adapter: bool,
    /// Log-probability and token count of a completion, for each of the weights.
    pub scores: fn(&str, ModelWeights) -> (f64, u32),
    pub ranks: fn(&str) -> f64,
    /// The answer to every chat.
    pub text: &'static str,
    /// How a raw text goes on.
    pub continues: fn(&str) -> &'static str,
    pub scored: Mutex<Vec<Vec<ScoreRequest>>>,
    pub ranked: Mutex<Vec<Vec<RankRequest>>>,
    pub generated: Mutex<Vec<GenerateRequest>>,
}

impl Default for FakeModel {
    fn default() -> FakeModel {
        FakeModel {
            has_adapter: true,
            scores: |_, _| (-1.0, 2),
            ranks: |_| 0.0,
            text: "An answer.",
            continues: |_| "",
            scored: Mutex::default(),
            ranked: Mutex::default(),
            generated: Mutex::default(),
        }
    }
}

impl Model for FakeModel {
    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: "fake".to_owned(),
            revision: Some("12fd25f77366fa6b3b4b768ec3050bf629380bac".to_owned()),
            architecture: "llama".to_owned(),
            context_length: 2048,
            vocabulary_size: 49_152,
            has_adapter: self.has_adapter,
            adapter_version: self.has_adapter.then_some(3),
            has_chat_template: true,
        }
    }

    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError> {
        self.generated.lock().unwrap().extend_from_slice(requests);
        let answer = |request: &GenerateRequest| {
            let (text, finish) = match &request.prompt {
                ModelPrompt::Raw(text) => ((self.continues)(text), ModelFinish::Stop),
                ModelPrompt::Chat(_) => (self.text, ModelFinish::Length),
            };
            allowance.take(15)?;
            Ok(ModelGeneration {
                text: text.to_owned(),
                prompt_tokens: 11,
                completion_tokens: 4,
                finish,
            })
        };
        requests.iter().map(answer).collect()
    }

    fn score(&self, requests: &[ScoreRequest], allowance: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        self.scored.lock().unwrap().push(requests.to_vec());
        let score = |request: &ScoreRequest| {
            let (logprob, token_count) = (self.scores)(&request.completion, request.weights);
            allowance.take(u64::from(token_count))?;
            Ok(ModelScore {
                logprob,
                token_count,
                tokens: Vec::new(),
            })
        };
        requests.iter().map(score).collect()
    }

    fn rank(&self, requests: &[RankRequest], _: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        self.ranked.lock().unwrap().push(requests.to_vec());
        Ok(requests
            .iter()
            .map(|request| (self.ranks)(&request.completion))
            .collect())
    }

    fn next(&self, _: &[NextRequest], _: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        Err(ModelError::Unsupported("not played".to_owned()))
    }

    fn tokenize(&self, _: &str) -> Result<Vec<u32>, ModelError> {
        Err(ModelError::Unsupported("not played".to_owned()))
    }

    fn detokenize(&self, _: &[u32]) -> Result<String, ModelError> {
        Err(ModelError::Unsupported("not played".to_owned()))
    }

    fn render(&self, _: &[ModelMessage], _: bool) -> Result<String, ModelError> {
        Err(ModelError::Unsupported("not played".to_owned()))
    }
}

/// The played model under both names, and the selectors that were asked for.
#[derive(Default)]
pub struct FakeModels {
    pub model: Arc<FakeModel>,
    pub named: Mutex<Vec<String>>,
}

impl Models for FakeModels {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        Ok(self.model.clone())
    }

    fn named(&self, selector: &str) -> Result<Arc<dyn Model>, ModelError> {
        self.named.lock().unwrap().push(selector.to_owned());
        Ok(self.model.clone())
    }
}

pub fn plugins(world: &World, models: &Arc<FakeModels>, flags: &GrantFlags) -> Plugins {
    let ports = Ports {
        models: models.clone(),
        ..world.ports()
    };
    Plugins::new(facts(), ports, Compile::InMemory, flags).unwrap()
}

fn models(model: FakeModel) -> Arc<FakeModels> {
    Arc::new(FakeModels {
        model: Arc::new(model),
        named: Mutex::default(),
    })
}

fn item(prompt: &str, candidates: &[&str]) -> JudgeItem {
    JudgeItem {
        system: Some("Be brief.".to_owned()),
        prompt: prompt.to_owned(),
        candidates: candidates.iter().map(|text| (*text).to_owned()).collect(),
        reference: None,
    }
}

fn judge(models: &Arc<FakeModels>, selector: &str) -> Result<Box<dyn Judge>, PluginFailure> {
    plugins(&World::new(), models, &GrantFlags::default()).open_judge(selector)
}

#[test]
fn sway_prefers_what_training_raised() {
    let models = models(FakeModel {
        // The worked example of the specification: a -1.20/-1.90, b -0.95/-1.05 per token.
        scores: |text, weights| match (text, weights) {
            ("a", ModelWeights::Adapter) => (-12.0, 10),
            ("a", ModelWeights::Base) => (-19.0, 10),
            ("b", ModelWeights::Adapter) => (-19.0, 20),
            ("b", ModelWeights::Base) => (-21.0, 20),
            (_, ModelWeights::Adapter) => (-0.1, 1),
            (_, ModelWeights::Base) => (-0.4, 1),
        },
        ..FakeModel::default()
    });
    let mut sway = judge(&models, "sway").unwrap();
    let info = sway.info().clone();
    assert_eq!(
        (info.identity.name.as_str(), info.mode),
        ("sway:preference_judge", JudgeMode::Pointwise)
    );
    assert!((info.suggested_threshold - 0.1).abs() < 1e-12 && info.is_deterministic);
    assert_eq!(info.identity.granted, ["model:current"]);
    let verdicts = sway.score(&[item("q", &["a", "b"]), item("r", &["short"])]).unwrap();
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    close(verdicts[0].scores[0], 0.70);
    close(verdicts[0].scores[1], 0.10);
    close(verdicts[1].scores[0], 0.3 - 0.5);
    let reasoning = verdicts[0].reasoning.as_deref().unwrap();
    assert_eq!(
        reasoning,
        "a: adapter -1.200, base -1.900 nats per token | b: adapter -0.950, base -1.050 nats per token"
    );
    let scored = models.model.scored.lock().unwrap();
    assert_eq!(scored.len(), 1, "one call for the whole batch");
    assert_eq!(scored[0].len(), 6);
    let message = |role, content: &str| ModelMessage {
        role,
        content: content.to_owned(),
    };
    let chat = vec![message(ModelRole::System, "Be brief."), message(ModelRole::User, "q")];
    assert_eq!(scored[0][0].prompt, ModelPrompt::Chat(chat));
    assert_eq!(
        (scored[0][0].weights, scored[0][1].weights),
        (ModelWeights::Adapter, ModelWeights::Base)
    );
}

#[test]
fn sway_ft_is_the_formula_of_the_reference() {
    let models = models(FakeModel {
        scores: |_, _| (-42.0, 9),
        ..FakeModel::default()
    });
    let mut sway = judge(&models, "sway:ft").unwrap();
    assert_eq!(sway.info().identity.name, "sway:ft");
    let text = "A matrix multiply that can accumulate into C.";
    let verdicts = sway.score(&[item("What is FMA?", &[text])]).unwrap();
    assert!((verdicts[0].scores[0] - (-42.0 / 11.0)).abs() < 1e-9);
    let scored = models.model.scored.lock().unwrap();
    assert_eq!(scored[0].len(), 1);
    assert_eq!(scored[0][0].prompt, ModelPrompt::Raw("What is FMA?".to_owned()));
}

#[test]
fn sway_needs_an_adapter_and_no_other_argument() {
    let untrained = models(FakeModel {
        has_adapter: false,
        ..FakeModel::default()
    });
    let error = judge(&untrained, "sway")
        .unwrap()
        .score(&[item("q", &["a", "b"])])
        .unwrap_err();
    assert_eq!(error.code, "plugin::unavailable");
    assert!(error.to_string().contains("dlm train"), "{error}");
    let error = judge(&untrained, "sway:best").map(|_| ()).unwrap_err();
    assert_eq!((error.code, error.kind), ("plugin::invalid-input", FailureKind::Misuse));
}

#[test]
fn hf_gives_the_number_of_the_reward_model() {
    let models = models(FakeModel {
        ranks: |text| text.len() as f64,
        ..FakeModel::default()
    });
    let mut hf = judge(&models, "hf:org/reward").unwrap();
    assert_eq!(hf.info().identity.name, "hf:org/reward@12fd25f77366");
    assert!((hf.info().suggested_threshold - 1.0).abs() < 1e-12);
    assert_eq!(*models.named.lock().unwrap(), ["hf:org/reward"]);
    let verdicts = hf.score(&[item("q", &["a", "bbb"]), item("r", &["cc"])]).unwrap();
    assert_eq!(verdicts[0].scores, [1.0, 3.0]);
    assert_eq!(verdicts[1].scores, [2.0]);
    let ranked = models.model.ranked.lock().unwrap();
    assert_eq!(ranked.len(), 2, "one call an item, with all of its candidates");
    let chat = vec![ModelMessage {
        role: ModelRole::User,
        content: "q".to_owned(),
    }];
    assert_eq!(ranked[0][1].prompt, ModelPrompt::Chat(chat));
    assert!(judge(&models, "hf:").is_err());
    judge(&models, "hf:smollm2-135m").unwrap();
    assert_eq!(models.named.lock().unwrap().last().unwrap(), "smollm2-135m");
}

#[test]
fn a_reward_that_is_no_number_is_an_error() {
    let models = models(FakeModel {
        ranks: |_| f64::NAN,
        ..FakeModel::default()
    });
    let error = judge(&models, "hf:org/reward")
        .unwrap()
        .score(&[item("q", &["a", "b"])])
        .unwrap_err();
    assert!(error.to_string().contains("finite"), "{error}");
}

/// Asks `cli:score --fast` with a program that answers by a function.
fn ask_cli(
    world: &World,
    answer: impl Fn(&Vec<String>) -> dlm_core::ports::process::FinishedProcess + Send + 'static,
    candidates: &[&str],
) -> Result<JudgeVerdict, PluginFailure> {
    world.process.programs.lock().unwrap().push("score");
    world.answer_process(answer);
    let plugins = plugins(world, &Arc::default(), &GrantFlags::default());
    let mut judge = plugins.open_judge("cli:score --fast 'two words'").unwrap();
    assert_eq!(judge.info().identity.name, "cli:score --fast 'two words'");
    Ok(judge.score(&[item("q", candidates)])?.remove(0))
}

#[test]
fn cli_starts_one_process_a_candidate() {
    let world = World::new();
    let verdict = ask_cli(
        &world,
        |_| finished(0, "{\"score\": 0.5, \"reasoning\": \"fine\"}\n", "noise"),
        &["a", "b"],
    );
    let verdict = verdict.unwrap();
    assert_eq!(verdict.scores, [0.5, 0.5]);
    assert_eq!(verdict.reasoning.as_deref(), Some("a: fine | b: fine"));
    let ran = world.process.ran.lock().unwrap();
    assert_eq!(*ran, vec![vec!["/fake/bin/score", "--fast", "two words"]; 2]);
}

#[test]
fn each_row_of_the_table_has_its_class_and_message() {
    #[track_caller]
    fn fails(stdout: &'static str, code: &str, part: &str, tries: usize) {
        let world = World::new();
        let error = ask_cli(&world, move |_| finished(0, stdout, ""), &["a"]).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(world.process.ran.lock().unwrap().len(), tries);
    }
    fails("", "plugin::corrupt", "wrote nothing", 1);
    fails("{", "plugin::corrupt", "invalid JSON", 1);
    fails("[]", "plugin::corrupt", "not an object", 1);
    fails("{\"score\": true}", "plugin::corrupt", "numeric `score`", 1);
    fails("{\"score\": NaN}", "plugin::corrupt", "finite", 1);
    fails("{\"score\": 1, \"reasoning\": []}", "plugin::corrupt", "`reasoning`", 1);
    let world = World::new();
    let error = ask_cli(&world, |_| finished(3, "out", " broken \n"), &["a"]).unwrap_err();
    assert_eq!(error.code, "plugin::rejected");
    assert!(error.to_string().contains("exit code 3: broken"), "{error}");
    assert_eq!(world.process.ran.lock().unwrap().len(), 2, "tried once more");
    let world = World::new();
    let plugins = plugins(&world, &Arc::default(), &GrantFlags::default());
    let error = plugins
        .open_judge("cli:absent")
        .unwrap()
        .score(&[item("q", &["a"])])
        .unwrap_err();
    assert_eq!(error.code, "plugin::unavailable");
    assert!(
        error.to_string().contains("`absent` is not available on PATH"),
        "{error}"
    );
    for selector in ["cli", "cli:", "cli:  ", "cli:'open"] {
        let error = plugins.open_judge(selector).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, FailureKind::Misuse, "{selector}: {error}");
    }
}

#[test]
fn a_second_try_that_goes_well_counts() {
    let world = World::new();
    let runs = Mutex::new(0);
    let verdict = ask_cli(
        &world,
        move |_| {
            let mut runs = runs.lock().unwrap();
            *runs += 1;
            if *runs == 1 {
                finished(1, "", "busy")
            } else {
                finished(0, "{\"score\": 2}", "")
            }
        },
        &["a"],
    );
    assert_eq!(verdict.unwrap().scores, [2.0]);
    assert!(
        world.warnings().iter().any(|text| text.contains("trying once more")),
        "{:?}",
        world.warnings()
    );
}

#[test]
fn the_question_on_standard_input_is_the_contracts() {
    let world = World::new();
    let plugins = {
        let process = Arc::new(dlm_plugins::NativeProcess::new(
            vec!["/usr/bin".into(), "/bin".into()],
            vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        ));
        let ports = Ports {
            process,
            ..world.ports()
        };
        Plugins::new(facts(), ports, Compile::InMemory, &GrantFlags::default()).unwrap()
    };
    let directory = world.directory.path();
    let script = directory.join("score.sh");
    let seen = directory.join("seen.json");
    let text = format!(
        "#!/bin/sh\ncat > '{}'\nprintf '{{\"score\": %s}}' \"$DLM_JUDGE_PROTOCOL\"\n",
        seen.display()
    );
    std::fs::write(&script, text).unwrap();
    let selector = format!("cli:sh '{}'", script.display());
    let mut judge = plugins.open_judge(&selector).unwrap();
    let verdicts = judge.score(&[item("Wie groß?", &["\"drei\"\n"])]).unwrap();
    assert_eq!(verdicts[0].scores, [1.0], "DLM_JUDGE_PROTOCOL is 1");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen, "{\"prompt\": \"Wie groß?\", \"candidate\": \"\\\"drei\\\"\\n\"}");
    let value: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(value, json!({"prompt": "Wie groß?", "candidate": "\"drei\"\n"}));
}

#[test]
fn a_slow_command_is_stopped_after_the_typed_time() {
    let world = World::new();
    let process = Arc::new(dlm_plugins::NativeProcess::new(
        vec!["/usr/bin".into(), "/bin".into()],
        vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
    ));
    let ports = Ports {
        process,
        ..world.ports()
    };
    let flags = GrantFlags {
        options: vec!["cli.timeout=0.2".to_owned()],
        ..GrantFlags::default()
    };
    let plugins = Plugins::new(facts(), ports, Compile::InMemory, &flags).unwrap();
    let error = plugins
        .open_judge("cli:sleep 60")
        .unwrap()
        .score(&[item("q", &["a"])])
        .unwrap_err();
    assert_eq!(error.code, "plugin::timed-out");
    assert!(
        error.to_string().contains("`sleep 60` gave no answer within 0.2 s"),
        "{error}"
    );
}
