//! Progress of long work, as data: libraries emit events, only the command line draws them.

/// One thing that happened during long work.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A phase began; `total` counts its units when they are known.
    PhaseStarted {
        phase: String,
        total: Option<u64>,
        unit: &'static str,
    },
    /// The phase advanced to `done` units.
    PhaseAdvanced { phase: String, done: u64 },
    /// The phase ended.
    PhaseEnded { phase: String },
    /// One optimizer step was taken.
    Step(StepEvent),
    /// An evaluation ran after `step`.
    Eval { step: u64, loss: f64 },
    /// A remark for the reader, such as a remedy that was applied.
    Note(String),
    /// Something was lost or is likely wrong; never silent.
    Warning(String),
}

/// Figures of one optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEvent {
    /// 1-based number of the step.
    pub step: u64,
    /// Number of steps planned; training may stop before.
    pub steps_max: u64,
    /// Mean loss over the tokens with loss of this step, in nats per token.
    pub loss: f64,
    /// Learning rate used.
    pub lr: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens processed per second of wall time in this step.
    pub tokens_per_s: f64,
    /// Estimated seconds left.
    pub seconds_left: f64,
    /// Of a step over preferences.
    pub rewards: Option<Rewards>,
}

/// Implicit rewards of preference pairs, in the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rewards {
    /// Of the chosen completions.
    pub chosen: f64,
    /// Of the rejected ones.
    pub rejected: f64,
    /// Share of the pairs whose chosen completion has the higher reward.
    pub accuracy: f64,
    /// Mean of the differences.
    pub margin: f64,
}

impl Rewards {
    /// Returns the means over pairs of a chosen and a rejected reward; all 0 without a pair.
    pub fn mean(pairs: impl IntoIterator<Item = (f64, f64)>) -> Rewards {
        let mut sum = Rewards::default();
        let mut count = 0.0;
        for (chosen, rejected) in pairs {
            sum.chosen += chosen;
            sum.rejected += rejected;
            sum.accuracy += f64::from(u8::from(chosen > rejected));
            count += 1.0;
        }
        let mean = |value: f64| value / f64::max(count, 1.0);
        Rewards {
            chosen: mean(sum.chosen),
            rejected: mean(sum.rejected),
            accuracy: mean(sum.accuracy),
            margin: mean(sum.chosen - sum.rejected),
        }
    }
}

/// Receives events; called from the thread that does the work, so it must be quick.
pub trait Progress {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Drops every event.
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _event: Event) {}
}
