//! The models behind the port: opened by document and by name, loaded once, the same answers whatever they are asked with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "models/counted.rs"]
mod counted;
#[path = "models/world.rs"]
mod world;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dlm_core::hardware::SimdLevel;
use dlm_core::ports::model::{
    GenerateRequest, ModelAllowance, ModelError, ModelFinish, ModelMessage, ModelPrompt, ModelRole, ModelSampling,
    ModelWeights, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::{Cancel, Quiet};
use dlm_flow::Surroundings;
use dlm_flow::models::EngineModels;
use dlm_model::{Batch, Cpu, CpuEngine, CpuOptions, Engine, ReaderOptions};
use world::{COMMIT, Directories, GIB, Still, World, chat, generate, golden, hardware, open, refused, sampling, score};

#[test]
fn a_document_answers_with_its_base_and_after_training_with_its_adapter() {
    let world = World::new();
    let path = world.document("hf:org/name");
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let before = world.models(Some(&path)).current().unwrap();
    let info = before.info();
    assert_eq!(
        (info.name.as_str(), info.revision.as_deref()),
        ("hf:org/name", Some(COMMIT))
    );
    assert_eq!((info.context_length, info.vocabulary_size), (512, 320));
    assert!(!info.has_adapter && info.adapter_version.is_none() && info.has_chat_template);
    assert_eq!(info.architecture, "LlamaForCausalLM");
    assert_eq!(world.heard.count("loading"), 0, "opening loads nothing");
    let asked = |weights| score(chat("Who?"), "The river.", weights);
    let error = refused(before.score(&[asked(ModelWeights::Adapter)], &allowed));
    assert!(
        matches!(&error, ModelError::Unavailable(what) if what.contains("dlm train")),
        "{error:?}"
    );
    assert_eq!(world.heard.count("loading"), 0, "a refusal loads nothing");
    let base = before.score(&[asked(ModelWeights::Base)], &allowed).unwrap().remove(0);

    world.train(&path);
    let models = world.models(Some(&path));
    let after = models.current().unwrap();
    assert!(Arc::ptr_eq(&after, &models.current().unwrap()));
    assert_eq!(
        (after.info().has_adapter, after.info().adapter_version),
        (true, Some(1))
    );
    let both = [
        asked(ModelWeights::Adapter),
        asked(ModelWeights::Base),
        asked(ModelWeights::Adapter),
    ];
    let found = after.score(&both, &allowed).unwrap();
    assert_eq!(found[1], base, "the base under an adapter is the base");
    assert_ne!(found[0].logprob, found[1].logprob);
    assert_eq!(found[0], found[2]);
    // The same base by its name shares the weights.
    let named = open(&models, "hf:org/name");
    assert!(!named.info().has_adapter);
    assert_eq!(named.score(&[asked(ModelWeights::Base)], &allowed).unwrap()[0], base);
    assert_eq!(world.heard.count("loading hf:org/name"), 2, "once in either run");
    assert!(matches!(
        refused(named.score(&[asked(ModelWeights::Adapter)], &allowed)),
        ModelError::Unavailable(_)
    ));
}

#[test]
fn a_seeded_answer_is_the_same_in_every_batch() {
    let world = World::new();
    let path = world.document("hf:org/name");
    world.train(&path);
    let model = world.models(Some(&path)).current().unwrap();
    let requests = [
        generate(chat("What?"), ModelWeights::Adapter, sampling(1.2, Some(1))),
        generate(chat("What?"), ModelWeights::Adapter, sampling(1.2, Some(2))),
        generate(chat("What?"), ModelWeights::Base, sampling(1.2, Some(1))),
        generate(chat("Where is the ferry?"), ModelWeights::Adapter, sampling(0.0, None)),
        generate(
            ModelPrompt::Raw("Once".to_owned()),
            ModelWeights::Adapter,
            sampling(1.5, Some(3)),
        ),
    ];
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let together = model.generate(&requests, &allowed).unwrap();
    for (request, answer) in requests.iter().zip(&together) {
        let alone = model.generate(std::slice::from_ref(request), &allowed).unwrap();
        assert_eq!(&alone[0], answer);
        assert!(answer.completion_tokens <= 12);
        assert_eq!(answer.finish == ModelFinish::Length, answer.completion_tokens == 12);
    }
    assert_ne!(together[0].text, together[1].text, "another seed");
    assert_ne!(together[0].text, together[2].text, "other weights");
    // Without a seed every request draws one.
    let unseeded = vec![generate(chat("What?"), ModelWeights::Base, sampling(1.5, None)); 2];
    let drawn = model.generate(&unseeded, &allowed).unwrap();
    assert_ne!(drawn[0].text, drawn[1].text);
}

#[test]
fn a_score_counts_the_end_of_the_turn_after_a_chat_only() {
    let world = World::new();
    let model = open(&world.models(None), "hf:org/name");
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let tokens = model.tokenize("The river.").unwrap();
    let requests = [
        score(chat("Who?"), "The river.", ModelWeights::Base),
        score(ModelPrompt::Raw("Who? ".to_owned()), "The river.", ModelWeights::Base),
        score(chat("Who?"), "", ModelWeights::Base),
    ];
    let found = model.score(&requests, &allowed).unwrap();
    let ids = |at: usize| found[at].tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    assert_eq!(ids(0), [&tokens[..], &[2]].concat());
    assert_eq!(ids(1), tokens);
    assert_eq!(ids(2), [2]);
    assert_eq!(found[0].tokens.last().unwrap().text, "<|im_end|>");
    let text: String = found[1].tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(text, "The river.");
    for score in &found {
        assert_eq!(score.token_count as usize, score.tokens.len());
        let sum: f64 = score.tokens.iter().map(|token| f64::from(token.logprob)).sum();
        assert_eq!(score.logprob, sum);
    }
    // The rendered chat as plain text, the answer with its end: the same ids, so the same bits.
    let ModelPrompt::Chat(messages) = chat("Who?") else {
        panic!()
    };
    let rendered = model.render(&messages, true).unwrap();
    let plain = score(ModelPrompt::Raw(rendered), "The river.<|im_end|>", ModelWeights::Base);
    assert_eq!(model.score(&[plain], &allowed).unwrap()[0].logprob, found[0].logprob);
    let silent = ScoreRequest {
        is_per_token: false,
        ..requests[0].clone()
    };
    let silent = model.score(&[silent], &allowed).unwrap().remove(0);
    assert!(silent.tokens.is_empty());
    assert_eq!(
        (silent.logprob, silent.token_count),
        (found[0].logprob, found[0].token_count)
    );
}

/// `log p` of the tokens after the first `given`, from the logits of one pass over the whole sequence, in f64.
fn brute_force(directory: &Path, ids: &[u32], given: usize) -> f64 {
    let base = dlm_model::open_base(directory).unwrap();
    let engine = CpuEngine::load(&Cpu::new(1, SimdLevel::Scalar), &base, &CpuOptions::EXACT).unwrap();
    let mut reader = engine.reader(None, ReaderOptions::default()).unwrap();
    let all: Vec<usize> = (0..ids.len()).collect();
    let logits = reader.logits(&Batch::packed(&[ids]), &all).unwrap();
    let rows = logits.chunks_exact(engine.facts().vocab);
    let logprob = |(row, token): (&[f32], &u32)| {
        let total: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
        f64::from(row[*token as usize]) - total.ln()
    };
    rows.zip(&ids[1..]).skip(given - 1).map(logprob).sum()
}

/// The border between prompt and completion is one of ids, also for a tokenizer that puts a blank in front of every text.
#[test]
fn scores_are_those_of_the_joined_ids() {
    let world = World::new();
    let models = world.models(None);
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    for (name, directory) in &world.hub.models {
        if !matches!(*name, "org/name" | "org/other" | "org/spaced") {
            continue;
        }
        let model = open(&models, &format!("hf:{name}"));
        let raw = |text: &str| ModelPrompt::Raw(text.to_owned());
        for (prompt, completion) in [
            (raw("hello wor"), "ld he"),
            (chat("a bad idea"), "hello"),
            (raw("a "), " b"),
        ] {
            let found = model
                .score(&[score(prompt.clone(), completion, ModelWeights::Base)], &allowed)
                .unwrap()
                .remove(0);
            let text = match &prompt {
                ModelPrompt::Raw(text) => text.clone(),
                ModelPrompt::Chat(messages) => model.render(messages, true).unwrap(),
            };
            let mut ids = model.tokenize(&text).unwrap();
            if *name == "org/spaced" && matches!(prompt, ModelPrompt::Raw(_)) {
                ids.insert(0, 1);
            }
            let given = ids.len();
            ids.extend(model.tokenize(completion).unwrap());
            if matches!(prompt, ModelPrompt::Chat(_)) {
                ids.push(2);
            }
            let scored: Vec<u32> = found.tokens.iter().map(|token| token.id).collect();
            assert_eq!(scored, ids[given..], "{name} {prompt:?}");
            let expected = brute_force(directory, &ids, given);
            assert!(
                (found.logprob - expected).abs() < 1e-4,
                "{name}: {} for {expected}",
                found.logprob
            );
        }
    }
    let spaced = open(&models, "hf:org/spaced");
    let found = spaced
        .score(
            &[score(ModelPrompt::Raw("a".to_owned()), "he", ModelWeights::Base)],
            &allowed,
        )
        .unwrap();
    let texts: Vec<&str> = found[0].tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, [" he"], "the token as it continues a text");
    assert_ne!(
        spaced.tokenize("ahe").unwrap()[1..],
        [found[0].tokens[0].id],
        "tokenized anew it would be another"
    );
}

