//! The network crate against a server of this process: no outside host, no pause, every refusal provoked.

#![expect(clippy::unwrap_used, reason = "in test support a failed step is a failed test")]

mod guest;
mod hub;
mod server;
