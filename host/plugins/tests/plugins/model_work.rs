//! Work of a model on a guest's behalf ends within the tokens of the run, the time of the call and the text of both, and when
//! the user cancels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dlm_core::ports::model::{
    GenerateRequest, Model, ModelAllowance, ModelError, ModelGeneration, ModelInfo, ModelMessage, ModelScore,
    ModelToken, Models, NextRequest, RankRequest, ScoreRequest,
};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::{Cancel, FailureKind};
use dlm_packages::{Kind, Limits, limits};
use dlm_plugins::{Compile, GrantFlags, Plugins};

use crate::bombs::{ask, built};
use crate::fakes::{World, facts};

/// Longer than any call may take, short enough for a test that fails.
const TOO_LONG: Duration = Duration::from_secs(60);

/// A model that makes a token a millisecond until something ends it.
#[derive(Default)]
struct Slow {
    texts: AtomicUsize,
}

impl Slow {
    fn work(&self, tokens: u64, allowance: &ModelAllowance) -> Result<(), ModelError> {
        let started = Instant::now();
        for _ in 0..tokens {
            assert!(started.elapsed() < TOO_LONG, "nothing ended the work");
            if allowance.cancel.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            allowance.take(1)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Model for Slow {
    fn info(&self) -> ModelInfo {
        unreachable!("nobody asks")
    }

    fn generate(
        &self,
        requests: &[GenerateRequest],
        allowance: &ModelAllowance,
    ) -> Result<Vec<ModelGeneration>, ModelError> {
        let tokens = requests
            .iter()
            .map(|request| u64::from(request.sampling.new_tokens_max));
        self.work(tokens.sum(), allowance).map(|()| Vec::new())
    }

    fn score(&self, requests: &[ScoreRequest], allowance: &ModelAllowance) -> Result<Vec<ModelScore>, ModelError> {
        self.work(requests.len() as u64, allowance).map(|()| Vec::new())
    }

    fn rank(&self, _: &[RankRequest], _: &ModelAllowance) -> Result<Vec<f64>, ModelError> {
        unreachable!("nobody asks")
    }

    fn next(&self, _: &[NextRequest], _: &ModelAllowance) -> Result<Vec<Vec<ModelToken>>, ModelError> {
        unreachable!("nobody asks")
    }

    fn tokenize(&self, _: &str) -> Result<Vec<u32>, ModelError> {
        self.texts.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    fn detokenize(&self, _: &[u32]) -> Result<String, ModelError> {
        self.texts.fetch_add(1, Ordering::SeqCst);
        Ok(String::new())
    }

    fn render(&self, _: &[ModelMessage], _: bool) -> Result<String, ModelError> {
        unreachable!("nobody asks")
    }
}

struct Current(Arc<Slow>);

impl Models for Current {
    fn current(&self) -> Result<Arc<dyn Model>, ModelError> {
        Ok(self.0.clone())
    }

    fn named(&self, _: &str) -> Result<Arc<dyn Model>, ModelError> {
        self.current()
    }
}

/// The result of a call of the model: an error is handed on as the guest's own.
const HAND_ON: &str = "(if (i32.load8_u (i32.const 512)) (then (return (i32.const 512))))";

/// A judge that opens the model and calls one of its functions.
///
/// `count` elements of `bytes` zeros each begin at the upper half of memory; `each` sets what is not zero in one, whose address
/// is the local `at`.
fn guest(function: &str, bytes: u32, count: u32, each: &str) -> Vec<u8> {
    let declared = format!(
        r#"(import "dlm:plugin/model@1.0.0" "current" (func $current (param i32)))
           (import "dlm:plugin/model@1.0.0" "[method]handle.{function}" (func $call (param i32 i32 i32 i32)))"#
    );
    let score = format!(
        "(local $at i32) (local $left i32)
         (call $current (i32.const 256))
         (if (i32.load8_u (i32.const 256)) (then unreachable))
         (local.set $at (i32.const 0x800000))
         (local.set $left (i32.const {count}))
         (block $end (loop $more
           (br_if $end (i32.or (i32.eqz (local.get $left)) (i32.eqz (i32.const {fill}))))
           {each}
           (local.set $at (i32.add (local.get $at) (i32.const {bytes})))
           (local.set $left (i32.sub (local.get $left) (i32.const 1)))
           (br $more)))
         {call} {HAND_ON}",
        fill = u32::from(!each.is_empty()),
        call = call(count),
    );
    built(&declared, "", &score)
}

fn call(count: u32) -> String {
    format!("(call $call (i32.load (i32.const 260)) (i32.const 0x800000) (i32.const {count}) (i32.const 512))")
}

/// Requests for 8000 tokens each, by empty prompts.
fn greedy(requests: u32) -> Vec<u8> {
    guest(
        "generate",
        64,
        requests,
        "(i32.store offset=16 (local.get $at) (i32.const 8000))",
    )
}

struct Asked {
    world: World,
    model: Arc<Slow>,
    limits: Limits,
}

impl Asked {
    fn new(limits: Limits) -> Asked {
        Asked {
            world: World::new(),
            model: Arc::default(),
            limits,
        }
    }

    fn plugins(&self) -> Plugins {
        let mut ports = self.world.ports();
        ports.models = Arc::new(Current(self.model.clone()));
        let flags = GrantFlags {
            granted: vec!["hostile=model:current".to_owned()],
            ..GrantFlags::default()
        };
        let plugins = Plugins::new(facts(), ports, Compile::InMemory, &flags).unwrap();
        plugins.with_limits(self.limits)
    }

    fn refused(&self, guest: &[u8]) -> PluginFailure {
        ask(&self.plugins(), &self.world, guest).unwrap_err()
    }
}

#[track_caller]
fn limited(error: &PluginFailure, limit: &str, part: &str) {
    assert_eq!(error.code, "plugin::limit", "{error}");
    assert_eq!(error.detail.as_ref().unwrap().limit.as_deref(), Some(limit), "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn the_time_of_a_call_ends_the_work_in_it() {
    let asked = Asked::new(Limits {
        wall_time: Duration::from_millis(300),
        ..limits(Kind::Judge)
    });
    for guest in [greedy(4000), guest("score", 24, 4000, "")] {
        limited(&asked.refused(&guest), "wall-time", "300 ms in one call");
    }
}

#[test]
fn the_user_ends_the_work() {
    let asked = Asked::new(limits(Kind::Judge));
    let cancel: Cancel = asked.world.cancel.clone();
    let user = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
    });
    let error = asked.refused(&greedy(4000));
    user.join().unwrap();
    assert_eq!(error.kind, FailureKind::Interrupted, "{error}");
}

#[test]
fn the_tokens_of_a_run_end_the_work_and_are_all_counted() {
    let asked = Asked::new(Limits {
        tokens: 100,
        ..limits(Kind::Judge)
    });
    let plugins = asked.plugins();
    let error = ask(&plugins, &asked.world, &greedy(4000)).unwrap_err();
    limited(&error, "tokens", "100 tokens of models");
    assert!(
        error.hints[0].contains("--grant 'hostile=limit:tokens=200'"),
        "{:?}",
        error.hints
    );
    let used = plugins.used();
    assert_eq!((used[0].model_requests, used[0].model_tokens), (4000, 100), "{used:?}");
}

#[test]
fn more_requests_than_a_call_may_hold_are_refused_to_the_guest() {
    let asked = Asked::new(limits(Kind::Judge));
    let error = asked.refused(&greedy(4097));
    assert_eq!(error.code, "plugin::invalid-input", "{error}");
    assert!(
        error.to_string().contains("more than 4096 requests in one call"),
        "{error}"
    );
}

#[test]
fn a_text_has_a_longest_length_and_so_have_ids() {
    let asked = Asked::new(limits(Kind::Judge));
    let tokenize = |bytes| guest("tokenize", 1, bytes, "");
    assert_eq!(
        ask(&asked.plugins(), &asked.world, &tokenize(1 << 20)).unwrap(),
        [0.0, 0.0]
    );
    let error = asked.refused(&tokenize((1 << 20) + 1));
    assert_eq!(error.code, "plugin::invalid-input", "{error}");
    assert!(error.to_string().contains("at most 1 MiB are read at once"), "{error}");
    let detokenize = |ids| guest("detokenize", 4, ids, "");
    assert_eq!(
        ask(&asked.plugins(), &asked.world, &detokenize(1 << 18)).unwrap(),
        [0.0, 0.0]
    );
    let error = asked.refused(&detokenize((1 << 18) + 1));
    assert!(error.to_string().contains("262145 ids, at most 262144"), "{error}");
    assert_eq!(
        asked.model.texts.load(Ordering::SeqCst),
        2,
        "what was refused reached the model"
    );
    // Prompts and completions alike: two requests, the second of which is too long.
    let prompt = "(i32.store offset=4 (local.get $at) (i32.const 0x100000))
                  (i32.store offset=8 (local.get $at) (i32.const 0x100001))";
    let error = asked.refused(&guest("score", 24, 2, prompt));
    assert!(error.to_string().contains("at most 1 MiB are read at once"), "{error}");
    // Completions whose tokens come back: each is short enough, all of them are not.
    let listed = "(i32.store offset=12 (local.get $at) (i32.const 0x100000))
                  (i32.store offset=16 (local.get $at) (i32.const 0x80001))
                  (i32.store8 offset=21 (local.get $at) (i32.const 1))";
    let error = asked.refused(&guest("score", 24, 2, listed));
    assert!(
        error.to_string().contains("whose tokens are listed, at most 1 MiB"),
        "{error}"
    );
}

#[test]
fn the_text_of_a_run_is_bounded() {
    let asked = Asked::new(Limits {
        call_time: Duration::from_secs(600),
        ..limits(Kind::Judge)
    });
    let declared = r#"(import "dlm:plugin/model@1.0.0" "current" (func $current (param i32)))
        (import "dlm:plugin/model@1.0.0" "[method]handle.tokenize" (func $call (param i32 i32 i32 i32)))"#;
    let endless = format!(
        "(call $current (i32.const 256)) (loop $more {} {HAND_ON} (br $more))",
        call(1 << 20)
    );
    let error = asked.refused(&built(declared, "", &endless));
    limited(&error, "model-text", "1 GiB of text for models");
    assert_eq!(asked.model.texts.load(Ordering::SeqCst), 1024);
}