#[test]
fn next_tokens_agree_with_scores() {
    let world = World::new();
    let model = open(&world.models(None), "hf:org/other");
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let request = |top| NextRequest {
        prompt: ModelPrompt::Raw("The".to_owned()),
        weights: ModelWeights::Base,
        top,
    };
    let list = model.next(&[request(5), request(256)], &allowed).unwrap();
    assert_eq!((list[0].len(), list[1].len()), (5, 256));
    assert_eq!(list[0], list[1][..5]);
    for bad in [0, 257] {
        assert!(matches!(
            refused(model.next(&[request(bad)], &allowed)),
            ModelError::InvalidInput(_)
        ));
    }
}

#[test]
fn a_reward_model_ranks_and_does_nothing_else() {
    let world = World::new();
    let models = world.models(None);
    let reward = open(&models, "hf:org/reward");
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let rank = |prompt, completion: &str| RankRequest {
        prompt,
        completion: completion.to_owned(),
    };
    let requests = [
        rank(chat("Who?"), "The river."),
        rank(chat("Who?"), "No."),
        rank(ModelPrompt::Raw("Who?".to_owned()), "The river."),
    ];
    let found = reward.rank(&requests, &allowed).unwrap();
    assert!(found.iter().all(|value| value.is_finite()) && found[0] != found[1] && found[0] != found[2]);
    for (request, value) in requests.iter().zip(&found) {
        assert_eq!(reward.rank(std::slice::from_ref(request), &allowed).unwrap()[0], *value);
    }
    // The head is the output row of token 42: its number is that token's logit, up to a constant of the prompt.
    let next = |completion: &str| {
        let causal = open(&models, "hf:org/name");
        let ModelPrompt::Chat(mut messages) = chat("Who?") else {
            panic!()
        };
        messages.push(ModelMessage {
            role: ModelRole::Assistant,
            content: completion.to_owned(),
        });
        let prompt = ModelPrompt::Raw(causal.render(&messages, false).unwrap());
        let request = |id: u32| ScoreRequest {
            prompt: prompt.clone(),
            completion: causal.detokenize(&[id]).unwrap(),
            weights: ModelWeights::Base,
            is_per_token: true,
        };
        let scores = causal.score(&[request(42)], &allowed).unwrap();
        assert_eq!(scores[0].tokens[0].id, 42);
        scores[0].logprob
    };
    // log p = logit - log sum, so the difference is the log of the sum: the same order of size, and finite.
    assert!((found[0] - next("The river.")) > 0.0);
    assert_eq!(world.heard.count("left out"), 0);
    let long = rank(chat(&"very long ".repeat(300)), "No.");
    reward.rank(&[long], &allowed).unwrap();
    assert_eq!(world.heard.count("left out"), 1, "a cut is reported");

    let request = generate(chat("Who?"), ModelWeights::Base, sampling(0.0, None));
    assert!(matches!(
        refused(reward.generate(&[request], &allowed)),
        ModelError::Unsupported(_)
    ));
    let asked = score(chat("Who?"), "No.", ModelWeights::Base);
    assert!(matches!(
        refused(reward.score(&[asked], &allowed)),
        ModelError::Unsupported(_)
    ));
    let causal = open(&models, "hf:org/name");
    let error = refused(causal.rank(&requests, &allowed));
    assert!(
        matches!(&error, ModelError::Unsupported(what) if what.contains("LlamaForCausalLM")),
        "{error:?}"
    );
    let error = refused(models.named("hf:org/many"));
    assert!(
        matches!(&error, ModelError::Failed(what) if what.contains("3 labels")),
        "{error:?}"
    );
}

