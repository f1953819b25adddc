//! The processor's engine behind the boundary does exactly what the model does, bit for bit.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy excuses the tests alone")]

use dlm_core::Cancel;
use dlm_core::training::{Checkpointing, MomentType};
use dlm_kernels::{AdamW, Ctx, Moments, Simd, global_norm};
use dlm_model::config::json::parse_config;
use dlm_model::engine::{AdamWOptions, TensorGradient, TrainerOptions};
use dlm_model::safetensors_dir::SafetensorsDir;
use dlm_model::{
    Adapter, AdapterKind, Batch, CpuEngine, Engine, EngineError, LoadOptions, Model, PrecisionPaths, ReaderOptions,
    Session, SessionError, StepOptions, Target, TargetKind, prefill_batch, read_batch, step_batch,
};
use dlm_testkit::architectures::{ALL, dir};
use dlm_testkit::tiny::{self, sequences};

fn engine(name: &str) -> CpuEngine {
    let config = parse_config(&std::fs::read(dir(name).join("config.json")).unwrap()).unwrap();
    let weights = SafetensorsDir::open(&dir(name)).unwrap();
    let options = LoadOptions::exact(Ctx::new(2, Simd::detect()));
    CpuEngine::new(Model::load(config, &weights, options).unwrap())
}

fn adapter(engine: &CpuEngine, kind: AdapterKind) -> Adapter {
    tiny::adapter(engine.model(), kind, 0.1)
}

/// A batch of all sequences with a token for every row but the last, and one distribution.
fn taught() -> (Batch, Vec<Target>) {
    let all = sequences();
    let batch = Batch::packed(&all);
    let mut targets = Vec::new();
    for (sequence, segment) in all.iter().zip(&batch.segments) {
        targets.extend(sequence.iter().enumerate().skip(1).map(|(i, token)| Target {
            row: segment.q.start + i - 1,
            kind: TargetKind::Token(*token),
            weight: 0.02,
        }));
    }
    let distribution = TargetKind::TopK {
        ids: vec![3, 30],
        probs: vec![0.5, 0.25],
    };
    targets.insert(
        1,
        Target {
            row: 12,
            kind: distribution,
            weight: 0.5,
        },
    );
    (batch, targets)
}

#[test]
fn a_trainer_takes_the_steps_of_the_kernels() {
    const SEED: u64 = 11;
    const CLIP: f64 = 0.25;
    let (batch, targets) = taught();
    for (kind, moments) in [
        (AdapterKind::Lora, MomentType::F32),
        (AdapterKind::Dora, MomentType::F32),
        (AdapterKind::Dora, MomentType::EightBit),
    ] {
        let engine = engine("llama");
        let model = engine.model();
        let mut expected = adapter(&engine, kind);
        let options = TrainerOptions {
            optimizer: AdamWOptions {
                moments,
                ..AdamWOptions::USUAL
            },
            clip: Some(CLIP),
            checkpointing: Checkpointing::ALL,
        };
        let mut trainer = engine.trainer(&expected, &options).unwrap();
        let len = expected.params.len();
        let mut moments = match moments {
            MomentType::F32 => Moments::full(len),
            MomentType::EightBit => Moments::eight_bit(len),
        };
        for step in 1..=3 {
            let pass = StepOptions {
                dropout_seed: Some(SEED + step),
                checkpointing: Checkpointing::default(),
            };
            let forward = model.forward_train(Some(&expected), &batch, &pass).unwrap();
            let (mut d_hidden, mut grads) = (vec![0.0; forward.hidden().len()], vec![0.0; len]);
            let loss = model.head_loss(forward.hidden(), &targets, &mut d_hidden);
            model.backward(forward, &expected, &d_hidden, &mut grads);
            let settings = AdamW {
                lr: 1e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.0,
            };
            let norm = global_norm(&model.ctx, &grads);
            let scale = (CLIP / (norm + 1e-6)).min(1.0) as f32;
            moments.step(&model.ctx, &settings, (step, scale), &mut expected.params, &grads);

            let losses = trainer.pass(&batch, &targets, SEED + step).unwrap();
            assert_eq!(losses.len(), targets.len());
            assert_eq!(
                (losses[0], losses[1], losses[2]),
                (loss.nll[0], loss.kl[0], loss.nll[1])
            );
            let looks = trainer.gradients().unwrap();
            assert_eq!(looks.len(), expected.tensors().count());
            assert!(looks.iter().all(|look| *look == TensorGradient::Finite));
            assert_eq!(trainer.update(1e-3).unwrap(), norm);
            assert!(
                trainer
                    .gradients()
                    .unwrap()
                    .iter()
                    .all(|look| *look == TensorGradient::Zero)
            );
        }
        let tensors = trainer.read().unwrap();
        assert_eq!(
            (&tensors.params, &tensors.moments, tensors.updates),
            (&expected.params, &moments, 3)
        );

        // Another trainer goes on from there, and evaluates as a reader of the adapter does.
        let mut other = engine.trainer(&adapter(&engine, kind), &options).unwrap();
        other.write(&tensors).unwrap();
        let pairs = [(0, 31), (5, 40)];
        let own = other.logprobs(&batch, &pairs).unwrap();
        let mut reader = engine.reader(Some(&expected), ReaderOptions::default()).unwrap();
        assert_eq!(own, reader.logprobs(&batch, &pairs).unwrap());
        for trainer in [&mut trainer, &mut other] {
            trainer.pass(&batch, &targets, SEED).unwrap();
            trainer.update(1e-3).unwrap();
        }
        assert_eq!(trainer.read().unwrap(), other.read().unwrap());
    }
}

