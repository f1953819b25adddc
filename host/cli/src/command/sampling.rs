//! The flags of commands that let a model write: values that several of them read alike.

use clap::ValueEnum;

use crate::console::Console;

/// `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Auto,
    Pytorch,
    Mlx,
}

/// Says what `pytorch` stands for here, with `--verbose`.
pub fn backend_detail(backend: Backend, console: &Console) {
    if backend == Backend::Pytorch {
        console.detail("backend             native: `pytorch` names it  (given by --backend)");
    }
}

pub fn parse_temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

pub fn parse_share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number over 0 and at most 1".to_owned()),
    }
}

/// 0.7 as typed, not the nearest single-precision number.
pub fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