#[test]
fn a_reward_model_on_disk_is_added_under_a_name() {
    let world = World::new();
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let around = Surroundings {
        home: world.home(),
        disk: dlm_store::Disk::new(),
        hardware: hardware(12 * GIB),
        clock: Arc::new(Still),
        random: Arc::new(|bytes| bytes.fill(7)),
        progress: Arc::new(Quiet),
        cancel: allowed.cancel.clone(),
        hub: world.hub.clone(),
        trial: Arc::new(dlm_core::ports::text_trial::NoTrial),
        hub_root: "https://hub.example".to_owned(),
        is_forced: false,
        has_terminal: false,
        version: "0",
    };
    let record = dlm_flow::base::add(&around, "taste", &world.directory.path().join("reward")).unwrap();
    assert_eq!(record.architecture, "LlamaForSequenceClassification");
    assert_eq!((record.context_length, record.sha256.len()), (512, 64));
    let failure = dlm_flow::base::add(&around, "many", &world.directory.path().join("many")).unwrap_err();
    assert!(failure.message().contains("3 labels"), "{failure:?}");
    let request = [RankRequest {
        prompt: chat("Who?"),
        completion: "The river.".to_owned(),
    }];
    let models = world.models(None);
    let found =
        ["taste", "local:taste", "hf:org/reward"].map(|name| open(&models, name).rank(&request, &allowed).unwrap());
    assert!(found[0] == found[1] && found[0] == found[2], "{found:?}");
    // It is no base to train.
    let failure = dlm_flow::base::open(&around, "taste", false).map(|_| ()).unwrap_err();
    assert!(
        failure
            .message()
            .contains("`LlamaForSequenceClassification` is not supported"),
        "{failure:?}"
    );
}

