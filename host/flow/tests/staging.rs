//! Mining, synthesis and their staged plans on real documents and stores, with scripted models, judges and teachers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "staging/fakes.rs"]
mod fakes;
#[path = "staging/mine.rs"]
mod mine;
#[path = "staging/mine_failures.rs"]
mod mine_failures;
#[path = "staging/plans.rs"]
mod plans;
#[path = "staging/seeds.rs"]
mod seeds;
#[path = "staging/synth.rs"]
mod synth;
#[path = "staging/synth_failures.rs"]
mod synth_failures;
#[path = "../../../fuzz/checks/teacher_answers.rs"]
mod teacher_answers;
#[path = "staging/templates.rs"]
mod templates;
#[path = "staging/world.rs"]
mod world;