#[test]
fn a_loss_that_is_no_number_adds_no_gradient() {
    let engine = engine("llama");
    let mut broken = adapter(&engine, AdapterKind::Lora);
    broken.params.fill(f32::NAN);
    let options = TrainerOptions {
        optimizer: AdamWOptions::USUAL,
        clip: None,
        checkpointing: Checkpointing::default(),
    };
    let mut trainer = engine.trainer(&broken, &options).unwrap();
    let (batch, targets) = taught();
    let losses = trainer.pass(&batch, &targets, 1).unwrap();
    assert!(losses.iter().any(|loss| !loss.is_finite()));
    assert!(
        trainer
            .gradients()
            .unwrap()
            .iter()
            .all(|look| *look == TensorGradient::Zero)
    );
}

#[test]
fn a_reader_says_what_sessions_say() {
    for name in ALL {
        let engine = engine(name);
        let adapter = adapter(&engine, AdapterKind::Dora);
        let (model, all) = (engine.model(), sequences());
        let prompts: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        let mut reader = engine.reader(Some(&adapter), ReaderOptions::default()).unwrap();
        let (mut logits, mut expected) = (Vec::new(), Vec::new());

        // One sequence, as a person's question is read.
        let mut session = Session::new(model, Some(&adapter), 64);
        let id = reader.open(64).unwrap();
        reader.read(&[id], &prompts[..1], &mut logits).unwrap();
        assert_eq!(logits, session.prefill(prompts[0]).unwrap(), "{name}");
        for token in [30, 41, 52] {
            reader.step(&[id], &[token], &mut logits).unwrap();
            assert_eq!(logits, session.step(token).unwrap(), "{name}");
        }
        let fork = reader.fork(id, 32).unwrap();
        reader.close(id);
        reader.step(&[fork], &[63], &mut logits).unwrap();
        assert_eq!(logits, session.step(63).unwrap(), "{name}");
        reader.close(fork);

        // Several side by side.
        let mut sessions: Vec<Session<'_>> = all.iter().map(|_| Session::new(model, Some(&adapter), 64)).collect();
        let mut refs: Vec<&mut Session<'_>> = sessions.iter_mut().collect();
        prefill_batch(&mut refs, &prompts, &mut expected).unwrap();
        let ids: Vec<_> = all.iter().map(|_| reader.open(64).unwrap()).collect();
        reader.read(&ids, &prompts, &mut logits).unwrap();
        assert_eq!(logits, expected, "{name}");
        step_batch(&mut refs, &[30, 41, 52], &mut expected).unwrap();
        reader.step(&ids, &[30, 41, 52], &mut logits).unwrap();
        assert_eq!(logits, expected, "{name}");
        assert_eq!(logits.len(), 3 * engine.facts().vocab);
    }
}

#[test]
fn a_prompt_read_alone_has_the_bits_of_one_read_with_others() {
    for name in ALL {
        let engine = engine(name);
        let mut reader = engine.reader(None, ReaderOptions::default()).unwrap();
        for prompt in sequences() {
            let (mut alone, mut batched) = (Vec::new(), Vec::new());
            let id = reader.open(64).unwrap();
            reader.read(&[id], &[&prompt], &mut alone).unwrap();
            let mut session = Session::new(engine.model(), None, 64);
            prefill_batch(&mut [&mut session], &[&prompt], &mut batched).unwrap();
            assert_eq!(alone, batched, "{name}");
        }
    }
}