#[test]
fn selectors_that_name_nothing_are_told_apart() {
    let world = World::new();
    let models = world.models(None);
    let error = refused(models.current());
    assert!(matches!(error, ModelError::Unavailable(_)), "{error:?}");
    for (selector, word) in [
        ("smolm2-135m", "did you mean `smollm2-135m`"),
        ("local:mine", "dlm base add mine"),
        ("hf:org/absent", "org/absent"),
    ] {
        let error = refused(models.named(selector));
        assert!(
            matches!(&error, ModelError::NotFound(what) if what.contains(word)),
            "{selector}: {error:?}"
        );
    }
    for selector in ["hf:", "hf:a/../b", "path:x"] {
        let error = refused(models.named(selector));
        assert!(matches!(error, ModelError::InvalidInput(_)), "{selector}: {error:?}");
    }
    let error = refused(models.named("gemma-2-2b-it"));
    assert!(
        matches!(&error, ModelError::Unavailable(what) if what.contains("gemma/terms")),
        "{error:?}"
    );
}

#[test]
fn a_license_that_the_document_has_accepted_counts_for_its_base_by_name() {
    let world = World::new();
    let path = world.document("gemma-2-2b-it");
    let models = world.models(Some(&path));
    assert_eq!(open(&models, "gemma-2-2b-it").info().name, "gemma-2-2b-it");
    let error = refused(models.named("llama-3.2-1b"));
    assert!(
        matches!(&error, ModelError::Unavailable(what) if what.contains("llama3_2/license")),
        "{error:?}"
    );
}

