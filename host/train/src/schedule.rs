//! Learning-rate schedules, as a multiplier of the peak rate.
//!
//! **Source:** `spec/training.md` section 3 and, for [`WarmupStart::Zero`], the schedules of transformers that
//! `tests/golden/lr_schedules.json` records.

use std::f64::consts::PI;

/// The shape after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine from the peak to 0.
    Cosine,
    /// A straight line from the peak to 0.
    Linear,
    /// The peak throughout, without warm-up.
    Constant,
    /// Half a cosine from the peak to `floor` of it (continued pretraining).
    CosineWithFloor { floor: f64 },
}

/// The rate of the first warm-up step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmupStart {
    /// The first step already moves: step `u` of `W` has `u/W`. The product's choice, since a first step of rate 0
    /// spends a step on nothing.
    First,
    /// The first step has rate 0, as transformers does.
    Zero,
}

/// One schedule over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    pub kind: ScheduleKind,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps of the warm-up, fewer than `steps`.
    pub warmup: u64,
    pub start: WarmupStart,
}

impl Schedule {
    /// Makes a schedule whose warm-up takes `ratio` of the steps, rounded up.
    ///
    /// **Range:** `ratio` in 0..=0.5. A constant schedule has no warm-up, whatever the ratio.
    pub fn new(kind: ScheduleKind, steps: u64, ratio: f64, start: WarmupStart) -> Self {
        let warmup = match kind {
            ScheduleKind::Constant => 0,
            _ => (ratio * steps as f64).ceil() as u64,
        };
        Self {
            kind,
            steps,
            warmup: warmup.min(steps.saturating_sub(1)),
            start,
        }
    }

    /// Returns the multiplier of the peak rate at step `index`, counted from 0.
    pub fn multiplier(&self, index: u64) -> f64 {
        if index < self.warmup {
            let step = match self.start {
                WarmupStart::First => index + 1,
                WarmupStart::Zero => index,
            };
            return step as f64 / self.warmup as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1);
        let p = ((index - self.warmup) as f64 / span as f64).min(1.0);
        let half_cosine = 0.5 * (1.0 + (PI * p).cos());
        match self.kind {
            ScheduleKind::Cosine => half_cosine,
            ScheduleKind::Linear => 1.0 - p,
            ScheduleKind::Constant => 1.0,
            ScheduleKind::CosineWithFloor { floor } => floor + (1.0 - floor) * half_cosine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_worked_example_of_the_specification() {
        let schedule = Schedule::new(ScheduleKind::Cosine, 100, 0.1, WarmupStart::First);
        let rate = |u: u64| 2e-4 * schedule.multiplier(u - 1);
        assert!((rate(5) - 1.0e-4).abs() < 1e-12);
        assert!((rate(10) - 2.0e-4).abs() < 1e-12);
        assert!((rate(56) - 1.0e-4).abs() < 1e-12);
    }

    #[test]
    fn warmup_never_takes_the_whole_run() {
        for steps in 1..20 {
            let schedule = Schedule::new(ScheduleKind::Linear, steps, 0.5, WarmupStart::First);
            assert!(schedule.warmup < steps);
            assert!(schedule.multiplier(steps - 1) > 0.0);
        }
    }
}