#[test]
fn fixed_precision_paths_read_what_a_session_holds_already() {
    let engine = engine("llama");
    let precision_paths = PrecisionPaths::PACKED;
    let mut reader = engine
        .reader(
            None,
            ReaderOptions {
                precision_paths,
                ..ReaderOptions::default()
            },
        )
        .unwrap();
    let all = sequences();
    let prompts: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
    let new = |_| Session::on_precision_paths(engine.model(), None, 64, precision_paths);
    let mut sessions: Vec<Session<'_>> = all.iter().map(new).collect();
    let mut refs: Vec<&mut Session<'_>> = sessions.iter_mut().collect();
    let ids: Vec<_> = all.iter().map(|_| reader.open(64).unwrap()).collect();
    let (mut logits, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        read_batch(&mut refs, &prompts, &mut expected).unwrap();
        reader.read(&ids, &prompts, &mut logits).unwrap();
        assert_eq!(logits, expected);
    }
    let batch = Batch::packed(&all);
    let pairs = [(0, 31), (20, 40)];
    let alone = reader.logprobs(&Batch::packed(&all[..1]), &pairs[..1]).unwrap();
    assert_eq!(alone, reader.logprobs(&batch, &pairs).unwrap()[..1]);
}

#[test]
fn a_session_that_is_not_open_is_refused_and_the_others_are_unharmed() {
    let engine = engine("llama");
    let mut reader = engine.reader(None, ReaderOptions::default()).unwrap();
    let (first, second) = (reader.open(8).unwrap(), reader.open(8).unwrap());
    let mut logits = Vec::new();
    let refusal = |result: Result<(), EngineError>| match result.unwrap_err() {
        EngineError::Session(error) => error,
        other => panic!("{other}"),
    };
    let twice = reader.read(&[first, first], &[&[5], &[6]], &mut logits);
    assert_eq!(refusal(twice), SessionError::NotOpen { session: 0 });
    let full = reader.read(&[first], &[&[5; 9]], &mut logits);
    assert!(matches!(refusal(full), SessionError::ContextFull { .. }));
    reader.read(&[first, second], &[&[5, 6], &[7]], &mut logits).unwrap();
    reader.close(second);
    let closed = reader.step(&[first, second], &[5, 6], &mut logits);
    assert_eq!(refusal(closed), SessionError::NotOpen { session: 1 });
    reader.step(&[first], &[5], &mut logits).unwrap();
    assert_eq!(reader.open(8).unwrap(), second, "the gap is filled");
}

/// What ranks and what checks an export: hidden states and logits of a whole batch.
#[test]
fn a_reader_says_what_a_forward_says() {
    for name in ALL {
        let engine = engine(name);
        let adapter = adapter(&engine, AdapterKind::Lora);
        let (model, batch) = (engine.model(), Batch::packed(&sequences()));
        let forward = model.forward_eval(Some(&adapter), &batch).unwrap();
        let rows: Vec<usize> = (0..batch.len()).collect();
        let mut reader = engine.reader(Some(&adapter), ReaderOptions::default()).unwrap();
        assert_eq!(reader.hidden(&batch, &rows).unwrap(), forward.hidden(), "{name}");
        assert_eq!(
            reader.logits(&batch, &rows).unwrap(),
            model.logits(forward.hidden()),
            "{name}"
        );
        // Packed, a row does not depend on which others are asked for.
        let precision_paths = PrecisionPaths::PACKED;
        let mut packed = engine
            .reader(
                Some(&adapter),
                ReaderOptions {
                    precision_paths,
                    ..ReaderOptions::default()
                },
            )
            .unwrap();
        let all = packed.logits(&batch, &rows).unwrap();
        let vocab = packed.facts().vocab;
        assert_eq!(
            packed.logits(&batch, &[5]).unwrap(),
            all[5 * vocab..6 * vocab],
            "{name}"
        );
    }
}

/// Every call ends at once, the largest pass before its first block.
#[test]
fn a_raised_flag_ends_every_call() {
    let engine = engine("llama");
    let cancel = Cancel::new();
    let options = ReaderOptions {
        cancel: cancel.below(),
        ..ReaderOptions::default()
    };
    let mut reader = engine.reader(None, options).unwrap();
    let id = reader.open(64).unwrap();
    let mut logits = Vec::new();
    reader.read(&[id], &[&[5, 6, 7]], &mut logits).unwrap();
    let batch = Batch::packed(&sequences());
    cancel.cancel();
    let ended = [
        reader.read(&[id], &[&[8, 9]], &mut logits).unwrap_err(),
        reader.step(&[id], &[8], &mut logits).unwrap_err(),
        reader.hidden(&batch, &[0]).unwrap_err(),
        reader.logits(&batch, &[0]).unwrap_err(),
        reader.logprobs(&batch, &[(0, 31)]).unwrap_err(),
    ];
    assert!(ended.iter().all(EngineError::is_cancelled), "{ended:?}");
}

#[test]
fn every_part_is_called_once() {
    let engine = engine("llama");
    let reader = engine.reader(None, ReaderOptions::default()).unwrap();
    let calls: Vec<_> = (0..40).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    reader.on_threads(calls.len(), &|part| {
        calls[part].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(
        calls
            .iter()
            .all(|calls| calls.load(std::sync::atomic::Ordering::Relaxed) == 1)
    );
}