#[test]
fn a_name_is_opened_once_and_offline_the_cache_serves() {
    let world = World::new();
    let models = world.models(None);
    let first = open(&models, "hf:org/other");
    let asked = world.hub.asked.load(Ordering::SeqCst);
    assert!(Arc::ptr_eq(&first, &open(&models, "hf:org/other")));
    assert_eq!(world.hub.asked.load(Ordering::SeqCst), asked);
    let mut setup = world.setup(None);
    setup.around.hub = Arc::new(Directories {
        models: vec![("org/other", golden("qwen3"))],
        is_offline: true,
        ..Directories::default()
    });
    let offline = EngineModels::new(setup);
    assert_eq!(open(&offline, "hf:org/other").info().revision.as_deref(), Some(COMMIT));
    let error = refused(offline.named("hf:org/name"));
    assert!(
        matches!(&error, ModelError::Unavailable(what) if what.contains("HF_HUB_OFFLINE")),
        "{error:?}"
    );
}

#[test]
fn weights_that_do_not_fit_are_refused_before_loading() {
    let world = World::new();
    let request = [score(chat("Who?"), "No.", ModelWeights::Base)];
    let run = |free, is_forced| {
        let mut setup = world.setup(None);
        setup.around.hardware = hardware(free);
        setup.around.is_forced = is_forced;
        let models = EngineModels::new(setup);
        let first = open(&models, "hf:org/name")
            .score(&request, &ModelAllowance::unbounded(&Cancel::new()))
            .map(|_| ());
        (
            first,
            open(&models, "hf:org/other")
                .score(&request, &ModelAllowance::unbounded(&Cancel::new()))
                .map(|_| ()),
        )
    };
    let error = refused(run(1000, false).0);
    assert!(
        matches!(&error, ModelError::Unavailable(what) if what.contains("DLM_FORCE=1")),
        "{error:?}"
    );
    assert!(matches!(run(1000, true), (Ok(()), Ok(()))));
    // Room for the first of the two.
    let bytes = std::fs::metadata(golden("llama").join("model.safetensors"))
        .unwrap()
        .len();
    let (first, second) = run(bytes + 1000, false);
    assert!(first.is_ok());
    assert!(matches!(refused(second), ModelError::Unavailable(_)));
}

#[test]
fn texts_go_there_and_back() {
    let world = World::new();
    let model = open(&world.models(None), "hf:org/name");
    let ids = model.tokenize("The 日本 river.<|im_end|>").unwrap();
    assert_eq!(ids.last(), Some(&2));
    assert_eq!(model.detokenize(&ids).unwrap(), "The 日本 river.<|im_end|>");
    assert!(matches!(
        refused(model.detokenize(&[99_999])),
        ModelError::InvalidInput(_)
    ));
    let ModelPrompt::Chat(messages) = chat("Who?") else {
        panic!()
    };
    let open = model.render(&messages, true).unwrap();
    assert!(open.ends_with("<|im_start|>assistant\n"), "{open}");
    assert_eq!(
        open,
        model.render(&messages, false).unwrap() + "<|im_start|>assistant\n"
    );
}

