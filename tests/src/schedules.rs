//! `lr_schedules.json`: the learning rate of every step, as transformers computes it.

use std::path::Path;

use dlm_train::schedule::{Schedule, ScheduleKind, WarmupStart};
use serde_json::Value;

use crate::{Case, Failed};

/// Agreement that the golden directory asks for, relative to the peak rate.
const TOLERANCE: f64 = 1e-9;

/// Compares every schedule of the file.
pub fn run(path: &Path) -> Result<Vec<Case>, Failed> {
    let golden: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let cases = golden["cases"].as_array().ok_or("lr_schedules.json has no `cases`")?;
    cases.iter().map(case).collect()
}

fn case(golden: &Value) -> Result<Case, Failed> {
    let name = golden["schedule"].as_str().ok_or("a case has no `schedule`")?;
    let kind = match name {
        "cosine" => ScheduleKind::Cosine,
        "linear" => ScheduleKind::Linear,
        "constant" => ScheduleKind::Constant,
        "cosine_with_min_lr" => ScheduleKind::CosineWithFloor { floor: 0.1 },
        other => return Err(format!("unknown schedule `{other}`").into()),
    };
    let number = |key: &str| golden[key].as_f64().ok_or_else(|| format!("{name}: no number `{key}`"));
    let (steps, ratio, peak) = (
        number("total_steps")? as u64,
        number("warmup_ratio")?,
        number("peak_lr")?,
    );
    let schedule = Schedule::new(kind, steps, ratio, WarmupStart::Zero);
    let rates = golden["lr_used_at_step"].as_array().ok_or("a case has no rates")?;
    let deviation = rates
        .iter()
        .enumerate()
        .map(|(i, rate)| {
            let expected = rate.as_f64().unwrap_or(f64::NAN);
            ((peak * schedule.multiplier(i as u64) - expected) / peak).abs()
        })
        // `max` would drop a NaN, which must be a miss.
        .fold(0.0, |worst: f64, d| if d.is_nan() || d > worst { d } else { worst });
    Ok(Case {
        name: format!("{name} over {steps} steps, warm-up {ratio}"),
        deviation,
        tolerance: TOLERANCE,
    })
}
