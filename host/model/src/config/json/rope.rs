//! The rotary settings of a `config.json`.
//!
//! Invariant: settings that readers take in several ways, or that this program does not compute, are refused with their key.

use super::super::{Rope, RopeScaling};
use super::{ConfigError, Settings};
use crate::arch::Rules;

/// The rotary settings: `rope_parameters` today, `rope_theta` and `rope_scaling` before. Where layers with a window have
/// frequencies of their own, `rope_parameters` holds one object for each kind of layer.
pub(super) fn rope(
    settings: &Settings<'_>,
    rules: &Rules,
    head_dim: usize,
    context_max: usize,
) -> Result<(Rope, Option<Rope>), ConfigError> {
    let new = settings.object("rope_parameters")?;
    let old = settings.object("rope_scaling")?;
    const BY_LAYER: [&str; 2] = ["full_attention", "sliding_attention"];
    let is_by_layer = |new: &Settings<'_>| BY_LAYER.iter().any(|kind| new.get(kind).is_some());
    let Some(local_theta) = rules.rotary.local_theta else {
        if new.as_ref().is_some_and(is_by_layer) {
            let expected = "the settings of one rotary embedding, which all layers of this architecture share";
            return Err(settings.refuse("rope_parameters", expected));
        }
        let theta = settings.number("rope_theta")?.unwrap_or(rules.absent.theta);
        let main = one_rope(settings, new.or(old).as_ref(), theta, head_dim, context_max)?;
        return Ok((main, None));
    };
    let (full, sliding) = match &new {
        Some(new) if !is_by_layer(new) && !new.0.is_empty() => {
            return Err(settings.refuse(
                "rope_parameters",
                "an object with `full_attention` and `sliding_attention`",
            ));
        }
        Some(new) => (new.object("full_attention")?, new.object("sliding_attention")?),
        None => (old, None),
    };
    let theta = settings.number("rope_theta")?.unwrap_or(rules.absent.theta);
    let local_theta = settings.number("rope_local_base_freq")?.unwrap_or(local_theta);
    let main = one_rope(settings, full.as_ref(), theta, head_dim, context_max)?;
    let local = one_rope(settings, sliding.as_ref(), local_theta, head_dim, context_max)?;
    Ok((main, Some(local)))
}

/// One rotary embedding: `inner` holds its settings, `theta` is its base where they name none.
fn one_rope(
    settings: &Settings<'_>,
    inner: Option<&Settings<'_>>,
    theta: f64,
    head_dim: usize,
    context_max: usize,
) -> Result<Rope, ConfigError> {
    let nested = |key: &str| inner.map_or(Ok(None), |s| s.number(key));
    let fraction = match nested("partial_rotary_factor")? {
        Some(fraction) => fraction,
        None => settings.number("partial_rotary_factor")?.unwrap_or(1.0),
    };
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(ConfigError::Value {
            key: "partial_rotary_factor".to_owned(),
            found: fraction.to_string(),
            expected: "a number above 0 and up to 1",
        });
    }
    let scaling = match inner {
        None => RopeScaling::None,
        Some(inner) => rope_scaling(settings, inner, context_max)?,
    };
    Ok(Rope {
        // Truncated, as the reference does.
        dim: (head_dim as f64 * fraction) as usize,
        theta: nested("rope_theta")?.unwrap_or(theta),
        scaling,
    })
}

fn rope_scaling(settings: &Settings<'_>, inner: &Settings<'_>, context_max: usize) -> Result<RopeScaling, ConfigError> {
    /// Keys that only a scaling has.
    const OF_A_SCALING: [&str; 6] = [
        "name",
        "factor",
        "short_factor",
        "long_factor",
        "low_freq_factor",
        "high_freq_factor",
    ];
    const EXPECTED: &str = "default, linear, llama3 or longrope";
    let key = if inner.get("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    let kind = inner.text(key)?;
    if kind.is_none() && OF_A_SCALING.iter().any(|key| inner.get(key).is_some()) {
        // Some readers take that for linear, some for no scaling at all.
        return Err(inner.refuse("rope_type", EXPECTED));
    }
    let factor = |key: &str| -> Result<f32, ConfigError> {
        let value = inner.number(key)?.ok_or_else(|| ConfigError::Missing {
            key: format!("rope_scaling.{key}"),
        })?;
        Ok(value as f32)
    };
    match kind {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: factor("factor")?,
        }),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: factor("factor")?,
            low_freq_factor: factor("low_freq_factor")?,
            high_freq_factor: factor("high_freq_factor")?,
            original_max: inner.size_needed("original_max_position_embeddings")?,
        }),
        Some("longrope" | "su") => long_rope(settings, inner, context_max),
        Some(_) => Err(inner.refuse(key, EXPECTED)),
    }
}

fn long_rope(settings: &Settings<'_>, inner: &Settings<'_>, context_max: usize) -> Result<RopeScaling, ConfigError> {
    let factors = |key: &str| -> Result<Vec<f32>, ConfigError> {
        inner.numbers(key)?.ok_or_else(|| ConfigError::Missing {
            key: format!("rope_scaling.{key}"),
        })
    };
    let original_max = match inner.size("original_max_position_embeddings")? {
        Some(length) => length,
        None => settings.size_needed("original_max_position_embeddings")?,
    };
    let attention_factor = match inner.number("attention_factor")? {
        Some(stated) => stated as f32,
        None => long_rope_attention_factor(context_max, original_max),
    };
    Ok(RopeScaling::LongRope {
        short: factors("short_factor")?,
        long: factors("long_factor")?,
        original_max,
        attention_factor,
    })
}

/// `sqrt(1 + ln(s) / ln(original))` with `s` the factor by which the context grew; 1 when it did not.
///
/// **Source:** LongRoPE (Ding et al. 2024) as `transformers` computes it.
pub(crate) fn long_rope_attention_factor(context_max: usize, original_max: usize) -> f32 {
    let growth = context_max as f64 / original_max as f64;
    if original_max <= 1 || growth <= 1.0 {
        return 1.0;
    }
    (1.0 + growth.ln() / (original_max as f64).ln()).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::super::parse_config;

    #[test]
    fn rotary_settings_that_readers_take_in_several_ways_are_refused() {
        for (class, more, said) in [
            (
                "Llama",
                r#""rope_scaling":{"factor":4}"#,
                "`rope_type` is absent, expected default",
            ),
            (
                "Llama",
                r#""rope_scaling":{"name":"linear","factor":4}"#,
                "`rope_type` is absent",
            ),
            (
                "Llama",
                r#""rope_scaling":{"type":"yarn","factor":4}"#,
                "`type` is \"yarn\", expected default",
            ),
            (
                "Llama",
                r#""rope_scaling":{"type":"linear","factor":0}"#,
                "rope_scaling factor",
            ),
            (
                "Llama",
                r#""rope_scaling":{"type":"linear","factor":-2}"#,
                "rope_scaling factor",
            ),
            (
                "Llama",
                r#""rope_parameters":{"full_attention":{"rope_theta":500}}"#,
                "which all layers",
            ),
            (
                "Gemma3",
                r#""rope_parameters":{"rope_theta":500}"#,
                "`full_attention` and",
            ),
        ] {
            let text = format!(
                r#"{{"architectures":["{class}ForCausalLM"],"hidden_size":256,"num_hidden_layers":2,"num_attention_heads":4,
                "intermediate_size":64,"vocab_size":100,"max_position_embeddings":8192,{more}}}"#
            );
            let error = parse_config(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{more}: {error}");
        }
    }
}