#[test]
fn wrong_requests_are_refused_with_their_numbers() {
    let world = World::new();
    let model = open(&world.models(None), "hf:org/name");
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let ask = |prompt: &str, sampling: ModelSampling| {
        refused(model.generate(
            &[generate(
                ModelPrompt::Raw(prompt.to_owned()),
                ModelWeights::Base,
                sampling,
            )],
            &allowed,
        ))
    };
    let told = |error: ModelError, word: &str| {
        assert!(
            matches!(&error, ModelError::InvalidInput(what) if what.contains(word)),
            "{error:?}"
        );
    };
    let long = ModelSampling {
        new_tokens_max: 510,
        ..sampling(0.0, None)
    };
    told(ask("a b c d", long), "a context of 512");
    told(ask("", sampling(0.0, None)), "no tokens");
    told(ask("a", sampling(-1.0, None)), "temperature");
    let none = ModelSampling {
        new_tokens_max: 0,
        ..sampling(0.0, None)
    };
    told(ask("a", none), "max-new-tokens");
    let raw = |text: &str| ModelPrompt::Raw(text.to_owned());
    let long = score(raw("a"), &"word ".repeat(600), ModelWeights::Base);
    told(refused(model.score(&[long], &allowed)), "a context of 512");
    told(
        refused(model.score(&[score(raw("a"), "", ModelWeights::Base)], &allowed)),
        "no tokens",
    );
    told(
        refused(model.score(&[score(raw(""), "a", ModelWeights::Base)], &allowed)),
        "no tokens",
    );
    allowed.cancel.cancel();
    let request = generate(chat("Who?"), ModelWeights::Base, sampling(1.0, Some(1)));
    assert_eq!(refused(model.generate(&[request], &allowed)), ModelError::Cancelled);
    let asked = score(chat("Who?"), "No.", ModelWeights::Base);
    assert_eq!(refused(model.score(&[asked], &allowed)), ModelError::Cancelled);
}

#[test]
fn a_stop_text_ends_an_answer() {
    let world = World::new();
    let model = open(&world.models(None), "hf:org/name");
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let free = generate(chat("What?"), ModelWeights::Base, sampling(1.2, Some(1)));
    let whole = model.generate(std::slice::from_ref(&free), &allowed).unwrap().remove(0);
    let (at, stop) = whole.text.char_indices().nth(2).unwrap();
    let stopped = GenerateRequest {
        sampling: ModelSampling {
            stop: vec![stop.to_string()],
            ..free.sampling.clone()
        },
        ..free
    };
    let cut = model.generate(&[stopped], &allowed).unwrap().remove(0);
    let first = whole.text.find(stop).unwrap();
    assert!(first <= at);
    assert_eq!(
        (cut.text.as_str(), cut.finish),
        (&whole.text[..first], ModelFinish::Stop)
    );
}

#[test]
fn threads_take_turns() {
    let world = World::new();
    let models = Arc::new(world.models(None));
    let asked = |seed| generate(chat("What?"), ModelWeights::Base, sampling(1.2, Some(seed)));
    let allowed = ModelAllowance::unbounded(&Cancel::new());
    let expected = open(&models, "hf:org/name")
        .generate(&[asked(1), asked(2)], &allowed)
        .unwrap();
    let threads: Vec<_> = (0..4)
        .map(|index| {
            let models = models.clone();
            std::thread::spawn(move || {
                let model = models.named("hf:org/name").unwrap();
                let seed = 1 + index % 2;
                let request = generate(chat("What?"), ModelWeights::Base, sampling(1.2, Some(seed)));
                (
                    seed,
                    model
                        .generate(&[request], &ModelAllowance::unbounded(&Cancel::new()))
                        .unwrap()
                        .remove(0),
                )
            })
        })
        .collect();
    for thread in threads {
        let (seed, answer) = thread.join().unwrap();
        assert_eq!(answer, expected[seed as usize - 1]);
    }
    assert_eq!(world.heard.count("loading"), 1);
}
