//! What a phase over preferences is told to have done.

use dlm_core::event::Rewards;
use serde::Serialize;

/// What a preference phase did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreferenceReport {
    /// Pairs of the document and of earlier versions of it.
    pub pairs: usize,
    pub before: Judgement,
    pub after: Judgement,
    /// The share of the phase's change that was kept.
    pub scale: f64,
    /// What was tried to find it, in order.
    pub tried: Vec<Trial>,
}

/// How the pairs stand under an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Pairs whose chosen answer is likelier than the rejected one, by the mean of a token.
    pub preferred: usize,
    /// Mean by which the chosen answer's log-probability is above the rejected one's, in nats, over whole answers.
    pub logprob_margin: f64,
    /// Against the reference.
    pub rewards: Rewards,
}

/// One share of the change, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    pub scale: f64,
    /// Answers of the document that the adapter gave before and gives no more.
    pub broken: usize,
}
