//! The commands through the binary: exit codes, both streams, refusals, and the whole help tree.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "cli/authors.rs"]
mod authors;
#[path = "cli/base.rs"]
mod base;
#[path = "cli/book.rs"]
mod book;
#[path = "cli/cache.rs"]
mod cache;
#[path = "cli/check.rs"]
mod check;
#[cfg(unix)]
#[path = "cli/children.rs"]
mod children;
#[path = "cli/code_cache.rs"]
mod code_cache;
#[path = "cli/consent.rs"]
mod consent;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/every.rs"]
mod every;
#[path = "cli/examples.rs"]
mod examples;
#[path = "cli/exports.rs"]
mod exports;
#[path = "../../../fuzz/checks/guest.rs"]
#[expect(dead_code, reason = "the tests of the plugin host use the rest")]
mod guest;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/hostile_plugins.rs"]
mod hostile_plugins;
#[path = "cli/hostile_text.rs"]
mod hostile_text;
#[path = "cli/index.rs"]
mod index;
#[path = "cli/inert.rs"]
mod inert;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/integrity.rs"]
mod integrity;
#[path = "cli/lab.rs"]
mod lab;
#[path = "cli/memory.rs"]
mod memory;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "cli/migrate.rs"]
mod migrate;
#[path = "cli/mixes.rs"]
mod mixes;
#[path = "cli/optimizers.rs"]
mod optimizers;
#[path = "cli/plugin.rs"]
mod plugin;
#[path = "cli/plugin_cases.rs"]
mod plugin_cases;
#[path = "cli/plugin_folder.rs"]
mod plugin_folder;
#[path = "cli/plugin_watch.rs"]
mod plugin_watch;
#[path = "cli/provenance.rs"]
mod provenance;
#[path = "cli/qlora.rs"]
mod qlora;
#[path = "cli/room.rs"]
mod room;
#[path = "cli/scaffolds.rs"]
mod scaffolds;
#[path = "cli/score.rs"]
mod score;
#[path = "cli/shared.rs"]
mod shared;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/spine.rs"]
mod spine;
#[path = "cli/staging.rs"]
mod staging;
#[path = "cli/stopped_judges.rs"]
mod stopped_judges;
#[path = "cli/surface.rs"]
mod surface;
#[path = "cli/teachers.rs"]
mod teachers;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/tokenizers.rs"]
mod tokenizers;
#[path = "cli/wasi_module.rs"]
mod wasi_module;
