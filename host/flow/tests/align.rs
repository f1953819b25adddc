//! Mining, synthesis and their staged plans on real documents and stores, with scripted models, judges and teachers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "align/fakes.rs"]
mod fakes;
#[path = "align/mine.rs"]
mod mine;
#[path = "align/plans.rs"]
mod plans;
#[path = "align/seeds.rs"]
mod seeds;
#[path = "align/synth.rs"]
mod synth;
#[path = "../../../fuzz/checks/teacher_answers.rs"]
mod teacher_answers;
#[path = "align/templates.rs"]
mod templates;
#[path = "align/world.rs"]
mod world;
