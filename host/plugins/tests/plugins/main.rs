//! The plugin host from outside: what guests are refused, and what the built-in targets make.

mod fakes;
mod real;
mod refusals;
mod smoke;
mod targets;
