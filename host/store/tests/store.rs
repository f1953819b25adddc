//! Tests of the store on real directories.

#[path = "store/scenario.rs"]
mod scenario;
